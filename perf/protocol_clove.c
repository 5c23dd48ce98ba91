/* SPDX-License-Identifier: MIT */

/*
 * Clove: NOOP, STORE and FETCH through libclove, without its socket functions
 *
 * Replies may come out of order, so a batch is checked by a set of the ids that are due. NOOP must bring the argument back
 * byte for byte, STORE the durability that was asked for, FETCH the key's value.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <msgpack.h>

#include "core/base/buf.h"
#include "core/base/check.h"
#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "ipc/cursor.h"
#include "perf/protocol.h"
#include "sdk/c/clove.h"

struct dialogue {
	struct clove *clove;
	struct work *work;
	uint64_t first_id; /* of the batch */
	uint64_t due[PROTOCOL_PIPELINE_MAX / 64];
	struct ask asks[PROTOCOL_PIPELINE_MAX]; /* by id */
};

/* Arguments of one request; libclove copies them. Kept, for its memory. */
static struct buf scratch;

static struct dialogue *clove_dialogue_free(struct dialogue *d)
{
	if (!d)
		return NULL;
	d->clove = clove_close(d->clove);
	free(d);
	return NULL;
}

static int clove_dialogue_new(int fd, struct work *work, struct dialogue **ret_dialogue)
{
	CLEANUP(freep) struct dialogue *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return err_raise(-ENOMEM);
	d->work = work;
	r = clove_adopt(fd, &d->clove);
	if (r)
		return err_trace(r);
	*ret_dialogue = TAKE(d);
	return 0;
}

/* ---- arguments ---- */

static int write_scratch(void *buf, const char *bytes, size_t len)
{
	return buf_append(buf, bytes, len);
}

/* Room for @size bytes of a str or bin whose head was packed. */
static uint8_t *grow(struct buf *args, uint32_t size)
{
	if (buf_reserve(args, size))
		return NULL;
	args->len += size;
	return args->data + args->len - size;
}

/* [payload] */
static int pack_echo(const struct work *work, msgpack_packer *packer)
{
	uint8_t *payload;

	if (msgpack_pack_array(packer, 1) || msgpack_pack_bin(packer, work->size))
		return err_raise(-ENOMEM);
	payload = grow(&scratch, work->size);
	if (!payload)
		return err_raise(-ENOMEM);
	memset(payload, 'x', work->size);
	return 0;
}

/* [key] or, to store, [key, value] or [key, value, nil, nil, true] */
static int pack_key(const struct work *work, const struct ask *ask, msgpack_packer *packer)
{
	const bool stores = ask->kind == ASK_STORE;
	uint8_t *to;

	if (msgpack_pack_array(packer, !stores         ? 1
				       : work->durable ? 5
						       : 2) ||
	    msgpack_pack_str(packer, WORK_KEY_BYTES))
		return err_raise(-ENOMEM);
	to = grow(&scratch, WORK_KEY_BYTES);
	if (!to)
		return err_raise(-ENOMEM);
	work_write_key(work, ask->key, to);
	if (!stores)
		return 0;
	if (msgpack_pack_bin(packer, work->size))
		return err_raise(-ENOMEM);
	to = grow(&scratch, work->size);
	if (!to)
		return err_raise(-ENOMEM);
	work_write_value(work, ask->key, to);
	if (work->durable &&
	    (msgpack_pack_nil(packer) || msgpack_pack_nil(packer) || msgpack_pack_true(packer)))
		return err_raise(-ENOMEM);
	return 0;
}

static int send_ask(struct dialogue *d, const struct ask *ask, uint64_t *ret_id)
{
	static const uint16_t ops[] = {
		[ASK_ECHO] = WIRE_OP_NOOP,
		[ASK_STORE] = WIRE_OP_STORE,
		[ASK_FETCH] = WIRE_OP_FETCH,
	};
	msgpack_packer packer;
	int r = 0;

	scratch.len = 0;
	msgpack_packer_init(&packer, &scratch, write_scratch);
	if (ask->kind != ASK_ECHO)
		r = pack_key(d->work, ask, &packer);
	else if (d->work->size)
		r = pack_echo(d->work, &packer);
	if (r)
		return r;
	return err_fold(
		clove_send(d->clove, ops[ask->kind], scratch.data, scratch.len, -1, ret_id));
}

