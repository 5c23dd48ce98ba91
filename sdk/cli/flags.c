/* SPDX-License-Identifier: MIT */

#include "sdk/cli/flags.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sdk/cli/complain.h"
#include "sdk/cli/quantity.h"

/* How a quantity is written, by its kind. */
static const struct quantity {
	int (*read)(const char *text, uint64_t *ret_value);
	const char *form, *range;
} quantities[] = {
	[FLAG_COUNT] = {quantity_count, "a whole number, as in 100", "below 2^63"},
	[FLAG_SIZE] = {quantity_size,
		       "a number of bytes, or a number with K, M, G or T, as in 256M or 1.5G",
		       "from 1 byte to 8388607T"},
	[FLAG_DURATION] = {quantity_duration,
			   "a number with ms, s, m, h or d, as in 500ms, 30s or 2m",
			   "from 1ms to 365d, or 0"},
	[FLAG_CPUS] = {quantity_cpus, "a number of processors, as in 0.5 or 2",
		       "from 0.00001 to 92233720368547"},
};

/* What stands on the command line, for messages: "--name" or "-n". */
struct spelling {
	const char *dashes, *name;
	int len;
};

static int quantity_take(const struct flag *flag, struct spelling at, const char *value,
			 uint64_t *place)
{
	const struct quantity *quantity = &quantities[flag->kind];
	int r = quantity->read(value, place);

	if (r == QUANTITY_E_RANGE)
		complain("%s%.*s %s is out of range: %s", at.dashes, at.len, at.name, value,
			 quantity->range);
	else if (r)
		complain("%s%.*s \"%s\": write %s", at.dashes, at.len, at.name, value,
			 quantity->form);
	return r ? FLAGS_E_USAGE : 0;
}

static int choice_take(const struct flag *flag, struct spelling at, const char *value,
		       unsigned *place)
{
	const char *word = flag->value;
	size_t len = strlen(value);
	unsigned index = 0;

	for (;; index++) {
		size_t n = strcspn(word, "|");

		if (n == len && !memcmp(word, value, n)) {
			*place = index;
			return 0;
		}
		if (!word[n])
			break;
		word += n + 1;
	}
	complain("%s%.*s \"%s\": write one of %s", at.dashes, at.len, at.name, value, flag->value);
	return FLAGS_E_USAGE;
}

static void words_add(struct words *words, const char *word)
{
	const char **items = reallocarray(words->items, words->count + 1, sizeof(words->items[0]));

	if (!items)
		complain_of_memory();
	words->items = items;
	words->items[words->count++] = word;
}

void words_deinit(struct words *words)
{
	free(words->items);
	*words = (struct words){0};
}

static int flag_take(const struct flag *flag, struct spelling at, const char *value, void *to)
{
	char *place = (char *)to + flag->offset;

	switch (flag->kind) {
	case FLAG_SWITCH:
		*(bool *)place = true;
		return 0;
	case FLAG_TEXT:
		*(const char **)(void *)place = value;
		return 0;
	case FLAG_WORDS:
		words_add((struct words *)(void *)place, value);
		return 0;
	case FLAG_CHOICE:
		return choice_take(flag, at, value, (unsigned *)(void *)place);
	default:
		return quantity_take(flag, at, value, (uint64_t *)(void *)place);
	}
}

/* ---- one argument ---- */

struct reader {
	const struct flag_set *sets;
	size_t set_count;
	char **argv;
	int argc, next; /* argument to read */
};

static const struct flag *flag_find(const struct reader *reader, struct spelling at, bool is_letter,
				    void **ret_to)
{
	for (size_t i = 0; i < reader->set_count; i++) {
		for (const struct flag *f = reader->sets[i].flags; f->name; f++) {
			bool same = is_letter ? f->letter == *at.name
					      : strlen(f->name) == (size_t)at.len &&
							!memcmp(f->name, at.name, (size_t)at.len);

			if (!same)
				continue;
			*ret_to = reader->sets[i].to;
			return f;
		}
	}
	complain("there is no option %s%.*s; --help lists what there is", at.dashes, at.len,
		 at.name);
	return NULL;
}

/* The value of a flag that takes one: @attached when that is not NULL, else the next argument. */
static int valued_take(struct reader *reader, const struct flag *flag, struct spelling at,
		       const char *attached, void *to)
{
	if (!attached && reader->next == reader->argc) {
		complain("%s%.*s needs a value: %s", at.dashes, at.len, at.name, flag->value);
		return FLAGS_E_USAGE;
	}
	return flag_take(flag, at, attached ? attached : reader->argv[reader->next++], to);
}

static int long_read(struct reader *reader, const char *text)
{
	size_t len = strcspn(text, "=");
	struct spelling at = {"--", text, (int)len};
	const char *attached = text[len] ? text + len + 1 : NULL;
	const struct flag *flag;
	void *to;

	flag = flag_find(reader, at, false, &to);
	if (!flag)
		return FLAGS_E_USAGE;
	if (flag->kind != FLAG_SWITCH)
		return valued_take(reader, flag, at, attached, to);
	if (!attached)
		return flag_take(flag, at, NULL, to);
	complain("--%.*s is a switch and takes no value", at.len, at.name);
	return FLAGS_E_USAGE;
}

/* "aq": switches, the last of which may be a letter with a value. */
static int letters_read(struct reader *reader, const char *text)
{
	const struct flag *flag;
	void *to;
	int r = 0;

	while (!r && *text) {
		struct spelling at = {"-", text, 1};

		flag = flag_find(reader, at, true, &to);
		if (!flag)
			return FLAGS_E_USAGE;
		text++;
		if (flag->kind != FLAG_SWITCH)
			return valued_take(reader, flag, at, *text ? text : NULL, to);
		r = flag_take(flag, at, NULL, to);
	}
	return r;
}

int flags_read(const struct flag_set *sets, size_t count, bool mixed, int argc, char **argv,
	       int *ret_operands)
{
	struct reader reader = {.sets = sets, .set_count = count, .argv = argv, .argc = argc};
	int operands = 0, r = 0;

	while (!r && reader.next < argc) {
		char *text = argv[reader.next++];

		if (!strcmp(text, "--"))
			break;
		if (text[0] != '-' || !text[1]) {
			argv[operands++] = text;
			if (!mixed)
				break;
		} else {
			r = text[1] == '-' ? long_read(&reader, text + 2)
					   : letters_read(&reader, text + 1);
		}
	}
	while (reader.next < argc)
		argv[operands++] = argv[reader.next++];
	*ret_operands = operands;
	return r;
}
