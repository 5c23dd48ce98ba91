/* SPDX-License-Identifier: MIT */

/*
 * Tests of sdk/cli/tail.c
 */

#include "tests/unit/testing.h"

#include <string.h>

#include "sdk/cli/tail.h"

/* The same however it is cut. */
static void expect(uint64_t lines, uint64_t bytes, const char *text, const char *end)
{
	size_t len = strlen(text);

	for (size_t piece = 1; piece <= len + 1; piece++) {
		struct tail tail = {.lines = lines, .bytes = bytes};

		for (size_t at = 0; at < len; at += piece)
			tail_put(&tail, text + at, len - at < piece ? len - at : piece);
		assert_int_equal(buf_unread(&tail.kept), strlen(end));
		if (*end)
			assert_memory_equal(buf_head(&tail.kept), end, strlen(end));
		tail_deinit(&tail);
	}
}

static void lines_are_counted_from_the_end(void **state)
{
	(void)state;
	expect(2, TAIL_UNBOUNDED, "one\ntwo\nthree\n", "two\nthree\n");
	expect(2, TAIL_UNBOUNDED, "one\ntwo\nthree", "two\nthree");
	expect(1, TAIL_UNBOUNDED, "one\n\n", "\n");
	expect(3, TAIL_UNBOUNDED, "one\n", "one\n");
	expect(1, TAIL_UNBOUNDED, "", "");
	expect(0, TAIL_UNBOUNDED, "one\ntwo", "");
}

static void bytes_are_counted_from_the_end(void **state)
{
	(void)state;
	expect(TAIL_UNBOUNDED, 4, "one\ntwo", "\ntwo");
	expect(TAIL_UNBOUNDED, 100, "one\ntwo", "one\ntwo");
	expect(TAIL_UNBOUNDED, 0, "one\ntwo", "");
}

static void both_limits_hold(void **state)
{
	(void)state;
	expect(1, 2, "one\ntwo", "wo");
	expect(1, 5, "one\ntwo", "two");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_are_counted_from_the_end),
		cmocka_unit_test(bytes_are_counted_from_the_end),
		cmocka_unit_test(both_limits_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
