/* SPDX-License-Identifier: MIT */

/*
 * Calls that change state: STORE, DELETE, INCREMENT, APPEND, TRANSACT
 *
 * All are one write of the store. What it is made of is copied when it is submitted, and what the answer needs is kept
 * when it is done, so that a client which does not read keeps no values in memory.
 */

#include <stdlib.h>
#include <string.h>

#include "core/agent.h"
#include "core/call.h"
#include "core/config.h"
#include "core/kernel.h"
#include "core/request.h"
#include "core/shard.h"
#include "core/state.h"
#include "core/user.h"
#include "ipc/pack.h"

enum answer_kind {
	ANSWER_VERSION,
	ANSWER_DELETED,
	ANSWER_NUMBER,
	ANSWER_RESULTS, /* of each op */
};

enum {
	NUMBER_BYTES_MAX = 9,
};

/* What one op came to. */
struct op_result {
	bool existed;
	uint8_t number_len; /* of INCREMENT */
	uint8_t number[NUMBER_BYTES_MAX];
};

struct state_write {
	struct request request;
	struct store_write write;
	struct owner *owner; /* kept by @user */
	struct user *user;   /* a reference */
	enum answer_kind kind;
	size_t charged;
	struct fault fault;
	uint32_t count;
	struct op_result results[];
};

static struct state_write *write_of(struct request *request)
{
	return container_of(request, struct state_write, request);
}

/* ---- the request ---- */

/* What the writer has is done, whoever waits for it. */
static bool write_call_off(struct request *request)
{
	(void)request;
	return false;
}

static void write_abandon(struct request *request)
{
	(void)request;
}

static void write_uncharge(struct state_write *write, struct shard *shard)
{
	state_uncharge(shard, write->owner, write->charged);
	write->charged = 0;
}

static void write_free(struct request *request)
{
	struct state_write *write = write_of(request);

	write_uncharge(write, request->shard);
	store_write_deinit(&write->write);
	(void)user_unref(write->user);
	free(write);
}

static void pack_number(struct conn *conn, const struct op_result *result)
{
	conn_splice(conn, result->number, result->number_len);
}

static void write_answer(struct request *request)
{
	struct state_write *write = write_of(request);
	struct conn *conn = request->conn;
	msgpack_packer *pk;

	if (write->fault.code) {
		conn_reply_error(conn, request->op, request->id, &write->fault);
		return;
	}
	pk = conn_begin(conn);
	pack_map(pk, write->kind == ANSWER_VERSION ? 2 : 3);
	pack_key_uint(pk, "version", write->write.revision);
	pack_key_text(pk, "durability", state_given_name(write->write.given));
	switch (write->kind) {
	case ANSWER_VERSION:
		break;
	case ANSWER_DELETED:
		pack_key_bool(pk, "deleted", write->results[0].existed);
		break;
	case ANSWER_NUMBER:
		pack_text(pk, "value");
		pack_number(conn, &write->results[0]);
		break;
	case ANSWER_RESULTS:
		pack_text(pk, "results");
		pack_array(pk, write->count);
		for (uint32_t i = 0; i < write->count; i++) {
			pack_array(pk, 2);
			pack_bool(pk, write->results[i].existed);
			if (write->results[i].number_len)
				pack_number(conn, &write->results[i]);
			else
				(void)msgpack_pack_nil(pk);
		}
		break;
	}
	conn_end(conn, request->op, WIRE_FLAG_REPLY, request->id);
}

static const struct request_type write_type = {
	.call_off = write_call_off,
	.abandon = write_abandon,
	.answer = write_answer,
	.free = write_free,
};

/* ---- submitting ---- */

static void result_keep(const struct state_write *write, uint32_t index, struct op_result *result)
{
	struct store_entry *entry = store_write_entry(&write->write, index);
	const uint8_t *value;
	uint32_t len;

	result->existed = store_write_existed(&write->write, index);
	if (!result->number_len)
		return;
	value = store_entry_value(entry, &len);
	result->number_len = (uint8_t)len;
	memcpy(result->number, value, len);
}

