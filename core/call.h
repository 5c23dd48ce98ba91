/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Calls: from a frame to its handler
 *
 * The table comes from ipc/wire.def. Before a handler runs, the frame's body has been checked as a whole:
 * it is valid MessagePack, the caller has the right, and the arguments have the declared types and count. So a
 * handler only interprets. It answers through conn_begin()/conn_end(), or starts a request, and returns
 * WIRE_OK; or it fills call->fault, returns its code, and the error reply is made for it.
 */

#include <stdint.h>

#include "core/conn.h"
#include "ipc/cursor.h"
#include "ipc/frame.h"

struct call {
	struct conn *conn;
	const struct wire_call *def;
	uint64_t id;
	bool has_deadline;
	uint32_t deadline_ms; /* 0: answered at once, or not at all */
	uint32_t arg_count;   /* given; a nil for an optional one counts as absent below */
	struct cursor args[WIRE_ARGS_MAX]; /* pos NULL: absent */
	struct fault fault;
};

typedef enum wire_error (*call_handler)(struct call *call);

#define CALL(name, number, right, handler, doc) enum wire_error call_##handler(struct call *call);
#include "ipc/wire.def"

/* Runs the frame's call and makes the reply or error, if it is not made later. @body has frame->body_len bytes. */
void call_dispatch(struct conn *conn, const struct frame *frame, const uint8_t *body);

/*
 * Where EXEC, READ or WRITE acts: argument @arg names an agent whose box it is, or is absent and it is the
 * caller's own box, or the host. @ret_box_id: of the agent's launch; 0: the host. Or a code with call->fault
 * filled.
 */
enum wire_error call_box(struct call *call, unsigned arg, uint64_t *ret_box_id);

/* Whether the call at @index of wire_calls[] has a handler of its own. */
bool call_is_built(unsigned index);

static inline bool call_has(const struct call *call, unsigned arg)
{
	return call->args[arg].pos;
}

/* Checked arguments by position: the type was verified against wire.def, so these cannot fail. */
uint64_t call_uint(const struct call *call, unsigned arg, uint64_t absent);
bool call_bool(const struct call *call, unsigned arg, bool absent);
const uint8_t *call_bytes(const struct call *call, unsigned arg, uint32_t *ret_len);
