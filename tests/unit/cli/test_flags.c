/* SPDX-License-Identifier: MIT */

/*
 * Tests of sdk/cli/flags.c: which arguments are options, whose, and what they leave
 */

#include "tests/unit/testing.h"

#include <stdbool.h>
#include <string.h>

#include "sdk/cli/flags.h"

struct own {
	bool all, quiet;
	const char *name;
	struct words env;
	unsigned format;
	uint64_t size, time, count, cpus;
};

struct shared {
	const char *socket;
	uint64_t time;
};

static const struct flag own_flags[] = {
	{"all", 'a', FLAG_SWITCH, offsetof(struct own, all), NULL, ""},
	{"quiet", 'q', FLAG_SWITCH, offsetof(struct own, quiet), NULL, ""},
	{"name", 'n', FLAG_TEXT, offsetof(struct own, name), "NAME", ""},
	{"env", 'e', FLAG_WORDS, offsetof(struct own, env), "K=V", ""},
	{"format", 0, FLAG_CHOICE, offsetof(struct own, format), "table|json", ""},
	{"size", 0, FLAG_SIZE, offsetof(struct own, size), "SIZE", ""},
	{"time", 0, FLAG_DURATION, offsetof(struct own, time), "TIME", ""},
	{"count", 0, FLAG_COUNT, offsetof(struct own, count), "N", ""},
	{"cpus", 0, FLAG_CPUS, offsetof(struct own, cpus), "N", ""},
	{0},
};

static const struct flag shared_flags[] = {
	{"socket", 0, FLAG_TEXT, offsetof(struct shared, socket), "PATH", ""},
	{"time", 0, FLAG_DURATION, offsetof(struct shared, time), "TIME", ""},
	{0},
};

struct fixture {
	struct own own;
	struct shared shared;
	char *argv[16];
	int argc, operands;
};

static int setup(void **state)
{
	static struct fixture f;

	words_deinit(&f.own.env);
	f = (struct fixture){0};
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	words_deinit(&f->own.env);
	return 0;
}

/* @line is divided at blanks, in place. */
static int read_line(struct fixture *f, char *line, bool mixed)
{
	const struct flag_set sets[] = {{own_flags, &f->own}, {shared_flags, &f->shared}};

	f->argc = 0;
	for (char *word = strtok(line, " "); word; word = strtok(NULL, " "))
		f->argv[f->argc++] = word;
	return flags_read(sets, 2, mixed, f->argc, f->argv, &f->operands);
}

static void expect_operands(struct fixture *f, const char *joined)
{
	char text[128] = "";

	for (int i = 0; i < f->operands; i++) {
		strcat(text, i ? " " : "");
		strcat(text, f->argv[i]);
	}
	assert_string_equal(text, joined);
}

static void values_come_attached_or_next(void **state)
{
	struct fixture *f = *state;
	char line[] =
		"--name=x=y -ek=1 -e k=2 --size 1K --time=2s --count 3 --cpus 0.5 --format json";

	assert_int_equal(read_line(f, line, true), 0);
	assert_string_equal(f->own.name, "x=y");
	assert_int_equal(f->own.env.count, 2);
	assert_string_equal(f->own.env.items[0], "k=1");
	assert_string_equal(f->own.env.items[1], "k=2");
	assert_int_equal(f->own.size, 1024);
	assert_int_equal(f->own.time, 2000);
	assert_int_equal(f->own.count, 3);
	assert_int_equal(f->own.cpus, 50000);
	assert_int_equal(f->own.format, 1);
	assert_int_equal(f->operands, 0);
}

static void letters_stand_together(void **state)
{
	struct fixture *f = *state;
	char line[] = "-aqn name";

	assert_int_equal(read_line(f, line, true), 0);
	assert_true(f->own.all && f->own.quiet);
	assert_string_equal(f->own.name, "name");
}

static void operands_may_stand_between(void **state)
{
	struct fixture *f = *state;
	char line[] = "one --all two - -q -- -n --name";

	assert_int_equal(read_line(f, line, true), 0);
	assert_true(f->own.all && f->own.quiet);
	expect_operands(f, "one two - -n --name");
}

static void another_command_line_is_left_as_it_is(void **state)
{
	struct fixture *f = *state;
	char line[] = "--all script.py --name -q -- x", after[] = "-- --all x";

	assert_int_equal(read_line(f, line, false), 0);
	assert_true(f->own.all);
	assert_false(f->own.quiet);
	assert_null(f->own.name);
	expect_operands(f, "script.py --name -q -- x");
	assert_int_equal(read_line(f, after, false), 0);
	expect_operands(f, "--all x");
}

static void the_first_set_wins(void **state)
{
	struct fixture *f = *state;
	char line[] = "--time 1s --socket /s";

	assert_int_equal(read_line(f, line, true), 0);
	assert_int_equal(f->own.time, 1000);
	assert_int_equal(f->shared.time, 0);
	assert_string_equal(f->shared.socket, "/s");
}

static void mistakes_are_refused(void **state)
{
	static const char *const lines[] = {
		"--nam x",     "--names x",   "--name",
		"-n",          "-z",          "-az",
		"--all=yes",   "--=x",        "---all",
		"--format j",  "--format ",   "--format table|json",
		"--size 1Q",   "--size -1",   "--time 5",
		"--count 1.5", "--cpus half", "--size 99999999T",
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		char line[64];

		(void)strcpy(line, lines[i]);
		if (read_line(f, line, true) != FLAGS_E_USAGE)
			fail_msg("\"%s\" is taken", lines[i]);
	}
}

#define FLAGS_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		FLAGS_TEST(values_come_attached_or_next),
		FLAGS_TEST(letters_stand_together),
		FLAGS_TEST(operands_may_stand_between),
		FLAGS_TEST(another_command_line_is_left_as_it_is),
		FLAGS_TEST(the_first_set_wins),
		FLAGS_TEST(mistakes_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
