/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A group commit: what many writes make of the keys they touch, until all of it is written at once
 *
 * The writer's only. Each key touched is a cell: what the database has, and what it is to have. Writes see the cells
 * as the writes before them left them, so ten increments of one key are one put. A write that fails
 * undoes its own changes; a commit that fails undoes them all.
 */

#include <stdbool.h>
#include <stdint.h>

#include "store/store_priv.h"

struct write_op {
	enum store_verb verb;
	enum store_when when;
	bool existed;
	uint64_t version, hash;
	int64_t ttl_ms;
	uint32_t key_len, value_len;
	uint8_t *key, *value;      /* in the body */
	struct store_entry *entry; /* owned; what the op left */
};

struct write_body {
	uint32_t count;
	size_t bytes;
	struct write_op ops[];
};

struct cell {
	struct cell *next; /* in its bucket */
	struct cell *next_touched;
	uint64_t hash, revision;        /* of the last change in this batch; 0: none */
	struct store_entry *base, *now; /* owned: in the database; to be */
	uint32_t key_len;
	uint8_t key[];
};

struct undo {
	struct cell *cell;
	struct store_entry *entry; /* owned */
	uint64_t revision;
};

enum {
	BATCH_BUCKETS = 1024,
};

struct batch {
	struct store *store;
	struct db *db; /* set by the writer */
	struct usage usage;
	struct cache known;         /* what is in the database; nobody else changes it */
	uint64_t revision, ceiling; /* last given; what may be given, as stored */
	int64_t now_ms;
	int64_t expiry_min_ms; /* no expiry in the database is earlier; INT64_MAX: there is none */

	struct cell *buckets[BATCH_BUCKETS], *cells;
	struct cell **sorted; /* memory for what cells_encode() sorts */
	uint32_t cell_count, sorted_size;
	struct undo *undo; /* of the write in work */
	uint32_t undo_count, undo_size;
	struct change **changes;
	uint32_t change_count, change_size;
	rocksdb_writebatch_t *rocks;
	bool changed; /* there is something in @rocks or the cells */
};

int batch_init(struct batch *batch, struct store *store); /* 0 or -errno */
void batch_deinit(struct batch *batch);

/* Starts one: all is empty, the clock is read. */
void batch_begin(struct batch *batch);

/* Sets @write's result; for 0 its changes are in the batch, otherwise nothing of it is. */
void batch_write(struct batch *batch, struct store_write *write);

/* Deletes what a drop or the sweeper found, if it is still there: all of it, or what had expired at @expiry_ms. */
int batch_remove(struct batch *batch, const uint8_t *key, uint32_t key_len, int64_t expiry_ms,
		 bool *ret_removed);

/* Takes an entry of the expiry index away that belongs to nothing. */
void batch_remove_index(struct batch *batch, const uint8_t *key, size_t key_len);

/* Forgets it, when it is not to be committed: its revisions were seen by nobody and are given again. */
void batch_abandon(struct batch *batch);

/*
 * Writes it all, marks, publishes. 0, DB_E_STALLED, DB_E_FAILED with @reterr_text; on failure the batch is as if
 * nothing had been in it.
 */
int batch_commit(struct batch *batch, bool sync, bool *ret_synced, char *reterr_text);

/* Stores a ceiling above @floor and goes on from @floor: on a newly opened database. As batch_commit(). */
int batch_raise(struct batch *batch, uint64_t floor, char *reterr_text);
