/* SPDX-License-Identifier: MIT */

/*
 * Revisions: the database holds a ceiling. Revisions up to it may be given without storing anything; before
 * one above it is given, a higher ceiling is stored and synced. A start goes on from the ceiling, so
 * what a power cut took back is never given a second time, at no cost per write.
 */

#include "store/batch.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/err.h"
#include "store/value.h"

int batch_init(struct batch *batch, struct store *store)
{
	*batch = (struct batch){
		.store = store,
		.expiry_min_ms = 0,
		.rocks = rocksdb_writebatch_create(),
	};
	usage_init(&batch->usage, &store->seed);
	return err_trace(cache_init(&batch->known, store->db_config.sizes.writer_cache));
}

/* ---- cells ---- */

static void cells_clear(struct batch *batch)
{
	while (batch->cells) {
		struct cell *cell = batch->cells;

		batch->cells = cell->next_touched;
		batch->buckets[cell->hash % BATCH_BUCKETS] = NULL;
		(void)store_entry_unref(cell->base);
		(void)store_entry_unref(cell->now);
		free(cell);
	}
	batch->cell_count = 0;
}

static void changes_clear(struct batch *batch)
{
	while (batch->change_count)
		change_free(batch->changes[--batch->change_count]);
}

void batch_deinit(struct batch *batch)
{
	cells_clear(batch);
	changes_clear(batch);
	usage_deinit(&batch->usage);
	cache_deinit(&batch->known);
	rocksdb_writebatch_destroy(batch->rocks);
	free(batch->sorted);
	free(batch->undo);
	free(batch->changes);
}

void batch_begin(struct batch *batch)
{
	cells_clear(batch);
	changes_clear(batch);
	rocksdb_writebatch_clear(batch->rocks);
	batch->changed = false;
	batch->now_ms = store_now_ms();
}

/* What the database has of a key. 0 or STORE_E_. */
static int base_find(struct batch *batch, const uint8_t *key, uint32_t key_len, uint64_t hash,
		     struct store_entry **ret_base)
{
	const struct cache_node *known = cache_find(&batch->known, hash, key, key_len);
	int r;

	if (known) {
		*ret_base = store_entry_ref(known->entry);
		return 0;
	}
	r = db_get(batch->db, db_family_of(key), key, key_len, false, NULL, ret_base);
	if (!r || r == DB_E_ABSENT)
		return 0;
	return r == DB_E_DAMAGED ? STORE_E_DAMAGED : r == -ENOMEM ? STORE_E_BUSY : STORE_E_FAILED;
}

/* The cell of a key, read from the database if it is new here. 0 or STORE_E_. */
static int cell_find(struct batch *batch, const uint8_t *key, uint32_t key_len, uint64_t hash,
		     struct cell **ret_cell)
{
	struct cell **bucket = &batch->buckets[hash % BATCH_BUCKETS], *cell = *bucket;
	int r;

	while (cell &&
	       (cell->hash != hash || cell->key_len != key_len || memcmp(cell->key, key, key_len)))
		cell = cell->next;
	if (!cell) {
		CLEANUP(freep) struct cell *fresh = calloc(1, sizeof(*fresh) + key_len);

		if (!fresh)
			return STORE_E_BUSY;
		r = base_find(batch, key, key_len, hash, &fresh->base);
		if (r)
			return r;
		cell = TAKE(fresh);
		cell->now = store_entry_ref(cell->base);
		cell->hash = hash;
		cell->key_len = key_len;
		memcpy(cell->key, key, key_len);
		cell->next = *bucket;
		*bucket = cell;
		cell->next_touched = batch->cells;
		batch->cells = cell;
		batch->cell_count++;
	}
	*ret_cell = cell;
	return 0;
}

static struct store_entry *cell_live(const struct batch *batch, const struct cell *cell)
{
	return cell->now && !entry_expired(cell->now, batch->now_ms) ? cell->now : NULL;
}

