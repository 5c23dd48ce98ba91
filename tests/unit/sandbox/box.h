/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Agents for tests: a box, its report, its logs
 */

#include "tests/unit/sandbox/fixture.h"

#include <sys/stat.h>

enum {
	BOX_HOST_UID = 200001, /* under root */
	BOX_ID = 1,
};

struct box {
	struct launch_spec spec;
	struct launch_bind binds[8];
	int fds[SPEC_FDS_MAX];
	unsigned n_fds;
	int log_dir, report;
	struct launch_reply reply;
	char dir[64];        /* holds log and workspace */
	const char *argv[4]; /* of box_new_shell() */
};

static inline uid_t box_uid(void)
{
	return geteuid() == 0 ? BOX_HOST_UID : geteuid();
}

static inline uint32_t box_add_fd(struct box *box, int fd)
{
	assert_true(fd >= 0);
	box->fds[box->n_fds] = fd;
	return box->n_fds++;
}

static inline int open_dir(const char *base, const char *name)
{
	char path[128];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", base, name);
	assert_int_equal(mkdir(path, 0700), 0);
	if (geteuid() == 0)
		assert_int_equal(chown(path, box_uid(), box_uid()), 0);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

/* A standard sandbox with directories of its own below /tmp. */
static inline struct box *box_new(const char *const *argv)
{
	static const char *const env[] = {FIXTURE_PATH, "HOME=/workspace", "LANG=C", NULL};
	struct box *box = calloc(1, sizeof(*box));
	int inits_report;

	assert_non_null(box);
	box->spec = make_spec(argv);
	box->spec.kind = LAUNCH_AGENT;
	box->spec.env = env;
	box->spec.cwd = "/workspace";
	box->spec.uid = box_uid();
	box->spec.gid = box_uid();
	if (geteuid() == 0)
		box->spec.n_groups = 0;
	(void)strcpy(box->dir, "/tmp/clove-box-XXXXXX");
	assert_non_null(mkdtemp(box->dir));
	/* Nobody but the kernel's user may pass: that is how the data directory is. */
	box->log_dir = open_dir(box->dir, "log");
	assert_int_equal(launch_report_open(&box->report, &inits_report), 0);
	box->spec.box = (struct launch_box){
		.flags = LAUNCH_BOX_NAMESPACES | LAUNCH_BOX_LANDLOCK,
		.net = LAUNCH_NET_EMPTY,
		.seccomp = LAUNCH_SECCOMP_STANDARD,
		.hostname = "box",
		.stdin_fd = SPEC_NO_FD,
		.socket_fd = SPEC_NO_FD,
		.report_fd = box_add_fd(box, inits_report),
		.log_fd = box_add_fd(box, dup(box->log_dir)),
		.log_bytes = 1 << 20,
		.workspace_fd = box_add_fd(box, open_dir(box->dir, "workspace")),
		.tmp_bytes = 16 << 20,
		.binds = box->binds,
		.cgroup = "",
	};
	return box;
}

static inline void box_free(struct box *box)
{
	char command[128];

	close(box->report);
	close(box->log_dir);
	(void)snprintf(command, sizeof(command), "rm -rf %s", box->dir);
	assert_int_equal(system(command), 0);
	free(box);
}

/* On the host: no namespace, no filter, the identity of this process. */
static inline struct box *box_new_plain(const char *const *argv)
{
	struct box *box = box_new(argv);

	close(box->fds[--box->n_fds]);
	box->spec.uid = getuid();
	box->spec.gid = getgid();
	box->spec.cwd = "/";
	box->spec.box.flags = 0;
	box->spec.box.net = LAUNCH_NET_HOST;
	box->spec.box.seccomp = LAUNCH_SECCOMP_NONE;
	box->spec.box.hostname = "";
	box->spec.box.workspace_fd = SPEC_NO_FD;
	box->spec.box.tmp_bytes = 0;
	return box;
}

static inline void box_bind(struct box *box, const char *path, const char *target, uint32_t flags)
{
	box->binds[box->spec.box.n_binds++] = (struct launch_bind){
		.fd = box_add_fd(box, open(path, O_PATH | O_CLOEXEC)),
		.flags = flags,
		.target = target,
	};
}

static inline struct box *box_new_shell(bool sandboxed, const char *script)
{
	struct box *box = sandboxed ? box_new(NULL) : box_new_plain(NULL);

	box->argv[0] = "/bin/sh";
	box->argv[1] = "-c";
	box->argv[2] = script;
	box->spec.argv = box->argv;
	return box;
}

/* Asks for the box under @id; the descriptors are given away. */
static inline void box_send(struct box *box, int channel, uint64_t id)
{
	struct spec_reason reason = {""};

	if (spec_check(&box->spec, &reason))
		fail_msg("spec: %s", reason.text);
	assert_int_equal(launch_send(channel, id, &box->spec, box->fds, box->n_fds), 0);
	for (unsigned i = 0; i < box->n_fds; i++)
		close(box->fds[i]);
}

static inline void box_start(struct box *box, int channel, uint64_t id)
{
	box_send(box, channel, id);
	box->reply = next_reply(channel);
	if (box->reply.type != LAUNCH_LAUNCHED)
		fail_msg("step %s: %s %s", launch_step_name(box->reply.step),
			 strerror(box->reply.error), box->reply.reason);
	assert_int_equal(box->reply.id, id);
}

static inline void box_expect_failure(struct box *box, int channel, enum launch_step step,
				      int error)
{
	box_send(box, channel, BOX_ID);
	box->reply = next_reply(channel);
	assert_int_equal(box->reply.type, LAUNCH_FAILED);
	assert_string_equal(launch_step_name(box->reply.step), launch_step_name(step));
	assert_int_equal(box->reply.error, error);
	if (box->reply.pidfd >= 0)
		reap(box->reply.pidfd);
}

/* Waits for the init; its report must be there by then. */
static inline struct launch_report box_wait(struct box *box)
{
	struct launch_news news;
	siginfo_t info;

	await(box->reply.pidfd, POLLIN);
	assert_int_equal(launch_report_recv(box->report, &news), 0);
	assert_int_equal(news.connection, -1);
	info = reap(box->reply.pidfd);
	assert_int_equal(info.si_code, CLD_EXITED);
	assert_int_equal(info.si_status, 0);
	return news.report;
}

static inline void box_read_log(const struct box *box, const char *name, char *text, size_t size)
{
	int fd = openat(box->log_dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	assert_true(fd >= 0);
	n = read(fd, text, size - 1);
	assert_true(n >= 0);
	text[n] = '\0';
	close(fd);
}

/* Runs @box to its end; what it wrote must be @out. */
static inline void box_expect_output(struct box *box, int channel, const char *out)
{
	char got[8192], errors[8192];
	struct launch_report report;

	box_start(box, channel, BOX_ID);
	report = box_wait(box);
	box_read_log(box, "stdout.log", got, sizeof(got));
	box_read_log(box, "stderr.log", errors, sizeof(errors));
	if (strcmp(got, out) || report.code || report.signal)
		fail_msg("code %d signal %d\nout: %s\nerr: %s\nexpected: %s", report.code,
			 report.signal, got, errors, out);
}

static inline void expect_in_box(struct fixture *f, const char *script, const char *out)
{
	struct box *box = box_new(FIXTURE_SHELL(script));

	box_expect_output(box, f->channel, out);
	box_free(box);
}
