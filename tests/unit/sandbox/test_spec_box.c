/* SPDX-License-Identifier: MIT */

/*
 * Tests of sandbox/spec.c and spec_wire.c for agents: every field survives, every rule holds, and
 * no bytes whatever make the launcher do more than refuse.
 */

#include "tests/unit/testing.h"

#include <stdlib.h>
#include <string.h>

#include "sandbox/spec.h"

static const char *const some_argv[] = {"python3", "-c", "pass", NULL};
static const char *const some_env[] = {"A=1", NULL};
static const struct launch_bind some_binds[] = {
	{.fd = 5, .flags = LAUNCH_BIND_RW, .target = "/mnt/a"},
	{.fd = 6, .flags = LAUNCH_BIND_NOEXEC, .target = "/opt/b/c"},
};

static struct launch_spec some_spec(void)
{
	return (struct launch_spec){
		.kind = LAUNCH_AGENT,
		.argv = some_argv,
		.env = some_env,
		.cwd = "/workspace",
		.umask = 022,
		.uid = 200000,
		.gid = 200001,
		.box =
			{
				.flags = LAUNCH_BOX_NAMESPACES | LAUNCH_BOX_LANDLOCK,
				.net = LAUNCH_NET_OWN,
				.seccomp = LAUNCH_SECCOMP_LOOPBACK,
				.nice = 7,
				.hostname = "some-box",
				.stdin_fd = 4,
				.socket_fd = 0,
				.report_fd = 1,
				.log_fd = 2,
				.log_bytes = 1ull << 33,
				.workspace_fd = 3,
				.tmp_bytes = 3ull << 32,
				.binds = some_binds,
				.n_binds = 2,
				.rlimits = {.nofile = 16,
					    .nproc = 2,
					    .fsize_bytes = 3ull << 32,
					    .as_bytes = UINT64_MAX},
				.limits = {.memory_bytes = 5ull << 32,
					   .cpu_quota_us = 50000,
					   .pids = 64},
				.cgroup = "agent-1/agent_2",
			},
	};
}

static void agent_survives_the_wire(void **state)
{
	CLEANUP(spec_freep) struct launch_spec *got = NULL;
	CLEANUP(buf_deinit) struct buf message = {0};
	struct launch_spec spec = some_spec();
	struct spec_reason reason = {""};
	struct launch_box copy;

	(void)state;
	if (spec_check(&spec, &reason))
		fail_msg("%s", reason.text);
	assert_int_equal(spec_fds(&spec), 7);
	assert_int_equal(spec_pack(&spec, &message), 0);
	assert_int_equal(spec_unpack(message.data, message.len, &got, &reason), 0);
	assert_int_equal(got->kind, LAUNCH_AGENT);
	assert_int_equal(got->uid, 200000);
	assert_int_equal(got->gid, 200001);
	assert_string_equal(got->argv[2], "pass");
	assert_string_equal(got->cwd, "/workspace");
	assert_string_equal(got->box.hostname, "some-box");
	assert_string_equal(got->box.cgroup, "agent-1/agent_2");
	assert_int_equal(got->box.n_binds, 2);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(got->box.binds[i].fd, some_binds[i].fd);
		assert_int_equal(got->box.binds[i].flags, some_binds[i].flags);
		assert_string_equal(got->box.binds[i].target, some_binds[i].target);
	}
	/* The rest is numbers. */
	copy = got->box;
	copy.hostname = spec.box.hostname;
	copy.cgroup = spec.box.cgroup;
	copy.binds = spec.box.binds;
	assert_memory_equal(&copy, &spec.box, sizeof(copy));
}

static void command_to_enter_survives_the_wire(void **state)
{
	CLEANUP(spec_freep) struct launch_spec *got = NULL;
	CLEANUP(buf_deinit) struct buf message = {0};
	struct launch_spec spec = {
		.kind = LAUNCH_ENTER,
		.argv = some_argv,
		.env = some_env,
		.cwd = "/",
		.box_id = 1ull << 60,
	};
	struct spec_reason reason = {""};

	(void)state;
	assert_int_equal(spec_fds(&spec), 3);
	assert_int_equal(spec_pack(&spec, &message), 0);
	assert_int_equal(spec_unpack(message.data, message.len, &got, &reason), 0);
	assert_int_equal(got->kind, LAUNCH_ENTER);
	assert_true(got->box_id == 1ull << 60);
}