/* ---- changing, and undoing ---- */

static size_t entry_cost(const struct cell *cell, const struct store_entry *entry)
{
	uint32_t value_len;

	(void)store_entry_value(entry, &value_len);
	return (size_t)cell->key_len - key_space_read(cell->key, cell->key_len) + value_len +
	       STORE_ENTRY_COST;
}

static int account(struct batch *batch, const struct cell *cell, const struct store_entry *entry,
		   void (*change)(struct payer *payer, enum usage_part part, size_t bytes))
{
	enum usage_part part = db_family_of(cell->key) == DB_SESSION ? USAGE_SESSION : USAGE_KEPT;
	size_t cost = entry_cost(cell, entry);
	struct entry_payer from = entry_payer(entry);
	struct payer *owner, *own = NULL;
	int r = usage_find(&batch->usage, batch->db, from.owner, NULL, 0, &owner);

	if (!r && from.account_len)
		r = usage_find(&batch->usage, batch->db, from.owner, from.account, from.account_len,
			       &own);
	if (r)
		return r < 0 ? STORE_E_BUSY : STORE_E_FAILED;
	change(owner, part, cost);
	if (own)
		change(own, part, cost);
	return 0;
}

static bool room_for_undo(struct batch *batch)
{
	uint32_t size = batch->undo_size ? 2 * batch->undo_size : 64;
	struct undo *more;

	if (batch->undo_count < batch->undo_size)
		return true;
	more = realloc(batch->undo, size * sizeof(*more));
	if (!more)
		return false;
	batch->undo = more;
	batch->undo_size = size;
	return true;
}

static bool room_for_change(struct batch *batch)
{
	uint32_t size = batch->change_size ? 2 * batch->change_size : 64;
	struct change **more;

	if (batch->change_count < batch->change_size)
		return true;
	more = realloc(batch->changes, size * sizeof(struct change *));
	if (!more)
		return false;
	batch->changes = more;
	batch->change_size = size;
	return true;
}

/* Takes over @entry, also on failure. */
static int cell_set(struct batch *batch, struct cell *cell, struct store_entry *entry,
		    uint64_t revision, enum store_change what)
{
	CLEANUP(store_entry_unrefp) struct store_entry *fresh = entry;
	struct change *change;
	int r = 0;

	if (!room_for_undo(batch) || !room_for_change(batch))
		return STORE_E_BUSY;
	change = change_new(batch->store, revision, what, cell->key, cell->key_len, cell->hash,
			    fresh);
	if (!change)
		return STORE_E_BUSY;
	if (fresh)
		r = account(batch, cell, fresh, usage_add);
	if (!r && cell->now) {
		r = account(batch, cell, cell->now, usage_take);
		if (r && fresh)
			(void)account(batch, cell, fresh,
				      usage_take); /* its payers are in memory: cannot fail */
	}
	if (r) {
		change_free(change);
		return r;
	}
	batch->changes[batch->change_count++] = change;
	batch->undo[batch->undo_count++] = (struct undo){cell, cell->now, cell->revision};
	cell->now = TAKE(fresh);
	cell->revision = revision;
	return 0;
}

/* Back to what was before the write in work. Payers touched stay in memory until the batch ends, so this cannot fail. */
static void undo_all(struct batch *batch, uint32_t changes_before)
{
	while (batch->undo_count) {
		struct undo *undo = &batch->undo[--batch->undo_count];
		struct cell *cell = undo->cell;

		if (cell->now)
			(void)account(batch, cell, cell->now, usage_take);
		if (undo->entry)
			(void)account(batch, cell, undo->entry, usage_add);
		(void)store_entry_unref(cell->now);
		cell->now = undo->entry;
		cell->revision = undo->revision;
	}
	while (batch->change_count > changes_before)
		change_free(batch->changes[--batch->change_count]);
}

