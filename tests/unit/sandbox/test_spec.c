/* SPDX-License-Identifier: MIT */

/*
 * Tests of sandbox/spec.c: what is packed comes out again, and nothing else comes out.
 */

#include "tests/unit/testing.h"

#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#include "sandbox/spec.h"

static const char *const some_argv[] = {"sh", "-c", "echo \xff\xfe", "", NULL};
static const char *const some_env[] = {"PATH=/bin", "EMPTY=", "TWO==", NULL};
static const char *const nothing[] = {NULL};
static const gid_t some_groups[] = {0, 7, 70000};

static struct launch_spec some_spec(void)
{
	return (struct launch_spec){
		.kind = LAUNCH_PLAIN,
		.argv = some_argv,
		.env = some_env,
		.cwd = "/home/someone",
		.uid = 4294967294u,
		.gid = 100,
		.groups = some_groups,
		.n_groups = 3,
		.umask = 027,
	};
}

static void expect_texts(const char *const *got, const char *const *expected)
{
	size_t i = 0;

	for (; expected[i]; i++)
		assert_string_equal(got[i], expected[i]);
	assert_null(got[i]);
}

static void expect_refused(const void *bytes, size_t len, const char *why)
{
	struct spec_reason reason = {""};
	struct launch_spec *spec = NULL;

	assert_int_equal(spec_unpack(bytes, len, &spec, &reason), SPEC_E_REFUSED);
	assert_null(spec);
	if (!strstr(reason.text, why))
		fail_msg("refused because \"%s\", not because \"%s\"", reason.text, why);
}

/* Both the caller, beforehand, and the launcher must say no, in the same words. */
static void expect_invalid(const struct launch_spec *spec, const char *why)
{
	CLEANUP(buf_deinit) struct buf message = {0};
	struct spec_reason reason = {""};

	assert_int_equal(spec_check(spec, &reason), SPEC_E_REFUSED);
	assert_non_null(strstr(reason.text, why));
	assert_int_equal(spec_pack(spec, &message), 0);
	expect_refused(message.data, message.len, why);
}

static void spec_survives_the_wire(void **state)
{
	CLEANUP(spec_freep) struct launch_spec *got = NULL;
	CLEANUP(buf_deinit) struct buf message = {0};
	struct launch_spec spec = some_spec();
	struct spec_reason reason;

	(void)state;
	assert_int_equal(spec_check(&spec, &reason), 0);
	assert_int_equal(spec_pack(&spec, &message), 0);
	assert_int_equal(spec_unpack(message.data, message.len, &got, &reason), 0);
	assert_int_equal(got->kind, LAUNCH_PLAIN);
	expect_texts(got->argv, some_argv);
	expect_texts(got->env, some_env);
	assert_string_equal(got->cwd, "/home/someone");
	assert_int_equal(got->uid, 4294967294u);
	assert_int_equal(got->gid, 100);
	assert_int_equal(got->n_groups, 3);
	assert_memory_equal(got->groups, some_groups, sizeof(some_groups));
	assert_int_equal(got->umask, 027);
}

static void spec_without_env_and_groups_survives_the_wire(void **state)
{
	CLEANUP(spec_freep) struct launch_spec *got = NULL;
	CLEANUP(buf_deinit) struct buf message = {0};
	struct launch_spec spec = some_spec();
	struct spec_reason reason;

	(void)state;
	spec.env = nothing;
	spec.groups = NULL;
	spec.n_groups = 0;
	assert_int_equal(spec_pack(&spec, &message), 0);
	assert_int_equal(spec_unpack(message.data, message.len, &got, &reason), 0);
	assert_null(got->env[0]);
	assert_int_equal(got->n_groups, 0);
}

