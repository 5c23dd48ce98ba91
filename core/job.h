/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Job: one command that the launcher started for a core, from request to reply
 *
 * The process is the kernel's child, made by the launcher. The core that owns the client reads its
 * output, watches it and reaps it: no SIGCHLD, no other thread.
 */

#include "core/call.h"
#include "core/exec_options.h"

struct shard;

/* At the end of the core; closing the channel makes the launcher kill what they ran. */
void job_free_all(struct shard *shard);

/*
 * Runs a command for @call, in the box of the agent whose launch is @box_id or, if that is 0, on the host. WIRE_OK, and @options is emptied into the job; or a code with call->fault filled,
 * and @options is still the caller's.
 */
enum wire_error job_start(struct call *call, struct exec_options *options, uint64_t box_id);
