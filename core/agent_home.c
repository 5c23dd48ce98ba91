/* SPDX-License-Identifier: MIT */

#include "core/agent_home.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "core/files.h"
#include "core/kernel.h"

enum {
	COPY_BYTES = 64 << 10,
	/* Outside what distributions give to users, containers and systemd's dynamic users. */
	UID_FIRST = 2000000,
	UID_COUNT = LIMIT_AGENTS,
};

void agent_home_init(struct agent_home *home)
{
	*home = (struct agent_home){.workspace = -1, .logs = -1, .script = -1, .sdk = -1};
}

void agent_home_deinit(struct agent_home *home)
{
	home->workspace = fd_close(home->workspace);
	home->logs = fd_close(home->logs);
	home->script = fd_close(home->script);
	home->sdk = fd_close(home->sdk);
	for (unsigned i = 0; i < home->bind_count; i++)
		home->binds[i] = fd_close(home->binds[i]);
	home->bind_count = 0;
	free(home->script_name);
	home->script_name = NULL;
}

/* A directory below @parent, made when missing. A descriptor for paths only, or -errno. */
static int dir_open(int parent, const char *name, mode_t mode)
{
	int fd;

	if (mkdirat(parent, name, mode) && errno != EEXIST)
		return err_raise(-errno);
	fd = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? err_raise(-errno) : fd;
}

/* ---- uids ---- */

static bool is_agent_uid(uid_t uid)
{
	return uid >= UID_FIRST && uid < UID_FIRST + UID_COUNT;
}

static void uid_note(struct kernel *kernel, uid_t uid)
{
	if (is_agent_uid(uid))
		kernel->uid_used[(uid - UID_FIRST) / 8] |= (uint8_t)(1u << (uid - UID_FIRST) % 8);
}

/* 0, or -ENOSPC when all are taken. */
static int uid_take(struct kernel *kernel, uid_t *ret_uid)
{
	int r = -ENOSPC;

	(void)pthread_mutex_lock(&kernel->uid_lock);
	for (uint32_t i = 0; i < UID_COUNT && r; i++) {
		if (kernel->uid_used[i / 8] & 1u << i % 8)
			continue;
		uid_note(kernel, UID_FIRST + i);
		*ret_uid = UID_FIRST + i;
		r = 0;
	}
	(void)pthread_mutex_unlock(&kernel->uid_lock);
	return r;
}

static void homes_of_owner_scan(struct kernel *kernel, int owner_fd)
{
	DIR *dir = fdopendir(owner_fd);
	struct dirent *entry;

	if (!dir) {
		(void)close(owner_fd);
		return;
	}
	while ((entry = readdir(dir))) {
		char path[sizeof(entry->d_name) + 16];
		struct stat st;

		(void)snprintf(path, sizeof(path), "%s/logs", entry->d_name);
		if (*entry->d_name != '.' && !fstatat(dirfd(dir), path, &st, AT_SYMLINK_NOFOLLOW))
			uid_note(kernel, st.st_uid);
	}
	(void)closedir(dir);
}

