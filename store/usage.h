/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What each payer uses: bytes and keys, of what is kept and of sessions
 *
 * The figures are stored in the same commit as the entries they count, so no crash can part them; those of sessions
 * are in the session family and vanish with it. In memory is a bounded number of payers. The writer's only.
 *
 * Within a batch figures are changed freely; then either usage_store(), a commit and usage_keep(), or
 * usage_revert().
 */

#include <rocksdb/c.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/list.h"
#include "store/db.h"
#include "store/hash.h"

struct usage_figures {
	uint64_t bytes, keys;
};

enum usage_part {
	USAGE_KEPT,
	USAGE_SESSION,
	USAGE_PARTS,
};

struct payer {
	struct payer *next; /* in its bucket */
	struct list by_use; /* least recently used first */
	struct payer *next_touched;
	bool touched;
	uint64_t hash;
	uint32_t row_len;
	struct usage_figures now[USAGE_PARTS], stored[USAGE_PARTS];
	uint8_t row[]; /* as key_payer_write() made it */
};

enum {
	USAGE_BUCKETS = 4096,
	USAGE_PAYERS_MAX = 4096,
	USAGE_ROW_BYTES = 16,
};

struct usage {
	const struct hash_seed *seed;
	struct payer *buckets[USAGE_BUCKETS], *touched;
	struct list by_use;
	uint32_t count;
};

void usage_init(struct usage *usage, const struct hash_seed *seed);
void usage_deinit(struct usage *usage);
void usage_forget(struct usage *usage); /* all; nothing is touched */

/* Borrowed until usage_keep() or usage_revert(). 0, -ENOMEM or DB_E_FAILED. */
int usage_find(struct usage *usage, struct db *db, uint32_t owner, const void *account,
	       uint32_t account_len, struct payer **ret_payer);

void usage_add(struct payer *payer, enum usage_part part, size_t bytes);
void usage_take(struct payer *payer, enum usage_part part, size_t bytes);
struct usage_figures usage_sum(const struct payer *payer);

void usage_store(struct usage *usage, struct db *db, rocksdb_writebatch_t *batch);
void usage_keep(struct usage *usage);
void usage_revert(struct usage *usage);

/* Reads one part of a row; zeros where there is none. Any thread. 0 or DB_E_FAILED. */
int usage_read(struct db *db, enum usage_part part, const uint8_t *row, size_t row_len,
	       struct usage_figures *ret_figures);
