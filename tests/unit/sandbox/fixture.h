/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A launcher with one channel, and a command run to its end
 *
 * Nothing asserts on time: the limit of a wait only turns a hang into a failure.
 */

#include "tests/unit/testing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/launch.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

#define FIXTURE_PATH     "PATH=/usr/bin:/bin"
#define FIXTURE_HANG_MS  60000
#define FIXTURE_SHELL(t) ((const char *const[]){"/bin/sh", "-c", (t), NULL})

struct fixture {
	struct launcher launcher;
	int channel;
	int n_fds; /* open in this process before the launcher */
};

struct result {
	struct launch_reply reply;
	char out[4096], err[4096];
	int code, status; /* of siginfo_t */
};

/* Descriptors of a process; -1 if it may not be looked into. */
static inline int count_fds(pid_t pid)
{
	char path[64];
	DIR *dir;
	int n = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	if (!dir)
		return -1;
	while (readdir(dir))
		n++;
	(void)closedir(dir);
	return n;
}

static inline void await(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	assert_int_equal(poll(&p, 1, FIXTURE_HANG_MS), 1);
}

static inline int fixture_setup(void **state)
{
	static struct fixture f;

	f.n_fds = count_fds(getpid());
	if (launcher_start(CLOVE_LAUNCHER, &f.launcher) ||
	    launcher_channel(&f.launcher, &f.channel))
		return -1;
	*state = &f;
	return 0;
}

/* The launcher must end by itself and cleanly, and leave nothing behind here. */
static inline int fixture_teardown(void **state)
{
	struct fixture *f = *state;
	siginfo_t info = {0};

	close(f->channel);
	close(f->launcher.control);
	f->launcher.control = -1;
	assert_int_equal(waitid(P_PIDFD, (id_t)f->launcher.pidfd, &info, WEXITED | WNOWAIT), 0);
	if (geteuid() == 0) /* the leak sanitizer cannot look into it otherwise, and says so */
		assert_int_equal(info.si_status, 0);
	launcher_stop(&f->launcher);
	assert_int_equal(waitid(P_ALL, 0, &info, WEXITED | WNOHANG | __WALL), -1);
	assert_int_equal(errno, ECHILD);
	assert_int_equal(count_fds(getpid()), f->n_fds);
	return 0;
}

static inline struct launch_spec make_spec(const char *const *argv)
{
	static const char *const env[] = {FIXTURE_PATH, NULL};
	static gid_t groups[SPEC_GROUPS_MAX];
	int n = getgroups(SPEC_GROUPS_MAX, groups);

	return (struct launch_spec){
		.kind = LAUNCH_PLAIN,
		.argv = argv,
		.env = env,
		.cwd = "/",
		.uid = getuid(),
		.gid = getgid(),
		.groups = groups,
		.n_groups = (size_t)n,
		.umask = 022,
	};
}

static inline struct launch_reply next_reply(int channel)
{
	struct launch_reply reply;

	await(channel, POLLIN);
	assert_int_equal(launch_recv(channel, &reply), 0);
	return reply;
}

/* Sends @spec with /dev/null, @out and @err; closes nothing. */
static inline struct launch_reply launch_with(int channel, uint64_t id,
					      const struct launch_spec *spec, int out, int err)
{
	struct launch_reply reply;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int fds[3] = {null, out, err};

	assert_int_equal(launch_send(channel, id, spec, fds, 3), 0);
	close(null);
	reply = next_reply(channel);
	assert_int_equal(reply.id, id);
	return reply;
}

static inline void read_all(int fd, char *text, size_t size)
{
	size_t len = 0;
	ssize_t n = 1;

	while (n > 0 && len < size - 1) {
		await(fd, POLLIN);
		n = read(fd, text + len, size - 1 - len);
		assert_true(n >= 0);
		len += (size_t)n;
	}
	text[len] = '\0';
	close(fd);
}

/* Nothing more comes: every writer has gone. */
static inline void expect_end(int out)
{
	char rest[64];

	read_all(out, rest, sizeof(rest));
	assert_string_equal(rest, "");
}

/* Waits for the exit of a launched process, as the kernel would, and closes its pidfd. */
static inline siginfo_t reap(int pidfd)
{
	siginfo_t info = {0};

	await(pidfd, POLLIN);
	assert_int_equal(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG | __WALL), 0);
	assert_int_not_equal(info.si_pid, 0);
	close(pidfd);
	return info;
}

static inline struct result run(struct fixture *f, const struct launch_spec *spec)
{
	struct result result = {0};
	int out[2], err[2];
	siginfo_t info;

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(pipe2(err, O_CLOEXEC), 0);
	result.reply = launch_with(f->channel, 1, spec, out[1], err[1]);
	close(out[1]);
	close(err[1]);
	read_all(out[0], result.out, sizeof(result.out));
	read_all(err[0], result.err, sizeof(result.err));
	if (result.reply.pidfd >= 0) {
		assert_int_equal(fcntl(result.reply.pidfd, F_GETFD), FD_CLOEXEC);
		info = reap(result.reply.pidfd);
		assert_int_equal(info.si_pid, result.reply.pid);
		result.code = info.si_code;
		result.status = info.si_status;
	}
	return result;
}

static inline struct result run_shell(struct fixture *f, const char *text)
{
	struct launch_spec spec = make_spec(FIXTURE_SHELL(text));

	return run(f, &spec);
}
