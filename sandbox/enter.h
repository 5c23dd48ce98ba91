/* SPDX-License-Identifier: MIT */
#pragma once

/* LAUNCH_ENTER: a command in the box of a running agent. */

#include "sandbox/box.h"

struct enter_job {
	const struct launch_spec *spec; /* the command; uid, gid, groups as those of the box */
	const struct box_terms *terms;
	const struct host *host;
	const int *fds; /* three, all above 2 */
	int status;     /* a socket of box_status */
	int namespaces; /* pidfd of a process in them */
	struct rlimit nofile;
};

_Noreturn void enter_run(const struct enter_job *job);
