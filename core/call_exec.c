/* SPDX-License-Identifier: MIT */

#include "core/call.h"
#include "core/exec_options.h"
#include "core/job.h"
#include "core/kernel.h"
#include "core/shard.h"

enum wire_error call_exec(struct call *call)
{
	struct exec_options options;
	enum wire_error code;

	code = exec_options_init(&options, &call->conn->shard->kernel->user, call->args[0],
				 call->args[1], &call->fault);
	if (code)
		return code;
	code = job_start(call, &options);
	exec_options_deinit(&options);
	return code;
}
