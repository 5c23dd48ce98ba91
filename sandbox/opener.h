/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Opening files as another user
 *
 * An opener is a process with the uid and groups of one user that opens regular files and passes
 * them back, so that the operating system decides what the user may open, not Clove. The caller
 * sees a descriptor of a blocking socket: close() ends the opener. One request at a time; the
 * caller serialises. For threads that may block, never for a core.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct launcher;

enum {
	OPEN_E_NOT_REGULAR = 1, /* FIFO, socket or device; a directory is -EISDIR */
	OPEN_E_GONE, /* the opener died, or hangs in a file system: close it, start another */
};

enum {
	OPENER_TIMEOUT_S = 10, /* after which an opener that does not answer counts as gone */
};

struct open_request {
	const char *path; /* not NUL-terminated; a NUL inside is -EINVAL */
	size_t path_len;
	const char *base; /* absolute directory that a relative @path starts from */
	/*
	 * Access mode and O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_NOFOLLOW; or O_PATH, which also finds
	 * directories and, before it passes on what cannot be read by it, checks that the user may
	 * read it, with O_RDWR write it too.
	 */
	int flags;
	mode_t mode;      /* of a file made by O_CREAT, less umask 022 */
	uint64_t resolve; /* RESOLVE_*; RESOLVE_NO_MAGICLINKS is always added */
};

/*
 * Waits until the opener has become the user. 0, OPEN_E_GONE (no launcher) or -errno: -EPERM when
 * the kernel is not root and @uid is not its own, -EAGAIN when there are too many openers.
 */
int opener_start(const struct launcher *launcher, uid_t uid, gid_t gid, const gid_t *groups,
		 size_t n_groups, int *ret_opener);

/* 0 and a blocking, close-on-exec descriptor; an OPEN_E code; or -errno as open() reports it. */
int opener_open(int opener, const struct open_request *request, int *ret_fd);

/*
 * An opener inside the box of agent @box_id, launched on @channel: paths are those that the agent sees, rights
 * the agent's. Does not wait: opener_await() does. 0, LAUNCH_E_BUSY, LAUNCH_E_GONE or -errno.
 */
int opener_start_in_box(int channel, uint64_t box_id, int *ret_opener);
/* 0, OPEN_E_GONE (no such agent any more) or -errno, -EAGAIN when there are too many openers. */
int opener_await(int opener);

/* Answers requests until the socket ends. */
_Noreturn void opener_serve(int sock);

/* The process itself, called by the launcher in a fresh child. Takes over @sock. */
_Noreturn void opener_run(int sock, uid_t uid, gid_t gid, const gid_t *groups, size_t n_groups);
