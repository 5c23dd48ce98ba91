/* SPDX-License-Identifier: MIT */

/*
 * Tests of ipc/cursor.c: every format against values packed by msgpack-c, and input that lies
 */

#include "tests/unit/testing.h"

#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/cursor.h"
#include "ipc/frame.h"
#include "ipc/pack.h"

static int setup(void **state)
{
	*state = msgpack_sbuffer_new();
	return 0;
}

static int teardown(void **state)
{
	msgpack_sbuffer_free(*state);
	return 0;
}

static struct cursor packed(msgpack_sbuffer *sb)
{
	return cursor_make(sb->data, sb->size);
}

static void integers_of_every_width_are_read(void **state)
{
	static const int64_t values[] = {
		0,     1,          127,        128,       255,         256,         65535,
		65536, 4294967295, 4294967296, INT64_MAX, -1,          -32,         -33,
		-128,  -129,       -32768,     -32769,    -2147483648, -2147483649, INT64_MIN};
	msgpack_sbuffer *sb = *state;
	msgpack_packer pk;
	struct cursor c;
	int64_t value;

	msgpack_packer_init(&pk, sb, msgpack_sbuffer_write);
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		(void)msgpack_pack_int64(&pk, values[i]);
	c = packed(sb);
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		assert_int_equal(cursor_read_int(&c, &value), 0);
		assert_true(value == values[i]);
	}
	assert_ptr_equal(c.pos, c.end);
}

static void unsigned_refuses_negative_and_int_refuses_too_large(void **state)
{
	msgpack_sbuffer *sb = *state;
	msgpack_packer pk;
	struct cursor c;
	uint64_t u;
	int64_t i;

	msgpack_packer_init(&pk, sb, msgpack_sbuffer_write);
	(void)msgpack_pack_int64(&pk, -5);
	(void)msgpack_pack_uint64(&pk, UINT64_MAX);
	c = packed(sb);
	assert_int_equal(cursor_read_uint(&c, &u), CURSOR_E_TYPE);
	assert_int_equal(cursor_read_int(&c, &i), 0);
	assert_int_equal(cursor_read_int(&c, &i), CURSOR_E_TYPE);
	assert_int_equal(cursor_read_uint(&c, &u), 0);
	assert_true(u == UINT64_MAX);
}

static void floats_and_integers_are_numbers(void **state)
{
	msgpack_sbuffer *sb = *state;
	msgpack_packer pk;
	struct cursor c;
	double value;

	msgpack_packer_init(&pk, sb, msgpack_sbuffer_write);
	(void)msgpack_pack_float(&pk, 0.5f);
	(void)msgpack_pack_double(&pk, -1e300);
	(void)msgpack_pack_int(&pk, -7);
	c = packed(sb);
	assert_int_equal(cursor_read_float(&c, &value), 0);
	assert_true(value == 0.5);
	assert_int_equal(cursor_read_float(&c, &value), 0);
	assert_true(value == -1e300);
	assert_int_equal(cursor_read_float(&c, &value), 0);
	assert_true(value == -7.0);
}

static void strings_and_bytes_come_out_in_place(void **state)
{
	static const uint32_t lengths[] = {0, 1, 31, 32, 255, 256, 65535, 65536};
	msgpack_sbuffer *sb = *state;
	msgpack_packer pk;
	const uint8_t *bytes;
	const char *text;
	struct cursor c;
	char *long_text;
	uint32_t len;

	long_text = calloc(1, 65536);
	msgpack_packer_init(&pk, sb, msgpack_sbuffer_write);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		pack_str(&pk, long_text, lengths[i]);
		pack_bin(&pk, long_text, lengths[i]);
	}
	c = packed(sb);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		assert_int_equal(cursor_read_str(&c, &text, &len), 0);
		assert_int_equal(len, lengths[i]);
		assert_int_equal(cursor_read_str(&c, &text, &len), CURSOR_E_TYPE);
		assert_int_equal(cursor_read_bytes(&c, &bytes, &len), 0);
		assert_int_equal(len, lengths[i]);
		assert_true(bytes + len <= c.end);
	}
	free(long_text);
}

static void failed_read_leaves_the_cursor(void **state)
{
	static const uint8_t cut[] = {0xd9, 5, 'a', 'b'};
	struct cursor c = cursor_make(cut, sizeof(cut));
	const char *text;
	uint32_t len;

	(void)state;
	assert_int_equal(cursor_read_str(&c, &text, &len), CURSOR_E_END);
	assert_ptr_equal(c.pos, cut);
	assert_int_equal(cursor_skip(&c), CURSOR_E_END);
	assert_ptr_equal(c.pos, cut);
}

