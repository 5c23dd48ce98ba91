/* SPDX-License-Identifier: MIT */

/*
 * Calls that read state: FETCH, FETCH_MANY, KEYS, SCAN
 *
 * What the store has in memory is answered at once; the rest becomes a request. Without a scope, a key is looked for in
 * all the caller's scopes as of one moment, and the nearest counts.
 */

#include <stdlib.h>
#include <string.h>

#include "core/base/cleanup.h"
#include "core/call.h"
#include "core/kernel.h"
#include "core/request.h"
#include "core/shard.h"
#include "core/state.h"
#include "core/user.h"
#include "ipc/pack.h"

struct state_read {
	struct request request;
	struct user *user; /* a reference, once it is a request */
	struct fault fault;
	size_t charged;
	struct store_get get;
	struct store_scan scan;
	uint32_t scope_count; /* keys of @get that stand for one */
	enum store_scope scopes[STATE_SCOPES_MAX];
	bool many;
};

static struct state_read *read_of(struct request *request)
{
	return container_of(request, struct state_read, request);
}

/* ---- answers ---- */

static void pack_value(struct conn *conn, const struct store_entry *entry)
{
	uint32_t len;
	const uint8_t *value = store_entry_value(entry, &len);

	conn_splice(conn, value, len);
}

static void pack_expiry(msgpack_packer *pk, const struct store_entry *entry)
{
	int64_t expiry_ms = store_entry_expiry_ms(entry);

	if (expiry_ms)
		(void)msgpack_pack_double(pk, (double)expiry_ms / 1000);
	else
		(void)msgpack_pack_nil(pk);
}

/* The nearest of those that stand for key @index; NULL: absent. */
static struct store_entry *nearest(const struct state_read *read, uint32_t index,
				   enum store_scope *ret_scope)
{
	struct store_entry **entries = read->get.entries + (size_t)index * read->scope_count;

	for (uint32_t i = 0; i < read->scope_count; i++) {
		if (!entries[i])
			continue;
		*ret_scope = read->scopes[i];
		return entries[i];
	}
	return NULL;
}

static void pack_fetched(const struct state_read *read, struct conn *conn, msgpack_packer *pk)
{
	enum store_scope scope = STORE_GLOBAL;
	const struct store_entry *entry = nearest(read, 0, &scope);

	if (!entry) {
		pack_map(pk, 3);
		pack_key_uint(pk, "revision", read->get.revision);
		pack_key_bool(pk, "found", false);
		pack_text(pk, "value");
		(void)msgpack_pack_nil(pk);
		return;
	}
	pack_map(pk, 6);
	pack_key_uint(pk, "revision", read->get.revision);
	pack_key_bool(pk, "found", true);
	pack_text(pk, "value");
	pack_value(conn, entry);
	pack_key_uint(pk, "version", store_entry_version(entry));
	pack_key_text(pk, "scope", state_scope_name(scope));
	pack_text(pk, "expires_at");
	pack_expiry(pk, entry);
}

static void pack_many(const struct state_read *read, struct conn *conn, msgpack_packer *pk)
{
	const uint32_t count = read->get.count / read->scope_count;

	pack_map(pk, 2);
	pack_key_uint(pk, "revision", read->get.revision);
	pack_text(pk, "values");
	pack_array(pk, count);
	for (uint32_t i = 0; i < count; i++) {
		enum store_scope scope = STORE_GLOBAL;
		const struct store_entry *entry = nearest(read, i, &scope);

		if (!entry) {
			(void)msgpack_pack_nil(pk);
			continue;
		}
		pack_array(pk, 4);
		pack_value(conn, entry);
		pack_uint(pk, store_entry_version(entry));
		pack_text(pk, state_scope_name(scope));
		pack_expiry(pk, entry);
	}
}

static void pack_scanned(const struct state_read *read, struct conn *conn, msgpack_packer *pk)
{
	const struct store_scan *scan = &read->scan;

	pack_map(pk, 3);
	pack_text(pk, scan->keys_only ? "keys" : "items");
	pack_array(pk, scan->count);
	for (uint32_t i = 0; i < scan->count; i++) {
		const struct store_row *row = &scan->rows[i];

		if (!scan->keys_only)
			pack_array(pk, 3);
		pack_str(pk, (const char *)row->key, row->key_len);
		if (scan->keys_only)
			continue;
		pack_value(conn, row->entry);
		pack_uint(pk, store_entry_version(row->entry));
	}
	pack_text(pk, "cursor");
	if (scan->more)
		pack_bin(pk, scan->next_cursor, scan->next_cursor_len);
	else
		(void)msgpack_pack_nil(pk);
	pack_key_uint(pk, "revision", scan->revision);
}

