/* SPDX-License-Identifier: MIT */

/*
 * WATCH: a call whose answer is a stream
 *
 * A frame for each change, as far as the output has room; what does not fit stays in the store's history, which is
 * bounded: who reads too slowly is told COMPACTED in the end. The first frame says that the watch stands.
 */

#include <stdlib.h>
#include <string.h>

#include "core/call.h"
#include "core/request.h"
#include "core/shard.h"
#include "core/state.h"
#include "core/user.h"
#include "ipc/pack.h"

struct state_watch {
	struct request request;
	struct store_watch watch;
	struct user *user; /* a reference */
	struct fault fault;
	size_t charged;
	bool open;
};

static struct state_watch *watch_of(struct request *request)
{
	return container_of(request, struct state_watch, request);
}

static void close_watch(struct state_watch *watch)
{
	if (watch->open)
		store_watch_close(&watch->watch);
	watch->open = false;
}

/* ---- the stream ---- */

static void pack_event(struct request *request, const struct store_event *event)
{
	static const char *const changes[] = {
		[STORE_CHANGED] = "stored",
		[STORE_DELETED] = "deleted",
		[STORE_EXPIRED] = "expired",
	};
	struct conn *conn = request->conn;
	msgpack_packer *pk = conn_begin(conn);
	const uint8_t *value;
	uint32_t len;

	pack_map(pk, 5);
	pack_key_uint(pk, "version", event->revision);
	pack_key_text(pk, "change", changes[event->change]);
	pack_text(pk, "key");
	pack_str(pk, (const char *)event->key, event->key_len);
	pack_text(pk, "value");
	if (event->entry) {
		value = store_entry_value(event->entry, &len);
		conn_splice(conn, value, len);
	} else {
		(void)msgpack_pack_nil(pk);
	}
	pack_key_bool(pk, "more", event->more);
	conn_end(conn, request->op, WIRE_FLAG_REPLY | WIRE_FLAG_MORE, request->id);
	shard_bound_output(request->shard);
}

/* As much as there is room for. When there is none, request_stall() has it called again. */
static void pump(struct request *request)
{
	struct state_watch *watch = watch_of(request);
	struct store_event event;
	uint32_t count;
	int r;

	for (;;) {
		if (!conn_has_room(request->conn)) {
			request_stall(request);
			return;
		}
		r = store_watch_next(&watch->watch, &event, 1, &count);
		if (r) {
			close_watch(watch);
			(void)state_fault(request->shard, r, NULL, &watch->fault);
			request_finish(request);
			return;
		}
		if (!count)
			return;
		pack_event(request, &event);
		store_event_deinit(&event);
	}
}

static void on_ready(struct store_watch *store_watch)
{
	struct state_watch *watch = container_of(store_watch, struct state_watch, watch);

	/* One that is stalled goes on by itself. */
	if (!request_is_stalled(&watch->request))
		pump(&watch->request);
}

/* ---- the request ---- */

static void watch_abandon(struct request *request)
{
	close_watch(watch_of(request));
	request_finish(request);
}

static void watch_answer(struct request *request)
{
	conn_reply_error(request->conn, request->op, request->id, &watch_of(request)->fault);
}

static void watch_free(struct request *request)
{
	struct state_watch *watch = watch_of(request);

	close_watch(watch);
	state_uncharge(request->shard, watch->user->owner, watch->charged);
	(void)user_unref(watch->user);
	free(watch);
}

static const struct request_type watch_type = {
	.abandon = watch_abandon,
	.answer = watch_answer,
	.free = watch_free,
	.resume = pump,
};

static void established(struct call *call)
{
	(void)msgpack_pack_nil(conn_begin(call->conn));
	conn_end(call->conn, call->def->op, WIRE_FLAG_REPLY | WIRE_FLAG_MORE, call->id);
}

enum wire_error call_watch(struct call *call)
{
	struct conn *conn = call->conn;
	struct state_scopes scopes;
	struct state_watch *watch;
	struct store_key key;
	bool prefix = call_bool(call, 2, false);
	uint64_t after = call_uint(call, 3, STORE_WATCH_NOW);
	enum wire_error code = state_scopes(call, 1, true, &scopes);
	int r;

	key.key = call_bytes(call, 0, &key.key_len);
	if (!code)
		code = prefix ? state_prefix_check(key.key_len, &call->fault)
			      : state_key_check(key.key_len, &call->fault);
	if (code)
		return code;
	watch = calloc(1, sizeof(*watch));
	if (!watch)
		return fault_set(&call->fault, WIRE_BUSY, "no memory");
	code = request_start(&watch->request, call, &watch_type);
	if (code) {
		free(watch);
		return code;
	}
	watch->user = user_ref(conn->user);
	watch->watch.ready = on_ready;
	key.space = scopes.spaces[0];
	if (!state_charge(conn, sizeof(*watch) + key.key_len, &watch->fault)) {
		request_finish(&watch->request);
		return WIRE_OK;
	}
	watch->charged = sizeof(*watch) + key.key_len;
	if (call_has(call, 3) && after == STORE_WATCH_NOW)
		after--; /* as far from any that was given */
	r = store_watch_open(conn->shard->state.client, &watch->watch, &key, prefix, after);
	if (r) {
		(void)state_fault(conn->shard, r, NULL, &watch->fault);
		request_finish(&watch->request);
		return WIRE_OK;
	}
	watch->open = true;
	established(call);
	pump(&watch->request);
	return WIRE_OK;
}
