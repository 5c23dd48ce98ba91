/* SPDX-License-Identifier: MIT */

/*
 * From bytes to a frame, without I/O and without state
 *
 * A frame is either an answer or a push; anything else is not this protocol. An error's body is taken
 * apart here, since every caller needs it; other bodies are for whoever knows what the call returns.
 */

#include <limits.h>

#include "ipc/cursor.h"
#include "ipc/frame.h"
#include "sdk/c/clove_priv.h"

static int parse_error(struct clove_frame *frame)
{
	struct cursor c = cursor_make(frame->body, frame->body_len);
	const uint8_t *detail;
	uint64_t code;
	uint32_t count;

	if (cursor_read_array(&c, &count) || count < 3 || cursor_read_uint(&c, &code) ||
	    code > INT_MAX ||
	    cursor_read_str(&c, &frame->error.message, &frame->error.message_len) ||
	    cursor_peek(&c) != CURSOR_MAP)
		return CLOVE_E_BROKEN;
	detail = c.pos;
	if (cursor_skip(&c))
		return CLOVE_E_BROKEN;
	frame->error.code = (enum wire_error)code;
	frame->error.name = wire_error_name(frame->error.code);
	frame->error.detail = detail;
	frame->error.detail_len = (uint32_t)(c.pos - detail);
	return 0;
}

static enum clove_kind frame_kind(uint16_t flags)
{
	if (flags & WIRE_FLAG_PUSH)
		return CLOVE_PUSH;
	if (flags & WIRE_FLAG_ERROR)
		return CLOVE_ERROR;
	return flags & WIRE_FLAG_MORE ? CLOVE_CHUNK : CLOVE_REPLY;
}

int clove_parse(const uint8_t *bytes, size_t len, struct clove_frame *ret_frame)
{
	struct clove_frame view;
	struct frame frame;
	int r;

	if (len < FRAME_HEADER_BYTES)
		return CLOVE_E_AGAIN;
	frame_read(bytes, &frame);
	if (frame.body_len > FRAME_BODY_MAX ||
	    !(frame.flags & WIRE_FLAG_REPLY) == !(frame.flags & WIRE_FLAG_PUSH) ||
	    (frame.flags & WIRE_FLAG_ERROR && frame.flags & WIRE_FLAG_PUSH))
		return CLOVE_E_BROKEN;
	if (len - FRAME_HEADER_BYTES < frame.body_len)
		return CLOVE_E_AGAIN;

	view = (struct clove_frame){.kind = frame_kind(frame.flags),
				    .op = frame.op,
				    .id = frame.id,
				    .body = bytes + FRAME_HEADER_BYTES,
				    .body_len = frame.body_len};
	r = view.kind == CLOVE_ERROR ? parse_error(&view) : 0;
	if (r)
		return r;
	*ret_frame = view;
	return 0;
}
