/* SPDX-License-Identifier: MIT */

/*
 * REMOVE: what an agent has left goes out of sight in a file thread
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/call_agent.h"
#include "core/kernel.h"
#include "core/user.h"

struct removal {
	struct request request;
	struct file_task task;
	struct fault fault;
	uint32_t owner;
	char home[LIMIT_AGENT_HOME_BYTES + 1];
};

static void removal_answer(struct request *request)
{
	struct removal *removal = container_of(request, struct removal, request);

	if (removal->fault.code) {
		conn_reply_error(request->conn, request->op, request->id, &removal->fault);
		return;
	}
	(void)msgpack_pack_nil(conn_begin(request->conn));
	conn_end(request->conn, request->op, WIRE_FLAG_REPLY, request->id);
}

static void removal_abandon(struct request *request)
{
	(void)request;
}

static void removal_free(struct request *request)
{
	free(container_of(request, struct removal, request));
}

static const struct request_type removal_type = {
	.abandon = removal_abandon,
	.answer = removal_answer,
	.free = removal_free,
};

static void removal_run(struct file_task *task)
{
	struct removal *removal = container_of(task, struct removal, task);
	int r = agent_home_remove(task->shard->kernel, removal->owner, removal->home);

	if (r == 0)
		(void)fault_set(&removal->fault, WIRE_AGENT_NOT_FOUND,
				"agent \"%.63s\" has left nothing here", removal->home);
	else if (r == -EBUSY)
		(void)fault_set(&removal->fault, WIRE_BUSY,
				"agent \"%.63s\", or one below it, is alive: kill it first",
				removal->home);
	else if (r < 0)
		(void)fault_set_os(&removal->fault, -r, "the directory of agent %.63s",
				   removal->home);
}

static void removal_done(struct file_task *task)
{
	request_finish(&container_of(task, struct removal, task)->request);
}

static void removal_drop(struct file_task *task)
{
	free(container_of(task, struct removal, task));
}

enum wire_error call_remove(struct call *call)
{
	struct shard *shard = call->conn->shard;
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
	removal = calloc(1, sizeof(*removal));
	if (!removal)
		return bag_no_memory(&call->fault);
	removal->owner = name ? call->conn->user->owner->uid : card.owner;
	memcpy(removal->home, name ? (const char *)name : card.home,
	       name ? len : strlen(card.home));
	code = request_start(&removal->request, call, &removal_type);
	if (code) {
		free(removal);
		return code;
	}
	removal->task =
		(struct file_task){.run = removal_run, .done = removal_done, .drop = removal_drop};
	if (files_submit(shard, call->conn->user, &removal->task, &removal->fault))
		request_finish(&removal->request);
	return WIRE_OK;
}
