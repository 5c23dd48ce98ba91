/* SPDX-License-Identifier: MIT */

/*
 * The calls that RocksDB 7.8 makes on files, and those of the store itself: what `nm -D` shows of them
 *
 * A lock is held over the bookkeeping only, never over a real sync: the length that counts is
 * that before the sync began, and it is noted after the sync succeeded.
 */

#include "tests/crash/disk.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* The C library's own function of that name. */
#define REAL(name)                                                          \
	__extension__({                                                     \
		static __typeof__(&name) real_;                             \
		if (!real_)                                                 \
			real_ = (__typeof__(&name))dlsym(RTLD_NEXT, #name); \
		real_;                                                      \
	})

enum {
	FDS = 4096,
	FD_WATCHED = 1,
	FD_TABLE = 2,
	FD_HALF_WRITTEN = 4,
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct disk_state *state;
static char directory[512], graveyard[512];
static _Atomic uint8_t fd_flags[FDS];

struct disk_state *disk_watch(const char *state_path, const char *dir)
{
	(void)snprintf(directory, sizeof(directory), "%s", dir);
	(void)snprintf(graveyard, sizeof(graveyard), "%.480s.graveyard", dir);
	(void)REAL(mkdir)(graveyard, 0700);
	state = disk_map(state_path);
	return state;
}

__attribute__((constructor)) static void disk_start(void)
{
	const char *path = getenv("CRASH_DISK_STATE"), *dir = getenv("CRASH_DISK_DIR");

	if (path && dir)
		(void)disk_watch(path, dir);
}

static bool watched(const char *path)
{
	return state && !strncmp(path, directory, strlen(directory)) &&
	       path[strlen(directory)] == '/';
}

static uint32_t faults(void)
{
	return state ? atomic_load_explicit(&state->faults, memory_order_acquire) : 0;
}

static uint8_t flags_of(int fd)
{
	return fd >= 0 && fd < FDS ? atomic_load_explicit(&fd_flags[fd], memory_order_relaxed) : 0;
}

/* ---- nodes; under the mutex ---- */

static struct disk_node *node_find(uint64_t inode)
{
	for (unsigned i = 0; i < DISK_NODES; i++)
		if (state->nodes[i].flags & DISK_USED && state->nodes[i].inode == inode)
			return &state->nodes[i];
	return NULL;
}

static struct disk_node *node_new(uint64_t inode)
{
	for (unsigned i = 0; i < DISK_NODES; i++)
		if (!(state->nodes[i].flags & DISK_USED)) {
			state->nodes[i] = (struct disk_node){.inode = inode, .flags = DISK_USED};
			return &state->nodes[i];
		}
	abort(); /* a test that outgrew DISK_NODES must not pass */
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static uint64_t parent_inode(const char *path)
{
	char parent[1024];
	struct stat st;

	(void)snprintf(parent, sizeof(parent), "%.*s", (int)(base_name(path) - path), path);
	return stat(parent, &st) ? 0 : st.st_ino;
}

static void note_made(const char *path, bool is_directory)
{
	struct disk_node *node;
	struct stat st;

	if (lstat(path, &st))
		return;
	(void)pthread_mutex_lock(&mutex);
	node = node_find(st.st_ino);
	if (!node)
		node = node_new(st.st_ino);
	*node = (struct disk_node){
		.inode = st.st_ino,
		.parent = parent_inode(path),
		.flags = DISK_USED | (is_directory ? DISK_DIRECTORY : 0),
	};
	(void)pthread_mutex_unlock(&mutex);
}

static void note_synced(uint64_t inode, uint64_t bytes, bool is_directory)
{
	struct disk_node *node;

	(void)pthread_mutex_lock(&mutex);
	node = node_find(inode);
	if (node && bytes > node->synced_bytes)
		node->synced_bytes = bytes;
	for (unsigned i = 0; is_directory && i < DISK_NODES; i++)
		if (state->nodes[i].flags & DISK_USED && state->nodes[i].parent == inode) {
			state->nodes[i].flags |= DISK_NAME_SYNCED;
			state->nodes[i].flags &= ~(uint32_t)(DISK_RENAMED | DISK_REPLACED);
		}
	(void)pthread_mutex_unlock(&mutex);
	(void)atomic_fetch_add_explicit(&state->syncs, 1, memory_order_relaxed);
}

/* ---- names ---- */

static int opened(int fd, const char *path, bool made)
{
	const char *dot = strrchr(path, '.');

	if (fd < 0 || !watched(path))
		return fd;
	if (made)
		note_made(path, false);
	if (fd < FDS)
		atomic_store_explicit(
			&fd_flags[fd],
			(uint8_t)(FD_WATCHED | (dot && !strcmp(dot, ".sst") ? FD_TABLE : 0)),
			memory_order_relaxed);
	return fd;
}

static bool refuses_creation(void)
{
	if (faults() & DISK_FULL)
		errno = ENOSPC;
	else if (faults() & DISK_WRITE_FAILS)
		errno = EIO;
	else
		return false;
	return true;
}

static bool will_make(const char *path, int flags)
{
	struct stat st;

	return flags & O_CREAT && watched(path) && lstat(path, &st);
}

EXPORT int open(const char *path, int flags, ...)
{
	bool making = will_make(path, flags);
	mode_t mode = 0;

	if (flags & O_CREAT) {
		va_list args;

		va_start(args, flags);
		mode = va_arg(args, mode_t);
		va_end(args);
	}
	if (making && refuses_creation())
		return -1;
	return opened(REAL(open)(path, flags, mode), path, making);
}

EXPORT int open64(const char *path, int flags, ...)
{
	mode_t mode = 0;

	if (flags & O_CREAT) {
		va_list args;

		va_start(args, flags);
		mode = va_arg(args, mode_t);
		va_end(args);
	}
	return open(path, flags, mode);
}

EXPORT int close(int fd)
{
	if (fd >= 0 && fd < FDS)
		atomic_store_explicit(&fd_flags[fd], 0, memory_order_relaxed);
	return REAL(close)(fd);
}

EXPORT int mkdir(const char *path, mode_t mode)
{
	int r;

	if (watched(path) && refuses_creation())
		return -1;
	r = REAL(mkdir)(path, mode);
	if (!r && watched(path))
		note_made(path, true);
	return r;
}

EXPORT int unlink(const char *path)
{
	struct stat st = {0};
	bool known = watched(path) && !lstat(path, &st);
	int r = REAL(unlink)(path);

	if (!r && known && st.st_nlink <= 1) {
		struct disk_node *node;

		(void)pthread_mutex_lock(&mutex);
		node = node_find(st.st_ino);
		if (node)
			node->flags = 0;
		(void)pthread_mutex_unlock(&mutex);
	}
	return r;
}

EXPORT int rename(const char *from, const char *to)
{
	struct stat st = {0}, old = {0};
	bool replaces = false;
	char grave[1024];
	int r;

	if (!watched(to))
		return REAL(rename)(from, to);
	if (refuses_creation())
		return -1;
	if (!lstat(to, &old) && S_ISREG(old.st_mode)) {
		/* Kept for the case that the power goes before the new name is durable. */
		(void)snprintf(grave, sizeof(grave), "%s/%s", graveyard, base_name(to));
		(void)REAL(unlink)(grave);
		replaces = !link(to, grave);
	}
	r = REAL(rename)(from, to);
	if (!r && !lstat(to, &st)) {
		struct disk_node *node;

		(void)pthread_mutex_lock(&mutex);
		node = node_find(st.st_ino);
		if (!node) {
			node = node_new(st.st_ino);
			node->synced_bytes = (uint64_t)st.st_size;
			node->flags |=
				DISK_NAME_SYNCED | (S_ISDIR(st.st_mode) ? DISK_DIRECTORY : 0);
		}
		if (node->flags & DISK_NAME_SYNCED) {
			node->flags |= DISK_RENAMED;
			(void)snprintf(node->old_name, sizeof(node->old_name), "%s",
				       base_name(from));
		}
		node->flags &= ~(uint32_t)DISK_NAME_SYNCED;
		node->flags |= replaces ? DISK_REPLACED : 0;
		node->parent = parent_inode(to);
		(void)pthread_mutex_unlock(&mutex);
	}
	return r;
}

/* ---- contents ---- */

/* What of a write may go through: bytes, or -1 with errno. */
static ssize_t allowed(int fd, size_t count)
{
	uint8_t flags = flags_of(fd);

	if (!(flags & FD_WATCHED))
		return (ssize_t)count;
	while (flags & FD_TABLE && faults() & DISK_HOLD_TABLES) {
		const struct timespec pause = {.tv_nsec = 1000000};

		(void)nanosleep(&pause, NULL);
	}
	if (faults() & DISK_WRITE_FAILS || (flags & FD_TABLE && faults() & DISK_TABLES_FAIL)) {
		errno = EIO;
		return -1;
	}
	if (!(faults() & DISK_FULL))
		return (ssize_t)count;
	if (count < 2 || flags & FD_HALF_WRITTEN) {
		errno = ENOSPC;
		return -1;
	}
	atomic_store_explicit(&fd_flags[fd], flags | FD_HALF_WRITTEN, memory_order_relaxed);
	return (ssize_t)(count / 2);
}

EXPORT ssize_t write(int fd, const void *bytes, size_t count)
{
	ssize_t n = allowed(fd, count);

	return n < 0 ? n : REAL(write)(fd, bytes, (size_t)n);
}

EXPORT ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at)
{
	ssize_t n = allowed(fd, count);

	return n < 0 ? n : REAL(pwrite)(fd, bytes, (size_t)n, at);
}

EXPORT int fallocate(int fd, int mode, off_t at, off_t len)
{
	if (flags_of(fd) & FD_WATCHED && refuses_creation())
		return -1;
	return REAL(fallocate)(fd, mode, at, len);
}

EXPORT int ftruncate(int fd, off_t len)
{
	int r = REAL(ftruncate)(fd, len);
	struct stat st;

	if (!r && flags_of(fd) & FD_WATCHED && !fstat(fd, &st)) {
		struct disk_node *node;

		(void)pthread_mutex_lock(&mutex);
		node = node_find(st.st_ino);
		if (node && node->synced_bytes > (uint64_t)len)
			node->synced_bytes = (uint64_t)len;
		(void)pthread_mutex_unlock(&mutex);
	}
	return r;
}

static int sync_with(int fd, int (*real)(int fd))
{
	struct stat st;
	bool known = state && !fstat(fd, &st);
	int r;

	if (known && faults() & DISK_NO_SYNC)
		return 0;
	if (flags_of(fd) & FD_WATCHED && faults() & DISK_SYNC_FAILS) {
		errno = EIO;
		return -1;
	}
	r = real(fd);
	if (!r && known)
		note_synced(st.st_ino, (uint64_t)st.st_size, S_ISDIR(st.st_mode));
	return r;
}

EXPORT int fsync(int fd)
{
	return sync_with(fd, REAL(fsync));
}

EXPORT int fdatasync(int fd)
{
	return sync_with(fd, REAL(fdatasync));
}