static void answer(const struct state_read *read, struct conn *conn, uint16_t op, uint64_t id)
{
	msgpack_packer *pk;

	if (read->fault.code) {
		conn_reply_error(conn, op, id, &read->fault);
		return;
	}
	pk = conn_begin(conn);
	if (op == WIRE_OP_KEYS || op == WIRE_OP_SCAN)
		pack_scanned(read, conn, pk);
	else if (read->many)
		pack_many(read, conn, pk);
	else
		pack_fetched(read, conn, pk);
	conn_end(conn, op, WIRE_FLAG_REPLY, id);
}

/* ---- the request ---- */

static void results_free(struct state_read *read)
{
	store_get_deinit(&read->get);
	store_scan_deinit(&read->scan);
}

static void read_abandon(struct request *request)
{
	(void)request;
}

static void read_answer(struct request *request)
{
	answer(read_of(request), request->conn, request->op, request->id);
}

/* One is kept for the next call: most calls are answered at once. */
static void read_recycle(struct state_read *read, struct shard *shard)
{
	results_free(read);
	if (shard->state.spare) {
		free(read);
		return;
	}
	shard->state.spare = read;
}

static void read_free(struct request *request)
{
	struct state_read *read = read_of(request);

	state_uncharge(request->shard, read->user->owner, read->charged);
	read->user = user_unref(read->user);
	read_recycle(read, request->shard);
}

static size_t read_weight(struct request *request)
{
	const struct state_read *read = read_of(request);
	size_t bytes = 0;
	uint32_t len;

	for (uint32_t i = 0; i < read->get.count; i++) {
		if (!read->get.entries[i])
			continue;
		(void)store_entry_value(read->get.entries[i], &len);
		bytes += len;
	}
	for (uint32_t i = 0; i < read->scan.count; i++) {
		len = 0;
		if (read->scan.rows[i].entry)
			(void)store_entry_value(read->scan.rows[i].entry, &len);
		bytes += len + read->scan.rows[i].key_len;
	}
	return bytes;
}

static void read_shed(struct request *request)
{
	struct state_read *read = read_of(request);

	results_free(read);
	(void)fault_set(&read->fault, WIRE_BUSY,
			"too many answers wait to be read; read them, then ask again");
}

static const struct request_type read_type = {
	.abandon = read_abandon,
	.answer = read_answer,
	.free = read_free,
	.weight = read_weight,
	.shed = read_shed,
};

static void finish(struct state_read *read, int r)
{
	if (r)
		(void)state_fault(read->request.shard, r, NULL, &read->fault);
	request_finish(&read->request);
}

static void on_got(struct store_get *get)
{
	finish(container_of(get, struct state_read, get), get->result);
}

static void on_scanned(struct store_scan *scan)
{
	finish(container_of(scan, struct state_read, scan), scan->result);
}

static struct state_read *read_new(struct call *call)
{
	struct state *state = &call->conn->shard->state;
	struct state_read *read = state->spare;

	state->spare = NULL;
	if (!read)
		read = malloc(sizeof(*read));
	if (!read) {
		(void)fault_set(&call->fault, WIRE_BUSY, "no memory");
		return NULL;
	}
	read->fault.code = WIRE_OK;
	read->user = NULL;
	read->charged = 0;
	read->get = (struct store_get){.done = on_got};
	read->scan = (struct store_scan){.done = on_scanned};
	read->many = false;
	return read;
}

/*
 * Before the store has it. Frees @read unless it returns WIRE_OK; then @ret_go says whether to go on, or whether it
 * was finished with a fault.
 */
static enum wire_error begin(struct call *call, struct state_read *read, size_t bytes, bool *ret_go)
{
	enum wire_error code = request_start(&read->request, call, &read_type);

	if (code) {
		read_recycle(read, call->conn->shard);
		return code;
	}
	read->user = user_ref(call->conn->user);
	*ret_go = state_charge(call->conn, bytes, &read->fault);
	if (*ret_go)
		read->charged = bytes;
	else
		request_finish(&read->request);
	return WIRE_OK;
}

/* ---- FETCH ---- */

static enum wire_error get_submit(struct call *call, struct state_read *read,
				  const struct store_key *keys, uint32_t count, size_t bytes)
{
	struct shard *shard = call->conn->shard;
	enum wire_error code;
	bool go;
	int r;

	/* What is in memory takes no request. */
	read->get.memory_only = true;
	r = store_get_submit(shard->state.client, &read->get, keys, count);
	if (r != STORE_E_PENDING) {
		code = r ? state_fault(shard, r, NULL, &call->fault) : WIRE_OK;
		if (!code)
			answer(read, call->conn, call->def->op, call->id);
		read_recycle(read, shard);
		return code;
	}
	code = begin(call, read, bytes, &go);
	if (code || !go)
		return code;
	read->get.memory_only = false;
	r = store_get_submit(shard->state.client, &read->get, keys, count);
	if (r != STORE_E_PENDING)
		finish(read, r);
	return WIRE_OK;
}

