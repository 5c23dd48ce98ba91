/* SPDX-License-Identifier: MIT */

#include "core/agent.h"
#include "core/call.h"
#include "core/exec_options.h"
#include "core/job.h"
#include "core/kernel.h"
#include "core/shard.h"

enum wire_error call_exec(struct call *call)
{
	/* Who a command of a sandboxed agent is, and where it starts: see agent_launch.c. */
	const struct agent *agent = call->conn->spawned;
	const struct owner *owner = call->conn->user->owner;
	bool boxed = agent && agent->options.sandboxed;
	struct exec_options options;
	enum wire_error code;

	code = exec_options_init(&options, boxed ? AGENT_INSIDE_USER : owner->name,
				 boxed ? AGENT_INSIDE_HOME : owner->home, call->args[0],
				 call->args[1], &call->fault);
	if (code)
		return code;
	code = job_start(call, &options);
	exec_options_deinit(&options);
	return code;
}