static void on_written(struct store_write *store_write)
{
	struct state_write *write = container_of(store_write, struct state_write, write);

	if (write->write.result)
		(void)state_fault(write->request.shard, write->write.result, &write->write,
				  &write->fault);
	else
		for (uint32_t i = 0; i < write->count; i++)
			result_keep(write, i, &write->results[i]);
	store_write_deinit(&write->write);
	write_uncharge(write, write->request.shard);
	request_finish(&write->request);
}

/* Of the caller: its owner pays, and if it is an agent, the agent's part of that. */
enum wire_error state_payer(struct call *call, struct store_payer *ret_payer)
{
	const struct conn *conn = call->conn;
	const struct config *config = conn->shard->kernel->config;
	struct owner *owner = conn->user->owner;

	*ret_payer = (struct store_payer){.owner = owner->uid};
	if (!owner->is_operator)
		ret_payer->owner_limits =
			(struct store_limits){config->owner_state_bytes, config->owner_state_keys};
	if (!conn->is_agents)
		return WIRE_OK;
	if (!conn->spawned)
		return fault_set(&call->fault, WIRE_AGENT_NOT_FOUND, "the agent has ended");
	ret_payer->account = conn->spawned->options.home;
	ret_payer->account_len = (uint32_t)strlen(conn->spawned->options.home);
	ret_payer->account_limits =
		(struct store_limits){config->agent_state_bytes, config->agent_state_keys};
	return WIRE_OK;
}

static size_t cost_of(const struct store_op *ops, uint32_t count)
{
	size_t bytes = 0;

	for (uint32_t i = 0; i < count; i++)
		bytes += STATE_OP_COST + ops[i].key.key_len + ops[i].value_len;
	return bytes;
}

static enum wire_error write_submit(struct call *call, const struct store_op *ops, uint32_t count,
				    bool durable, enum answer_kind kind)
{
	struct conn *conn = call->conn;
	struct shard *shard = conn->shard;
	struct state_write *write;
	struct store_payer payer;
	enum wire_error code = state_payer(call, &payer);
	int r;

	if (code)
		return code;
	write = calloc(1, sizeof(*write) + count * sizeof(write->results[0]));
	if (!write)
		return fault_set(&call->fault, WIRE_BUSY, "no memory");
	code = request_start(&write->request, call, &write_type);
	if (code) {
		free(write);
		return code;
	}
	write->kind = kind;
	write->count = count;
	write->user = user_ref(conn->user);
	write->owner = conn->user->owner;
	write->write = (struct store_write){.done = on_written, .payer = payer, .durable = durable};
	for (uint32_t i = 0; i < count; i++)
		write->results[i].number_len = ops[i].verb == STORE_INCREMENT;
	if (!state_charge(conn, cost_of(ops, count), &write->fault)) {
		request_finish(&write->request);
		return WIRE_OK;
	}
	write->charged = cost_of(ops, count);
	r = store_write_submit(shard->state.client, &write->write, ops, count);
	if (r != STORE_E_PENDING) {
		(void)state_fault(shard, r, &write->write, &write->fault);
		request_finish(&write->request);
	}
	return WIRE_OK;
}

/* ---- arguments ---- */

static enum wire_error ttl_read(struct cursor at, int64_t *ret_ms, struct fault *fault)
{
	*ret_ms = 0;
	if (at.pos && (cursor_read_int(&at, ret_ms) || *ret_ms < 0 || *ret_ms > STORE_TTL_MS_MAX))
		return fault_set(
			fault, WIRE_INVALID_ARGUMENT,
			"ttl_ms: milliseconds from 0, which means for ever, to a hundred years");
	return WIRE_OK;
}

static void value_read(const struct cursor *at, struct store_op *op)
{
	op->value = at->pos;
	op->value_len = (uint32_t)(at->end - at->pos);
}

