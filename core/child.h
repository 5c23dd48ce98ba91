/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Child: a process that the launcher made for this core, from the launcher's answer to its reaping
 *
 * It is watched by its pidfd. Where there is no descriptor for that, because the table of the process or of
 * the system is full, it is asked for by its process id now and then, until a descriptor is to be had or
 * it has ended: that is as safe, because only its core reaps it. What the asking needs is set aside by
 * child_reserve(), before there is a process; so each one is reaped in the end, whatever runs short.
 */

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include "core/base/list.h"
#include "core/loop.h"
#include "core/timer.h"

struct launch_reply;
struct shard;

struct child {
	struct shard *shard; /* NULL before child_reserve() */
	struct list link;    /* in shard->children, while there is a process */
	pid_t pid;           /* 0: none, or reaped */
	bool exited;         /* it has ended and is not reaped */
	struct loop_source pidfd;
	struct timer watch;
	void (*on_end)(struct child *child);
};

/* Before the process is asked for; @on_end runs once when it has ended. 0 or -ENOMEM. */
int child_reserve(struct child *child, struct shard *shard, void (*on_end)(struct child *child));

/* Takes over the process that @reply names, and its pidfd. Cannot fail. */
void child_adopt(struct child *child, struct launch_reply *reply);

/* After on_end(): how it ended; all zero when somebody else has reaped it. Ends what was reserved. */
void child_reap(struct child *child, siginfo_t *ret_status);

/* Ends what was reserved; a process that is not reaped is left to whoever outlives the core. */
void child_deinit(struct child *child);