static void values_out_of_range_are_refused_by_both_sides(void **state)
{
	static const char *const no_program[] = {"", "x", NULL}, *const no_equals[] = {"A=1", "B",
										       NULL};
	static const char *const no_name[] = {"=1", NULL};
	static const gid_t not_a_group[] = {1, (gid_t)-1};
	static char long_cwd[SPEC_PATH_MAX + 2];
	static const char *many[SPEC_ARGS_MAX + 2];

	(void)state;
	memset(long_cwd, 'x', sizeof(long_cwd) - 1);
	long_cwd[0] = '/';
	for (size_t i = 0; i <= SPEC_ARGS_MAX; i++)
		many[i] = "a=";
#define INVALID(why, ...)                              \
	do {                                           \
		struct launch_spec spec = some_spec(); \
		__VA_ARGS__;                           \
		expect_invalid(&spec, why);            \
	} while (0)
	INVALID("kind 9 is not known", spec.kind = (enum launch_kind)9);
	INVALID("kind 0 is not known", spec.kind = (enum launch_kind)0);
	INVALID("argv names no program", spec.argv = nothing);
	INVALID("argv names no program", spec.argv = no_program);
	INVALID("argv has more than 4096", spec.argv = many);
	INVALID("env has more than 4096", spec.env = many);
	INVALID("env[1] is not NAME=value", spec.env = no_equals);
	INVALID("env[0] is not NAME=value", spec.env = no_name);
	INVALID("cwd is not an absolute path", spec.cwd = "");
	INVALID("cwd is not an absolute path", spec.cwd = "home");
	INVALID("cwd is longer", spec.cwd = long_cwd);
	INVALID("uid and gid cannot be -1", spec.uid = (uid_t)-1);
	INVALID("uid and gid cannot be -1", spec.gid = (gid_t)-1);
	INVALID("groups[1] is -1", spec.groups = not_a_group, spec.n_groups = 2);
	INVALID("umask has bits", spec.umask = 01022);
#undef INVALID
}

static void too_many_groups_are_refused(void **state)
{
	static gid_t groups[SPEC_GROUPS_MAX + 1];
	struct launch_spec spec = some_spec();

	(void)state;
	spec.groups = groups;
	spec.n_groups = SPEC_GROUPS_MAX + 1;
	expect_invalid(&spec, "groups has more than 1024");
}

static void spec_larger_than_a_message_is_too_big(void **state)
{
	static char large[SPEC_BYTES_MAX];
	const char *argv[] = {"sh", large, NULL};
	CLEANUP(buf_deinit) struct buf message = {0};
	struct launch_spec spec = some_spec();

	(void)state;
	memset(large, 'x', sizeof(large) - 1);
	spec.argv = argv;
	assert_int_equal(spec_pack(&spec, &message), SPEC_E_TOO_BIG);

	/* An honest array of zeros, which is only too long. */
	static uint8_t zeros[SPEC_BYTES_MAX + 1] = {0xdc, (SPEC_BYTES_MAX - 2) >> 8,
						    (SPEC_BYTES_MAX - 2) & 0xff};
	expect_refused(zeros, sizeof(zeros), "not one MessagePack map");
	expect_refused(zeros, sizeof(zeros) - 1, "not one MessagePack map");
	zeros[2] -= 1;
	expect_refused(zeros, sizeof(zeros) - 1, "not a map");
}

static void message_cut_anywhere_is_refused(void **state)
{
	CLEANUP(buf_deinit) struct buf message = {0};
	struct launch_spec spec = some_spec();

	(void)state;
	assert_int_equal(spec_pack(&spec, &message), 0);
	for (size_t len = 0; len < message.len; len++) {
		/* A block of its own, so that a read beyond it is seen by the address sanitizer. */
		CLEANUP(freep) uint8_t *cut = malloc(len + !len);

		assert_non_null(cut);
		memcpy(cut, message.data, len);
		expect_refused(cut, len, "not one MessagePack map");
	}
	assert_int_equal(buf_append(&message, "\0", 1), 0);
	expect_refused(message.data, message.len, "not one MessagePack map");
}

/* The valid message as text, with "old" replaced by "new" once: same length or not. */
static void expect_patched_refused(const char *old, size_t old_len, const char *new, size_t new_len,
				   const char *why)
{
	CLEANUP(buf_deinit) struct buf message = {0}, patched = {0};
	struct launch_spec spec = some_spec();
	uint8_t *at;

	assert_int_equal(spec_pack(&spec, &message), 0);
	at = memmem(message.data, message.len, old, old_len);
	assert_non_null(at);
	assert_int_equal(buf_append(&patched, message.data, (size_t)(at - message.data)), 0);
	assert_int_equal(buf_append(&patched, new, new_len), 0);
	assert_int_equal(buf_append(&patched, at + old_len,
				    message.len - (size_t)(at - message.data) - old_len),
			 0);
	expect_refused(patched.data, patched.len, why);
}

#define EXPECT_PATCHED_REFUSED(old, new, why) \
	expect_patched_refused(old, sizeof(old) - 1, new, sizeof(new) - 1, why)

