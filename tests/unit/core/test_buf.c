/* SPDX-License-Identifier: MIT */

/*
 * Tests of core/base/buf.c: a random walk against the stream it stands for
 */

#include "tests/unit/testing.h"

#include <stdlib.h>

#include "core/base/buf.h"

static void bytes_come_out_as_they_went_in(void **state)
{
	unsigned seed = 3;
	struct buf buf = {0};
	uint8_t in = 0, out = 0;
	uint8_t bytes[300];

	(void)state;
	for (int round = 0; round < 100000; round++) {
		size_t n = (size_t)(rand_r(&seed) % (int)sizeof(bytes));

		if (rand_r(&seed) % 2) {
			for (size_t i = 0; i < n; i++)
				bytes[i] = in++;
			assert_int_equal(buf_append(&buf, bytes, n), 0);
		} else {
			n = n < buf_unread(&buf) ? n : buf_unread(&buf);
			for (size_t i = 0; i < n; i++)
				assert_int_equal(buf_head(&buf)[i], out++);
			buf_consume(&buf, n);
		}
		assert_int_equal((uint8_t)(in - out), (uint8_t)buf_unread(&buf));
	}
	buf_deinit(&buf);
}

static void memory_goes_back_when_all_is_read(void **state)
{
	struct buf buf = {0};

	(void)state;
	assert_int_equal(buf_append(&buf, "abc", 3), 0);
	buf_consume(&buf, 2);
	assert_non_null(buf.data);
	buf_consume(&buf, 1);
	assert_null(buf.data);
	assert_int_equal(buf.cap, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_come_out_as_they_went_in),
		cmocka_unit_test(memory_goes_back_when_all_is_read),
	};

	return cmocka_run_group_tests_name("core/base/buf", tests, NULL, NULL);
}
