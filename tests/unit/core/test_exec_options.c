/* SPDX-License-Identifier: MIT */

/*
 * Tests of core/exec_options.c: what EXEC's arguments mean, and every way to get them wrong
 */

#include "tests/unit/testing.h"

#include <msgpack.h>
#include <string.h>

#include "core/exec_options.h"
#include "core/limits.h"
#include "ipc/pack.h"

struct fixture {
	msgpack_sbuffer command, bag;
	msgpack_packer pk_command, pk_bag;
	struct exec_options options;
	struct fault fault;
};

static char name[] = "ada";
static char home[] = "/home/ada";

static int setup(void **state)
{
	static struct fixture f;

	f = (struct fixture){0};
	msgpack_sbuffer_init(&f.command);
	msgpack_sbuffer_init(&f.bag);
	msgpack_packer_init(&f.pk_command, &f.command, msgpack_sbuffer_write);
	msgpack_packer_init(&f.pk_bag, &f.bag, msgpack_sbuffer_write);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	exec_options_deinit(&f->options);
	msgpack_sbuffer_destroy(&f->command);
	msgpack_sbuffer_destroy(&f->bag);
	return 0;
}

static enum wire_error read_options(struct fixture *f)
{
	struct cursor bag = {0};

	if (!f->command.size)
		pack_text(&f->pk_command, "true");
	if (f->bag.size)
		bag = cursor_make(f->bag.data, f->bag.size);
	return exec_options_init(&f->options, name, home,
				 cursor_make(f->command.data, f->command.size), bag, &f->fault);
}

static void expect_refused(struct fixture *f, const char *text)
{
	assert_int_equal(read_options(f), WIRE_INVALID_ARGUMENT);
	if (!strstr(f->fault.message, text))
		fail_msg("\"%s\" is not in \"%s\"", text, f->fault.message);
}

static const char *env_of(struct fixture *f, const char *variable)
{
	size_t len = strlen(variable);

	for (size_t i = 0; i < f->options.env.count; i++)
		if (!strncmp(f->options.env.items[i], variable, len) &&
		    f->options.env.items[i][len] == '=')
			return f->options.env.items[i] + len + 1;
	return NULL;
}

static void string_runs_in_the_shell_with_the_users_environment(void **state)
{
	struct fixture *f = *state;

	pack_text(&f->pk_command, "echo $HOME");
	assert_int_equal(read_options(f), WIRE_OK);
	assert_int_equal(f->options.argv.count, 3);
	assert_string_equal(f->options.argv.items[0], "/bin/sh");
	assert_string_equal(f->options.argv.items[2], "echo $HOME");
	assert_string_equal(f->options.cwd, "/home/ada");
	assert_string_equal(env_of(f, "USER"), "ada");
	assert_string_equal(env_of(f, "HOME"), "/home/ada");
	assert_non_null(env_of(f, "PATH"));
	assert_int_equal(f->options.timeout_ms, 30000);
}

static void array_runs_without_a_shell(void **state)
{
	struct fixture *f = *state;

	pack_array(&f->pk_command, 2);
	pack_text(&f->pk_command, "ls");
	pack_bin(&f->pk_command, "\xff", 1);
	assert_int_equal(read_options(f), WIRE_OK);
	assert_int_equal(f->options.argv.count, 2);
	assert_string_equal(f->options.argv.items[1], "\xff");
}

static void options_are_taken_in_any_order_and_nil_means_default(void **state)
{
	struct fixture *f = *state;

	pack_map(&f->pk_bag, 6);
	pack_key_uint(&f->pk_bag, "output_max", 10);
	pack_text(&f->pk_bag, "stdin");
	pack_bin(&f->pk_bag, "a\0b", 3);
	pack_key_text(&f->pk_bag, "cwd", "/tmp");
	pack_text(&f->pk_bag, "env");
	pack_map(&f->pk_bag, 2);
	pack_key_text(&f->pk_bag, "A", "1=2");
	pack_key_text(&f->pk_bag, "PATH", "/mine");
	pack_key_uint(&f->pk_bag, "timeout_ms", 0);
	pack_text(&f->pk_bag, "output_max");
	(void)msgpack_pack_nil(&f->pk_bag);
	assert_int_equal(read_options(f), WIRE_OK);
	assert_string_equal(f->options.cwd, "/tmp");
	assert_int_equal(f->options.input_len, 3);
	assert_memory_equal(f->options.input, "a\0b", 3);
	assert_string_equal(env_of(f, "A"), "1=2");
	assert_string_equal(env_of(f, "PATH"), "/mine");
	assert_int_equal(f->options.timeout_ms, 0);
	assert_int_equal(f->options.output_max, 10);
}

static void unknown_option_is_named(void **state)
{
	struct fixture *f = *state;

	pack_map(&f->pk_bag, 1);
	pack_key_uint(&f->pk_bag, "timeout", 5);
	expect_refused(f, "no option timeout");
}

static void commands_that_cannot_be_are_refused(void **state)
{
	struct fixture *f = *state;

	pack_array(&f->pk_command, 0);
	expect_refused(f, "1 to");
	msgpack_sbuffer_clear(&f->command);
	pack_array(&f->pk_command, 1);
	pack_uint(&f->pk_command, 1);
	expect_refused(f, "must be a string");
	msgpack_sbuffer_clear(&f->command);
	pack_array(&f->pk_command, 1);
	pack_text(&f->pk_command, "");
	expect_refused(f, "empty");
	msgpack_sbuffer_clear(&f->command);
	pack_bin(&f->pk_command, "a\0b", 3);
	expect_refused(f, "NUL");
}

static void bad_values_are_refused(void **state)
{
	static const struct {
		const char *option;
		const char *value; /* packed */
		size_t len;
		const char *says;
	} cases[] = {
		{"cwd", "\xa3tmp", 4, "absolute"},
		{"cwd", "\xc4\x03/\0x", 5, "absolute"},
		{"cwd", "\x05", 1, "absolute"},
		{"env", "\x90", 1, "map"},
		{"env",
		 "\x81\xa3"
		 "A=B\xa1x",
		 7, "env"},
		{"env", "\x81\xa0\xa1x", 4, "env"},
		{"env",
		 "\x81\xa1"
		 "A\x05",
		 4, "env"},
		{"env",
		 "\x81\xc4\x02"
		 "A\0\xa1x",
		 7, "env"},
		{"stdin", "\x05", 1, "stdin"},
		{"timeout_ms", "\xff", 1, "timeout_ms"},
		{"timeout_ms", "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 9, "timeout_ms"},
		{"output_max", "\xce\xff\xff\xff\xff", 5, "output_max"},
		{"output_max", "\xa1x", 2, "output_max"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		msgpack_sbuffer_clear(&f->bag);
		pack_map(&f->pk_bag, 1);
		pack_text(&f->pk_bag, cases[i].option);
		(void)msgpack_pack_str_body(&f->pk_bag, cases[i].value, cases[i].len);
		expect_refused(f, cases[i].says);
	}
}

#define OPTIONS_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		OPTIONS_TEST(string_runs_in_the_shell_with_the_users_environment),
		OPTIONS_TEST(array_runs_without_a_shell),
		OPTIONS_TEST(options_are_taken_in_any_order_and_nil_means_default),
		OPTIONS_TEST(unknown_option_is_named),
		OPTIONS_TEST(commands_that_cannot_be_are_refused),
		OPTIONS_TEST(bad_values_are_refused),
	};

	return cmocka_run_group_tests_name("core/exec_options", tests, NULL, NULL);
}
