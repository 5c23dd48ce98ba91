/* SPDX-License-Identifier: MIT */

#include "sdk/cli/agents.h"

#include <stdbool.h>
#include <string.h>

#include "ipc/pack.h"
#include "sdk/cli/complain.h"
#include "sdk/cli/deadline.h"
#include "sdk/cli/put.h"
#include "sdk/cli/quantity.h"
#include "sdk/cli/status.h"

enum {
	AT_ONCE = 64, /* requests in flight, of the 256 that a connection may have */
};

static const char name_prefix[] = "name:";

void agents_pack(msgpack_packer *pk, const char *operand)
{
	uint64_t id;

	if (!strncmp(operand, name_prefix, sizeof(name_prefix) - 1))
		pack_text(pk, operand + sizeof(name_prefix) - 1);
	else if (!quantity_count(operand, &id))
		pack_uint(pk, id);
	else
		pack_text(pk, operand);
}

/* The answers to one round of requests, by the place of their operands. */
struct round {
	const struct agents_call *call;
	char **operands;
	int count, answered;
	uint64_t first_id; /* of the requests, which count on from it */
	struct answer {
		bool here;
		struct buf result; /* empty: it is an error, and has been said */
		int status;        /* of such */
	} answers[AT_ONCE];
};

static void round_deinit(struct round *round)
{
	for (int i = 0; i < AT_ONCE; i++)
		buf_deinit(&round->answers[i].result);
}

static int round_send(struct round *round, struct clove *clove)
{
	int r = 0;

	for (int i = 0; i < round->count && !r; i++) {
		CLEANUP(buf_deinit) struct buf args = {0};
		msgpack_packer pk;
		uint64_t id;

		msgpack_packer_init(&pk, &args, put_packed);
		pack_array(&pk, round->call->value ? 2 : 1);
		agents_pack(&pk, round->operands[i]);
		if (round->call->value)
			pack_uint(&pk, *round->call->value);
		r = clove_send(clove, round->call->op, args.data, args.len, round->call->timeout_ms,
			       &id);
		if (!i)
			round->first_id = id;
	}
	return r ? r : clove_flush(clove);
}

/* One frame. 0 or CLOVE_E_BROKEN. */
static int round_take(struct round *round, const struct clove_frame *frame)
{
	uint64_t place = frame->id - round->first_id;
	struct answer *answer;

	if (frame->kind == CLOVE_PUSH)
		return 0;
	if (place >= (uint64_t)round->count || frame->kind == CLOVE_CHUNK)
		return CLOVE_E_BROKEN;
	answer = &round->answers[place];
	if (answer->here || (frame->kind == CLOVE_REPLY && !frame->body_len))
		return CLOVE_E_BROKEN;
	answer->here = true;
	round->answered++;
	if (frame->kind == CLOVE_REPLY) {
		put_bytes(&answer->result, frame->body, frame->body_len);
		return 0;
	}
	session_refused(round->operands[place], frame);
	answer->status = frame->error.code == WIRE_TIMEOUT && round->call->timeout_status
				 ? round->call->timeout_status
				 : complain_failure();
	return 0;
}

static int round_receive(struct round *round, struct clove *clove)
{
	uint64_t end_ns = deadline_in(round->call->timeout_ms, SESSION_MARGIN_MS);
	struct clove_frame frame;
	int r = 0;

	while (!r && round->answered < round->count) {
		r = clove_recv(clove, deadline_left_ms(end_ns), &frame);
		if (!r)
			r = round_take(round, &frame);
	}
	return r;
}

static void round_show(struct round *round, int *status)
{
	for (int i = 0; i < round->count; i++) {
		const struct buf *result = &round->answers[i].result;
		int own = round->answers[i].status;

		if (!round->answers[i].here)
			own = complain_failure();
		else if (result->len)
			own = round->call->show(round->call->arg, round->operands[i],
						cursor_make(result->data, result->len));
		if (!*status || own == complain_failure())
			*status = own;
	}
}

int agents_each(const struct settings *settings, const struct agents_call *call, char **operands,
		int count, int *ret_status)
{
	CLEANUP(clove_closep) struct clove *clove = NULL;
	int r, status = STATUS_OK;

	if (session_open(settings, &clove))
		return SESSION_E_FAILED;
	for (int done = 0; done < count; done += AT_ONCE) {
		CLEANUP(round_deinit)
		struct round round = {.call = call, .operands = operands + done};

		round.count = count - done < AT_ONCE ? count - done : AT_ONCE;
		r = round_send(&round, clove);
		if (!r)
			r = round_receive(&round, clove);
		/* What has been answered has happened, and is shown. */
		round_show(&round, &status);
		if (r) {
			session_lost(settings, r);
			return SESSION_E_FAILED;
		}
	}
	*ret_status = status;
	return 0;
}
