/* SPDX-License-Identifier: MIT */
#pragma once

/* LAUNCH_PLAIN: from a fresh clone of the launcher to the user's program. */

#include <stdint.h>
#include <sys/resource.h>

#include "sandbox/spec.h"

/* What a child writes to its status pipe when it does not reach the program. */
struct plain_failure {
	uint32_t step; /* enum launch_step */
	int32_t error; /* errno */
};

struct plain_job {
	const struct launch_spec *spec;
	const int *fds; /* three, all above 2 */
	int status;     /* write end, close-on-exec: its EOF says that the program runs */
	struct rlimit core, nofile;
};

/* Runs in the child. Allocates and logs nothing. */
_Noreturn void plain_run(const struct plain_job *job);
