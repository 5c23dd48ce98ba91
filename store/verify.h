/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Whether a database is what it should be: every block by its checksum, every entry by its form, the figures of every
 * payer and the index of expiries by what is there
 */

#include <stdbool.h>

#include "store/db.h"
#include "store/hash.h"

/* Asked again and again: 0, or what verify_database() is to end with. */
struct verify_stop {
	int (*asked)(const void *arg);
	const void *arg;
};

/*
 * As of one moment, which may be long ago when it ends. 0, STORE_E_DAMAGED, _FAILED or _BUSY (memory); @reterr_text
 * has the first finding.
 */
int verify_database(struct db *db, const struct hash_seed *seed, struct verify_stop stop,
		    uint64_t *ret_keys, uint64_t *ret_bytes, char *reterr_text);