/* The key is argument 0, its scope argument @scope_arg. */
static enum wire_error op_read(struct call *call, enum store_verb verb, unsigned scope_arg,
			       unsigned ttl_arg, struct state_scopes *scopes,
			       struct store_op *ret_op)
{
	enum wire_error code = state_scopes(call, scope_arg, true, scopes);

	if (code)
		return code;
	*ret_op = (struct store_op){.verb = verb};
	ret_op->key.space = scopes->spaces[0];
	ret_op->key.key = call_bytes(call, 0, &ret_op->key.key_len);
	if (state_key_check(ret_op->key.key_len, &call->fault))
		return call->fault.code;
	return ttl_arg == STATE_NO_ARG
		       ? WIRE_OK
		       : ttl_read(call->args[ttl_arg], &ret_op->ttl_ms, &call->fault);
}

static void condition_set(struct call *call, unsigned arg, struct store_op *op)
{
	if (!call_has(call, arg))
		return;
	op->when = STORE_IF_VERSION;
	op->version = call_uint(call, arg, 0);
}

enum wire_error call_store(struct call *call)
{
	struct state_scopes scopes;
	struct store_op op;
	enum wire_error code = op_read(call, STORE_PUT, 2, 3, &scopes, &op);

	if (code)
		return code;
	value_read(&call->args[1], &op);
	condition_set(call, 5, &op);
	return write_submit(call, &op, 1, call_bool(call, 4, false), ANSWER_VERSION);
}

enum wire_error call_increment(struct call *call)
{
	struct state_scopes scopes;
	struct store_op op;
	enum wire_error code = op_read(call, STORE_INCREMENT, 2, 3, &scopes, &op);

	if (code)
		return code;
	value_read(&call->args[1], &op);
	return write_submit(call, &op, 1, call_bool(call, 4, false), ANSWER_NUMBER);
}

enum wire_error call_append(struct call *call)
{
	struct state_scopes scopes;
	struct store_op op;
	enum wire_error code = op_read(call, STORE_APPEND, 2, 3, &scopes, &op);

	if (code)
		return code;
	value_read(&call->args[1], &op);
	return write_submit(call, &op, 1, call_bool(call, 4, false), ANSWER_VERSION);
}

/* One scope; without one, of the caller's the nearest that has the key: core/call_delete.c. */
enum wire_error call_delete(struct call *call)
{
	struct state_scopes scopes;
	struct store_op op;
	enum wire_error code = state_scopes(call, 1, call_has(call, 1), &scopes);

	if (!code && scopes.count > 1)
		return state_delete_nearest(call, &scopes);
	if (!code)
		code = op_read(call, STORE_DELETE, 1, STATE_NO_ARG, &scopes, &op);
	if (code)
		return code;
	condition_set(call, 3, &op);
	return write_submit(call, &op, 1, call_bool(call, 2, false), ANSWER_DELETED);
}

/* ---- TRANSACT ---- */

enum {
	TRANSACT_PARTS_MAX = 6, /* verb, key, value, scope, ttl_ms, condition */
};

/* One transaction's ops, with what they point to. */
struct transaction {
	struct store_op *ops;
	struct state_scopes *scopes;
};

static void transaction_deinit(struct transaction *transaction)
{
	free(transaction->ops);
	free(transaction->scopes);
}

static enum wire_error part_fault(struct call *call, uint32_t index, const char *what)
{
	return fault_set(&call->fault, WIRE_INVALID_ARGUMENT, "TRANSACT: operation %u: %s", index,
			 what);
}

static bool verb_read(struct cursor *at, enum store_verb *ret_verb)
{
	static const struct {
		const char *name;
		enum store_verb verb;
	} verbs[] = {{"put", STORE_PUT},
		     {"delete", STORE_DELETE},
		     {"increment", STORE_INCREMENT},
		     {"append", STORE_APPEND},
		     {"check", STORE_CHECK}};
	const char *name;
	uint32_t len;

	if (cursor_read_str(at, &name, &len))
		return false;
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (len != strlen(verbs[i].name) || memcmp(name, verbs[i].name, len))
			continue;
		*ret_verb = verbs[i].verb;
		return true;
	}
	return false;
}

