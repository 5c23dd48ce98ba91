/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Workspaces on disk: an agent that fills more than it may is ended
 *
 * Where no project quota holds them, core 0 has them measured, one at a time, by a process that may look into
 * them. It begins when the file system's free space or files have dropped since it last did, so that agents
 * which write nothing cost one statvfs() a second all together. What an agent writes between two looks is beyond
 * its limit: that is why its protections say "polled".
 */

#include "core/loop.h"
#include "core/timer.h"

struct shard;

struct workspace_watch {
	struct loop_source source; /* the measurer; fd -1: none */
	struct timer tick;
	uint64_t free_bytes, free_files; /* when the present or latest round began */
	uint32_t *ids;                   /* of the round: whom to look at */
	uint32_t count, next;
	uint32_t asked; /* id, 0: nobody is being measured */
};

/* Core 0. An agent that is to be watched has started; any core may call it. */
void workspace_watch_begin(struct shard *shard);
void workspace_watch_init(struct workspace_watch *watch);
void workspace_watch_deinit(struct shard *shard);
