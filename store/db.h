/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The database: how RocksDB is set up, opened and asked, and what its errors mean
 *
 * A struct db is one open database. It is replaced as a whole when the disk failed or a backup is put in place;
 * store_priv.h keeps readers and replacement apart. Any thread may read; one thread writes.
 */

#include <rocksdb/c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/cleanup.h"
#include "store/store.h"

enum db_family {
	DB_META,    /* format, ceiling of revisions, usage of payers */
	DB_STATE,   /* global and agent scope */
	DB_SESSION, /* session scope and its usage; emptied at each start */
	DB_EXPIRY,  /* index: when, which key */
	DB_FAMILIES,
};

enum {
	DB_FORMAT = 1, /* of everything; a higher one in the database is refused */
};

enum {
	DB_E_ABSENT = 1,
	DB_E_WOULD_BLOCK, /* not in memory */
	DB_E_STALLED,     /* compaction cannot keep up */
	DB_E_FAILED,      /* the disk, or RocksDB after the disk; text in db_error() */
	DB_E_DAMAGED,
};

struct db_config {
	char *path; /* of the database itself */
	const char *salvage_hint;
	bool ephemeral, salvage;
	struct store_sizes sizes;
	rocksdb_cache_t *cache;
};

struct db {
	rocksdb_t *rocks;
	rocksdb_column_family_handle_t *families[DB_FAMILIES];
	rocksdb_readoptions_t *reads, *memory_reads;
	rocksdb_writeoptions_t *writes, *synced_writes;
	rocksdb_flushoptions_t *flushes;
	size_t memtable_bytes; /* a fuller one is written out; 0: RocksDB sees to it */
	size_t unseen_bytes;   /* written since that was looked at; the writer's */
	bool read_only;
};

enum db_mode {
	DB_START,    /* made if missing; the session family is emptied */
	DB_REOPEN,   /* must be there, is taken as it is */
	DB_RESTORED, /* must be there; the session family is emptied */
	DB_READ_ONLY,
};

/* 0, -errno, STORE_E_LOCKED, _CORRUPT, _NEWER or _FAILED; on failure @reterr_text says why and what to do. */
int db_open(const struct db_config *config, enum db_mode mode, struct db **ret_db,
	    char *reterr_text);
void db_free(struct db *db);
DEFINE_CLEANUP(struct db *, db_free);

/* Deletes a database that is not open, and what is left of making one. */
void db_destroy(const char *path);

/*
 * @snapshot may be NULL. With @in_memory nothing is read from the disk, and only what is found counts.
 * 0, -ENOMEM, DB_E_ABSENT, _WOULD_BLOCK, _FAILED or _DAMAGED.
 */
int db_get(struct db *db, enum db_family family, const void *key, size_t key_len, bool in_memory,
	   const rocksdb_snapshot_t *snapshot, struct store_entry **ret_entry);

/* Raw bytes of at most @size: their count in @ret_len. 0, DB_E_ABSENT, _FAILED or _DAMAGED. */
int db_get_raw(struct db *db, enum db_family family, const void *key, size_t key_len, void *to,
	       size_t size, size_t *ret_len);

/* 0, DB_E_STALLED or DB_E_FAILED with @reterr_text. */
int db_write(struct db *db, rocksdb_writebatch_t *batch, bool sync, char *reterr_text);

/* Of a RocksDB error, which is freed: DB_E_FAILED or DB_E_DAMAGED, with its text where @reterr_text is not NULL. */
int db_error(char *error, char *reterr_text);

enum db_family db_family_of(const uint8_t *key); /* of an encoded key */

/* Whether the file system takes writes again: 0 or -errno, with @reterr_text. */
int db_probe(const char *path, char *reterr_text);

int db_sync_directory(const char *path); /* 0 or -errno */