static void undo_forget(struct batch *batch)
{
	while (batch->undo_count)
		(void)store_entry_unref(batch->undo[--batch->undo_count].entry);
}

/* ---- one write ---- */

static int64_t expiry_of(const struct batch *batch, const struct write_op *op,
			 const struct store_entry *before)
{
	if (op->ttl_ms)
		return batch->now_ms + op->ttl_ms;
	return op->verb != STORE_PUT && before ? store_entry_expiry_ms(before) : 0;
}

/* The entry that @op makes of @before. */
static int op_entry(struct batch *batch, const struct store_write *write, const struct write_op *op,
		    const struct store_entry *before, uint64_t revision,
		    struct store_entry **ret_entry)
{
	const struct entry_payer payer = {write->payer.owner, write->payer.account_len,
					  write->payer.account};
	const uint8_t *old = NULL;
	uint8_t number[VALUE_NUMBER_MAX], *to;
	struct value_join join = {0};
	uint32_t old_len = 0, len = op->value_len;
	struct store_entry *entry;
	int r = 0;

	if (before)
		old = store_entry_value(before, &old_len);
	if (op->verb == STORE_INCREMENT) {
		r = value_add(old, old_len, op->value, op->value_len, number, &len);
	} else if (op->verb == STORE_APPEND) {
		/* Joined with itself it tells whether it can be joined at all. */
		r = value_join(old ? old : op->value, old ? old_len : op->value_len, op->value,
			       op->value_len, &join);
		if (old)
			len = join.head_len + old_len - join.skip_a + op->value_len - join.skip_b;
	}
	if (r)
		return r == VALUE_E_RANGE ? STORE_E_RANGE : STORE_E_TYPE;
	if (len > batch->store->db_config.sizes.value_max)
		return STORE_E_TOO_BIG;
	entry = entry_new(revision, expiry_of(batch, op, before), &payer, len, &to);
	if (!entry)
		return STORE_E_BUSY;
	if (op->verb == STORE_INCREMENT) {
		memcpy(to, number, len);
	} else if (op->verb == STORE_APPEND && old) {
		memcpy(to, join.head, join.head_len);
		memcpy(to + join.head_len, old + join.skip_a, old_len - join.skip_a);
		memcpy(to + join.head_len + old_len - join.skip_a, op->value + join.skip_b,
		       op->value_len - join.skip_b);
	} else {
		memcpy(to, op->value, len);
	}
	*ret_entry = entry;
	return 0;
}

static int op_apply(struct batch *batch, const struct store_write *write, struct write_op *op,
		    uint64_t revision)
{
	struct store_entry *before, *entry = NULL;
	struct cell *cell;
	int r = cell_find(batch, op->key, op->key_len, op->hash, &cell);

	if (r)
		return r;
	before = cell_live(batch, cell);
	if (op->verb == STORE_CHECK) {
		op->entry = store_entry_ref(before);
		return 0;
	}
	if (op->verb == STORE_DELETE)
		return cell->now ? cell_set(batch, cell, NULL, revision,
					    before ? STORE_DELETED : STORE_EXPIRED)
				 : 0;
	r = op_entry(batch, write, op, before, revision, &entry);
	if (r)
		return r;
	op->entry = store_entry_ref(entry);
	return cell_set(batch, cell, entry, revision, STORE_CHANGED);
}

/* All conditions, against the state before the write. */
static int check_conditions(struct batch *batch, struct store_write *write)
{
	for (uint32_t i = 0; i < write->body->count; i++) {
		struct write_op *op = &write->body->ops[i];
		struct store_entry *live;
		struct cell *cell;
		uint64_t version;
		int r = cell_find(batch, op->key, op->key_len, op->hash, &cell);

		write->failed_op = i;
		if (r)
			return r;
		live = cell_live(batch, cell);
		version = live ? store_entry_version(live) : 0;
		op->existed = live;
		if ((op->when == STORE_IF_VERSION && version != op->version) ||
		    (op->when == STORE_IF_EXISTS && !live)) {
			write->version = version;
			return STORE_E_CONFLICT;
		}
	}
	return 0;
}

