/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A group of the test's own to work below, and processes in groups
 *
 * Everything happens below <hierarchy>/clove-test-<pid>, which is removed afterwards. Where there is no
 * hierarchy, or no right to it, every test skips itself and says why. What asserts in a forked child
 * does so with EXPECT(): cmocka is the parent's.
 */

#include "tests/unit/testing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "sandbox/cgroup_priv.h"

#define CGROUP_HANG_MS 60000 /* turns a hang into a failure, asserts nothing */

#define EXPECT(cond)                                                                      \
	do {                                                                              \
		if (!(cond)) {                                                            \
			(void)fprintf(stderr, "%s:%d: not so: %s (errno %s)\n", __FILE__, \
				      __LINE__, #cond, strerror(errno));                  \
			_exit(1);                                                         \
		}                                                                         \
	} while (0)

struct cgroup_fixture {
	char path[CGROUP_PATH_MAX]; /* of our group, in the file system */
	const char *parent;         /* the same, from the top of the hierarchy */
	const char *missing;        /* why there is none; NULL: all is well */
	bool controllers;           /* cgroup v2 has them here */
	int n_fds;
	struct cgroup_root root; /* below the group, with the id "unit" */
};

static inline int count_open(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (dir && readdir(dir))
		n++;
	(void)closedir(dir);
	return n;
}

/* The top of the hierarchy: unified, or beside cgroup v1. */
static inline const char *hierarchy(void)
{
	if (!access("/sys/fs/cgroup/cgroup.controllers", F_OK))
		return "/sys/fs/cgroup";
	if (!access("/sys/fs/cgroup/unified/cgroup.controllers", F_OK))
		return "/sys/fs/cgroup/unified";
	return NULL;
}

static inline void read_text(const char *group, const char *file, char *text, size_t size)
{
	char path[2 * CGROUP_PATH_MAX];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", group, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, size - 1);
	text[n > 0 ? n : 0] = '\0';
	(void)fd_close(fd);
}

static inline bool write_text(const char *group, const char *file, const char *text)
{
	char path[2 * CGROUP_PATH_MAX];
	bool done;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", group, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	done = fd >= 0 && write(fd, text, strlen(text)) > 0;
	(void)fd_close(fd);
	return done;
}

static inline bool group_exists(const char *parent, const char *name)
{
	char path[2 * CGROUP_PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/%s", parent, name);
	return !access(path, F_OK);
}

static inline int count_groups(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int n = 0;

	while (dir && (entry = readdir(dir)))
		n += entry->d_type == DT_DIR && entry->d_name[0] != '.';
	if (dir)
		(void)closedir(dir);
	return n;
}

static inline int fixture_init(void **state)
{
	static struct cgroup_fixture f;
	const char *top = hierarchy();
	char controllers[256];

	f = (struct cgroup_fixture){.n_fds = count_open()};
	*state = &f;
	if (!top) {
		f.missing = "no cgroup2 hierarchy is mounted";
		return 0;
	}
	(void)snprintf(f.path, sizeof(f.path), "%s/clove-test-%d", top, (int)getpid());
	f.parent = f.path + strlen(top);
	if (mkdir(f.path, 0755) < 0) {
		f.missing = geteuid() ? "groups can be made only as root" : strerror(errno);
		return 0;
	}
	read_text(f.path, "cgroup.controllers", controllers, sizeof(controllers));
	f.controllers = strstr(controllers, "memory") && strstr(controllers, "pids");
	return 0;
}

static inline int fixture_open(void **state)
{
	struct cgroup_config config = {.id = "unit"};
	struct cgroup_fixture *f;

	(void)fixture_init(state);
	f = *state;
	config.parent = f->parent;
	return f->missing ? 0 : cgroup_open(&f->root, &config);
}

/* Also after a failed test, whose processes and groups must not fail the next. */
static inline int fixture_deinit(void **state)
{
	struct cgroup_fixture *f = *state;
	int top, left;

	if (f->missing)
		return 0;
	while (waitpid(-1, NULL, __WALL) > 0)
		;
	left = count_groups(f->path);
	top = open(hierarchy(), O_PATH | O_CLOEXEC);
	assert_int_equal(cgroup_file_remove_tree(top, f->parent + 1), 0);
	close(top);
	assert_int_equal(left, 0);
	assert_int_equal(count_open(), f->n_fds);
	return 0;
}

static inline int fixture_close(void **state)
{
	struct cgroup_fixture *f = *state;

	if (!f->missing)
		cgroup_close(&f->root);
	return fixture_deinit(state);
}

static inline struct cgroup_fixture *fixture_or_skip(void **state)
{
	struct cgroup_fixture *f = *state;

	if (f->missing) {
		print_message("skipped: %s\n", f->missing);
		skip();
	}
	return f;
}

/* Starts @fn in the group; -1 stands for ours. @ret_pidfd may be NULL. */
static inline pid_t start_in(int dirfd, void (*fn)(void *arg), void *arg)
{
	struct clone_args args = {.exit_signal = SIGCHLD};
	pid_t pid;

	if (dirfd >= 0) {
		args.flags = CLONE_INTO_CGROUP;
		args.cgroup = (unsigned)dirfd;
	}
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0) {
		fn(arg);
		_exit(0);
	}
	return pid;
}

static inline int wait_for(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, __WALL) < 0 && errno == EINTR)
		;
	return status;
}

/* Runs @fn in a process of its own, which fails the test unless it returns. */
static inline void in_child(void (*fn)(void *arg), void *arg)
{
	int status = wait_for(start_in(-1, fn, arg));

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static inline void sleeper(void *arg)
{
	(void)arg;
	for (;;)
		(void)pause();
}

static inline bool killed(pid_t pid)
{
	int status = wait_for(pid);

	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static inline bool alive(pid_t pid)
{
	return waitpid(pid, NULL, __WALL | WNOHANG) == 0;
}

/* Waits until the group says so; false if it never does. */
static inline bool await_state(int watch, bool populated, bool frozen)
{
	bool is_populated, is_frozen;

	while (!cgroup_watch_read(watch, &is_populated, &is_frozen)) {
		struct pollfd p = {.fd = watch, .events = POLLPRI};

		if (is_populated == populated && is_frozen == frozen)
			return true;
		if (poll(&p, 1, CGROUP_HANG_MS) != 1)
			return false;
	}
	return false;
}

static inline bool await_empty(int dirfd)
{
	bool done;
	int watch;

	if (cgroup_watch(dirfd, &watch))
		return false;
	done = await_state(watch, false, false);
	(void)close(watch);
	return done;
}
