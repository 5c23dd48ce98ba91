/* SPDX-License-Identifier: MIT */

/*
 * clove_map_x(): values by name, and maps that lie
 */

#include "tests/unit/testing.h"

#include <string.h>

#include "ipc/pack.h"
#include "sdk/c/clove.h"

static int setup(void **state)
{
	msgpack_sbuffer *sb = msgpack_sbuffer_new();
	msgpack_packer pk;

	msgpack_packer_init(&pk, sb, msgpack_sbuffer_write);
	pack_map(&pk, 7);
	pack_uint(&pk, 3); /* a key that is no name */
	pack_text(&pk, "n");
	pack_text(&pk, "nested");
	pack_map(&pk, 1);
	pack_key_uint(&pk, "n", 1);
	pack_key_uint(&pk, "n", UINT64_MAX);
	pack_text(&pk, "i");
	(void)msgpack_pack_int64(&pk, -5);
	pack_key_bool(&pk, "b", true);
	pack_key_text(&pk, "s", "text");
	pack_key_uint(&pk, "n", 2);
	*state = sb;
	return 0;
}

static int teardown(void **state)
{
	msgpack_sbuffer_free(*state);
	return 0;
}

static struct cursor map_of(void **state)
{
	msgpack_sbuffer *sb = *state;

	return cursor_make(sb->data, sb->size);
}

static void values_are_found_by_name(void **state)
{
	struct cursor nested, map = map_of(state);
	const uint8_t *bytes;
	uint64_t number;
	int64_t integer;
	uint32_t len;
	bool truth;

	assert_int_equal(clove_map_uint(map, "n", &number), 0);
	assert_true(number == UINT64_MAX);
	assert_int_equal(clove_map_int(map, "i", &integer), 0);
	assert_int_equal(integer, -5);
	assert_int_equal(clove_map_bool(map, "b", &truth), 0);
	assert_true(truth);
	assert_int_equal(clove_map_bytes(map, "s", &bytes, &len), 0);
	assert_int_equal(len, 4);
	assert_memory_equal(bytes, "text", 4);
	assert_int_equal(clove_map_get(map, "nested", &nested), 0);
	assert_int_equal(clove_map_uint(nested, "n", &number), 0);
	assert_int_equal(number, 1);
	/* Of the value alone. */
	assert_int_equal(cursor_skip(&nested), 0);
	assert_ptr_equal(nested.pos, nested.end);
}

static void another_type_and_no_such_key_are_broken(void **state)
{
	struct cursor value, map = map_of(state);
	const uint8_t *bytes = NULL;
	uint64_t number = 7;
	uint32_t len;
	int64_t integer;
	bool truth;

	assert_int_equal(clove_map_get(map, "absent", &value), CLOVE_E_BROKEN);
	assert_int_equal(clove_map_get(map, "", &value), CLOVE_E_BROKEN);
	assert_int_equal(clove_map_get(map, "ni", &value), CLOVE_E_BROKEN);
	assert_int_equal(clove_map_get(map, "neste", &value), CLOVE_E_BROKEN);
	assert_int_equal(clove_map_uint(map, "i", &number), CLOVE_E_BROKEN);
	assert_int_equal(number, 7);
	assert_int_equal(clove_map_int(map, "n", &integer), CLOVE_E_BROKEN);
	assert_int_equal(clove_map_bool(map, "n", &truth), CLOVE_E_BROKEN);
	assert_int_equal(clove_map_bytes(map, "b", &bytes, &len), CLOVE_E_BROKEN);
	assert_null(bytes);
	assert_int_equal(clove_map_get(cursor_make("\x01", 1), "n", &value), CLOVE_E_BROKEN);
	assert_int_equal(clove_map_get(cursor_make("", 0), "n", &value), CLOVE_E_BROKEN);
}

/* Wherever it is cut: found before the cut, or broken. */
static void a_map_that_is_cut_off_is_read_to_the_cut(void **state)
{
	msgpack_sbuffer *sb = *state;
	const uint8_t *bytes;
	uint32_t text_len;

	for (size_t len = 0; len < sb->size; len++) {
		struct cursor map = cursor_make(sb->data, len);

		if (!clove_map_bytes(map, "s", &bytes, &text_len))
			assert_true(bytes + text_len <= map.end);
	}
}

#define MAP_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MAP_TEST(values_are_found_by_name),
		MAP_TEST(another_type_and_no_such_key_are_broken),
		MAP_TEST(a_map_that_is_cut_off_is_read_to_the_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