struct quota_before {
	struct payer *owner, *account; /* account: NULL for none */
	struct usage_figures owner_used, account_used;
};

static int quota_begin(struct batch *batch, const struct store_payer *payer,
		       struct quota_before *ret)
{
	int r = usage_find(&batch->usage, batch->db, payer->owner, NULL, 0, &ret->owner);

	ret->account = NULL;
	if (!r && payer->account_len)
		r = usage_find(&batch->usage, batch->db, payer->owner, payer->account,
			       payer->account_len, &ret->account);
	if (r)
		return r < 0 ? STORE_E_BUSY : STORE_E_FAILED;
	ret->owner_used = usage_sum(ret->owner);
	if (ret->account)
		ret->account_used = usage_sum(ret->account);
	return 0;
}

static bool exceeds(struct store_write *write, uint64_t before, uint64_t now, uint64_t limit,
		    enum store_quota quota)
{
	if (!limit || now <= limit || now <= before)
		return false;
	write->quota = quota;
	write->quota_used = now;
	write->quota_limit = limit;
	return true;
}

static int quota_check(struct store_write *write, const struct quota_before *before)
{
	const struct store_limits *limits = &write->payer.owner_limits;
	struct usage_figures now = usage_sum(before->owner);

	if (exceeds(write, before->owner_used.bytes, now.bytes, limits->bytes,
		    STORE_QUOTA_OWNER_BYTES) ||
	    exceeds(write, before->owner_used.keys, now.keys, limits->keys, STORE_QUOTA_OWNER_KEYS))
		return STORE_E_QUOTA;
	if (!before->account)
		return 0;
	limits = &write->payer.account_limits;
	now = usage_sum(before->account);
	if (exceeds(write, before->account_used.bytes, now.bytes, limits->bytes,
		    STORE_QUOTA_ACCOUNT_BYTES) ||
	    exceeds(write, before->account_used.keys, now.keys, limits->keys,
		    STORE_QUOTA_ACCOUNT_KEYS))
		return STORE_E_QUOTA;
	return 0;
}

void batch_write(struct batch *batch, struct store_write *write)
{
	const uint32_t changes_before = batch->change_count;
	const uint64_t revision = batch->revision + 1;
	struct quota_before before;
	int r = check_conditions(batch, write);

	if (!r)
		r = quota_begin(batch, &write->payer, &before);
	for (uint32_t i = 0; !r && i < write->body->count; i++) {
		write->failed_op = i;
		r = op_apply(batch, write, &write->body->ops[i], revision);
	}
	if (!r)
		r = quota_check(write, &before);
	write->result = r;
	if (r) {
		undo_all(batch, changes_before);
		return;
	}
	if (batch->undo_count) {
		batch->revision = revision;
		batch->changed = true;
	}
	undo_forget(batch);
	write->revision = batch->revision;
}

int batch_remove(struct batch *batch, const uint8_t *key, uint32_t key_len, int64_t expiry_ms,
		 bool *ret_removed)
{
	struct cell *cell;
	int r = cell_find(batch, key, key_len, hash_bytes(&batch->store->seed, key, key_len),
			  &cell);

	*ret_removed = false;
	if (r)
		return r;
	if (!cell->now || (expiry_ms && store_entry_expiry_ms(cell->now) != expiry_ms))
		return 0;
	r = cell_set(batch, cell, NULL, batch->revision + 1,
		     entry_expired(cell->now, batch->now_ms) ? STORE_EXPIRED : STORE_DELETED);
	if (r)
		return r;
	undo_forget(batch);
	batch->revision++;
	*ret_removed = batch->changed = true;
	return 0;
}

