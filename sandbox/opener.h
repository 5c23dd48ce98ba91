/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Files as another user
 *
 * An opener is a process with the uid and groups of one user that opens, reads and writes regular
 * files, so that the operating system decides what the user may, and so that only that process waits
 * where a file system does not answer. The caller's side never blocks: start, send a request, poll the
 * socket, receive; one request at a time. An opener that was closed is killed, in whatever it
 * waits; it is closed and another started when it answers nothing or nonsense.
 *
 * Contents travel through a window, memory that both share.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct launcher;

enum {
	OPEN_E_NOT_REGULAR = 1, /* FIFO, socket or device; a directory is -EISDIR */
	OPEN_E_GONE,            /* the opener or the launcher died: close it, start another */
	OPEN_E_WAIT,            /* no answer yet */
	OPEN_E_MANY,            /* there are as many openers, or of this user, as may be */
	OPEN_E_SLOW,            /* for callers that end one which takes too long */
};

enum {
	OPENER_WINDOW_BYTES = 1 << 20,
};

enum open_kind {
	OPEN_PASS,  /* the file itself: reply->fd */
	OPEN_READ,  /* a piece of a file into the window */
	OPEN_WRITE, /* what is in the window, at @offset or with O_APPEND behind the end */
	OPEN_COPY,  /* the whole file into @into, at most @length bytes, else -EFBIG */
	OPEN_LINK,  /* where a symlink leads, into the window; -EINVAL if it is none */
};

struct open_request {
	enum open_kind kind;
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
	uint64_t offset;
	uint32_t length;  /* READ, WRITE: at most OPENER_WINDOW_BYTES */
	const void *data; /* WRITE: @length bytes, put into the window by opener_send() */
	int into;         /* COPY: a file open for writing; stays the caller's */
};

struct open_reply {
	int result;    /* 0, OPEN_E_NOT_REGULAR, or -errno; -EAGAIN: nothing to read now */
	int fd;        /* PASS: owned, close-on-exec, non-blocking; else -1 */
	uint32_t done; /* bytes read, written or copied, also before an error */
	bool eof;      /* READ: the piece reaches the end */
	uint64_t size, dev, ino; /* of the file afterwards */
};

struct opener {
	int sock;              /* to poll */
	const uint8_t *window; /* what a READ or LINK gave, until the next request */
	bool ready;            /* it has become the user */
	uint64_t last_id;
};

/*
 * Does not wait: that it could not become the user is told by the first opener_recv().
 * 0, OPEN_E_GONE or -errno.
 */
int opener_start(const struct launcher *launcher, uid_t uid, gid_t gid, const gid_t *groups,
		 size_t n_groups, struct opener **ret_opener);

/*
 * An opener inside the box of agent @box_id, launched on @channel: paths are those that the agent sees, rights
 * the agent's. 0, LAUNCH_E_BUSY, LAUNCH_E_GONE or -errno.
 */
int opener_start_in_box(int channel, uint64_t box_id, struct opener **ret_opener);

/* Ends it; returns NULL. */
struct opener *opener_close(struct opener *opener);

/*
 * 0, also when it is gone, which opener_recv() tells; or -errno and nothing was sent, -EINVAL or
 * -ENAMETOOLONG for a request that cannot be one.
 */
int opener_send(struct opener *opener, const struct open_request *request);

/*
 * 0 and the reply to the request; OPEN_E_WAIT; OPEN_E_GONE; OPEN_E_MANY; or -errno: it is of no use,
 * because it could not become the user (-EPERM), or its answer fits no request (-EBADMSG).
 */
int opener_recv(struct opener *opener, struct open_reply *ret_reply);

/* Gives back the window's memory, which a large piece has filled. */
void opener_trim(struct opener *opener);

/* Answers requests until the socket ends. */
_Noreturn void opener_serve(int sock);

/* The process itself, called by the launcher in a fresh child. Takes over @sock. */
_Noreturn void opener_run(int sock, uid_t uid, gid_t gid, const gid_t *groups, size_t n_groups);
