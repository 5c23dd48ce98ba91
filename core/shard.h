/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One core: a thread with its loop, and everything it owns
 *
 * Shared nothing: a connection, its requests and timers belong to one core for life. Other threads
 * reach a core only through lanes (lane.h), the counters in struct shard_stats and loop_wake().
 *
 * A pass of the loop: events, then input left over, then the lanes, then timers, then one wake per
 * core that got work, then one send per connection that has output, then wait.
 */

#include <msgpack.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/list.h"
#include "core/channel.h"
#include "core/kernel.h"
#include "core/loop.h"
#include "core/state.h"
#include "core/timer.h"
#include "core/workspace.h"

/* Written by the core alone, read by any thread. */
struct shard_stats {
	_Atomic uint64_t connections, accepted, frames, replies, wakeups, sends, crossings, jobs;
	_Atomic uint64_t in_bytes, out_bytes;
};

/* Adds to a counter that only the calling thread writes: no locked instruction. */
#define STAT_ADD(counter, n)                                                           \
	atomic_store_explicit(&(counter),                                              \
			      atomic_load_explicit(&(counter), memory_order_relaxed) + \
				      (uint64_t)(n),                                   \
			      memory_order_relaxed)

/* A stretch of the shared output that belongs to one connection. */
struct out_piece {
	uint32_t offset, len;
	uint32_t next; /* index; OUT_NONE ends */
};

#define OUT_NONE UINT32_MAX

/*
 * Replies of one pass, of all connections, in the order they were made. Two buffers take turns, because
 * bytes of LOOP_LATER must outlive the pass that made them.
 */
struct out {
	uint8_t *data;
	size_t len, cap;
	uint8_t *former; /* of the pass before */
	size_t former_cap;
	size_t start; /* of the frame being made */
	bool failed;  /* no memory while it was made */
	bool handed;  /* the loop sends from @data: it must not grow before the turn */
	struct out_piece *pieces;
	uint32_t piece_count, piece_cap;
	msgpack_packer packer; /* appends to @data */
};

struct shard {
	struct kernel *kernel;
	unsigned index;
	pthread_t thread;
	struct loop *loop;
	uint64_t now_ns; /* clock of this pass */
	uint64_t pass;   /* counts them */

	_Alignas(64) _Atomic bool sleeping; /* about to wait, or waiting; see shard_wake() */

	_Alignas(64) _Atomic uint32_t
		load; /* connections handed to it: core 0 adds, the core takes away */

	_Alignas(64) struct shard_stats stats;
	struct timers timers;
	struct list conns;   /* all */
	struct list dirty;   /* have output to send or are to be closed */
	struct list carried; /* have input that may be parsed now */
	struct list
		unparsed; /* struct conn with input kept; who got none for the longest time first */
	struct list unknown; /* struct conn, by carried: their owners are being looked up */
	struct list parcels; /* wait for room in a lane */
	struct out out;
	uint32_t wake_mask; /* cores that got work in this pass */
	size_t in_bytes;    /* unparsed input of all connections */

	struct loop_source listener; /* core 0 */
	struct timer accept_retry;

	struct workspace_watch workspaces; /* core 0 */
	struct state state;

	struct channel channel; /* to the launcher */
	int null_fd;            /* /dev/null, for reading: the input of a command without one */
	struct list children;   /* struct child: processes to reap */
	struct list agents;     /* struct agent */
	struct list jobs;
	uint32_t job_count;
	size_t job_bytes;  /* output of commands that run */
	size_t held_bytes; /* results that wait for their clients to read */
	uint32_t files_queued;

	bool draining;
	uint64_t drain_end_ns;
	struct timer drain_end;
};

/* Makes the shard's objects but not its thread. 0 or -errno. */
int shard_new(struct kernel *kernel, unsigned index, struct shard **ret_shard);
struct shard *shard_free(struct shard *shard);
DEFINE_CLEANUP(struct shard *, shard_free);

/* Starts the thread and waits until its loop runs. 0 or -errno. */
int shard_start(struct shard *shard);
void shard_join(struct shard *shard);

/* When all cores have ended: frees what they had sent one another and nobody has taken. */
void shards_drop_sent(struct kernel *kernel);

/* Sends early when the replies of this pass outgrow LIMIT_OUT_SHARED_BYTES; closes nobody. */
void shard_bound_output(struct shard *shard);

/*
 * An item for another core that must not get lost: embedded in what it concerns. When the lane is
 * full it waits its turn at the sender.
 */
struct parcel {
	struct list waiting; /* in shard->parcels */
	struct shard *to;
	struct lane_item item;
};

/* In the core @from, which may be @to: then the call is made before it returns. */
void shard_send(struct shard *from, struct shard *to, struct parcel *parcel, struct lane_item item);

/* In the core @from: makes a call in core @to. False when the lane is full. */
bool shard_post(struct shard *from, struct shard *to, struct lane_item item);

/*
 * Any thread, after pushing to a lane of @to: makes sure that it looks. @from is the calling core's shard, or
 * NULL outside the cores.
 */
void shard_wake(struct shard *from, struct shard *to);