static void structure_other_than_agreed_is_refused(void **state)
{
	(void)state;
	EXPECT_PATCHED_REFUSED("\xa5umask", "\xa5umasc", "unknown key");
	EXPECT_PATCHED_REFUSED("\xa4kind", "\xa4kin\0", "unknown key");
	EXPECT_PATCHED_REFUSED("\xa4kind", "\x01", "unknown key");
	EXPECT_PATCHED_REFUSED("\xa3gid\x64", "\xa3uid\x64", "uid is given twice");
	EXPECT_PATCHED_REFUSED("\x89\xa4kind\x01", "\x88", "kind is missing");
	EXPECT_PATCHED_REFUSED("\xa4kind\x01", "\xa4kind\xa1\x31", "kind has the wrong type");
	EXPECT_PATCHED_REFUSED("\xa4kind\x01", "\xa4kind\xcf\x01\0\0\0\0\0\0\x01",
			       "kind has the wrong type");
	EXPECT_PATCHED_REFUSED("\xa2sh", "\xa2s\0", "argv has the wrong type");
	EXPECT_PATCHED_REFUSED("\xa2sh", "\x05", "argv has the wrong type");
	EXPECT_PATCHED_REFUSED("\xa9PATH=/bin", "\xa9PATH=/\0in", "env has the wrong type");
	EXPECT_PATCHED_REFUSED("/home/", "/hom\0/", "cwd has the wrong type");
	EXPECT_PATCHED_REFUSED("\xa6groups\x93\x00", "\xa6groups\x93\xa0",
			       "groups has the wrong type");
	/* Types that no spec has: nil, a negative number, bin, ext, float. */
	EXPECT_PATCHED_REFUSED("\xa3gid\x64", "\xa3gid\xc0", "not one MessagePack map");
	EXPECT_PATCHED_REFUSED("\xa3gid\x64", "\xa3gid\xff", "not one MessagePack map");
	EXPECT_PATCHED_REFUSED("\xa2sh", "\xc4\x02sh", "not one MessagePack map");
	EXPECT_PATCHED_REFUSED("\xa2sh", "\xd5\x01sh", "not one MessagePack map");
	EXPECT_PATCHED_REFUSED("\xa3gid\x64", "\xa3gid\xca\0\0\0\0", "not one MessagePack map");
}

static void counts_beyond_the_message_allocate_nothing(void **state)
{
	uint8_t deep[64];

	(void)state;
	expect_refused("\xdd\xff\xff\xff\xff", 5, "not one MessagePack map");
	expect_refused("\xdf\xff\xff\xff\xff", 5, "not one MessagePack map");
	expect_refused("\xdb\xff\xff\xff\xff", 5, "not one MessagePack map");
	expect_refused("\x90", 1, "not a map");
	memset(deep, 0x91, sizeof(deep));
	deep[sizeof(deep) - 1] = 0x90;
	expect_refused(deep, sizeof(deep), "nested too deeply");
}

/* Whatever comes out of flipped bytes must itself be a spec that passes the check. */
static void flipped_bytes_give_a_valid_spec_or_none(void **state)
{
	CLEANUP(buf_deinit) struct buf message = {0};
	struct launch_spec spec = some_spec();
	struct spec_reason reason;
	uint32_t random = 12345;
	unsigned n_valid = 0;

	(void)state;
	assert_int_equal(spec_pack(&spec, &message), 0);
	for (unsigned round = 0; round < 50000; round++) {
		CLEANUP(spec_freep) struct launch_spec *got = NULL;
		uint8_t *byte, before;

		random = random * 1664525u + 1013904223u;
		byte = &message.data[(random >> 8) % message.len];
		before = *byte;
		*byte = (uint8_t)(random >> 24 ^ round);
		if (spec_unpack(message.data, message.len, &got, &reason) == 0) {
			assert_int_equal(spec_check(got, &reason), 0);
			n_valid++;
		}
		*byte = before;
	}
	assert_int_not_equal(n_valid, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spec_survives_the_wire),
		cmocka_unit_test(spec_without_env_and_groups_survives_the_wire),
		cmocka_unit_test(values_out_of_range_are_refused_by_both_sides),
		cmocka_unit_test(too_many_groups_are_refused),
		cmocka_unit_test(spec_larger_than_a_message_is_too_big),
		cmocka_unit_test(message_cut_anywhere_is_refused),
		cmocka_unit_test(structure_other_than_agreed_is_refused),
		cmocka_unit_test(counts_beyond_the_message_allocate_nothing),
		cmocka_unit_test(flipped_bytes_give_a_valid_spec_or_none),
	};

	return cmocka_run_group_tests_name("spec", tests, NULL, NULL);
}
