/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Request: a call whose answer comes later
 *
 * Embedded at the head of the object that does the work (a job, a file operation). It is answered once:
 * by the work (request_finish), by CANCEL, by the caller's deadline, or when the work cannot be ended
 * (request_abort); in the last three cases, and when the client goes, abandon() tells the work that nobody waits
 * any more. The work always ends with request_finish(), which frees it when it has been answered or abandoned.
 *
 * CANCEL ends only what can be called off; a deadline ends the wait for anything, and its error
 * says whether the outcome is known.
 */

#include <stdbool.h>
#include <stdint.h>

#include "core/base/list.h"
#include "core/call.h"
#include "core/timer.h"

struct request;

struct request_type {
	/*
	 * Asked before it is ended early: whether it will have no effect, or what it had is accounted for. False:
	 * it has begun and goes on. May be NULL: true.
	 */
	bool (*call_off)(struct request *request);
	/* Nobody waits: stop early if that is possible. request_finish() is still owed. */
	void (*abandon)(struct request *request);
	/* Makes the reply frame, or the error's, at request->conn. */
	void (*answer)(struct request *request);
	void (*free)(struct request *request);

	/* The rest may be NULL. */
	/* It was answered or is abandoned; @conn, which may be closing, is no longer its own. */
	void (*unbound)(struct request *request, struct conn *conn);
	/* Bytes of the result, while it waits for room in the output. */
	size_t (*weight)(struct request *request);
	/* That is above the connection's share, or its owner's: keeps an answer without them. */
	void (*shed)(struct request *request);
	/* Of a stream: there is room again, after request_stall(). */
	void (*resume)(struct request *request);
};

struct request {
	const struct request_type *type;
	struct shard *shard;
	struct conn *conn; /* NULL once nobody waits */
	struct list link;
	struct timer deadline;
	size_t held;  /* bytes that count in conn->held_bytes, and against the owner */
	bool stalled; /* a stream that waits for room in the output */
	uint64_t id;
	uint16_t op;
};

/*
 * Binds a new object to @call's connection. 0, or with call->fault filled WIRE_BUSY when the
 * connection has too many in flight, or WIRE_TIMEOUT when its caller does not wait at all; then the object
 * is still the caller's alone, and nothing may have been begun.
 */
enum wire_error request_start(struct request *request, struct call *call,
			      const struct request_type *type);

/* The work is over: answers if somebody waits, as soon as there is room; then frees. */
void request_finish(struct request *request);

/* Answers with @fault now, and abandons the work. */
void request_abort(struct request *request, const struct fault *fault);

/* For CANCEL: answers CANCELLED and abandons the work. False: it cannot be kept from happening, and goes on. */
bool request_cancel(struct request *request);

/* For a stream, which answers with several frames: waits for room in the output. */
void request_stall(struct request *request);
static inline bool request_is_stalled(const struct request *request)
{
	return request->stalled;
}

/* The core drains: streams would not end by themselves. */
void request_end_streams(struct conn *conn);

/* For conn.c: answers held requests while there is room; ends all when the client goes. */
void request_release_held(struct conn *conn);
void request_abandon_all(struct conn *conn);
struct request *request_find(struct conn *conn, uint64_t id);
