/* SPDX-License-Identifier: MIT */

/*
 * A stream of output in two files of bounded size
 *
 * When the current file is full it takes the place of its predecessor. Whatever goes wrong with the
 * directory or the disk costs bytes, which are counted, and never holds up the program: a write that
 * fails is not repeated, and after a rotation that failed the next chunk tries again.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "core/base/cleanup.h"
#include "sandbox/box.h"

enum {
	OPEN_FLAGS = O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
};

static int open_file(struct box_log *log, int flags)
{
	CLEANUP(fd_closep) int fd = openat(log->dir, log->name, OPEN_FLAGS | flags, 0644);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	log->bytes = (uint64_t)st.st_size;
	log->file = TAKE_FD(fd);
	return 0;
}

int box_log_open(struct box_log *log, int dir, const char *name, const char *previous,
		 uint64_t bytes_max)
{
	*log = (struct box_log){
		.dir = dir,
		.file = -1,
		.name = name,
		.previous = previous,
		.bytes_max = bytes_max,
	};
	return dir < 0 ? 0 : open_file(log, 0);
}

static void rotate(struct box_log *log)
{
	log->file = fd_close(log->file);
	/* One that stays in place is emptied: the bound holds, and the loss is counted. */
	if (renameat(log->dir, log->name, log->dir, log->previous) < 0)
		log->lost += log->bytes;
	log->bytes = 0;
	(void)open_file(log, O_TRUNC);
}

void box_log_write(struct box_log *log, const void *bytes, size_t n)
{
	const char *p = bytes;

	if (log->dir < 0)
		return;
	while (n > 0) {
		size_t chunk = n;
		ssize_t written;

		if (log->file < 0 || log->bytes >= log->bytes_max)
			rotate(log);
		if (log->file < 0)
			break;
		if (chunk > log->bytes_max - log->bytes)
			chunk = (size_t)(log->bytes_max - log->bytes);
		written = write(log->file, p, chunk);
		if (written <= 0)
			break;
		log->bytes += (uint64_t)written;
		p += written;
		n -= (size_t)written;
	}
	log->lost += n;
}
