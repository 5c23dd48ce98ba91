/* SPDX-License-Identifier: MIT */

#include "tests/unit/testing.h"

#include <string.h>

#include "store/value.h"

#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1

static void expect_sum(const uint8_t *a, uint32_t a_len, const uint8_t *b, uint32_t b_len,
		       const uint8_t *sum, uint32_t sum_len)
{
	uint8_t got[VALUE_NUMBER_MAX];
	uint32_t len;

	assert_int_equal(value_add(a, a_len, b, b_len, got, &len), 0);
	assert_int_equal(len, sum_len);
	assert_memory_equal(got, sum, len);
}

static void integers_take_the_shortest_form(void **state)
{
	(void)state;
	expect_sum(NULL, 0, BYTES("\x05"), BYTES("\x05"));
	expect_sum(BYTES("\x7f"), BYTES("\x01"), BYTES("\xcc\x80"));
	expect_sum(BYTES("\xcc\xff"), BYTES("\x01"), BYTES("\xcd\x01\x00"));
	expect_sum(BYTES("\xcd\xff\xff"), BYTES("\x01"), BYTES("\xce\x00\x01\x00\x00"));
	expect_sum(BYTES("\xce\xff\xff\xff\xff"), BYTES("\x01"),
		   BYTES("\xcf\x00\x00\x00\x01\x00\x00\x00\x00"));
	expect_sum(BYTES("\xe0"), BYTES("\xff"), BYTES("\xd0\xdf"));
	expect_sum(BYTES("\xd0\x80"), BYTES("\xff"), BYTES("\xd1\xff\x7f"));
	expect_sum(BYTES("\xd1\x80\x00"), BYTES("\xff"), BYTES("\xd2\xff\xff\x7f\xff"));
	expect_sum(BYTES("\xd2\x80\x00\x00\x00"), BYTES("\xff"),
		   BYTES("\xd3\xff\xff\xff\xff\x7f\xff\xff\xff"));
	/* Forms that are longer than they need be are numbers, too. */
	expect_sum(BYTES("\xd3\x00\x00\x00\x00\x00\x00\x00\x01"), BYTES("\xd0\xff"), BYTES("\x00"));
	expect_sum(BYTES("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
		   BYTES("\xd3\x80\x00\x00\x00\x00\x00\x00\x00"),
		   BYTES("\xcf\x7f\xff\xff\xff\xff\xff\xff\xff"));
}

static void integers_do_not_wrap(void **state)
{
	uint8_t got[VALUE_NUMBER_MAX];
	uint32_t len;

	(void)state;
	assert_int_equal(
		value_add(BYTES("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), BYTES("\x01"), got, &len),
		VALUE_E_RANGE);
	assert_int_equal(
		value_add(BYTES("\xd3\x80\x00\x00\x00\x00\x00\x00\x00"), BYTES("\xff"), got, &len),
		VALUE_E_RANGE);
}

static void a_float_makes_the_sum_a_float(void **state)
{
	uint8_t got[VALUE_NUMBER_MAX];
	uint32_t len;

	(void)state;
	/* 1 + 0.5 (32 bits) = 1.5 (64 bits); 0.5 + 0.5 stays a float */
	expect_sum(BYTES("\x01"), BYTES("\xca\x3f\x00\x00\x00"),
		   BYTES("\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"));
	expect_sum(BYTES("\xcb\x3f\xe0\x00\x00\x00\x00\x00\x00"), BYTES("\xca\x3f\x00\x00\x00"),
		   BYTES("\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00"));
	assert_int_equal(
		value_add(BYTES("\x01"), BYTES("\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00"), got, &len),
		VALUE_E_RANGE);
}

static void what_is_no_number_is_refused(void **state)
{
	static const char *const wrong[] = {"\xc0", "\xc3",     "\xa1x",   "\x91\x01",
					    "\x80", "\xcd\x01", "\x01\x01"};
	uint8_t got[VALUE_NUMBER_MAX];
	uint32_t len;

	(void)state;
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		const uint8_t *bytes = (const uint8_t *)wrong[i];
		uint32_t wrong_len = (uint32_t)strlen(wrong[i]);

		assert_int_equal(value_add(bytes, wrong_len, BYTES("\x01"), got, &len),
				 VALUE_E_TYPE);
		assert_int_equal(value_add(BYTES("\x01"), bytes, wrong_len, got, &len),
				 VALUE_E_TYPE);
	}
	assert_int_equal(value_add(BYTES("\x01"), NULL, 0, got, &len), VALUE_E_TYPE);
}

static void expect_join(const uint8_t *a, uint32_t a_len, const uint8_t *b, uint32_t b_len,
			const uint8_t *head, uint32_t head_len)
{
	struct value_join join;

	assert_int_equal(value_join(a, a_len, b, b_len, &join), 0);
	assert_int_equal(join.head_len, head_len);
	assert_memory_equal(join.head, head, head_len);
}

static void joins_count_what_both_hold(void **state)
{
	static uint8_t text[2 + 250] = {0xd9, 250};

	(void)state;
	expect_join(BYTES("\xa1x"), BYTES("\xa2yz"), BYTES("\xa3"));
	expect_join(BYTES("\xc4\x01x"), BYTES("\xc4\x02yz"), BYTES("\xc4\x03"));
	expect_join(BYTES("\x91\x01"), BYTES("\x92\x02\xa1x"), BYTES("\x93"));
	expect_join(BYTES("\x9f\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1"), BYTES("\x91\x01"),
		    BYTES("\xdc\x00\x10"));
	expect_join(text, sizeof(text), BYTES("\xa1x"), BYTES("\xd9\xfb"));
	expect_join(text, sizeof(text), text, sizeof(text), BYTES("\xda\x01\xf4"));
}

static void unlike_things_do_not_join(void **state)
{
	struct value_join join;

	(void)state;
	assert_int_equal(value_join(BYTES("\xa1x"), BYTES("\xc4\x01x"), &join), VALUE_E_TYPE);
	assert_int_equal(value_join(BYTES("\xa1x"), BYTES("\x91\x01"), &join), VALUE_E_TYPE);
	assert_int_equal(value_join(BYTES("\x01"), BYTES("\x01"), &join), VALUE_E_TYPE);
	assert_int_equal(value_join(BYTES("\x81\x01\x02"), BYTES("\x81\x01\x02"), &join),
			 VALUE_E_TYPE);
	/* A head that promises more than there is. */
	assert_int_equal(value_join(BYTES("\xa2x"), BYTES("\xa1y"), &join), VALUE_E_TYPE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(integers_take_the_shortest_form),
		cmocka_unit_test(integers_do_not_wrap),
		cmocka_unit_test(a_float_makes_the_sum_a_float),
		cmocka_unit_test(what_is_no_number_is_refused),
		cmocka_unit_test(joins_count_what_both_hold),
		cmocka_unit_test(unlike_things_do_not_join),
	};

	return cmocka_run_group_tests_name("store/value", tests, NULL, NULL);
}
