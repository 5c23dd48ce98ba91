/* SPDX-License-Identifier: MIT */

/*
 * Tests of core/interpreter.c: which directories an interpreter is shown with, and which it never is
 */

#include "tests/unit/testing.h"

#include <string.h>

#include "core/interpreter.h"

/* A link or a file that the search will meet. */
struct found {
	const char *path, *text;
};

static struct interpreter_search search;
static struct fault fault;

static const char *text_at(const struct found *world, const char *path)
{
	for (; world->path; world++)
		if (!strcmp(world->path, path))
			return world->text;
	return NULL;
}

static enum wire_error run_search(const char *name, const struct found *world)
{
	enum wire_error code;
	const char *text;

	interpreter_deinit(&search);
	search = (struct interpreter_search){.name = name, .home = "/home/ada"};
	code = interpreter_begin(&search, &fault);
	for (unsigned i = 0; i < 100 && !code && (*search.config || *search.path); i++) {
		text = text_at(world, *search.config ? search.config : search.path);
		code = *search.config
			       ? interpreter_configured(&search, text, text ? strlen(text) : 0,
							&fault)
			       : interpreter_linked(&search, text, text ? strlen(text) : 0, &fault);
	}
	return code;
}

/* @expected: prefixes, a space between each. */
static void expect(const char *name, const struct found *world, const char *expected)
{
	char got[1024] = "";

	assert_int_equal(run_search(name, world), WIRE_OK);
	assert_true(!*search.path && !*search.config);
	for (size_t i = 0; i < search.prefixes.count; i++) {
		(void)strcat(got, i ? " " : "");
		(void)strcat(got, search.prefixes.items[i]);
	}
	assert_string_equal(got, expected);
}

static const struct found nothing[] = {{NULL, NULL}};

static void what_every_box_has_needs_nothing(void **state)
{
	(void)state;
	expect("/usr/bin/python3", nothing, "");
	expect("/usr/local/bin/python3", nothing, "");
	expect("/bin/sh", nothing, "");
	expect("/usr//bin/../bin/python3", nothing, "");
	expect("/workspace/venv/bin/python", nothing, "");
	expect("/usrlocal/x/bin/python", nothing, "/usrlocal/x");
}

static void an_environment_brings_what_it_was_made_from(void **state)
{
	static const struct found world[] = {
		{"/home/ada/venv/bin/python", "python3"},
		{"/home/ada/venv/bin/python3", "/usr/bin/python3"},
		{"/home/ada/venv/pyvenv.cfg", "home = /usr/bin\ninclude = false\n"},
		{"/srv/env/bin/python", "/home/ada/.pyenv/versions/3.11/bin/python3.11"},
		{"/srv/env/pyvenv.cfg", "version = 3\nhome=/home/ada/.pyenv/versions/3.11/bin\r\n"},
		{"/srv/uv/bin/python", "../../pythons/3.12/bin/python3.12"},
		{"/srv/only/pyvenv.cfg", "homely = /x/y/bin\nhome \t=\t/opt/py/3/bin"},
		{NULL, NULL},
	};

	(void)state;
	expect("/home/ada/venv/bin/python", world, "/home/ada/venv");
	expect("/srv/env/bin/python", world, "/srv/env /home/ada/.pyenv/versions/3.11");
	expect("/srv/uv/bin/python", world, "/srv/uv /srv/pythons/3.12");
	expect("/srv/only/bin/python", world, "/srv/only /opt/py/3");
}

static void too_much_is_not_shown(void **state)
{
	static const char *const bad[] = {"/python",
					  "/opt/python",
					  "/home/python",
					  "/home/ada/python",
					  "/home/ada/../ada/python",
					  "/python/.."};
	static const struct found loop[] = {{"/srv/a/bin/p", "/srv/a/bin/p"}, {NULL, NULL}};
	static const struct found home[] = {{"/srv/a/pyvenv.cfg", "home = /opt\n"}, {NULL, NULL}};

	(void)state;
	/* Not the home, nor /opt: the directory alone. */
	expect("/home/ada/bin/python", nothing, "/home/ada/bin");
	expect("/opt/bin/python", nothing, "/opt/bin");
	expect("/home/ada2/bin/python", nothing, "/home/ada2");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(run_search(bad[i], nothing), WIRE_INVALID_ARGUMENT);
		assert_non_null(strstr(fault.message, "ro"));
	}
	assert_int_equal(run_search("/srv/a/bin/p", loop), WIRE_INVALID_ARGUMENT);
	assert_int_equal(run_search("/srv/a/bin/q", home), WIRE_INVALID_ARGUMENT);
}

static void what_is_shown_anyway_is_not_shown_twice(void **state)
{
	static char *paths[] = {(char *)(uintptr_t) "/srv/tools"};
	const struct strv ro = {.items = paths, .count = 1};

	(void)state;
	interpreter_deinit(&search);
	search = (struct interpreter_search){
		.name = "/srv/tools/python/bin/python3", .home = "/", .covered = {&ro}};
	assert_int_equal(interpreter_begin(&search, &fault), WIRE_OK);
	assert_int_equal(search.prefixes.count, 0);
	assert_string_equal(search.config, "/srv/tools/python/pyvenv.cfg");
}

static void hostile_links_are_refused(void **state)
{
	char target[LIMIT_PATH_BYTES + 2];

	(void)state;
	memset(target, 'x', sizeof(target));
	target[0] = '/';
	for (size_t len = LIMIT_PATH_BYTES; len <= LIMIT_PATH_BYTES + 1; len++) {
		assert_int_equal(run_search("/srv/a/bin/p", nothing), WIRE_OK);
		(void)strcpy(search.path, "/srv/a/bin/p");
		(void)interpreter_linked(&search, target, len, &fault);
	}
	(void)strcpy(search.path, "/srv/a/bin/p");
	assert_int_equal(interpreter_linked(&search, "a\0b", 3, &fault), WIRE_INVALID_ARGUMENT);
	(void)strcpy(search.path, "/srv/a/bin/p");
	assert_int_equal(interpreter_linked(&search, "", 0, &fault), WIRE_INVALID_ARGUMENT);
	interpreter_deinit(&search);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_every_box_has_needs_nothing),
		cmocka_unit_test(an_environment_brings_what_it_was_made_from),
		cmocka_unit_test(too_much_is_not_shown),
		cmocka_unit_test(what_is_shown_anyway_is_not_shown_twice),
		cmocka_unit_test(hostile_links_are_refused),
	};

	return cmocka_run_group_tests_name("interpreter", tests, NULL, NULL);
}