void batch_remove_index(struct batch *batch, const uint8_t *key, size_t key_len)
{
	rocksdb_writebatch_delete_cf(batch->rocks, batch->db->families[DB_EXPIRY],
				     (const char *)key, key_len);
	batch->changed = true;
}

/* ---- commit ---- */

static void index_change(struct batch *batch, const struct cell *cell,
			 const struct store_entry *entry, bool put)
{
	uint8_t key[KEY_TIME_BYTES + KEY_MAX];
	int64_t expiry_ms = entry ? store_entry_expiry_ms(entry) : 0;
	rocksdb_column_family_handle_t *index = batch->db->families[DB_EXPIRY];

	if (!expiry_ms)
		return;
	key_time_write(expiry_ms, key);
	memcpy(key + KEY_TIME_BYTES, cell->key, cell->key_len);
	if (put)
		rocksdb_writebatch_put_cf(batch->rocks, index, (const char *)key,
					  KEY_TIME_BYTES + cell->key_len, "", 0);
	else
		rocksdb_writebatch_delete_cf(batch->rocks, index, (const char *)key,
					     KEY_TIME_BYTES + cell->key_len);
	if (put && expiry_ms < batch->expiry_min_ms)
		batch->expiry_min_ms = expiry_ms;
}

static void cell_encode(struct batch *batch, const struct cell *cell)
{
	rocksdb_column_family_handle_t *family = batch->db->families[db_family_of(cell->key)];

	if (cell->now == cell->base)
		return;
	index_change(batch, cell, cell->base, false);
	index_change(batch, cell, cell->now, true);
	if (cell->now)
		rocksdb_writebatch_put_cf(batch->rocks, family, (const char *)cell->key,
					  cell->key_len, (const char *)cell->now->image,
					  cell->now->len);
	else
		rocksdb_writebatch_delete_cf(batch->rocks, family, (const char *)cell->key,
					     cell->key_len);
}

static int by_key(const void *a, const void *b)
{
	const struct cell *x = *(struct cell *const *)a, *y = *(struct cell *const *)b;
	int r = memcmp(x->key, y->key, x->key_len < y->key_len ? x->key_len : y->key_len);

	return r ? r : (x->key_len > y->key_len) - (x->key_len < y->key_len);
}

/* In the order of keys: the memtable then looks for each place from that of the one before. */
static void cells_encode(struct batch *batch)
{
	uint32_t count = 0;
	struct cell **more;

	if (batch->cell_count > batch->sorted_size) {
		more = realloc(batch->sorted, batch->cell_count * sizeof(struct cell *));
		if (!more) { /* any order will do */
			for (struct cell *cell = batch->cells; cell; cell = cell->next_touched)
				cell_encode(batch, cell);
			return;
		}
		batch->sorted = more;
		batch->sorted_size = batch->cell_count;
	}
	for (struct cell *cell = batch->cells; cell; cell = cell->next_touched)
		batch->sorted[count++] = cell;
	if (count)
		qsort(batch->sorted, count, sizeof(struct cell *), by_key);
	for (uint32_t i = 0; i < count; i++)
		cell_encode(batch, batch->sorted[i]);
}

/* Raises the ceiling when the next batch could reach it: with this commit, which must then be synced. */
static bool ceiling_encode(struct batch *batch)
{
	uint64_t ceiling = batch->revision + STORE_CEILING_STEP, stored = htole64(ceiling);

	if (batch->revision + STORE_CEILING_STEP / 2 < batch->ceiling)
		return false;
	rocksdb_writebatch_put(batch->rocks, "ceiling", 7, (const char *)&stored, sizeof(stored));
	return true;
}

enum mark {
	MARK_BEGIN,
	MARK_DONE,   /* or failed: then nobody knows, and these revisions are never given again */
	MARK_UNDONE, /* nothing was written, and these revisions are given again */
};

