/* SPDX-License-Identifier: MIT */

/*
 * Tests of sdk/cli/json.c: every kind of value, and bytes that JSON has no place for
 */

#include "tests/unit/testing.h"

#include <math.h>
#include <msgpack.h>
#include <string.h>

#include "core/base/cleanup.h"
#include "ipc/pack.h"
#include "sdk/c/clove.h"
#include "sdk/cli/json.h"

struct fixture {
	msgpack_sbuffer bytes;
	msgpack_packer pk;
};

static int setup(void **state)
{
	static struct fixture f;

	msgpack_sbuffer_init(&f.bytes);
	msgpack_packer_init(&f.pk, &f.bytes, msgpack_sbuffer_write);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	msgpack_sbuffer_destroy(&f->bytes);
	return 0;
}

static void expect(struct fixture *f, const char *json)
{
	CLEANUP(buf_deinit) struct buf out = {0};

	assert_int_equal(json_put(&out, cursor_make(f->bytes.data, f->bytes.size), 0), 0);
	if (out.len != strlen(json) || memcmp(out.data, json, out.len) != 0)
		fail_msg("%.*s\nis not\n%s", (int)out.len, (const char *)out.data, json);
	msgpack_sbuffer_clear(&f->bytes);
}

static void expect_broken(struct fixture *f)
{
	CLEANUP(buf_deinit) struct buf out = {0};

	assert_int_equal(json_put(&out, cursor_make(f->bytes.data, f->bytes.size), 0),
			 CLOVE_E_BROKEN);
	msgpack_sbuffer_clear(&f->bytes);
}

static void expect_text(struct fixture *f, const char *bytes, size_t len, const char *json)
{
	pack_str(&f->pk, bytes, len);
	expect(f, json);
	pack_bin(&f->pk, bytes, len);
	expect(f, json);
}

#define STRING(f, bytes, json) expect_text(f, bytes, sizeof(bytes) - 1, json)

static void scalars(void **state)
{
	struct fixture *f = *state;

	(void)msgpack_pack_nil(&f->pk);
	expect(f, "null");
	pack_bool(&f->pk, true);
	expect(f, "true");
	pack_bool(&f->pk, false);
	expect(f, "false");
	pack_uint(&f->pk, UINT64_MAX);
	expect(f, "18446744073709551615");
	(void)msgpack_pack_int64(&f->pk, INT64_MIN);
	expect(f, "-9223372036854775808");
	(void)msgpack_pack_double(&f->pk, 0.1);
	expect(f, "0.10000000000000001");
	(void)msgpack_pack_double(&f->pk, -1e300);
	expect(f, "-1.0000000000000001e+300");
	(void)msgpack_pack_float(&f->pk, 0.5f);
	expect(f, "0.5");
}

static void what_json_lacks_is_null(void **state)
{
	struct fixture *f = *state;

	(void)msgpack_pack_double(&f->pk, NAN);
	expect(f, "null");
	(void)msgpack_pack_double(&f->pk, -INFINITY);
	expect(f, "null");
	(void)msgpack_pack_ext(&f->pk, 3, 5);
	(void)msgpack_pack_ext_body(&f->pk, "abc", 3);
	expect(f, "null");
}

static void strings_are_escaped(void **state)
{
	struct fixture *f = *state;

	STRING(f, "plain", "\"plain\"");
	STRING(f, "", "\"\"");
	STRING(f, "\"\\/", "\"\\\"\\\\/\"");
	STRING(f, "\b\f\n\r\t\x1b\x7f", "\"\\b\\f\\n\\r\\t\\u001b\\u007f\"");
	STRING(f, "a\0b", "\"a\\u0000b\"");
	STRING(f, "gr\xc3\xbcn \xf0\x9f\x8c\x8d", "\"gr\xc3\xbcn \xf0\x9f\x8c\x8d\"");
	/* Printed to a terminal it does no harm either. */
	STRING(f, "\xc2\x9b\xe2\x80\xae", "\"\\u009b\\u202e\"");
}

#define FFFD "\xef\xbf\xbd"

static void each_mistake_in_utf8_becomes_one_replacement(void **state)
{
	struct fixture *f = *state;

	STRING(f, "\xff", "\"" FFFD "\"");
	STRING(f,
	       "a\xc0\xaf"
	       "b",
	       "\"a" FFFD FFFD "b\"");
	STRING(f, "\xed\xa0\x80", "\"" FFFD FFFD FFFD "\"");
	STRING(f, "\xe2\x82", "\"" FFFD "\"");
	STRING(f,
	       "\xf0\x9f\x8c"
	       "x",
	       "\"" FFFD "x\"");
	STRING(f, "\xf4\x90\x80\x80", "\"" FFFD FFFD FFFD FFFD "\"");
}

static void containers_are_indented(void **state)
{
	struct fixture *f = *state;

	pack_array(&f->pk, 0);
	expect(f, "[]");
	pack_map(&f->pk, 0);
	expect(f, "{}");
	pack_map(&f->pk, 2);
	pack_text(&f->pk, "a");
	pack_array(&f->pk, 2);
	pack_uint(&f->pk, 1);
	pack_map(&f->pk, 0);
	pack_key_text(&f->pk, "b", "c");
	expect(f, "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": \"c\"\n}");
}

static void keys_become_strings(void **state)
{
	struct fixture *f = *state;

	pack_map(&f->pk, 4);
	pack_bin(&f->pk, "\xff\n", 2);
	pack_uint(&f->pk, 1);
	pack_uint(&f->pk, 7);
	pack_uint(&f->pk, 2);
	(void)msgpack_pack_nil(&f->pk);
	pack_uint(&f->pk, 3);
	pack_bool(&f->pk, true);
	pack_uint(&f->pk, 4);
	expect(f, "{\n  \"" FFFD "\\n\": 1,\n  \"7\": 2,\n  \"null\": 3,\n  \"true\": 4\n}");
}

static void what_is_no_messagepack_is_refused(void **state)
{
	struct fixture *f = *state;

	expect_broken(f);
	pack_array(&f->pk, 2);
	pack_uint(&f->pk, 1);
	expect_broken(f);
	for (unsigned i = 0; i < 1000; i++)
		pack_array(&f->pk, 1);
	pack_uint(&f->pk, 1);
	expect_broken(f);
	pack_map(&f->pk, 1);
	pack_array(&f->pk, 0);
	pack_uint(&f->pk, 1);
	expect_broken(f);
}

#define JSON_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		JSON_TEST(scalars),
		JSON_TEST(what_json_lacks_is_null),
		JSON_TEST(strings_are_escaped),
		JSON_TEST(each_mistake_in_utf8_becomes_one_replacement),
		JSON_TEST(containers_are_indented),
		JSON_TEST(keys_become_strings),
		JSON_TEST(what_is_no_messagepack_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
