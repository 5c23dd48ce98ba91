/* SPDX-License-Identifier: MIT */

#include "store/usage.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/err.h"
#include "store/key.h"

static const enum db_family family_of[USAGE_PARTS] = {
	[USAGE_KEPT] = DB_META,
	[USAGE_SESSION] = DB_SESSION,
};

void usage_init(struct usage *usage, const struct hash_seed *seed)
{
	*usage = (struct usage){.seed = seed};
	list_init(&usage->by_use);
}

static void payer_free(struct usage *usage, struct payer *payer)
{
	struct payer **link = &usage->buckets[payer->hash % USAGE_BUCKETS];

	while (*link != payer)
		link = &(*link)->next;
	*link = payer->next;
	list_unlink(&payer->by_use);
	usage->count--;
	free(payer);
}

void usage_forget(struct usage *usage)
{
	list_for_each_safe (it, &usage->by_use)
		payer_free(usage, container_of(it, struct payer, by_use));
	usage->touched = NULL;
}

void usage_deinit(struct usage *usage)
{
	usage_forget(usage);
}

int usage_read(struct db *db, enum usage_part part, const uint8_t *row, size_t row_len,
	       struct usage_figures *ret_figures)
{
	uint64_t words[2];
	size_t len;
	int r = db_get_raw(db, family_of[part], row, row_len, words, sizeof(words), &len);

	*ret_figures = (struct usage_figures){0};
	if (r == DB_E_ABSENT)
		return 0;
	if (r || len != USAGE_ROW_BYTES)
		return DB_E_FAILED;
	ret_figures->bytes = le64toh(words[0]);
	ret_figures->keys = le64toh(words[1]);
	return 0;
}

int usage_find(struct usage *usage, struct db *db, uint32_t owner, const void *account,
	       uint32_t account_len, struct payer **ret_payer)
{
	uint8_t row[KEY_PAYER_MAX];
	size_t row_len = key_payer_write(owner, account, account_len, row);
	uint64_t hash = hash_bytes(usage->seed, row, row_len);
	struct payer **bucket = &usage->buckets[hash % USAGE_BUCKETS], *payer = *bucket;

	while (payer && (payer->hash != hash || payer->row_len != row_len ||
			 memcmp(payer->row, row, row_len)))
		payer = payer->next;
	if (!payer) {
		CLEANUP(freep) struct payer *fresh = calloc(1, sizeof(*fresh) + row_len);

		if (!fresh)
			return err_raise(-ENOMEM);
		for (unsigned part = 0; part < USAGE_PARTS; part++) {
			if (usage_read(db, part, row, row_len, &fresh->stored[part]))
				return DB_E_FAILED;
			fresh->now[part] = fresh->stored[part];
		}
		payer = TAKE(fresh);
		payer->hash = hash;
		payer->row_len = (uint32_t)row_len;
		memcpy(payer->row, row, row_len);
		payer->next = *bucket;
		*bucket = payer;
		list_init(&payer->by_use);
		usage->count++;
	}
	list_unlink(&payer->by_use);
	list_append(&usage->by_use, &payer->by_use);
	if (!payer->touched) {
		payer->touched = true;
		payer->next_touched = usage->touched;
		usage->touched = payer;
	}
	*ret_payer = payer;
	return 0;
}

void usage_add(struct payer *payer, enum usage_part part, size_t bytes)
{
	payer->now[part].bytes += bytes;
	payer->now[part].keys++;
}

/* Never below zero: figures may be wrong after a salvage, and wrong must not become enormous. */
void usage_take(struct payer *payer, enum usage_part part, size_t bytes)
{
	struct usage_figures *now = &payer->now[part];

	now->bytes -= bytes < now->bytes ? bytes : now->bytes;
	now->keys -= now->keys ? 1 : 0;
}

struct usage_figures usage_sum(const struct payer *payer)
{
	return (struct usage_figures){
		.bytes = payer->now[USAGE_KEPT].bytes + payer->now[USAGE_SESSION].bytes,
		.keys = payer->now[USAGE_KEPT].keys + payer->now[USAGE_SESSION].keys,
	};
}

static bool same(const struct usage_figures *a, const struct usage_figures *b)
{
	return a->bytes == b->bytes && a->keys == b->keys;
}

void usage_store(struct usage *usage, struct db *db, rocksdb_writebatch_t *batch)
{
	for (struct payer *payer = usage->touched; payer; payer = payer->next_touched)
		for (unsigned part = 0; part < USAGE_PARTS; part++) {
			const struct usage_figures *now = &payer->now[part];
			uint64_t words[2] = {htole64(now->bytes), htole64(now->keys)};

			if (same(now, &payer->stored[part]))
				continue;
			if (now->keys || now->bytes)
				rocksdb_writebatch_put_cf(batch, db->families[family_of[part]],
							  (const char *)payer->row, payer->row_len,
							  (const char *)words, sizeof(words));
			else
				rocksdb_writebatch_delete_cf(batch, db->families[family_of[part]],
							     (const char *)payer->row,
							     payer->row_len);
		}
}

static void settle(struct usage *usage, bool kept)
{
	for (struct payer *payer = usage->touched; payer; payer = payer->next_touched) {
		if (kept)
			memcpy(payer->stored, payer->now, sizeof(payer->now));
		else
			memcpy(payer->now, payer->stored, sizeof(payer->now));
		payer->touched = false;
	}
	usage->touched = NULL;
	while (usage->count > USAGE_PAYERS_MAX)
		payer_free(usage, container_of(usage->by_use.next, struct payer, by_use));
}

void usage_keep(struct usage *usage)
{
	settle(usage, true);
}

void usage_revert(struct usage *usage)
{
	settle(usage, false);
}