static void mark_all(struct batch *batch, enum mark mark_what)
{
	for (struct cell *cell = batch->cells; cell; cell = cell->next_touched) {
		_Atomic uint64_t *mark = store_mark(batch->store, cell->hash);
		uint64_t was, now = cell->revision << 1;

		if (!cell->revision)
			continue;
		was = atomic_load_explicit(mark, memory_order_relaxed);
		if (mark_what == MARK_BEGIN)
			now = was | 1;
		else if (mark_what == MARK_UNDONE || (was & ~UINT64_C(1)) > now)
			now = was & ~UINT64_C(1);
		/* Pairs with the acquire in client.c; who was told of a change sees the mark of it. */
		atomic_store_explicit(mark, now, memory_order_release);
	}
}

/* After a commit. Of what was deleted, that it is absent. */
static void known_keep(struct batch *batch)
{
	for (const struct cell *cell = batch->cells; cell; cell = cell->next_touched)
		if (cell->revision)
			cache_put(&batch->known, cell->hash, cell->key, cell->key_len, cell->now,
				  cell->revision);
}

void batch_abandon(struct batch *batch)
{
	usage_revert(&batch->usage);
	batch->revision = store_committed(batch->store);
}

int batch_commit(struct batch *batch, bool sync, bool *ret_synced, char *reterr_text)
{
	struct store *store = batch->store;
	bool raised = false;
	int r = 0;

	sync = sync && !batch->store->db_config.ephemeral;
	if (batch->changed) {
		cells_encode(batch);
		usage_store(&batch->usage, batch->db, batch->rocks);
		raised = ceiling_encode(batch);
		sync = (sync || raised) && !batch->store->db_config.ephemeral;
		mark_all(batch, MARK_BEGIN);
		r = db_write(batch->db, batch->rocks, sync, reterr_text);
		mark_all(batch, r == DB_E_STALLED ? MARK_UNDONE : MARK_DONE);
	} else if (sync) {
		/* That nothing was to be done may rest on writes that were not synced. */
		char *error = NULL;

		rocksdb_flush_wal(batch->db->rocks, 1, &error);
		if (error) {
			(void)db_error(error, reterr_text);
			r = DB_E_FAILED;
		}
	}
	if (r) {
		usage_revert(&batch->usage);
		changes_clear(batch);
		/* A stalled batch was not written, so its revisions are free; a failed one may come back. */
		if (r == DB_E_STALLED)
			batch->revision = store_committed(store);
		return r;
	}
	if (raised)
		batch->ceiling = batch->revision + STORE_CEILING_STEP;
	usage_keep(&batch->usage);
	known_keep(batch);
	history_publish(&store->history, batch->changes, batch->change_count);
	batch->change_count = 0; /* the history's */
	/* Pairs with store_committed(): who reads this revision finds its changes in database and history. */
	atomic_store_explicit(&store->committed, batch->revision, memory_order_release);
	store_count(&store->counts.syncs, sync);
	*ret_synced = sync;
	return 0;
}

int batch_raise(struct batch *batch, uint64_t floor, char *reterr_text)
{
	uint8_t bytes[8];
	uint64_t stored;
	size_t len;
	bool synced;
	int r;

	batch_begin(batch);
	usage_forget(&batch->usage);
	cache_clear(&batch->known);
	r = db_get_raw(batch->db, DB_META, "ceiling", 7, bytes, sizeof(bytes), &len);
	if (!r && len == sizeof(stored)) {
		memcpy(&stored, bytes, sizeof(stored));
		stored = le64toh(stored);
		floor = stored > floor ? stored : floor;
	} else if (r != DB_E_ABSENT) {
		(void)snprintf(reterr_text, STORE_TEXT_MAX,
			       "the ceiling of revisions cannot be read");
		return DB_E_FAILED;
	}
	batch->revision = floor;
	batch->ceiling = 0;
	batch->changed = true;
	batch->expiry_min_ms = 0;
	return batch_commit(batch, true, &synced, reterr_text);
}