int agent_homes_scan(struct kernel *kernel)
{
	struct dirent *entry;
	int fd;
	DIR *dir;

	if (mkdirat(kernel->data_fd, "agents", 0700) && errno != EEXIST)
		return err_raise(-errno);
	kernel->agents_fd =
		openat(kernel->data_fd, "agents", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (kernel->agents_fd < 0)
		return err_raise(-errno);
	fd = fcntl(kernel->agents_fd, F_DUPFD_CLOEXEC, 3);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		(void)fd_close(fd);
		return err_raise(-errno);
	}
	while ((entry = readdir(dir))) {
		int owner_fd;

		if (*entry->d_name == '.')
			continue;
		owner_fd = openat(dirfd(dir), entry->d_name,
				  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (owner_fd >= 0)
			homes_of_owner_scan(kernel, owner_fd);
	}
	(void)closedir(dir);
	return 0;
}

/* ---- the script ---- */

static int copy(int from, int to)
{
	static _Thread_local char bytes[COPY_BYTES];
	uint64_t total = 0;
	ssize_t n;

	while ((n = read(from, bytes, sizeof(bytes))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		total += (uint64_t)n;
		if (total > LIMIT_SCRIPT_BYTES)
			return -EFBIG;
		for (ssize_t done = 0; done < n;) {
			ssize_t w = write(to, bytes + done, (size_t)(n - done));

			if (w < 0 && errno != EINTR)
				return -errno;
			done += w < 0 ? 0 : w;
		}
	}
	return 0;
}

static enum wire_error script_copy(struct files *files, const struct kernel *kernel,
				   const char *path, const char *name, int dir, struct fault *fault)
{
	const struct open_request request = {
		.path = path,
		.path_len = strlen(path),
		.base = kernel->user.home,
		.flags = O_RDONLY,
	};
	CLEANUP(fd_closep) int from = -1;
	CLEANUP(fd_closep) int to = -1;
	int r = files_open(files, &request, &from);

	if (r == OPEN_E_GONE)
		return fault_set(fault, WIRE_UNAVAILABLE,
				 "the process that opens files is gone; restart the kernel");
	if (r == OPEN_E_NOT_REGULAR)
		return fault_set(fault, WIRE_NOT_A_FILE, "script %.100s: not a regular file", path);
	if (r)
		return fault_set_os(fault, -r, "script %.100s", path);
	/* Never through what is there: a copy that runs must stay as it is. */
	(void)unlinkat(dir, name, 0);
	to = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0755);
	if (to < 0)
		return fault_set_os(fault, errno, "the copy of the script");
	r = copy(from, to);
	if (r == -EFBIG)
		return fault_set(fault, WIRE_TOO_LARGE, "script %.100s: %d bytes at most", path,
				 LIMIT_SCRIPT_BYTES);
	return r ? fault_set_os(fault, -r, "the copy of the script") : WIRE_OK;
}

/* ---- the whole ---- */

static enum wire_error dirs_open(struct kernel *kernel, uint32_t owner,
				 const struct spawn_options *options, struct agent_home *home,
				 struct fault *fault)
{
	CLEANUP(fd_closep) int owner_fd = -1;
	CLEANUP(fd_closep) int fd = -1;
	char number[16];
	struct stat st;
	int r;

	(void)snprintf(number, sizeof(number), "%u", owner);
	owner_fd = dir_open(kernel->agents_fd, number, 0700);
	fd = owner_fd < 0 ? owner_fd : dir_open(owner_fd, options->home, 0700);
	home->workspace = fd < 0 ? fd : dir_open(fd, "workspace", 0700);
	home->logs = fd < 0 ? fd : dir_open(fd, "logs", 0755);
	home->script = fd < 0 ? fd : dir_open(fd, "script", 0755);
	r = home->workspace < 0 ? home->workspace : home->logs < 0 ? home->logs : home->script;
	if (r < 0)
		return fault_set_os(fault, -r, "the directory of agent %s", options->name);
	home->uid = owner;
	if (!options->sandboxed || kernel->user.uid != 0)
		return WIRE_OK;
	/* Not the workspace, which is no agent's as long as all of that name had theirs in memory. */
	if (fstat(home->logs, &st))
		return fault_set_os(fault, errno, "the logs of agent %s", options->name);
	home->uid = st.st_uid;
	if (!is_agent_uid(st.st_uid) && uid_take(kernel, &home->uid))
		return fault_set(
			fault, WIRE_BUSY,
			"no uid is left for another agent; remove directories of old ones in the data directory");
	return WIRE_OK;
}

static enum wire_error bind_open(struct files *files, const struct kernel *kernel, const char *path,
				 int access, struct agent_home *home, struct fault *fault)
{
	const struct open_request request = {
		.path = path,
		.path_len = strlen(path),
		.base = kernel->user.home,
		.flags = O_PATH | access,
	};
	int fd;
	int r = files_open(files, &request, &fd);

	if (r == OPEN_E_NOT_REGULAR)
		return fault_set(fault, WIRE_NOT_A_FILE, "%.100s: neither a file nor a directory",
				 path);
	if (r == OPEN_E_GONE)
		return fault_set(fault, WIRE_UNAVAILABLE,
				 "the process that opens files is gone; restart the kernel");
	if (r)
		return fault_set_os(fault, -r, "%.100s", path);
	home->binds[home->bind_count++] = fd;
	return WIRE_OK;
}

enum wire_error agent_home_open(struct files *files, struct kernel *kernel, uint32_t owner,
				const struct spawn_options *options, bool copy_script,
				struct agent_home *home, struct fault *fault)
{
	enum wire_error code = dirs_open(kernel, owner, options, home, fault);
	const char *slash;

	if (!code && options->script) {
		slash = strrchr(options->script, '/');
		home->script_name = strdup(slash ? slash + 1 : options->script);
		if (!home->script_name)
			code = bag_no_memory(fault);
		else if (!*home->script_name)
			code = fault_set(fault, WIRE_NOT_A_FILE, "script %.100s: a directory",
					 options->script);
		else if (copy_script)
			code = script_copy(files, kernel, options->script, home->script_name,
					   home->script, fault);
	}
	for (size_t i = 0; !code && i < options->ro.count; i++)
		code = bind_open(files, kernel, options->ro.items[i], O_RDONLY, home, fault);
	for (size_t i = 0; !code && i < options->rw.count; i++)
		code = bind_open(files, kernel, options->rw.items[i], O_RDWR, home, fault);
	if (!code && *kernel->config->sdk_dir) {
		home->sdk = open(kernel->config->sdk_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (home->sdk < 0)
			code = fault_set_os(fault, errno, "the SDK directory %.100s (--sdk-dir)",
					    kernel->config->sdk_dir);
	}
	if (code)
		agent_home_deinit(home);
	return code;
}

int agent_home_log(struct kernel *kernel, uint32_t owner, const char *home, const char *file)
{
	char path[16 + LIMIT_AGENT_HOME_BYTES + 32];

	(void)snprintf(path, sizeof(path), "%u/%s/logs/%s", owner, home, file);
	return openat(kernel->agents_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

/* ---- the end ---- */

static void trash_empty(struct kernel *kernel)
{
	int done;

	/* Nobody waits for it. Where it cannot be had, the next one takes this along. */
	if (!launcher_remove(kernel->launcher, kernel->trash_fd, &done))
		(void)close(done);
}

int agent_trash_open(struct kernel *kernel)
{
	if (mkdirat(kernel->agents_fd, ".trash", 0700) && errno != EEXIST)
		return err_raise(-errno);
	kernel->trash_fd = openat(kernel->agents_fd, ".trash",
				  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (kernel->trash_fd < 0)
		return err_raise(-errno);
	trash_empty(kernel);
	return 0;
}

static void uid_free(struct kernel *kernel, uid_t uid)
{
	if (!is_agent_uid(uid))
		return;
	(void)pthread_mutex_lock(&kernel->uid_lock);
	kernel->uid_used[(uid - UID_FIRST) / 8] &= (uint8_t) ~(1u << (uid - UID_FIRST) % 8);
	(void)pthread_mutex_unlock(&kernel->uid_lock);
}

/* 0 or -errno. */
static int trash(struct kernel *kernel, int owner_fd, const char *name)
{
	char logs[LIMIT_AGENT_HOME_BYTES + 16], to[32];
	struct stat st = {.st_uid = 0};

	(void)snprintf(logs, sizeof(logs), "%s/logs", name);
	(void)fstatat(owner_fd, logs, &st, AT_SYMLINK_NOFOLLOW);
	/* With the epoch: a predecessor's may still be there. */
	(void)snprintf(to, sizeof(to), "%llx-%llu", (unsigned long long)kernel->start_ns,
		       (unsigned long long)atomic_fetch_add(&kernel->trashed, 1));
	if (renameat(owner_fd, name, kernel->trash_fd, to))
		return -errno;
	uid_free(kernel, st.st_uid);
	return 0;
}

int agent_home_remove(struct kernel *kernel, uint32_t owner, const char *home)
{
	size_t len = strlen(home);
	struct dirent *entry;
	char number[16];
	int fd, r = 0, count = 0;
	DIR *dir;

	(void)snprintf(number, sizeof(number), "%u", owner);
	fd = openat(kernel->agents_fd, number, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		(void)fd_close(fd);
		return errno == ENOENT ? 0 : err_raise(-errno);
	}
	while (!r && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, home, len) != 0 || !strchr(":", entry->d_name[len]))
			continue;
		r = trash(kernel, fd, entry->d_name);
		count += !r;
	}
	(void)closedir(dir);
	if (count)
		trash_empty(kernel);
	return r == -ENOENT ? count : r ? err_raise(r) : count;
}
