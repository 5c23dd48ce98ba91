/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * An agent in the foreground: started, its output followed, waited for, ended with this process
 */

#include "sdk/cli/session.h"

/* What is to be started. */
struct attached_start {
	const struct buf *args; /* SPAWN's */
	const char *program;    /* as it was given, for messages */
	const char
		*name; /* as it was given; NULL: a new one, under which nothing was written yet */
	bool raw;      /* as sink_init() takes it */
};

/* The exit status that stands for its end. */
int attached_run(const struct settings *settings, struct clove *clove,
		 const struct attached_start *start);

/* Says what SPAWN's answer @spawned warns of. 0 with the agent's id, or CLOVE_E_BROKEN. */
int attached_warn(struct cursor spawned, uint64_t *ret_id);

/* The exit status for SPAWN's error reply, which is said. */
int attached_refused(const char *program, const struct clove_frame *frame);
