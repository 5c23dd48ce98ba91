/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Lane: bounded queue from one thread to one core
 *
 * Exactly one thread pushes and exactly one core pops; every pair that talks has a lane of its own, so
 * no two threads ever contend for a position. Positions are free-running counters. An item
 * is a call to make in the core that pops it.
 *
 * Ordering: the producer fills the item, then stores @tail with release; the consumer's acquire of
 * @tail therefore sees the item whole. The consumer's release of @head pairs with the producer's acquire,
 * so a slot is not filled again before it was read. Each side keeps a private copy of the other's
 * position and looks again only when that says full or empty.
 */

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/limits.h"

struct shard;

struct lane_item {
	void (*deliver)(struct shard *shard, void *arg, uint64_t value);
	/* Instead, when the core has ended: frees what the item owns. NULL: nothing. */
	void (*drop)(void *arg, uint64_t value);
	void *arg;
	uint64_t value;
};

struct lane {
	/* producer's line */
	alignas(64) _Atomic uint32_t tail;
	uint32_t head_seen;

	/* consumer's line */
	alignas(64) _Atomic uint32_t head;
	uint32_t tail_seen;

	alignas(64) struct lane_item items[LIMIT_LANE_ITEMS];
};

_Static_assert((LIMIT_LANE_ITEMS & (LIMIT_LANE_ITEMS - 1)) == 0, "positions wrap by mask");

/* Producer. False when the lane is full. */
static inline bool lane_push(struct lane *lane, struct lane_item item)
{
	uint32_t tail = atomic_load_explicit(&lane->tail, memory_order_relaxed);

	if (tail - lane->head_seen == LIMIT_LANE_ITEMS) {
		lane->head_seen = atomic_load_explicit(&lane->head, memory_order_acquire);
		if (tail - lane->head_seen == LIMIT_LANE_ITEMS)
			return false;
	}
	lane->items[tail & (LIMIT_LANE_ITEMS - 1)] = item;
	atomic_store_explicit(&lane->tail, tail + 1, memory_order_release);
	return true;
}

/* Consumer. False when the lane is empty. */
static inline bool lane_pop(struct lane *lane, struct lane_item *ret_item)
{
	uint32_t head = atomic_load_explicit(&lane->head, memory_order_relaxed);

	if (head == lane->tail_seen) {
		lane->tail_seen = atomic_load_explicit(&lane->tail, memory_order_acquire);
		if (head == lane->tail_seen)
			return false;
	}
	*ret_item = lane->items[head & (LIMIT_LANE_ITEMS - 1)];
	atomic_store_explicit(&lane->head, head + 1, memory_order_release);
	return true;
}

/* Consumer. True when lane_pop() would find something. */
static inline bool lane_pending(struct lane *lane)
{
	return atomic_load_explicit(&lane->tail, memory_order_acquire) !=
	       atomic_load_explicit(&lane->head, memory_order_relaxed);
}
