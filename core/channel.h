/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A core's channel to the launcher: requests out, replies back to whom they concern
 *
 * A struct launch is embedded in what wants a process: a job or an agent. It has an id on the
 * channel from channel_add() to channel_remove(), and its callbacks run in the owner's core. When the
 * channel is full, launches wait in order; nothing blocks.
 */

#include <stdbool.h>
#include <stdint.h>

#include "core/base/list.h"
#include "core/loop.h"
#include "sandbox/launch.h"

struct launch;
struct shard;

struct launch_type {
	/* launch_send() with what this launch wants; its result. Called at once or when there is room. */
	int (*send)(struct launch *launch, int channel);
	/* It could not be sent, for @result of send(), or the launcher died before it answered: LAUNCH_E_GONE. */
	void (*unsent)(struct launch *launch, int result);
	/* LAUNCHED or FAILED. The callee may take ->pidfd and leave -1. */
	void (*answered)(struct launch *launch, struct launch_reply *reply);
	/* KILLED, after channel_signal(): @error is 0 or an errno. */
	void (*signalled)(struct launch *launch, int error);
	/* The launcher died after it had answered. */
	void (*lost)(struct launch *launch);
};

enum launch_state {
	LAUNCH_IDLE,
	LAUNCH_QUEUED, /* waits for room */
	LAUNCH_ASKED,
	LAUNCH_ANSWERED,
};

struct launch {
	const struct launch_type *type;
	uint64_t id;
	enum launch_state state;
	struct list link;   /* in a bucket of the channel */
	struct list queued; /* in channel->queue */
};

enum {
	CHANNEL_BUCKETS = 512, /* ids count up, so they spread evenly */
};

struct channel {
	struct loop_source source;
	int fd; /* -1 when the launcher is gone */
	uint64_t next_id;
	struct list queue; /* launches that found the channel full, in order */
	struct list buckets[CHANNEL_BUCKETS];
};

void channel_init(struct channel *channel);

/* The shard's. 0 or -errno. */
int channel_open(struct shard *shard);
/* The launcher kills what was launched on it. */
void channel_close(struct shard *shard);
bool channel_is_open(const struct shard *shard);

/* Gives @launch its id. */
void channel_add(struct shard *shard, struct launch *launch, const struct launch_type *type);
void channel_remove(struct launch *launch);

/* Sends it, or queues it; may call unsent() before it returns. */
void channel_launch(struct shard *shard, struct launch *launch);

/* As launch_signal(). 0: signalled() will be called. LAUNCH_E_BUSY: try again in a while. */
int channel_signal(struct shard *shard, struct launch *launch, int signo, bool whole_tree);
