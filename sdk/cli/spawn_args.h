/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * From the options of clove run to the arguments of SPAWN
 */

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "sdk/cli/flags.h"

#define SPAWN_UNSET UINT64_MAX

/* NULL and SPAWN_UNSET leave it to the kernel, which also knows what words and numbers there are. */
struct run_options {
	const char *name, *profile, *interpreter, *workdir, *workspace, *restart;
	uint64_t memory, cpu_quota_us, pids, timeout_ms;
	struct words env, ro, rw;
	bool detach, input, require_limits, raw;
};

enum {
	SPAWN_ARGS_E_USAGE = 1, /* said on stderr, as the other */
	SPAWN_ARGS_E_FAILED,
};

/* Packs the agent's name, what @operands say to run, and the options; reads stdin where it is asked to. */
int spawn_args_pack(const struct run_options *options, char **operands, int count,
		    struct buf *ret_args);
