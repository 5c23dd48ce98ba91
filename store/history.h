/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The last changes, and the watches that look at them
 *
 * A ring of changes, bounded in number and bytes: the oldest go first. Each watch is a position in it: of the first
 * matching change its client has not fetched. A watch with nothing to tell has no position and cannot fall behind.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/list.h"
#include "store/hash.h"
#include "store/store.h"

struct change {
	uint64_t revision;
	enum store_change what;
	uint64_t hash, space_hash;
	struct store_entry *entry; /* owned; NULL unless STORE_CHANGED */
	uint32_t key_len, space_len;
	uint8_t key[]; /* as stored */
};

enum {
	HISTORY_BUCKETS = 4096,
	HISTORY_STEPS = 512, /* changes one store_watch_next() looks at, with the writer waiting */
};

struct history {
	struct store *store;
	pthread_mutex_t mutex; /* of everything here, and of the clients' ready lists */
	struct change **ring;
	uint32_t size;        /* of @ring, a power of two */
	uint64_t first, next; /* positions: free-running */
	uint64_t floor;       /* revision up to which changes are no longer here */
	uint64_t last;        /* revision of the newest change */
	size_t bytes, bytes_max;
	uint32_t watches, watches_max;
	struct list buckets[HISTORY_BUCKETS];
};

int history_init(struct history *history, struct store *store); /* 0 or -ENOMEM */
void history_deinit(struct history *history);

/* NULL without memory. Takes a reference of @entry. */
struct change *change_new(struct store *store, uint64_t revision, enum store_change what,
			  const uint8_t *key, uint32_t key_len, uint64_t hash,
			  struct store_entry *entry);
void change_free(struct change *change);

/* Of one commit, in order. Owns them afterwards. Wakes the clients concerned. */
void history_publish(struct history *history, struct change **changes, uint32_t count);

/*
 * Forgets everything: up to @floor what happened is not known. @last: newest revision given, below @floor never. They
 * differ in a new store: nothing has happened there.
 */
void history_forget(struct history *history, uint64_t floor, uint64_t last);

/* Next watch of @client with something to tell; NULL when there is none. In its thread. */
struct store_watch *history_take_ready(struct store_client *client);
