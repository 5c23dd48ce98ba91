/* SPDX-License-Identifier: MIT */

/*
 * Tests of sdk/cli/printable.c and utf8.c: what of hostile bytes reaches a terminal
 */

#include "tests/unit/testing.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/cleanup.h"
#include "sdk/cli/printable.h"

static void expect_printable(const char *bytes, size_t len, const char *shown)
{
	CLEANUP(buf_deinit) struct buf out = {0};

	printable_put(&out, bytes, len);
	assert_int_equal(out.len, strlen(shown));
	assert_memory_equal(out.data, shown, out.len);
}

/* The same however it is cut. */
static void expect_screen(const char *bytes, size_t len, const char *shown)
{
	for (size_t piece = 1; piece <= len; piece++) {
		CLEANUP(buf_deinit) struct buf out = {0};
		struct screen screen = {0};

		for (size_t at = 0; at < len; at += piece)
			screen_put(&screen, &out, bytes + at, len - at < piece ? len - at : piece);
		screen_finish(&screen, &out);
		if (out.len != strlen(shown) || memcmp(out.data, shown, out.len) != 0)
			fail_msg("in pieces of %zu: \"%.*s\", not \"%s\"", piece, (int)out.len,
				 (const char *)out.data, shown);
	}
}

#define PRINTABLE(bytes, shown) expect_printable(bytes, sizeof(bytes) - 1, shown)
#define SCREEN(bytes, shown)    expect_screen(bytes, sizeof(bytes) - 1, shown)

static void text_passes(void **state)
{
	(void)state;
	PRINTABLE("plain ~ text \\ 1", "plain ~ text \\ 1");
	PRINTABLE("gr\xc3\xbcn \xe2\x82\xac \xf0\x9f\x8c\x8d",
		  "gr\xc3\xbcn \xe2\x82\xac \xf0\x9f\x8c\x8d");
}

static void controls_are_shown(void **state)
{
	(void)state;
	PRINTABLE("a\x1b[2Jb\r\n\t\b\x7f", "a\\x1b[2Jb\\x0d\\x0a\\x09\\x08\\x7f");
	PRINTABLE("a\0b", "a\\x00b");
	/* U+009B is ESC [ in one character. */
	PRINTABLE("\xc2\x9b", "\\xc2\\x9b");
}

static void disguises_are_shown(void **state)
{
	(void)state;
	PRINTABLE("exe\xe2\x80\xaetxt", "exe\\u202etxt");
	PRINTABLE("\xe2\x81\xa6\xe2\x80\x8f\xe2\x80\xa8\xd8\x9c", "\\u2066\\u200f\\u2028\\u061c");
}

static void broken_utf8_is_shown_byte_by_byte(void **state)
{
	(void)state;
	PRINTABLE("a\xff\xfe", "a\\xff\\xfe");
	PRINTABLE("\xc0\xaf", "\\xc0\\xaf");                   /* overlong */
	PRINTABLE("\xed\xa0\x80", "\\xed\\xa0\\x80");          /* a surrogate */
	PRINTABLE("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"); /* beyond U+10FFFF */
	PRINTABLE("\xe2\x82", "\\xe2\\x82");                   /* cut off */
	PRINTABLE("\xe2\x82x", "\\xe2\\x82x");
}

static void width_counts_characters(void **state)
{
	(void)state;
	assert_int_equal(printable_width("gr\xc3\xbcn", 5), 4);
	assert_int_equal(printable_width("", 0), 0);
}

static void a_screen_keeps_lines_and_colours(void **state)
{
	(void)state;
	SCREEN("one\n\ttwo\r\n", "one\n\ttwo\r\n");
	SCREEN("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m\x1b[0m");
	SCREEN("\x1b[38:5:9mx", "\x1b[38:5:9mx\x1b[0m");
}

static void a_screen_shows_every_other_sequence(void **state)
{
	(void)state;
	SCREEN("\x1b[2J\x1b[H", "\\x1b[2J\\x1b[H");
	SCREEN("\x1b]0;title\x07", "\\x1b]0;title\\x07");
	SCREEN("\x1b[?25l\x1b[>c", "\\x1b[?25l\\x1b[>c");
	SCREEN("\x1b"
	       "c",
	       "\\x1b"
	       "c");
	SCREEN("\x1b\x1b[31m", "\\x1b\x1b[31m\x1b[0m");
	SCREEN("\x1b[31;\x1b[32m", "\\x1b[31;\x1b[32m\x1b[0m");
	SCREEN("\xc2\x9b"
	       "31m\b\a",
	       "\\xc2\\x9b"
	       "31m\\x08\\x07");
}

static void a_screen_waits_for_the_end_of_a_character(void **state)
{
	(void)state;
	SCREEN("\xe2\x82\xac\xe2\x80\xae", "\xe2\x82\xac\\u202e");
	SCREEN("x\xf0\x9f\x8c", "x\\xf0\\x9f\\x8c");
	SCREEN("x\x1b", "x\\x1b");
	SCREEN("x\x1b[1", "x\\x1b[1");
}

static void a_sequence_that_never_ends_is_not_waited_for(void **state)
{
	char bytes[256] = "\x1b[", shown[256] = "\\x1b[";

	(void)state;
	memset(bytes + 2, '1', 200);
	memset(shown + 5, '1', 200);
	bytes[202] = 'm';
	shown[205] = 'm';
	expect_screen(bytes, 203, shown);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_passes),
		cmocka_unit_test(controls_are_shown),
		cmocka_unit_test(disguises_are_shown),
		cmocka_unit_test(broken_utf8_is_shown_byte_by_byte),
		cmocka_unit_test(width_counts_characters),
		cmocka_unit_test(a_screen_keeps_lines_and_colours),
		cmocka_unit_test(a_screen_shows_every_other_sequence),
		cmocka_unit_test(a_screen_waits_for_the_end_of_a_character),
		cmocka_unit_test(a_sequence_that_never_ends_is_not_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
