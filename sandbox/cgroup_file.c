/* SPDX-License-Identifier: MIT */

/*
 * The small files of a group, and trees of groups
 *
 * Everything goes by descriptors of directories, so that a group that is removed and made again under
 * its old name is never taken for the one that was meant.
 */

#include "sandbox/cgroup_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/cleanup.h"

static void close_dirp(DIR **dir)
{
	if (*dir)
		(void)closedir(*dir);
}

static void close_filep(FILE **file)
{
	if (*file)
		(void)fclose(*file);
}

int cgroup_file_write(int dirfd, const char *file, const char *text)
{
	/* Since Linux 6.16 O_NONBLOCK lets memory.max return before it has reclaimed anything. */
	CLEANUP(fd_closep) int fd = openat(dirfd, file, O_WRONLY | O_NONBLOCK | O_CLOEXEC);

	return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

int cgroup_file_read(int dirfd, const char *file, char *text, size_t size)
{
	CLEANUP(fd_closep) int fd = openat(dirfd, file, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);

	if (n < 0)
		return -errno;
	text[n] = '\0';
	return 0;
}

bool cgroup_file_field(const char *text, const char *key, uint64_t *ret_value)
{
	size_t len = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, key, len) && line[len] == ' ')
			return sscanf(line + len, " %" SCNu64, ret_value) == 1;
	}
	return false;
}

bool cgroup_file_has_word(const char *text, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = text; (at = strstr(at, word)); at += len)
		if ((at == text || strchr(" ,:", at[-1])) && strchr(" ,:\n", at[len]))
			return true;
	return false;
}

int cgroup_file_each_pid(int dirfd, int (*fn)(pid_t pid, void *arg), void *arg)
{
	CLEANUP(close_filep) FILE *file = NULL;
	int fd = openat(dirfd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	int pid, r = 0;

	if (fd < 0)
		return -errno;
	file = fdopen(fd, "re");
	if (!file) {
		(void)fd_close(fd);
		return -ENOMEM;
	}
	/* A process that is in no PID namespace of ours shows as 0, which kill() takes for ourselves. */
	while (!r && fscanf(file, "%d", &pid) == 1)
		r = pid > 0 ? fn(pid, arg) : 0;
	return r;
}

int cgroup_file_each_child(int dirfd, int (*fn)(int dirfd, const char *name, void *arg), void *arg)
{
	CLEANUP(close_dirp) DIR *dir = NULL;
	struct dirent *entry;
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = 0;

	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		(void)fd_close(fd);
		return -ENOMEM;
	}
	while (!r && (entry = readdir(dir)))
		if (entry->d_type == DT_DIR && strcmp(entry->d_name, ".") &&
		    strcmp(entry->d_name, ".."))
			r = fn(dirfd, entry->d_name, arg);
	return r;
}

static int remove_below(int dirfd, const char *name, void *arg)
{
	const int *depth = arg;
	int below = *depth + 1;
	CLEANUP(fd_closep) int fd = -1;

	if (!unlinkat(dirfd, name, AT_REMOVEDIR) || errno == ENOENT)
		return 0;
	if (errno != EBUSY || below > CGROUP_DEPTH_MAX)
		return -errno;
	/* Processes or groups below: in the first case the second attempt fails as well. */
	fd = openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0)
		(void)cgroup_file_each_child(fd, remove_below, &below);
	return unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int cgroup_file_remove_tree(int dirfd, const char *name)
{
	int depth = 0;

	return remove_below(dirfd, name, &depth);
}

static int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int cgroup_file_wait_empty(int dirfd, int timeout_ms)
{
	int64_t end_ms = now_ms() + timeout_ms, left_ms = timeout_ms;
	CLEANUP(fd_closep) int watch = -1;
	bool populated, frozen;
	int r;

	r = cgroup_watch(dirfd, &watch);
	while (!r && !(r = cgroup_watch_read(watch, &populated, &frozen)) && populated) {
		struct pollfd p = {.fd = watch, .events = POLLPRI};

		if (left_ms <= 0)
			return -ETIME;
		(void)poll(&p, 1, (int)left_ms);
		left_ms = end_ms - now_ms();
	}
	return r == CGROUP_E_GONE ? 0 : r;
}
