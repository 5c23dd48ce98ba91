/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A client's own cache: values and known absences, by key
 *
 * One thread. What is in it is valid only by its tag (store_priv.h). When it is full, entries go in the order
 * of a clock: what was used since the hand last passed gets a second round.
 */

#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

struct cache_node {
	struct cache_node *next; /* in its bucket */
	uint64_t hash, tag;
	struct store_entry *entry; /* owned; NULL: absent */
	uint32_t used, key_len;
	uint8_t key[];
};

struct cache {
	struct cache_node **buckets;
	size_t mask, hand, bytes, bytes_max;
};

int cache_init(struct cache *cache, size_t bytes_max); /* 0 or -ENOMEM */
void cache_clear(struct cache *cache);
void cache_deinit(struct cache *cache);

/* Borrowed until the next cache_put(). NULL: nothing known. */
struct cache_node *cache_find(struct cache *cache, uint64_t hash, const uint8_t *key,
			      size_t key_len);

/* Remembers @entry (or NULL: absent) unless something newer is known. Takes a reference. Never fails: it may forget. */
void cache_put(struct cache *cache, uint64_t hash, const uint8_t *key, size_t key_len,
	       struct store_entry *entry, uint64_t tag);

/*
 * What cache_find() and cache_put() of a key will look at is asked for from memory; one step for each of the things that
 * point to one another, 0 to CACHE_STEPS - 1, with something else in between so that it has time to come.
 */
enum { CACHE_STEPS = 3 };

static inline void cache_prefetch(const struct cache *cache, uint64_t hash, unsigned step)
{
	struct cache_node *const *bucket = &cache->buckets[hash & cache->mask];

	if (step == 0)
		__builtin_prefetch(bucket);
	else if (*bucket)
		__builtin_prefetch(step == 1 ? (const void *)*bucket : (*bucket)->entry);
}
