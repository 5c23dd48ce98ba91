/* SPDX-License-Identifier: MIT */

/*
 * DELETE without a scope: what FETCH without one would have found
 *
 * A read of all the caller's scopes, then the deletion of the nearest, on condition that it still is what was read. Each
 * time somebody changed it in between, both are done again.
 */

#include <stdlib.h>
#include <string.h>

#include "core/request.h"
#include "core/shard.h"
#include "core/state.h"
#include "core/user.h"
#include "ipc/pack.h"

enum {
	TRIES = 16,
};

struct state_delete {
	struct request request;
	struct store_get get;
	struct store_write write;
	struct user *user; /* a reference */
	struct fault fault;
	size_t charged;
	struct state_scopes scopes; /* their names, and the payer's account, are in @names */
	struct store_payer payer;
	bool durable, conditional, deleted;
	uint64_t condition;
	unsigned tries;
	char names[STATE_SCOPES_MAX][STORE_NAME_MAX];
	char account[STORE_NAME_MAX];
	uint32_t key_len;
	uint8_t key[];
};

static struct state_delete *delete_of(struct request *request)
{
	return container_of(request, struct state_delete, request);
}

static bool delete_call_off(struct request *request)
{
	(void)request;
	return false;
}

static void delete_abandon(struct request *request)
{
	(void)request;
}

static void delete_answer(struct request *request)
{
	const struct state_delete *deletion = delete_of(request);
	struct conn *conn = request->conn;
	msgpack_packer *pk;

	if (deletion->fault.code) {
		conn_reply_error(conn, request->op, request->id, &deletion->fault);
		return;
	}
	pk = conn_begin(conn);
	pack_map(pk, 3);
	pack_key_uint(pk, "version", deletion->write.revision);
	pack_key_text(pk, "durability", state_given_name(deletion->write.given));
	pack_key_bool(pk, "deleted", deletion->deleted);
	conn_end(conn, request->op, WIRE_FLAG_REPLY, request->id);
}

static void delete_free(struct request *request)
{
	struct state_delete *deletion = delete_of(request);

	state_uncharge(request->shard, deletion->user->owner, deletion->charged);
	(void)user_unref(deletion->user);
	free(deletion);
}

static const struct request_type delete_type = {
	.call_off = delete_call_off,
	.abandon = delete_abandon,
	.answer = delete_answer,
	.free = delete_free,
};

static void look(struct state_delete *deletion);

static void end(struct state_delete *deletion, int r)
{
	if (r)
		(void)state_fault(deletion->request.shard, r, &deletion->write, &deletion->fault);
	request_finish(&deletion->request);
}

static void on_deleted(struct store_write *write)
{
	struct state_delete *deletion = container_of(write, struct state_delete, write);
	int r = write->result;

	deletion->deleted = !r && store_write_existed(write, 0);
	store_write_deinit(write);
	if (r == STORE_E_CONFLICT && !deletion->conditional)
		look(deletion);
	else
		end(deletion, r);
}

/* Also when there is nothing to delete: so that the answer has a version, and comes in its order. */
static void delete_in(struct state_delete *deletion, uint32_t scope, uint64_t version)
{
	struct store_op op = {
		.key = {.space = deletion->scopes.spaces[scope],
			.key = deletion->key,
			.key_len = deletion->key_len},
		.verb = STORE_DELETE,
		.when = STORE_IF_VERSION,
		.version = deletion->conditional ? deletion->condition : version,
	};
	int r;

	deletion->write = (struct store_write){
		.done = on_deleted, .payer = deletion->payer, .durable = deletion->durable};
	r = store_write_submit(deletion->request.shard->state.client, &deletion->write, &op, 1);
	if (r != STORE_E_PENDING)
		end(deletion, r);
}

static void on_looked(struct store_get *get)
{
	struct state_delete *deletion = container_of(get, struct state_delete, get);
	uint32_t scope = 0;
	uint64_t version;
	int r = get->result;

	while (!r && scope < get->count - 1 && !get->entries[scope])
		scope++;
	version = !r && get->entries[scope] ? store_entry_version(get->entries[scope]) : 0;
	store_get_deinit(get);
	if (r)
		end(deletion, r);
	else
		delete_in(deletion, scope, version);
}

static void look(struct state_delete *deletion)
{
	struct store_key keys[STATE_SCOPES_MAX];
	int r = STORE_E_BUSY;

	for (uint32_t i = 0; i < deletion->scopes.count; i++)
		keys[i] = (struct store_key){.space = deletion->scopes.spaces[i],
					     .key = deletion->key,
					     .key_len = deletion->key_len};
	deletion->get = (struct store_get){.done = on_looked};
	if (deletion->tries++ < TRIES)
		r = store_get_submit(deletion->request.shard->state.client, &deletion->get, keys,
				     deletion->scopes.count);
	if (!r)
		on_looked(&deletion->get);
	else if (r != STORE_E_PENDING)
		end(deletion, r);
}

/* What may go before the work is done. */
static void names_keep(struct state_delete *deletion, const struct state_scopes *scopes)
{
	deletion->scopes = *scopes;
	for (uint32_t i = 0; i < scopes->count; i++) {
		struct store_space *space = &deletion->scopes.spaces[i];

		if (space->name_len)
			memcpy(deletion->names[i], space->name, space->name_len);
		space->name = deletion->names[i];
	}
	if (deletion->payer.account_len)
		memcpy(deletion->account, deletion->payer.account, deletion->payer.account_len);
	deletion->payer.account = deletion->account;
}

enum wire_error state_delete_nearest(struct call *call, const struct state_scopes *scopes)
{
	uint32_t key_len;
	const uint8_t *key = call_bytes(call, 0, &key_len);
	struct state_delete *deletion;
	enum wire_error code = state_key_check(key_len, &call->fault);

	if (code)
		return code;
	deletion = calloc(1, sizeof(*deletion) + key_len);
	if (!deletion)
		return fault_set(&call->fault, WIRE_BUSY, "no memory");
	code = state_payer(call, &deletion->payer);
	if (!code)
		code = request_start(&deletion->request, call, &delete_type);
	if (code) {
		free(deletion);
		return code;
	}
	deletion->user = user_ref(call->conn->user);
	deletion->durable = call_bool(call, 2, false);
	deletion->conditional = call_has(call, 3);
	deletion->condition = call_uint(call, 3, 0);
	deletion->key_len = key_len;
	memcpy(deletion->key, key, key_len);
	names_keep(deletion, scopes);
	if (!state_charge(call->conn, STATE_OP_COST + key_len, &deletion->fault)) {
		request_finish(&deletion->request);
		return WIRE_OK;
	}
	deletion->charged = STATE_OP_COST + key_len;
	look(deletion);
	return WIRE_OK;
}