static void expect_invalid(const struct launch_spec *spec, const char *why)
{
	CLEANUP(buf_deinit) struct buf message = {0};
	struct spec_reason reason = {""}, again = {""};
	struct launch_spec *got = NULL;

	assert_int_equal(spec_check(spec, &reason), SPEC_E_REFUSED);
	if (!strstr(reason.text, why))
		fail_msg("refused because \"%s\", not because \"%s\"", reason.text, why);
	assert_int_equal(spec_pack(spec, &message), 0);
	assert_int_equal(spec_unpack(message.data, message.len, &got, &again), SPEC_E_REFUSED);
	assert_null(got);
	assert_string_equal(reason.text, again.text);
}

#define INVALID(why, ...)                              \
	do {                                           \
		struct launch_spec spec = some_spec(); \
		struct launch_box *box = &spec.box;    \
		(void)box;                             \
		__VA_ARGS__;                           \
		expect_invalid(&spec, why);            \
	} while (0)

static void what_a_box_cannot_be_is_refused_by_both_sides(void **state)
{
	char long_name[SPEC_CGROUP_MAX + 2] = "";

	(void)state;
	INVALID("unknown bits", box->flags |= 8);
	INVALID("net 4", box->net = 4);
	INVALID("seccomp 4", box->seccomp = 4);
	INVALID("nofile", box->rlimits.nofile = 15);
	INVALID("bind_uid", box->bind_uid = (uid_t)-1);
	INVALID("bind_gid", box->bind_gid = (gid_t)-1);
	INVALID("cwd_or_root", spec.cwd_or_root = 2);
	INVALID("nice", box->nice = 20);
	INVALID("hostname", box->hostname = "");
	INVALID("hostname", box->hostname = "a b");
	INVALID("hostname", box->hostname = "-a");
	INVALID("hostname", box->hostname = "a/b");
	INVALID("hostname", box->hostname = "a234567890123456789012345678901234567890123456789012"
					    "345678901234");
	INVALID("root's", spec.uid = 0);
	INVALID("root's", spec.gid = 0);
	INVALID("cannot be -1", spec.uid = (uid_t)-1);
	INVALID("tmp_bytes", box->tmp_bytes = 0);
	INVALID("workspace", box->workspace_bytes = 1);
	memset(long_name, 'a', sizeof(long_name) - 1);
	INVALID("cgroup", box->cgroup = long_name);
	INVALID("cpu_quota_us", box->limits.cpu_quota_us = 999);
	INVALID("log_bytes", box->log_bytes = SPEC_LOG_BYTES_MIN - 1);
	INVALID("standard filter", box->net = LAUNCH_NET_EMPTY);
}

static void half_a_sandbox_is_none(void **state)
{
	(void)state;
	INVALID("without namespaces", box->flags = LAUNCH_BOX_LANDLOCK);
	INVALID("without namespaces", box->flags = 0);
}

static void descriptors_must_add_up(void **state)
{
	struct launch_bind low[2] = {some_binds[0], some_binds[1]};

	low[0].fd = 4;
	low[1].fd = 5;
	(void)state;
	INVALID("but index 7", box->stdin_fd = 7);
	INVALID("but index 4294967294", box->stdin_fd = SPEC_NO_FD - 1);
	INVALID("used twice", box->stdin_fd = 3);
	INVALID("but index", box->log_fd = SPEC_NO_FD, box->log_bytes = 0);
	INVALID("log_bytes", box->log_fd = SPEC_NO_FD);
	INVALID("no descriptor for the report", box->report_fd = SPEC_NO_FD, box->stdin_fd = 1,
		box->binds = low);
}

