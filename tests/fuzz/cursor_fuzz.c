/* SPDX-License-Identifier: MIT */

/*
 * Any bytes through every reader of ipc/cursor.c
 *
 * Checked beside memory safety: skipping agrees with msgpack-c on what is a whole value and on its
 * length, a failed read moves nothing, and a read never passes the end.
 */

#include <msgpack.h>
#include <stdlib.h>

#include "ipc/cursor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void read_every_way(struct cursor at)
{
	struct cursor c;
	const uint8_t *bytes;
	const char *text;
	uint32_t count;
	uint64_t u;
	int64_t i;
	double d;
	bool b;

#define READ(call)                                                  \
	do {                                                        \
		c = at;                                             \
		require((call) ? c.pos == at.pos : c.pos > at.pos); \
		require(c.pos <= c.end);                            \
	} while (0)
	READ(cursor_read_nil(&c));
	READ(cursor_read_bool(&c, &b));
	READ(cursor_read_uint(&c, &u));
	READ(cursor_read_int(&c, &i));
	READ(cursor_read_float(&c, &d));
	READ(cursor_read_str(&c, &text, &count));
	READ(cursor_read_bytes(&c, &bytes, &count));
	READ(cursor_read_array(&c, &count));
	READ(cursor_read_map(&c, &count));
#undef READ
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor c = cursor_make(data, size);
	msgpack_unpacked unpacked;
	size_t offset = 0;
	bool whole;
	int r;

	read_every_way(c);
	r = cursor_skip(&c);
	/* msgpack-c allocates what a count announces before it looks for the bytes: not with these. */
	if (r == CURSOR_E_DEPTH || r == CURSOR_E_END)
		return 0;
	msgpack_unpacked_init(&unpacked);
	whole = msgpack_unpack_next(&unpacked, (const char *)data, size, &offset) ==
		MSGPACK_UNPACK_SUCCESS;
	msgpack_unpacked_destroy(&unpacked);
	require(whole == (r == 0));
	require(!whole || offset == (size_t)(c.pos - data));
	return 0;
}