static void scopes_keep(struct state_read *read, const struct state_scopes *scopes)
{
	read->scope_count = scopes->count;
	for (uint32_t i = 0; i < scopes->count; i++)
		read->scopes[i] = scopes->spaces[i].scope;
}

enum wire_error call_fetch(struct call *call)
{
	struct store_key keys[STATE_SCOPES_MAX];
	struct state_scopes scopes;
	struct state_read *read;
	const uint8_t *key;
	uint32_t key_len;
	enum wire_error code = state_scopes(call, 1, false, &scopes);

	if (code)
		return code;
	key = call_bytes(call, 0, &key_len);
	code = state_key_check(key_len, &call->fault);
	if (code)
		return code;
	read = read_new(call);
	if (!read)
		return call->fault.code;
	scopes_keep(read, &scopes);
	for (uint32_t i = 0; i < scopes.count; i++)
		keys[i] = (struct store_key){
			.space = scopes.spaces[i], .key = key, .key_len = key_len};
	return get_submit(call, read, keys, scopes.count, STATE_OP_COST + key_len);
}

enum wire_error call_fetch_many(struct call *call)
{
	CLEANUP(freep) struct store_key *keys = NULL;
	struct cursor body = call->args[0];
	struct state_scopes scopes;
	struct state_read *read;
	size_t bytes = 0;
	uint32_t count;
	enum wire_error code = state_scopes(call, 1, false, &scopes);

	if (code)
		return code;
	(void)cursor_read_array(&body, &count);
	if (!count || count > LIMIT_STATE_OPS / scopes.count)
		return fault_set(&call->fault, count ? WIRE_TOO_LARGE : WIRE_INVALID_ARGUMENT,
				 "FETCH_MANY: from 1 to %u keys in as many scopes",
				 LIMIT_STATE_OPS / scopes.count);
	keys = malloc((size_t)count * scopes.count * sizeof(*keys));
	if (!keys)
		return fault_set(&call->fault, WIRE_BUSY, "no memory");
	for (uint32_t i = 0; i < count; i++) {
		struct store_key *key = &keys[(size_t)i * scopes.count];

		if (cursor_read_bytes(&body, (const uint8_t **)&key->key, &key->key_len))
			return fault_set(&call->fault, WIRE_INVALID_ARGUMENT,
					 "FETCH_MANY: key %u must be str or bin", i);
		if (state_key_check(key->key_len, &call->fault))
			return call->fault.code;
		for (uint32_t j = 0; j < scopes.count; j++) {
			key[j] = key[0];
			key[j].space = scopes.spaces[j];
		}
		bytes += STATE_OP_COST + (size_t)scopes.count * key->key_len;
	}
	read = read_new(call);
	if (!read)
		return call->fault.code;
	read->many = true;
	scopes_keep(read, &scopes);
	return get_submit(call, read, keys, count * scopes.count, bytes);
}

/* ---- KEYS, SCAN ---- */

/* Arguments: prefix, scope, limit, cursor. */
static enum wire_error scan_submit(struct call *call, bool keys_only)
{
	uint64_t limit = call_uint(call, 2, 0);
	struct state_scopes scopes;
	struct state_read *read;
	const uint8_t *prefix;
	uint32_t prefix_len = 0;
	bool go;
	int r;
	enum wire_error code = state_scopes(call, 1, false, &scopes);

	if (code)
		return code;
	prefix = call_bytes(call, 0, &prefix_len);
	code = state_prefix_check(prefix_len, &call->fault);
	if (code)
		return code;
	read = read_new(call);
	if (!read)
		return call->fault.code;
	code = begin(call, read, STATE_OP_COST, &go);
	if (code || !go)
		return code;
	read->scan.keys_only = keys_only;
	read->scan.limit = limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX;
	read->scan.prefix = prefix;
	read->scan.prefix_len = prefix_len;
	read->scan.cursor = call_bytes(call, 3, &read->scan.cursor_len);
	/* The last is global: a scan without a scope is of what all of the owner's share. */
	r = store_scan_submit(call->conn->shard->state.client, &read->scan,
			      &scopes.spaces[scopes.count - 1]);
	if (r != STORE_E_PENDING)
		finish(read, r);
	return WIRE_OK;
}

enum wire_error call_keys(struct call *call)
{
	return scan_submit(call, true);
}

enum wire_error call_scan(struct call *call)
{
	return scan_submit(call, false);
}
