/* SPDX-License-Identifier: MIT */

/*
 * A user namespace needs a process to come about, and lives on by its descriptor: a child is cloned into a
 * new one, does nothing, and is killed when its maps are written.
 */

#include "sandbox/idmap.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "sandbox/launcher_priv.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static size_t add_range(char *map, size_t room, uint64_t inside, uint64_t outside, uint64_t count)
{
	int n = count ? snprintf(map, room, "%llu %llu %llu\n", (unsigned long long)inside,
				 (unsigned long long)outside, (unsigned long long)count)
		      : 0;

	return n < 0 ? 0 : (size_t)n;
}

/* @id and @as change places among all ids. */
static int write_swap(pid_t pid, const char *file, uint32_t id, uint32_t as)
{
	uint32_t low = id < as ? id : as, high = id < as ? as : id;
	CLEANUP(fd_closep) int fd = -1;
	char path[64], map[256];
	size_t n = 0;

	n += add_range(map + n, sizeof(map) - n, 0, 0, low);
	n += add_range(map + n, sizeof(map) - n, low, high, 1);
	n += add_range(map + n, sizeof(map) - n, low + 1, low + 1, high - low - 1);
	n += add_range(map + n, sizeof(map) - n, high, low, 1);
	n += add_range(map + n, sizeof(map) - n, (uint64_t)high + 1, (uint64_t)high + 1,
		       (uint64_t)UINT32_MAX - high - 1);
	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 || write(fd, map, n) != (ssize_t)n ? -errno : 0;
}

static int open_namespace(pid_t pid)
{
	char path[64];
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int idmap_open(uid_t uid, uid_t as_uid, gid_t gid, gid_t as_gid)
{
	CLEANUP(fd_closep) int pidfd = -1;
	siginfo_t info;
	pid_t pid;
	int r;

	if (uid == as_uid || gid == as_gid)
		return -EINVAL;
	pid = launcher_clone(CLONE_NEWUSER, -1, &pidfd);
	if (pid == 0) {
		for (;;)
			(void)pause();
	}
	if (pid < 0)
		return (int)pid;
	r = write_swap(pid, "uid_map", uid, as_uid);
	if (!r)
		r = write_swap(pid, "gid_map", gid, as_gid);
	if (!r)
		r = open_namespace(pid);
	(void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	(void)waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | __WALL);
	return r;
}
