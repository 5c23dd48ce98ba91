/* SPDX-License-Identifier: MIT */

/*
 * perf_fsyncs.so: counts how often a server asks for its files to be on the disk
 *
 * Preloaded into every system alike (LD_PRELOAD), so that no system's own figures have to be believed. What counts are
 * calls of fsync, fdatasync, syncfs, sync and msync with MS_SYNC, by any thread of the server and of the processes it starts. The
 * count is the first eight bytes of the file that PERF_FSYNCS names, mapped by all of them.
 */

#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static _Atomic uint64_t *count;

__attribute__((constructor)) static void map_count(void)
{
	const char *path = getenv("PERF_FSYNCS");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *at;

	if (fd < 0)
		return;
	at = mmap(NULL, sizeof(*count), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	(void)close(fd);
	if (at != MAP_FAILED)
		count = at;
}

static void *next_of(const char *name)
{
	if (count)
		(void)atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
	return dlsym(RTLD_NEXT, name);
}

EXPORT int fsync(int fd)
{
	return ((int (*)(int))next_of("fsync"))(fd);
}

EXPORT int fdatasync(int fd)
{
	return ((int (*)(int))next_of("fdatasync"))(fd);
}

EXPORT int syncfs(int fd)
{
	return ((int (*)(int))next_of("syncfs"))(fd);
}

EXPORT void sync(void)
{
	((void (*)(void))next_of("sync"))();
}

EXPORT int msync(void *addr, size_t len, int flags)
{
	int (*msync_next)(void *, size_t, int) = dlsym(RTLD_NEXT, "msync");

	if (count && flags & MS_SYNC)
		(void)atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
	return msync_next(addr, len, flags);
}
