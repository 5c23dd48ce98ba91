/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Frame header of the wire protocol
 *
 * A stream is a sequence of frames: a header of 16 bytes, little-endian, and a body of MessagePack.
 * A request's body is an array of positional arguments, or empty for none; with FLAG_DEADLINE a u32 of
 * milliseconds comes before it. A reply's body is one value; an error's is [code, message, detail].
 */

#include <stdint.h>
#include <string.h>

enum {
	FRAME_HEADER_BYTES = 16,
	FRAME_PAYLOAD_MAX = 1 << 20,                     /* one value handed over */
	FRAME_BODY_MAX = FRAME_PAYLOAD_MAX + (64 << 10), /* with the arguments around it */
	FRAME_DEPTH_MAX = 32,  /* nesting of arrays and maps in one argument, an empty one too */
	FRAME_LIST_MAX = 2048, /* items in one answer of a call that lists */
	FRAME_USAGE_MAX = 128, /* of LIST with usage, which reads files for each */
	FRAME_VERSION = 1,
};

struct frame {
	uint32_t body_len; /* bytes after the header */
	uint16_t op;       /* WIRE_OP_x; a reply repeats its request's */
	uint16_t flags;    /* WIRE_FLAG_x */
	uint64_t id;       /* chosen by the requester, echoed by the reply */
};

static inline void frame_read(const uint8_t bytes[FRAME_HEADER_BYTES], struct frame *ret_frame)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	memcpy(ret_frame, bytes, FRAME_HEADER_BYTES);
#else
#error "byte order: only little-endian machines are supported"
#endif
}

static inline void frame_write(uint8_t bytes[FRAME_HEADER_BYTES], const struct frame *frame)
{
	memcpy(bytes, frame, FRAME_HEADER_BYTES);
}

_Static_assert(sizeof(struct frame) == FRAME_HEADER_BYTES,
	       "struct frame is the header on the wire");
