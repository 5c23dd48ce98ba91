/* SPDX-License-Identifier: MIT */

/*
 * Clove: NOOP through libclove, without its socket functions
 *
 * Replies may come out of order, so a batch is checked by a set of the ids that are due; the echoed
 * value must be the argument byte for byte.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <msgpack.h>

#include "core/base/check.h"
#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "ipc/cursor.h"
#include "perf/protocol.h"
#include "sdk/c/clove.h"

struct dialogue {
	struct clove *clove;
	msgpack_sbuffer args; /* [payload], or nothing when the payload is empty */
	uint64_t first_id;    /* of the batch */
	uint64_t due[PROTOCOL_PIPELINE_MAX / 64];
};

static struct dialogue *clove_dialogue_free(struct dialogue *d)
{
	if (!d)
		return NULL;
	d->clove = clove_close(d->clove);
	msgpack_sbuffer_destroy(&d->args);
	free(d);
	return NULL;
}

static void clove_dialogue_freep(struct dialogue **d)
{
	*d = clove_dialogue_free(*d);
}

static int pack_payload(msgpack_sbuffer *ret_args, uint32_t size)
{
	CLEANUP(freep) char *payload = malloc(size);
	msgpack_packer packer;

	if (!payload)
		return err_raise(-ENOMEM);
	memset(payload, 'x', size);
	msgpack_packer_init(&packer, ret_args, msgpack_sbuffer_write);
	if (msgpack_pack_array(&packer, 1) || msgpack_pack_bin(&packer, size) ||
	    msgpack_pack_bin_body(&packer, payload, size))
		return err_raise(-ENOMEM);
	return 0;
}

static int clove_dialogue_new(int fd, uint32_t size, struct dialogue **ret_dialogue)
{
	CLEANUP(clove_dialogue_freep) struct dialogue *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return err_raise(-ENOMEM);
	msgpack_sbuffer_init(&d->args);
	r = size ? pack_payload(&d->args, size) : 0;
	if (r)
		return err_trace(r);
	r = clove_adopt(fd, &d->clove);
	if (r)
		return err_trace(r);
	*ret_dialogue = TAKE(d);
	return 0;
}

static int clove_put(struct dialogue *d, uint32_t count)
{
	uint64_t id;
	int r;

	CHECK(count <= PROTOCOL_PIPELINE_MAX);
	for (uint32_t i = 0; i < count; i++) {
		r = clove_send(d->clove, WIRE_OP_NOOP, d->args.data, d->args.size, -1, &id);
		if (r)
			return err_fold(r);
		if (!i)
			d->first_id = id;
		d->due[i / 64] |= 1ull << i % 64;
	}
	return 0;
}

static const uint8_t *clove_output(const struct dialogue *d, size_t *ret_len)
{
	return clove_pending_output(d->clove, ret_len);
}

static void clove_sent(struct dialogue *d, size_t len)
{
	clove_output_sent(d->clove, len);
}

static int report_wrong(const struct clove_frame *frame, const char *what)
{
	(void)fprintf(stderr, "perf_load: clove: reply to request %llu: %s%s%.*s\n",
		      (unsigned long long)frame->id, what,
		      frame->kind == CLOVE_ERROR ? frame->error.name : "",
		      frame->kind == CLOVE_ERROR ? (int)frame->error.message_len : 0,
		      frame->kind == CLOVE_ERROR ? frame->error.message : "");
	return PROTOCOL_E_WRONG;
}

static int check_reply(struct dialogue *d, const struct clove_frame *frame)
{
	static const uint8_t nil = 0xc0;
	/* The argument follows the one byte of the array's head. */
	const uint8_t *echo = d->args.size ? (const uint8_t *)d->args.data + 1 : &nil;
	size_t echo_len = d->args.size ? d->args.size - 1 : 1;
	uint64_t i = frame->id - d->first_id;

	if (frame->kind == CLOVE_ERROR)
		return report_wrong(frame, "the error ");
	if (frame->kind != CLOVE_REPLY)
		return report_wrong(frame, "not a reply");
	if (i >= PROTOCOL_PIPELINE_MAX || !(d->due[i / 64] & 1ull << i % 64))
		return report_wrong(frame, "no such request is due");
	if (frame->op != WIRE_OP_NOOP || frame->body_len != echo_len ||
	    memcmp(frame->body, echo, echo_len))
		return report_wrong(frame, "not the echo of the argument");
	d->due[i / 64] &= ~(1ull << i % 64);
	return 0;
}

static int clove_hear(struct dialogue *d, const uint8_t *bytes, size_t len, uint32_t *ret_replies)
{
	struct clove_frame frame;
	uint32_t replies = 0;
	int r;

	r = clove_input(d->clove, bytes, len);
	if (r)
		return err_trace(r);
	for (;;) {
		r = clove_next(d->clove, &frame);
		if (r == CLOVE_E_AGAIN)
			break;
		if (r) {
			(void)fprintf(stderr, "perf_load: clove: broken framing\n");
			return PROTOCOL_E_WRONG;
		}
		r = check_reply(d, &frame);
		if (r)
			return r;
		replies++;
	}
	*ret_replies = replies;
	return 0;
}

static int read_io(const struct clove_frame *frame, char ret_io[PROTOCOL_IO_BYTES])
{
	struct cursor c = cursor_make(frame->body, frame->body_len);
	const char *key, *value;
	uint32_t pairs, key_len, value_len;

	if (frame->kind != CLOVE_REPLY || cursor_read_map(&c, &pairs))
		return PROTOCOL_E_WRONG;
	while (pairs--) {
		if (cursor_read_str(&c, &key, &key_len))
			return PROTOCOL_E_WRONG;
		if (key_len != 2 || memcmp(key, "io", 2)) {
			if (cursor_skip(&c))
				return PROTOCOL_E_WRONG;
			continue;
		}
		if (cursor_read_str(&c, &value, &value_len) || value_len >= PROTOCOL_IO_BYTES)
			return PROTOCOL_E_WRONG;
		memcpy(ret_io, value, value_len);
		ret_io[value_len] = 0;
		return 0;
	}
	return PROTOCOL_E_WRONG;
}

static int clove_ask_io(int fd, char ret_io[PROTOCOL_IO_BYTES])
{
	static const uint8_t versions[] = {0x92, 1, 1}; /* [1, 1]: lowest and highest */
	struct clove_frame frame;
	struct clove *clove;
	int r;

	r = clove_adopt(fd, &clove);
	if (r)
		return err_trace(r);
	r = clove_call(clove, WIRE_OP_HELLO, versions, sizeof(versions), 5000, &frame);
	if (!r)
		r = read_io(&frame, ret_io);
	clove = clove_close(clove);
	if (r > 0) {
		(void)fprintf(stderr, "perf_load: clove: no useful answer to HELLO\n");
		return PROTOCOL_E_WRONG;
	}
	return r;
}

const struct protocol protocol_clove = {
	.name = "clove",
	.ask_io = clove_ask_io,
	.dialogue_new = clove_dialogue_new,
	.dialogue_free = clove_dialogue_free,
	.put = clove_put,
	.output = clove_output,
	.output_sent = clove_sent,
	.input = clove_hear,
};