static int clove_put(struct dialogue *d, const struct ask *asks, uint32_t count)
{
	uint64_t id;
	int r;

	CHECK(count <= PROTOCOL_PIPELINE_MAX);
	for (uint32_t i = 0; i < count; i++) {
		r = send_ask(d, &asks[i], &id);
		if (r)
			return r;
		if (!i)
			d->first_id = id;
		d->due[i / 64] |= 1ull << i % 64;
		d->asks[i] = asks[i];
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

/* ---- replies ---- */

static bool is_echo(const struct work *work, const struct clove_frame *frame)
{
	struct cursor body = clove_body(frame);
	const uint8_t *bytes;
	uint32_t len;

	if (!work->size)
		return cursor_peek(&body) == CURSOR_NIL;
	if (cursor_read_bytes(&body, &bytes, &len) || len != work->size)
		return false;
	/* All bytes are the first one, and that is right. */
	return *bytes == 'x' && !memcmp(bytes, bytes + 1, len - 1);
}

static bool is_stored(const struct work *work, const struct clove_frame *frame)
{
	static const char synced[] = "synced";
	const uint8_t *durability;
	uint32_t len;

	if (clove_map_bytes(clove_body(frame), "durability", &durability, &len))
		return false;
	return !work->durable || (len == sizeof(synced) - 1 && !memcmp(durability, synced, len));
}

static bool is_fetched(const struct work *work, uint64_t key, const struct clove_frame *frame)
{
	const uint8_t *value;
	uint32_t len;

	return !clove_map_bytes(clove_body(frame), "value", &value, &len) &&
	       work_is_value(work, key, value, len);
}

static int check_reply(struct dialogue *d, const struct clove_frame *frame, struct heard *heard)
{
	uint64_t i = frame->id - d->first_id;
	const struct ask *ask;

	if (frame->kind != CLOVE_REPLY && frame->kind != CLOVE_ERROR)
		return report_wrong(frame, "not a reply");
	if (i >= PROTOCOL_PIPELINE_MAX || !(d->due[i / 64] & 1ull << i % 64))
		return report_wrong(frame, "no such request is due");
	d->due[i / 64] &= ~(1ull << i % 64);
	ask = &d->asks[i];
	heard->replies++;
	if (frame->kind == CLOVE_ERROR && frame->error.code == WIRE_BUSY) {
		heard->refused++;
		return work_return(d->work, ask);
	}
	if (frame->kind == CLOVE_ERROR)
		return report_wrong(frame, "the error ");
	switch (ask->kind) {
	case ASK_ECHO:
		return is_echo(d->work, frame) ? 0 : report_wrong(frame, "not the echo");
	case ASK_STORE:
		return is_stored(d->work, frame) ? 0 : report_wrong(frame, "not as durable");
	case ASK_FETCH:
		return is_fetched(d->work, ask->key, frame)
			       ? 0
			       : report_wrong(frame, "not the value of the key");
	}
	return 0;
}

static int clove_hear(struct dialogue *d, const uint8_t *bytes, size_t len, struct heard *ret_heard)
{
	struct clove_frame frame;
	int r;

	*ret_heard = (struct heard){0};
	r = clove_input(d->clove, bytes, len);
	if (r)
		return err_trace(r);
	for (;;) {
		r = clove_next(d->clove, &frame);
		if (r == CLOVE_E_AGAIN)
			return 0;
		if (r) {
			(void)fprintf(stderr, "perf_load: clove: broken framing\n");
			return PROTOCOL_E_WRONG;
		}
		r = check_reply(d, &frame, ret_heard);
		if (r)
			return r;
	}
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
