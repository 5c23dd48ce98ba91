/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Damage in write-ahead logs that RocksDB would take for a torn end
 *
 * A log that ends inside a record is normal after a crash: nobody was told that this record is stored.
 * RocksDB decides by the length in the record's head, so a flipped bit in a length near the end makes
 * it drop everything after it without a word. After a torn record there is nothing; where whole
 * records follow, the log is damaged.
 */

enum {
	WAL_E_DAMAGED = 1,
};

/* All logs of the database at @path. 0, -errno, or WAL_E_DAMAGED with @reterr_name, 64 bytes. */
int wal_check(const char *path, char *reterr_name);