static void targets_cannot_cover_what_the_box_needs(void **state)
{
	static const char *const bad[] = {
		"",        "a",    "/",     "//a",     "/a/",  "/a//b",    "/../a",
		"/a/..",   "/a/.", "/proc", "/proc/x", "/dev", "/dev/shm", "/sys",
		"/sys/fs", "/usr", "/etc",  "/tmp",    "/bin", "/lib64",   "/workspace",
	};
	static const char *const good[] = {"/a",           "/...",   "/procs", "/usr/local",
					   "/workspace/a", "/etc/x", "/tmp/a", "/a/b/c/d"};
	struct launch_bind binds[2] = {some_binds[0], some_binds[1]};
	struct spec_reason reason;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		binds[1].target = bad[i];
		INVALID("binds[1] cannot go there", box->binds = binds);
	}
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct launch_spec spec = some_spec();

		binds[1].target = good[i];
		spec.box.binds = binds;
		assert_int_equal(spec_check(&spec, &reason), 0);
	}
	binds[1].target = "/a";
	binds[1].flags = 8;
	INVALID("unknown flags", box->binds = binds);
}

/* Keys of one kind are unknown to the others. */
static void field_of_another_kind_is_refused(void **state)
{
	CLEANUP(buf_deinit) struct buf message = {0};
	struct launch_spec spec = some_spec(), *got = NULL;
	struct spec_reason reason = {""};
	uint8_t *kind;

	(void)state;
	assert_int_equal(spec_pack(&spec, &message), 0);
	kind = memmem(message.data, message.len, "\xa4kind", 5);
	assert_non_null(kind);
	assert_int_equal(kind[5], LAUNCH_AGENT);
	kind[5] = LAUNCH_PLAIN;
	assert_int_equal(spec_unpack(message.data, message.len, &got, &reason), SPEC_E_REFUSED);
	assert_non_null(strstr(reason.text, "is not of this kind"));
	kind[5] = LAUNCH_ENTER;
	assert_int_equal(spec_unpack(message.data, message.len, &got, &reason), SPEC_E_REFUSED);
}

/* What comes through must at least hold by its own rules. */
static void unpack_any(const uint8_t *bytes, size_t len)
{
	struct spec_reason reason = {""}, again;
	struct launch_spec *got = NULL;
	int r = spec_unpack(bytes, len, &got, &reason);

	if (r == 0) {
		assert_int_equal(spec_check(got, &again), 0);
		spec_free(got);
	} else {
		assert_int_equal(r, SPEC_E_REFUSED);
		assert_string_not_equal(reason.text, "");
	}
}

static void hostile_bytes_are_refused_in_words(void **state)
{
	CLEANUP(buf_deinit) struct buf message = {0};
	struct launch_spec spec = some_spec();
	CLEANUP(freep) uint8_t *bytes = NULL;
	uint64_t seed = 0x9e3779b97f4a7c15;

	(void)state;
	assert_int_equal(spec_pack(&spec, &message), 0);
	bytes = malloc(message.len);
	assert_non_null(bytes);
	for (size_t len = 0; len < message.len; len++)
		unpack_any(message.data, len);
	for (size_t i = 0; i < message.len; i++) {
		static const uint8_t values[] = {0,    1,    0x7f, 0x80, 0x90, 0xc0, 0xc1,
						 0xcf, 0xd9, 0xdb, 0xdd, 0xdf, 0xff};

		memcpy(bytes, message.data, message.len);
		for (size_t k = 0; k < sizeof(values); k++) {
			bytes[i] = values[k];
			unpack_any(bytes, message.len);
		}
	}
	for (int i = 0; i < 50000; i++) {
		memcpy(bytes, message.data, message.len);
		for (int k = 0; k < 4; k++) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			bytes[seed % message.len] = (uint8_t)(seed >> 40);
		}
		unpack_any(bytes, message.len);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agent_survives_the_wire),
		cmocka_unit_test(command_to_enter_survives_the_wire),
		cmocka_unit_test(what_a_box_cannot_be_is_refused_by_both_sides),
		cmocka_unit_test(half_a_sandbox_is_none),
		cmocka_unit_test(descriptors_must_add_up),
		cmocka_unit_test(targets_cannot_cover_what_the_box_needs),
		cmocka_unit_test(field_of_another_kind_is_refused),
		cmocka_unit_test(hostile_bytes_are_refused_in_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
