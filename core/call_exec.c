/* SPDX-License-Identifier: MIT */

#include "core/agent.h"
#include "core/call.h"
#include "core/exec_options.h"
#include "core/job.h"
#include "core/kernel.h"
#include "core/shard.h"

enum wire_error call_exec(struct call *call)
{
	const struct owner *owner = call->conn->user->owner;
	struct exec_options options;
	uint64_t box_id;
	enum wire_error code = call_box(call, 2, &box_id);

	if (code)
		return code;
	/* Who a command in a box is, and where it starts: see agent_launch.c. */
	code = exec_options_init(&options, box_id ? AGENT_INSIDE_USER : owner->name,
				 box_id ? AGENT_INSIDE_HOME : owner->home, call->args[0],
				 call->args[1], &call->fault);
	if (code)
		return code;
	code = job_start(call, &options, box_id);
	exec_options_deinit(&options);
	return code;
}
