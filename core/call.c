/* SPDX-License-Identifier: MIT */

#include "core/call.h"

#include <string.h>

#include "core/agent_table.h"
#include "core/base/check.h"
#include "core/shard.h"

static const call_handler handlers[WIRE_CALL_COUNT] = {
#define CALL(name, number, right, handler, doc) [WIRE_CALL_##name] = call_##handler,
#include "ipc/wire.def"
};

enum wire_error call_unbuilt(struct call *call)
{
	return fault_set(&call->fault, WIRE_NOT_IMPLEMENTED, "%s is not in this kernel yet",
			 call->def->name);
}

bool call_is_built(unsigned index)
{
	return handlers[index] != call_unbuilt;
}

/* Whether the value at @at, whose first byte alone decides, is of @type. */
static bool type_fits(const struct cursor *at, enum wire_type type)
{
	enum cursor_type is = cursor_peek(at);
	struct cursor copy = *at;
	uint64_t value;

	switch (type) {
	case WIRE_TYPE_ANY:
		return true;
	case WIRE_TYPE_BOOL:
		return is == CURSOR_BOOL;
	case WIRE_TYPE_INT:
		return is == CURSOR_INT;
	case WIRE_TYPE_UINT:
		return is == CURSOR_INT && !cursor_read_uint(&copy, &value);
	case WIRE_TYPE_FLOAT:
		return is == CURSOR_FLOAT;
	case WIRE_TYPE_NUMBER:
		return is == CURSOR_INT || is == CURSOR_FLOAT;
	case WIRE_TYPE_STR:
		return is == CURSOR_STR;
	case WIRE_TYPE_BYTES:
		return is == CURSOR_STR || is == CURSOR_BIN;
	case WIRE_TYPE_MAP:
		return is == CURSOR_MAP;
	case WIRE_TYPE_ARRAY:
		return is == CURSOR_ARRAY;
	case WIRE_TYPE_COMMAND:
		return is == CURSOR_STR || is == CURSOR_BIN || is == CURSOR_ARRAY;
	}
	UNREACHABLE();
}

static enum wire_error arg_read(struct call *call, unsigned i, struct cursor *body)
{
	const struct wire_arg *arg = &call->def->args[i];
	struct cursor at = *body;
	int r;

	r = cursor_skip(body);
	if (r)
		return fault_set(&call->fault, WIRE_INVALID_ARGUMENT, "%s: argument %u (%s): %s",
				 call->def->name, i + 1, arg->name, cursor_error_text(r));
	at.end = body->pos;
	if (arg->optional && cursor_peek(&at) == CURSOR_NIL)
		return WIRE_OK;
	if (!type_fits(&at, (enum wire_type)arg->type))
		return fault_set(&call->fault, WIRE_INVALID_ARGUMENT,
				 "%s: argument %u (%s) must be %s", call->def->name, i + 1,
				 arg->name, wire_type_name((enum wire_type)arg->type));
	call->args[i] = at;
	return WIRE_OK;
}

/* Splits the body into call->args, checked against the declaration. */
static enum wire_error args_read(struct call *call, struct cursor body)
{
	const struct wire_arg *args = call->def->args;
	uint32_t count = 0;
	unsigned i;
	int r;

	if (body.pos != body.end) {
		r = cursor_read_array(&body, &count);
		if (r)
			return fault_set(&call->fault, WIRE_INVALID_ARGUMENT,
					 "%s: the body must be an array of arguments: %s",
					 call->def->name, cursor_error_text(r));
	}
	for (i = 0; args[i].name; i++)
		call->args[i].pos = NULL;
	for (i = 0; i < count && args[i].name; i++) {
		enum wire_error code = arg_read(call, i, &body);

		if (code)
			return code;
	}
	if (i < count)
		return fault_set(&call->fault, WIRE_INVALID_ARGUMENT,
				 "%s takes %u arguments at most, not %u", call->def->name, i,
				 count);
	if (args[i].name && !args[i].optional)
		return fault_set(&call->fault, WIRE_INVALID_ARGUMENT,
				 "%s: argument %u (%s) is missing", call->def->name, i + 1,
				 args[i].name);
	if (body.pos != body.end)
		return fault_set(&call->fault, WIRE_INVALID_ARGUMENT,
				 "%s: %zu bytes behind the arguments", call->def->name,
				 (size_t)(body.end - body.pos));
	call->arg_count = count;
	return WIRE_OK;
}

/* A kernel that drains still answers what changes nothing. */
static bool served_while_draining(uint16_t op)
{
	return op == WIRE_OP_NOOP || op == WIRE_OP_HELLO || op == WIRE_OP_EXIT ||
	       op == WIRE_OP_CANCEL || op == WIRE_OP_STATS;
}

static enum wire_error call_run(struct call *call, int index, const struct frame *frame,
				struct cursor body)
{
	struct conn *conn = call->conn;
	enum wire_error code;

	if (index < 0)
		return fault_set(&call->fault, WIRE_UNKNOWN_OP, "no call has the number 0x%x",
				 frame->op);
	call->def = &wire_calls[index];
	if ((conn->rights & call->def->right) != call->def->right)
		return fault_set(&call->fault, WIRE_PERMISSION_DENIED,
				 "%s needs a right that this agent does not have", call->def->name);
	if (conn->shard->draining && !served_while_draining(frame->op))
		return fault_set(&call->fault, WIRE_SHUTTING_DOWN, "the kernel is stopping");
	if (frame->flags & WIRE_FLAG_DEADLINE) {
		if (body.end - body.pos < (ptrdiff_t)sizeof(call->deadline_ms))
			return fault_set(&call->fault, WIRE_INVALID_ARGUMENT,
					 "%s: flag DEADLINE without a deadline", call->def->name);
		memcpy(&call->deadline_ms, body.pos, sizeof(call->deadline_ms));
		body.pos += sizeof(call->deadline_ms);
		call->has_deadline = true;
	}
	code = args_read(call, body);
	return code ? code : handlers[index](call);
}

void call_dispatch(struct conn *conn, const struct frame *frame, const uint8_t *body)
{
	struct shard *shard = conn->shard;
	struct call call;
	enum wire_error code;

	/* Not the whole struct, which is larger than most frames: args_read() sets the arguments declared. */
	call.conn = conn;
	call.def = NULL;
	call.id = frame->id;
	call.has_deadline = false;
	call.arg_count = 0;
	STAT_ADD(shard->stats.frames, 1);
	STAT_ADD(conn->agent->calls, 1);
	code = call_run(&call, wire_find(frame->op), frame, cursor_make(body, frame->body_len));
	if (code) {
		CHECK(code == call.fault.code);
		conn_reply_error(conn, frame->op, frame->id, &call.fault);
	}
	shard_bound_output(shard);
}

uint64_t call_uint(const struct call *call, unsigned arg, uint64_t absent)
{
	struct cursor at = call->args[arg];
	uint64_t value;

	if (!at.pos)
		return absent;
	CHECK(!cursor_read_uint(&at, &value));
	return value;
}

bool call_bool(const struct call *call, unsigned arg, bool absent)
{
	struct cursor at = call->args[arg];
	bool value;

	if (!at.pos)
		return absent;
	CHECK(!cursor_read_bool(&at, &value));
	return value;
}

const uint8_t *call_bytes(const struct call *call, unsigned arg, uint32_t *ret_len)
{
	struct cursor at = call->args[arg];
	const uint8_t *bytes;

	if (!at.pos)
		return NULL;
	CHECK(!cursor_read_bytes(&at, &bytes, ret_len));
	return bytes;
}
