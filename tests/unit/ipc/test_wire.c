/* SPDX-License-Identifier: MIT */

/*
 * Tests of the tables made from ipc/wire.def
 */

#include "tests/unit/testing.h"

#include <string.h>

#include "ipc/wire.h"

static void every_call_is_found_by_its_number(void **state)
{
	(void)state;
	for (int i = 0; i < WIRE_CALL_COUNT; i++)
		assert_int_equal(wire_find(wire_calls[i].op), i);
}

static void calls_stand_in_order_of_number(void **state)
{
	(void)state;
	for (int i = 1; i < WIRE_CALL_COUNT; i++)
		assert_true(wire_calls[i - 1].op < wire_calls[i].op);
}

static void unknown_numbers_are_not_found(void **state)
{
	(void)state;
	assert_int_equal(wire_find(0x05), -1);
	assert_int_equal(wire_find(WIRE_OP_LIMIT), -1);
	assert_int_equal(wire_find(UINT16_MAX), -1);
}

/* The numbers that programs written for the original API carry. */
static void numbers_of_the_original_are_kept(void **state)
{
	static const struct {
		const char *name;
		uint16_t op;
	} originals[] = {
		{"NOOP", 0x00},          {"THINK", 0x01},         {"EXEC", 0x02},
		{"READ", 0x03},          {"WRITE", 0x04},         {"SPAWN", 0x10},
		{"KILL", 0x11},          {"LIST", 0x12},          {"PAUSE", 0x14},
		{"RESUME", 0x15},        {"SEND", 0x20},          {"RECV", 0x21},
		{"BROADCAST", 0x22},     {"REGISTER", 0x23},      {"STORE", 0x30},
		{"FETCH", 0x31},         {"DELETE", 0x32},        {"KEYS", 0x33},
		{"HTTP", 0x50},          {"SUBSCRIBE", 0x60},     {"ASYNC_POLL", 0x80},
		{"WORLD_RESTORE", 0xa8}, {"TUNNEL_CONFIG", 0xb4}, {"METRICS_CGROUP", 0xc3},
		{"LLM_REPORT", 0xf0},    {"HELLO", 0xfe},         {"EXIT", 0xff},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(originals) / sizeof(originals[0]); i++) {
		int index = wire_find(originals[i].op);

		assert_true(index >= 0);
		assert_string_equal(wire_calls[index].name, originals[i].name);
	}
}

static void optional_arguments_come_last(void **state)
{
	(void)state;
	for (int i = 0; i < WIRE_CALL_COUNT; i++) {
		bool optional = false;

		for (const struct wire_arg *arg = wire_calls[i].args; arg->name; arg++) {
			assert_true(arg->optional || !optional);
			optional = arg->optional;
		}
	}
}

static void every_error_has_a_name(void **state)
{
	(void)state;
	assert_string_equal(wire_error_name(WIRE_BUSY), "BUSY");
	assert_true(wire_error_retryable(WIRE_BUSY));
	assert_false(wire_error_retryable(WIRE_NOT_FOUND));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_call_is_found_by_its_number),
		cmocka_unit_test(calls_stand_in_order_of_number),
		cmocka_unit_test(unknown_numbers_are_not_found),
		cmocka_unit_test(numbers_of_the_original_are_kept),
		cmocka_unit_test(optional_arguments_come_last),
		cmocka_unit_test(every_error_has_a_name),
	};

	return cmocka_run_group_tests_name("ipc/wire", tests, NULL, NULL);
}
