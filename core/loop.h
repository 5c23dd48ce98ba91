/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Event loop of one core: io_uring or epoll behind one interface
 *
 * A loop belongs to the thread that calls loop_wait(); only loop_wake() may be called from others.
 * What is watched is a struct loop_source, embedded in the object it serves, with one descriptor and
 * a table of handlers. Handlers run inside loop_wait(), never inside another call of this interface,
 * and may add, change and remove any source, their own included. After loop_remove() no handler of
 * that source runs again; the descriptor stays the caller's and is closed by it, after the removal.
 *
 * Two back ends (loop_uring.c, loop_epoll.c) fill struct loop_ops. Sockets are non-blocking.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/base/cleanup.h"

struct loop;
struct loop_source;

struct loop_handler {
	/* A connection was accepted; @fd is the callee's. */
	void (*accepted)(struct loop_source *source, int fd);
	/* accept() failed with @error (an errno); the loop stopped listening: call loop_listen() later. */
	void (*accept_failed)(struct loop_source *source, int error);
	/* @bytes are valid during the call. */
	void (*received)(struct loop_source *source, const uint8_t *bytes, uint32_t len);
	/* The stream ended: @error is 0 for an orderly end, an errno otherwise. Reading has stopped. */
	void (*ended)(struct loop_source *source, int error);
	/*
	 * After LOOP_LATER: only the first @sent bytes were taken, or none and @sent is -errno. Runs before
	 * any other handler of that loop_wait().
	 */
	void (*sent_short)(struct loop_source *source, int sent);
	/* Answers loop_want_write(). */
	void (*writable)(struct loop_source *source);
	/* Answers loop_want_ready(). */
	void (*ready)(struct loop_source *source);
	/* Answers loop_want_gone(). */
	void (*gone)(struct loop_source *source);
};

struct loop_source {
	const struct loop_handler *handler;
	int fd;
	uint32_t slot;   /* index into the loop's table; 0 while not in a loop */
	uint8_t reading; /* the owner wants received() */
	uint8_t armed;   /* back end: what the operating system has been asked for */
	uint8_t read_seq; /* io_uring: number of the latest recv, to tell a late end from a current one */
	uint8_t hung_up; /* io_uring: the peer sends no more; what it sent may still be unread */
	uint32_t asked;  /* io_uring: the submission queue's tail behind its latest entry */
};

enum loop_backend {
	LOOP_AUTO,
	LOOP_URING,
	LOOP_EPOLL,
};

/* What the probes found; see loop_probe(). */
struct loop_features {
	enum loop_backend backend; /* LOOP_URING or LOOP_EPOLL */
	bool multishot_recv;       /* io_uring: recv stays armed */
	bool msg_ring;             /* io_uring: a ring can wake another */
	char reason[160];          /* why this back end, for the log */
};

/*
 * Chooses a back end: @wanted, or for LOOP_AUTO io_uring where every probe passes. The environment
 * variable CLOVE_URING ("-multishot,-msgring") switches features off, so that each fallback can be
 * tested. 0, or -ENOSYS with @ret_features->reason when LOOP_URING was demanded and cannot be had.
 */
int loop_probe(enum loop_backend wanted, struct loop_features *ret_features);

const char *loop_backend_name(enum loop_backend backend);

/* To be called in the thread that will run the loop. 0 or -errno. */
int loop_new(const struct loop_features *features, struct loop **ret_loop);
struct loop *loop_free(struct loop *loop); /* NULL */
DEFINE_CLEANUP(struct loop *, loop_free);

/* 0 or -ENOMEM. */
int loop_add(struct loop *loop, struct loop_source *source, int fd,
	     const struct loop_handler *handler);
void loop_remove(struct loop *loop,
		 struct loop_source *source); /* of a source not added: nothing */

void loop_listen(struct loop *loop, struct loop_source *source);
void loop_unlisten(struct loop *loop, struct loop_source *source);
void loop_read(struct loop *loop, struct loop_source *source, bool on);

/*
 * Sends without blocking. Returns how many bytes were taken, or -errno; or LOOP_LATER: they go with the
 * next loop_wait(), the @bytes must stay as they are until it has returned, and sent_short() runs in it
 * if they were not all taken. One such send at a time for a source.
 */
#define LOOP_LATER ((ssize_t)INT32_MIN)
ssize_t loop_send(struct loop *loop, struct loop_source *source, const void *bytes, size_t len);

void loop_want_write(struct loop *loop, struct loop_source *source); /* once */
void loop_want_ready(struct loop *loop,
		     struct loop_source *source); /* once: readable, or hung up */
/* Once: the peer of a stream has closed its whole end; not when it only sends no more. */
void loop_want_gone(struct loop *loop, struct loop_source *source);

/*
 * Waits for events and runs their handlers: at most @timeout_ns (0: only what is there; UINT64_MAX:
 * without end). Returns 0 or -errno; a negative result ends the loop.
 */
int loop_wait(struct loop *loop, uint64_t timeout_ns);

/* Makes @to's loop_wait() return soon. @from is the calling thread's loop, or NULL. */
void loop_wake(struct loop *from, struct loop *to);

static inline bool loop_has(const struct loop_source *source)
{
	return source->slot;
}
