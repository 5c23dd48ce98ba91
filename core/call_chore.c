/* SPDX-License-Identifier: MIT */

/*
 * Calls about the store as a whole: STATE_USAGE, BACKUP, RESTORE, VERIFY
 */

#include <stdlib.h>
#include <string.h>

#include "core/agent.h"
#include "core/call.h"
#include "core/request.h"
#include "core/shard.h"
#include "core/state.h"
#include "core/user.h"
#include "ipc/pack.h"

struct state_chore {
	struct request request;
	struct store_chore chore;
	struct store_limits limits; /* of USAGE */
	struct fault fault;
	char account[STORE_NAME_MAX];
	char path[LIMIT_PATH_BYTES + 1];
};

static struct state_chore *chore_of(struct request *request)
{
	return container_of(request, struct state_chore, request);
}

static bool chore_call_off(struct request *request)
{
	return chore_of(request)->chore.kind == STORE_USAGE ||
	       chore_of(request)->chore.kind == STORE_VERIFY;
}

static void chore_abandon(struct request *request)
{
	(void)request;
}

static void pack_limit(msgpack_packer *pk, const char *key, uint64_t limit)
{
	pack_text(pk, key);
	if (limit)
		pack_uint(pk, limit);
	else
		(void)msgpack_pack_nil(pk);
}

static void chore_answer(struct request *request)
{
	const struct state_chore *chore = chore_of(request);
	struct conn *conn = request->conn;
	msgpack_packer *pk;

	if (chore->fault.code) {
		conn_reply_error(conn, request->op, request->id, &chore->fault);
		return;
	}
	pk = conn_begin(conn);
	if (chore->chore.kind == STORE_USAGE || chore->chore.kind == STORE_VERIFY) {
		pack_map(pk, chore->chore.kind == STORE_USAGE ? 4 : 2);
		pack_key_uint(pk, "bytes", chore->chore.bytes);
		pack_key_uint(pk, "keys", chore->chore.keys);
	} else {
		(void)msgpack_pack_nil(pk);
	}
	if (chore->chore.kind == STORE_USAGE) {
		pack_limit(pk, "bytes_max", chore->limits.bytes);
		pack_limit(pk, "keys_max", chore->limits.keys);
	}
	conn_end(conn, request->op, WIRE_FLAG_REPLY, request->id);
}

static void chore_free(struct request *request)
{
	free(chore_of(request));
}

static const struct request_type chore_type = {
	.call_off = chore_call_off,
	.abandon = chore_abandon,
	.answer = chore_answer,
	.free = chore_free,
};

static void chore_fault(struct state_chore *chore, int r)
{
	switch (r) {
	case STORE_E_DAMAGED:
	case STORE_E_CORRUPT:
	case STORE_E_NEWER:
		(void)fault_set(&chore->fault, WIRE_STORE_DAMAGED, "%s", chore->chore.text);
		break;
	case STORE_E_FAILED:
		(void)fault_set(&chore->fault, WIRE_STORE_FAILED, "%s", chore->chore.text);
		break;
	case STORE_E_BUSY:
		(void)fault_set(&chore->fault, WIRE_BUSY,
				"a backup, restore or verification is at work; try again later");
		break;
	default:
		(void)state_fault(chore->request.shard, r, NULL, &chore->fault);
	}
}

static void on_chore(struct store_chore *store_chore)
{
	struct state_chore *chore = container_of(store_chore, struct state_chore, chore);

	if (chore->chore.result)
		chore_fault(chore, chore->chore.result);
	request_finish(&chore->request);
}

static enum wire_error path_read(struct call *call, struct state_chore *chore)
{
	uint32_t len;
	const uint8_t *path = call_bytes(call, 0, &len);

	if (!len || len > LIMIT_PATH_BYTES || memchr(path, 0, len) || *path != '/')
		return fault_set(&call->fault, WIRE_INVALID_ARGUMENT,
				 "path: absolute, at most %d bytes, without NUL", LIMIT_PATH_BYTES);
	memcpy(chore->path, path, len);
	chore->chore.path = chore->path;
	return WIRE_OK;
}

static enum wire_error usage_read(struct call *call, struct state_chore *chore)
{
	struct store_payer payer;

	if (state_payer(call, &payer))
		return call->fault.code;
	chore->chore.owner = payer.owner;
	chore->limits = payer.owner_limits;
	if (payer.account_len) {
		memcpy(chore->account, payer.account, payer.account_len);
		chore->chore.account = chore->account;
		chore->chore.account_len = payer.account_len;
		chore->limits = payer.account_limits;
	}
	return WIRE_OK;
}

static enum wire_error chore_submit(struct call *call, enum store_chore_kind kind)
{
	struct state_chore *chore;
	enum wire_error code = WIRE_OK;
	int r;

	if (kind != STORE_USAGE && !conn_is_operator(call->conn))
		return fault_set(&call->fault, WIRE_PERMISSION_DENIED,
				 "%s is for clients of root and of the kernel's own user",
				 call->def->name);
	chore = calloc(1, sizeof(*chore));
	if (!chore)
		return fault_set(&call->fault, WIRE_BUSY, "no memory");
	chore->chore = (struct store_chore){.done = on_chore, .kind = kind};
	if (kind == STORE_USAGE)
		code = usage_read(call, chore);
	else if (kind != STORE_VERIFY)
		code = path_read(call, chore);
	if (!code)
		code = request_start(&chore->request, call, &chore_type);
	if (code) {
		free(chore);
		return code;
	}
	r = store_chore_submit(call->conn->shard->state.client, &chore->chore);
	if (r != STORE_E_PENDING) {
		chore_fault(chore, r);
		request_finish(&chore->request);
	}
	return WIRE_OK;
}

enum wire_error call_state_usage(struct call *call)
{
	return chore_submit(call, STORE_USAGE);
}

enum wire_error call_backup(struct call *call)
{
	return chore_submit(call, STORE_BACKUP);
}

enum wire_error call_restore(struct call *call)
{
	return chore_submit(call, STORE_RESTORE);
}

enum wire_error call_verify(struct call *call)
{
	return chore_submit(call, STORE_VERIFY);
}
