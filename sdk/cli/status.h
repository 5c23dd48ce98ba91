/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Exit statuses, as README.md documents them
 *
 * run and wait end as the agent did. So that its statuses are not mistaken for clove's, these two use
 * STATUS_OURS for every failure and misuse, as docker run does.
 */

#include "ipc/cursor.h"

enum {
	STATUS_OK = 0,
	STATUS_FAILED = 1,
	STATUS_USAGE = 2,
	STATUS_TIMEOUT = 124,    /* the agent's time, or that of clove wait, is up */
	STATUS_OURS = 125,       /* run, wait: clove failed, not the agent */
	STATUS_CANNOT_RUN = 126, /* run: the command is there and cannot be run */
	STATUS_NO_COMMAND = 127, /* run: there is no such command */
	STATUS_SIGNAL = 128,     /* and the number of the signal */
};

/*
 * The status that stands for an agent's end, which is what WAIT and KILL answer: its own when it exited.
 * 0, or CLOVE_E_BROKEN when @end is no such answer.
 */
int status_of_end(struct cursor end, int *ret_status);

/* Why it ended, for people, when it did not exit by itself; NULL when it did. Not to be freed. */
const char *status_explain(struct cursor end);
