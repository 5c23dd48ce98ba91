/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * libclove: a connection to the Clove kernel
 *
 * Arguments and results are MessagePack: pack a call's arguments as one array (msgpack-c), read its
 * result with clove_map_x(), or any value with a struct cursor (ipc/cursor.h). The calls and their numbers
 * are in ipc/wire.def.
 *
 * Three ways of use, which mix:
 *   one call        clove_call()
 *   pipelined       clove_send() many, clove_flush(), clove_recv() as many
 *   event loop      clove_send(), write clove_pending_output() to clove_fd() and report it with
 *                   clove_output_sent(); hand what arrives to clove_input(), take it with clove_next()
 *
 * Functions return 0, a CLOVE_E_x, or -errno. After CLOVE_E_CLOSED, CLOVE_E_BROKEN and any -errno the
 * connection is of no more use than to be closed. A connection belongs to one thread at a time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/cursor.h"
#include "ipc/wire.h"

enum {
	CLOVE_E_AGAIN = 1, /* clove_next(): no whole frame yet */
	CLOVE_E_TIMEOUT,   /* nothing came in time; the connection is still good */
	CLOVE_E_CLOSED,    /* the kernel has closed the connection */
	CLOVE_E_BROKEN,    /* what came is not this protocol, lacks a key, or ends within a frame */
	CLOVE_E_TOO_LARGE, /* the arguments do not fit into a frame */
	CLOVE_E_NO_KERNEL, /* nobody listens on the socket */
	CLOVE_E_UNTRUSTED, /* the default socket is served by neither root nor this user */
	CLOVE_E_BAD_SOCKET, /* CLOVE_FD or CLOVE_DOOR is no such socket, or the path is too long */
	CLOVE_E_IN_USE, /* CLOVE_FD is in use in this process, or is another's; and there is no CLOVE_DOOR */
};

/* The words for 0, a CLOVE_E_x or -errno. Never NULL, not to be freed; any thread. */
const char *clove_strerror(int r);

struct clove;

enum clove_kind {
	CLOVE_REPLY, /* the answer, or the last piece of it */
	CLOVE_CHUNK, /* a piece; more frames with this id follow */
	CLOVE_ERROR, /* the call failed: see @error */
	CLOVE_PUSH,  /* unsolicited: a message or an event */
};

/* A received frame. All pointers are valid until the next call for this connection. */
struct clove_frame {
	enum clove_kind kind;
	uint16_t op;         /* WIRE_OP_x */
	uint64_t id;         /* of the request it answers */
	const uint8_t *body; /* MessagePack, not yet validated */
	uint32_t body_len;
	struct {
		enum wire_error code;
		const char *name;    /* "NOT_FOUND" */
		const char *message; /* not terminated */
		uint32_t message_len;
		const uint8_t *detail; /* MessagePack map */
		uint32_t detail_len;
	} error; /* with CLOVE_ERROR only */
};

/*
 * Connects to @path, or when that is NULL to the first of: what a spawned agent inherits, the path in CLOVE_SOCKET,
 * /tmp/clove.sock. The last is refused when a stranger serves it.
 *
 * An agent inherits the descriptor that CLOVE_FD names, for its program and one connection at a time, and
 * clove_close() leaves it open. Other processes of the agent, and further connections, get their own by CLOVE_DOOR,
 * with the same identity; CLOVE_E_TIMEOUT and CLOVE_E_CLOSED then say that there was no answer, -EAGAIN that too
 * many were asked for at once. After a fork the child leaves its copy of a connection alone and opens one.
 */
int clove_open(const char *path, struct clove **ret_clove);

/* The path that clove_open(@path) connects to; NULL when that is what an agent inherits. Not to be freed. */
const char *clove_socket_path(const char *path);

/* Takes over the connected stream socket @fd; on failure it stays the caller's. 0 or -ENOMEM. */
int clove_adopt(int fd, struct clove **ret_clove);

/* Returns NULL; of NULL nothing. */
struct clove *clove_close(struct clove *clove);

/*
 * Sends one request and waits for its answer: 0 when there is one, an error reply included. Answers
 * to other requests and pushes that come meanwhile are kept for clove_recv(). @args may be NULL.
 *
 * A @timeout_ms >= 0 is told to the kernel too, so that it stops working on the call. What then comes
 * first counts: its error reply TIMEOUT, or CLOVE_E_TIMEOUT here, after which a late answer is dropped.
 */
int clove_call(struct clove *clove, uint16_t op, const void *args, size_t args_len, int timeout_ms,
	       struct clove_frame *ret_frame);

/*
 * Buffers a request. With @deadline_ms >= 0 the kernel answers TIMEOUT after that time.
 * The ids of one connection count from 1. 0, CLOVE_E_TOO_LARGE or -ENOMEM.
 */
int clove_send(struct clove *clove, uint16_t op, const void *args, size_t args_len, int deadline_ms,
	       uint64_t *ret_id);

/* Writes all that is buffered; reads meanwhile, so that neither side waits for the other. */
int clove_flush(struct clove *clove);

/* Next frame, of any kind. A negative @timeout_ms waits without end, 0 takes only what is there. */
int clove_recv(struct clove *clove, int timeout_ms, struct clove_frame *ret_frame);

/* For event loops: none of these blocks. The descriptor's blocking mode is the caller's business. */
int clove_fd(const struct clove *clove);
const uint8_t *clove_pending_output(const struct clove *clove, size_t *ret_len); /* len 0: none */
void clove_output_sent(struct clove *clove, size_t len);
int clove_input(struct clove *clove, const void *bytes, size_t len); /* 0 or -ENOMEM */
int clove_next(struct clove *clove, struct clove_frame *ret_frame);  /* or CLOVE_E_AGAIN, _BROKEN */

/*
 * Reading a result that is a map: what it has by the name @key, found whatever the order. Each returns 0
 * or CLOVE_E_BROKEN: no map, no such key, or another type. What comes out points into the map's bytes.
 */
int clove_map_get(struct cursor map, const char *key, struct cursor *ret_value);
int clove_map_uint(struct cursor map, const char *key, uint64_t *ret_value);
int clove_map_int(struct cursor map, const char *key, int64_t *ret_value);
int clove_map_bool(struct cursor map, const char *key, bool *ret_value);
int clove_map_bytes(struct cursor map, const char *key, const uint8_t **ret_bytes,
		    uint32_t *ret_len); /* str or bin */

/* A frame's body, to be read. */
static inline struct cursor clove_body(const struct clove_frame *frame)
{
	return cursor_make(frame->body, frame->body_len);
}
