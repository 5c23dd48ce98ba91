/* SPDX-License-Identifier: MIT */

/*
 * Tests of sdk/cli/quantity.c: how sizes, times and shares may be written, and how not
 */

#include "tests/unit/testing.h"

#include "sdk/cli/quantity.h"

typedef int quantity_fn(const char *text, uint64_t *ret_value);

static void expect(quantity_fn *read, const char *text, uint64_t value)
{
	uint64_t got = 99;

	if (read(text, &got) || got != value)
		fail_msg("\"%s\" is read as %llu, not %llu", text, (unsigned long long)got,
			 (unsigned long long)value);
}

static void refuse(quantity_fn *read, const char *text, int code)
{
	uint64_t got = 99;
	int r = read(text, &got);

	if (r != code || got != 99)
		fail_msg("\"%s\" gives %d, not %d, and %llu", text, r, code,
			 (unsigned long long)got);
}

static void sizes_have_binary_units_of_either_case(void **state)
{
	(void)state;
	expect(quantity_size, "0", 0);
	expect(quantity_size, "4096", 4096);
	expect(quantity_size, "1K", 1024);
	expect(quantity_size, "256M", 256u << 20);
	expect(quantity_size, "256m", 256u << 20);
	expect(quantity_size, "1.5G", 3ull << 29);
	expect(quantity_size, "2t", 2ull << 40);
	expect(quantity_size, "0.001K", 1);
	expect(quantity_size, "1.0009K", 1024);
	expect(quantity_size, "000000000000000000000000001K", 1024);
	expect(quantity_size, "8388607T", 8388607ull << 40);
}

static void times_need_a_unit(void **state)
{
	(void)state;
	expect(quantity_duration, "500ms", 500);
	expect(quantity_duration, "30s", 30000);
	expect(quantity_duration, "2m", 120000);
	expect(quantity_duration, "1.5h", 5400000);
	expect(quantity_duration, "365d", 31536000000);
	expect(quantity_duration, "0", 0);
	expect(quantity_duration, "0s", 0);
	expect(quantity_duration, "0.0015s", 1);
	refuse(quantity_duration, "30", QUANTITY_E_FORM);
	refuse(quantity_duration, "30S", QUANTITY_E_FORM);
	refuse(quantity_duration, "1m30s", QUANTITY_E_FORM);
	refuse(quantity_duration, "366d", QUANTITY_E_RANGE);
	/* Not nothing, and yet it would become none: that means without end. */
	refuse(quantity_duration, "0.4ms", QUANTITY_E_RANGE);
}

static void shares_are_exact(void **state)
{
	(void)state;
	expect(quantity_cpus, "1", 100000);
	expect(quantity_cpus, "0.5", 50000);
	expect(quantity_cpus, "0.1", 10000);
	expect(quantity_cpus, "2.25", 225000);
	refuse(quantity_cpus, "0.000001", QUANTITY_E_RANGE);
	refuse(quantity_cpus, "1M", QUANTITY_E_FORM);
}

static void counts_are_whole(void **state)
{
	(void)state;
	expect(quantity_count, "0", 0);
	expect(quantity_count, "100", 100);
	expect(quantity_count, "999999999999999999", 999999999999999999);
	refuse(quantity_count, "1.0", QUANTITY_E_FORM);
	refuse(quantity_count, "1K", QUANTITY_E_FORM);
	refuse(quantity_count, "", QUANTITY_E_FORM);
	refuse(quantity_count, "1000000000000000000000", QUANTITY_E_RANGE);
}

static void everything_else_is_refused(void **state)
{
	static const char *const bad[] = {
		"",     " ",  "-1",  "+1",    " 1",   "1 ",           "1 M",           "M",
		".5",   "1.", "1.M", "1..5M", "1,5M", "1e3",          "0x10",          "1MB",
		"1MiB", "1Q", "1KK", "nan",   "inf",  "\xef\xbc\x91", "1.0000000001M",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		refuse(quantity_size, bad[i], QUANTITY_E_FORM);
		refuse(quantity_duration, bad[i], QUANTITY_E_FORM);
		refuse(quantity_cpus, bad[i], QUANTITY_E_FORM);
	}
}

static void what_does_not_fit_is_told_from_what_is_no_number(void **state)
{
	(void)state;
	refuse(quantity_size, "8388608T", QUANTITY_E_RANGE);
	refuse(quantity_size, "9223372036854775808", QUANTITY_E_RANGE);
	refuse(quantity_size, "99999999999999999999999999", QUANTITY_E_RANGE);
	refuse(quantity_size, "0.0001K", QUANTITY_E_RANGE);
	refuse(quantity_cpus, "999999999999999999", QUANTITY_E_RANGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_have_binary_units_of_either_case),
		cmocka_unit_test(times_need_a_unit),
		cmocka_unit_test(shares_are_exact),
		cmocka_unit_test(counts_are_whole),
		cmocka_unit_test(everything_else_is_refused),
		cmocka_unit_test(what_does_not_fit_is_told_from_what_is_no_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