/* A count is a promise of that many bytes at least; it is refused before anything loops over it. */
static void count_beyond_the_bytes_is_refused(void **state)
{
	static const uint8_t array[] = {0xdd, 0xff, 0xff, 0xff, 0xff, 0xc0};
	static const uint8_t map[] = {0xdf, 0xff, 0xff, 0xff, 0xff, 0xc0, 0xc0};
	struct cursor c = cursor_make(array, sizeof(array));
	uint32_t count;

	(void)state;
	assert_int_equal(cursor_read_array(&c, &count), CURSOR_E_END);
	assert_int_equal(cursor_skip(&c), CURSOR_E_END);
	c = cursor_make(map, sizeof(map));
	assert_int_equal(cursor_read_map(&c, &count), CURSOR_E_END);
	assert_int_equal(cursor_skip(&c), CURSOR_E_END);
}

static void skip_stops_at_the_depth_limit(void **state)
{
	uint8_t nested[FRAME_DEPTH_MAX + 2];
	struct cursor c;

	(void)state;
	memset(nested, 0x91, sizeof(nested));
	nested[FRAME_DEPTH_MAX] = 0xc0;
	c = cursor_make(nested, FRAME_DEPTH_MAX + 1);
	assert_int_equal(cursor_skip(&c), 0);
	assert_ptr_equal(c.pos, c.end);

	nested[FRAME_DEPTH_MAX] = 0x91;
	nested[FRAME_DEPTH_MAX + 1] = 0xc0;
	c = cursor_make(nested, FRAME_DEPTH_MAX + 2);
	assert_int_equal(cursor_skip(&c), CURSOR_E_DEPTH);
}

static void reserved_byte_is_invalid_anywhere(void **state)
{
	static const uint8_t top[] = {0xc1};
	static const uint8_t inside[] = {0x92, 0xc0, 0xc1};
	struct cursor c = cursor_make(top, sizeof(top));

	(void)state;
	assert_int_equal(cursor_skip(&c), CURSOR_E_INVALID);
	assert_int_equal(cursor_peek(&c), CURSOR_NONE);
	c = cursor_make(inside, sizeof(inside));
	assert_int_equal(cursor_skip(&c), CURSOR_E_INVALID);
}

static void extensions_are_skipped_whole(void **state)
{
	static const uint8_t exts[] = {0xd4, 7,    1, 0xd5, 7, 1, 2,    0xc7, 0, 7, 0xc7, 2, 7, 1,
				       2,    0xc8, 0, 1,    7, 9, 0xc9, 0,    0, 0, 1,    7, 9};
	struct cursor c = cursor_make(exts, sizeof(exts));

	(void)state;
	for (int i = 0; i < 6; i++) {
		assert_int_equal(cursor_peek(&c), CURSOR_EXT);
		assert_int_equal(cursor_skip(&c), 0);
	}
	assert_ptr_equal(c.pos, c.end);
}

/* Whether a 32-bit count of an array or map could be in there. */
static bool announces_much(const uint8_t *bytes, size_t len)
{
	return memchr(bytes, 0xdd, len) || memchr(bytes, 0xdf, len);
}

/* Random bytes: where msgpack-c finds a whole value, skipping agrees on its length, and the other way. */
static void skip_agrees_with_msgpack_c_on_random_bytes(void **state)
{
	unsigned seed = 20261122;
	uint8_t bytes[64];

	(void)state;
	print_message("seed %u\n", seed);
	for (int round = 0; round < 200000; round++) {
		size_t len = (size_t)(rand_r(&seed) % 64);
		msgpack_unpacked unpacked;
		struct cursor c;
		size_t offset = 0;
		bool theirs;
		int r;

		for (size_t i = 0; i < len; i++)
			bytes[i] = (uint8_t)(rand_r(&seed) % 3 ? rand_r(&seed)
							       : 0x80 + rand_r(&seed) % 96);
		c = cursor_make(bytes, len);
		r = cursor_skip(&c);
		/* msgpack-c allocates what a count announces before it looks for the bytes. */
		if (r == CURSOR_E_DEPTH || (r == CURSOR_E_END && announces_much(bytes, len)))
			continue;
		msgpack_unpacked_init(&unpacked);
		theirs = msgpack_unpack_next(&unpacked, (const char *)bytes, len, &offset) ==
			 MSGPACK_UNPACK_SUCCESS;
		msgpack_unpacked_destroy(&unpacked);
		assert_int_equal(r == 0, theirs);
		if (theirs)
			assert_int_equal((size_t)(c.pos - bytes), offset);
	}
}

#define CURSOR_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CURSOR_TEST(integers_of_every_width_are_read),
		CURSOR_TEST(unsigned_refuses_negative_and_int_refuses_too_large),
		CURSOR_TEST(floats_and_integers_are_numbers),
		CURSOR_TEST(strings_and_bytes_come_out_in_place),
		CURSOR_TEST(failed_read_leaves_the_cursor),
		CURSOR_TEST(count_beyond_the_bytes_is_refused),
		CURSOR_TEST(skip_stops_at_the_depth_limit),
		CURSOR_TEST(reserved_byte_is_invalid_anywhere),
		CURSOR_TEST(extensions_are_skipped_whole),
		CURSOR_TEST(skip_agrees_with_msgpack_c_on_random_bytes),
	};

	return cmocka_run_group_tests_name("ipc/cursor", tests, NULL, NULL);
}