/* A version; true: exists; false: does not. */
static bool condition_read(struct cursor at, struct store_op *op)
{
	bool exists;

	if (!at.pos)
		return true;
	if (cursor_peek(&at) == CURSOR_BOOL) {
		(void)cursor_read_bool(&at, &exists);
		op->when = exists ? STORE_IF_EXISTS : STORE_IF_VERSION;
		return true;
	}
	op->when = STORE_IF_VERSION;
	return !cursor_read_uint(&at, &op->version);
}

static enum wire_error part_read(struct call *call, uint32_t index, struct cursor *body,
				 struct store_op *op, struct state_scopes *scopes)
{
	struct cursor parts[TRANSACT_PARTS_MAX] = {0};
	const uint8_t *scope = (const uint8_t *)"global";
	uint32_t count, scope_len = 6;
	bool takes_value;

	if (cursor_read_array(body, &count) || count < 2 || count > TRANSACT_PARTS_MAX)
		return part_fault(
			call, index,
			"must be an array of verb, key, and optionally value, scope, ttl_ms, condition");
	for (uint32_t i = 0; i < count; i++) {
		parts[i].pos = body->pos;
		(void)cursor_skip(body); /* was checked with the whole frame */
		parts[i].end = body->pos;
		/* A value may be nil, everything else then is absent. */
		if (i > 2 && cursor_peek(&parts[i]) == CURSOR_NIL)
			parts[i].pos = NULL;
	}
	if (!verb_read(&parts[0], &op->verb))
		return part_fault(call, index,
				  "the verb must be put, delete, increment, append or check");
	if (cursor_read_bytes(&parts[1], (const uint8_t **)&op->key.key, &op->key.key_len))
		return part_fault(call, index, "the key must be str or bin");
	if (state_key_check(op->key.key_len, &call->fault))
		return call->fault.code;
	if (parts[3].pos && cursor_read_bytes(&parts[3], &scope, &scope_len))
		return part_fault(call, index, "the scope must be str");
	if (state_scope_named(call, scope, scope_len, true, scopes))
		return call->fault.code;
	op->key.space = scopes->spaces[0];
	if (ttl_read(parts[4], &op->ttl_ms, &call->fault))
		return call->fault.code;
	if (!condition_read(parts[5], op))
		return part_fault(call, index, "the condition must be a version, true or false");
	takes_value = op->verb != STORE_DELETE && op->verb != STORE_CHECK;
	if (takes_value && !parts[2].pos)
		return part_fault(call, index, "the value is missing");
	if (takes_value)
		value_read(&parts[2], op);
	return WIRE_OK;
}

enum wire_error call_transact(struct call *call)
{
	CLEANUP(transaction_deinit) struct transaction transaction = {0};
	struct cursor body = call->args[0];
	uint32_t count = 0;

	(void)cursor_read_array(&body, &count);
	if (!count || count > LIMIT_STATE_OPS)
		return fault_set(&call->fault, count ? WIRE_TOO_LARGE : WIRE_INVALID_ARGUMENT,
				 "TRANSACT: from 1 to %d operations", LIMIT_STATE_OPS);
	transaction.ops = calloc(count, sizeof(*transaction.ops));
	transaction.scopes = calloc(count, sizeof(*transaction.scopes));
	if (!transaction.ops || !transaction.scopes)
		return fault_set(&call->fault, WIRE_BUSY, "no memory");
	for (uint32_t i = 0; i < count; i++)
		if (part_read(call, i, &body, &transaction.ops[i], &transaction.scopes[i]))
			return call->fault.code;
	return write_submit(call, transaction.ops, count, call_bool(call, 1, false),
			    ANSWER_RESULTS);
}
