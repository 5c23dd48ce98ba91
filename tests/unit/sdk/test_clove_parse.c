/* SPDX-License-Identifier: MIT */

#include "sdk/c/clove_priv.h"

#include "tests/unit/testing.h"

#include <string.h>

#include "ipc/frame.h"

static size_t put_frame(uint8_t *bytes, uint16_t flags, const void *body, size_t len)
{
	frame_write(bytes, &(struct frame){.body_len = (uint32_t)len, .flags = flags, .id = 1});
	memcpy(bytes + FRAME_HEADER_BYTES, body, len);
	return FRAME_HEADER_BYTES + len;
}

static void flags_tell_the_kinds_apart(void **state)
{
	static const struct {
		uint16_t flags;
		enum clove_kind kind;
	} cases[] = {
		{WIRE_FLAG_REPLY, CLOVE_REPLY},
		{WIRE_FLAG_REPLY | WIRE_FLAG_MORE, CLOVE_CHUNK},
		{WIRE_FLAG_PUSH, CLOVE_PUSH},
		{WIRE_FLAG_REPLY | WIRE_FLAG_ERROR, CLOVE_ERROR},
	};
	static const uint8_t body[] = {0x93, 7, 0xa0, 0x80}; /* [7, "", {}] */
	uint8_t bytes[FRAME_HEADER_BYTES + sizeof(body)];
	struct clove_frame frame;
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		len = put_frame(bytes, cases[i].flags, body, sizeof(body));
		assert_int_equal(clove_parse(bytes, len, &frame), 0);
		assert_int_equal(frame.kind, cases[i].kind);
		assert_ptr_equal(frame.body, bytes + FRAME_HEADER_BYTES);
		assert_int_equal(frame.body_len, sizeof(body));
	}
}

static void frame_that_answers_nothing_is_broken(void **state)
{
	static const uint16_t flags[] = {0, WIRE_FLAG_REPLY | WIRE_FLAG_PUSH, WIRE_FLAG_ERROR,
					 WIRE_FLAG_PUSH | WIRE_FLAG_ERROR};
	uint8_t bytes[FRAME_HEADER_BYTES];
	struct clove_frame frame;
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		len = put_frame(bytes, flags[i], "", 0);
		assert_int_equal(clove_parse(bytes, len, &frame), CLOVE_E_BROKEN);
	}
}

static void malformed_error_body_is_broken(void **state)
{
	static const struct {
		size_t len;
		uint8_t body[8];
	} cases[] = {
		{0, {0}},
		{1, {0xc0}},                                           /* nil */
		{5, {0x92, 7, 0xa2, 'n', 'o'}},                        /* no detail */
		{6, {0x93, 7, 0xa2, 'n', 'o', 0xc0}},                  /* detail is nil */
		{6, {0x93, 7, 0xa2, 'n', 'o', 0x81}},                  /* detail cut short */
		{4, {0x93, 7, 0xa5, 'n'}},                             /* message cut short */
		{4, {0x93, 0xff, 0xa0, 0x80}},                         /* code -1 */
		{8, {0x93, 0xce, 0xff, 0xff, 0xff, 0xff, 0xa0, 0x80}}, /* code 2^32 - 1 */
	};
	uint8_t bytes[FRAME_HEADER_BYTES + 8];
	struct clove_frame frame;
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		len = put_frame(bytes, WIRE_FLAG_REPLY | WIRE_FLAG_ERROR, cases[i].body,
				cases[i].len);
		assert_int_equal(clove_parse(bytes, len, &frame), CLOVE_E_BROKEN);
	}
}

static void error_of_a_newer_kernel_is_understood(void **state)
{
	/* An unknown code, and a fourth element: [9999, "x", {}, nil] */
	static const uint8_t body[] = {0x94, 0xcd, 0x27, 0x0f, 0xa1, 'x', 0x80, 0xc0};
	uint8_t bytes[FRAME_HEADER_BYTES + sizeof(body)];
	struct clove_frame frame;
	size_t len;

	(void)state;
	len = put_frame(bytes, WIRE_FLAG_REPLY | WIRE_FLAG_ERROR, body, sizeof(body));
	assert_int_equal(clove_parse(bytes, len, &frame), 0);
	assert_int_equal(frame.error.code, 9999);
	assert_string_equal(frame.error.name, "UNKNOWN");
	assert_int_equal(frame.error.message_len, 1);
	assert_int_equal(frame.error.detail_len, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flags_tell_the_kinds_apart),
		cmocka_unit_test(frame_that_answers_nothing_is_broken),
		cmocka_unit_test(malformed_error_body_is_broken),
		cmocka_unit_test(error_of_a_newer_kernel_is_understood),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
