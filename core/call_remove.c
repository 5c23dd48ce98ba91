/* SPDX-License-Identifier: MIT */

/*
 * REMOVE: the caller's side of removal.c
 */

#include <stdlib.h>
#include <string.h>

#include "core/call_agent.h"
#include "core/kernel.h"
#include "core/removal.h"
#include "core/shard.h"
#include "core/user.h"

struct remove_call {
	struct request request;
	struct removal removal;
	struct user *user; /* a reference */
};

static struct remove_call *remove_of(struct request *request)
{
	return container_of(request, struct remove_call, request);
}

static void remove_answer(struct request *request)
{
	const struct removal *removal = &remove_of(request)->removal;

	if (removal->fault.code) {
		conn_reply_error(request->conn, request->op, request->id, &removal->fault);
		return;
	}
	(void)msgpack_pack_nil(conn_begin(request->conn));
	conn_end(request->conn, request->op, WIRE_FLAG_REPLY, request->id);
}

static void remove_abandon(struct request *request)
{
	(void)request;
}

static void remove_free(struct request *request)
{
	(void)user_unref(remove_of(request)->user);
	free(remove_of(request));
}

static const struct request_type remove_type = {
	.abandon = remove_abandon,
	.answer = remove_answer,
	.free = remove_free,
};

static void on_removed(struct removal *removal)
{
	struct remove_call *remove = container_of(removal, struct remove_call, removal);

	if (!removal->fault.code && !removal->count)
		(void)fault_set(&removal->fault, WIRE_AGENT_NOT_FOUND,
				"agent \"%.63s\" has left nothing here", removal->home);
	request_finish(&remove->request);
}

static void on_dropped(struct removal *removal)
{
	remove_free(&container_of(removal, struct remove_call, removal)->request);
}

enum wire_error call_remove(struct call *call)
{
	struct remove_call *remove;
	struct removal *removal;
	struct agent_card card;
	const uint8_t *name = NULL;
	enum wire_error code = agent_card_read(call, 0, &card);
	uint32_t len = 0;

	/* Of a life before this kernel's only the name is left. */
	if (code == WIRE_AGENT_NOT_FOUND && !call->conn->spawned &&
	    cursor_peek(&call->args[0]) == CURSOR_STR) {
		name = call_bytes(call, 0, &len);
		if (agent_name_is_valid(name, len))
			code = WIRE_OK;
	}
	if (code)
		return code;
	if (!name && card.live)
		return fault_set(&call->fault, WIRE_BUSY, "agent \"%s\" is alive: kill it first",
				 card.name);
	remove = calloc(1, sizeof(*remove));
	if (!remove)
		return bag_no_memory(&call->fault);
	code = request_start(&remove->request, call, &remove_type);
	if (code) {
		free(remove);
		return code;
	}
	remove->user = user_ref(call->conn->user);
	removal = &remove->removal;
	removal->done = on_removed;
	removal->drop = on_dropped;
	removal->shard = call->conn->shard;
	removal->user = remove->user;
	removal->whole = true;
	removal->owner = name ? call->conn->user->owner->uid : card.owner;
	memcpy(removal->home, name ? (const char *)name : card.home,
	       name ? len : strlen(card.home));
	removal_start(removal);
	return WIRE_OK;
}
