/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The options of a command line, as a table that both reads and explains them
 *
 * --name VALUE, --name=VALUE, -n VALUE, -nVALUE, switches together as -aq, and -- for the end of options.
 * Long names are written out: an abbreviation would change its meaning with the next option there is.
 * Options may stand behind operands, except for a command whose operands are somebody else's command line.
 */

#include <stdbool.h>
#include <stddef.h>

enum flag_kind {
	FLAG_SWITCH,   /* bool */
	FLAG_TEXT,     /* const char * */
	FLAG_WORDS,    /* struct words; each use adds one */
	FLAG_CHOICE,   /* unsigned: which of the words in @value, which | divides */
	FLAG_COUNT,    /* uint64_t, as the rest */
	FLAG_SIZE,     /* bytes */
	FLAG_DURATION, /* milliseconds */
	FLAG_CPUS,     /* microseconds of every 100,000 */
};

struct words {
	const char **items; /* the array is owned, the texts are not */
	size_t count;
};

struct flag {
	const char *name;
	char letter; /* 0: none */
	enum flag_kind kind;
	size_t offset;     /* in what flags_read() fills */
	const char *value; /* what stands for it in the help, "SIZE"; NULL of a switch */
	const char *doc;
};

/* Flags, and what they fill. */
struct flag_set {
	const struct flag *flags; /* ends with one without a name */
	void *to;
};

enum {
	FLAGS_E_USAGE = 1, /* said on stderr */
};

/*
 * Takes the options out of @argv, the names of which the first of the @count sets that has them explains,
 * and leaves the operands at its beginning. With @mixed false the first operand ends the options.
 */
int flags_read(const struct flag_set *sets, size_t count, bool mixed, int argc, char **argv,
	       int *ret_operands);

void words_deinit(struct words *words);
