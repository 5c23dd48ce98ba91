/* SPDX-License-Identifier: MIT */

/*
 * Gets, by tiers
 *
 * One key: the client's cache if its mark allows, then RocksDB's memory, both on the client's thread; the rest goes to a
 * reader. The mark is read before the value, so a change in between makes the tag too low, never too high.
 *
 * Several keys are read as of one moment. From the cache: all marks allow, and looking again none has changed, so
 * there was a moment at which all were valid. From RocksDB: by one snapshot.
 *
 * @revision is what was committed when the get began, taken before any mark or value is looked at. Every change up to it
 * is in the answer, be its key present or not:
 *
 *   RocksDB   the writer stores a revision as committed after its changes are in the database and in the history,
 *             so whoever reads the revision first and the value then finds them
 *   cache     it sets their marks before that, too, so what was cached before such a change is void; and what was
 *             cached with the mark of the change, or a later one, was read when the change was there
 *
 * And the history has every change above it, or will, or says STORE_E_COMPACTED: a watch after @revision misses nothing. The
 * other way round does not hold. A change that was being committed meanwhile may be in the answer, and is told again
 * by the watch. To say its own revision instead would be wrong: the history may not know it yet.
 */

#include <stdlib.h>
#include <string.h>

#include "store/client.h"

struct get_key {
	uint64_t hash, tag;
	uint32_t len;
	uint8_t *key; /* in the body */
};

struct get_body {
	uint32_t count;
	size_t bytes, charged; /* of its keys; against read_bytes */
	struct get_key keys[];
};

static void count_hits(_Atomic uint64_t *count, const struct get_body *body)
{
	store_count(count, body->count);
}

static void drop_entries(struct store_get *get)
{
	for (uint32_t i = 0; i < get->count; i++)
		get->entries[i] = store_entry_unref(get->entries[i]);
}

static struct store_entry *if_live(struct store_entry *entry, int64_t now_ms)
{
	return entry && entry_expired(entry, now_ms) ? NULL : entry;
}

/* ---- the client's cache ---- */

static bool from_cache(struct store_client *client, struct store_get *get)
{
	struct store *store = client->store;
	struct get_body *body = get->body;
	const int64_t now_ms = store_now_ms();

	get->revision = store_committed(store);
	for (uint32_t i = 0; i < body->count; i++) {
		struct get_key *key = &body->keys[i];
		const struct cache_node *node =
			cache_find(&client->cache, key->hash, key->key, key->len);

		key->tag = atomic_load_explicit(store_mark(store, key->hash), memory_order_acquire);
		if (!node || key->tag & 1 || key->tag > node->tag) {
			drop_entries(get);
			return false;
		}
		get->entries[i] = store_entry_ref(if_live(node->entry, now_ms));
	}
	for (uint32_t i = 0; body->count > 1 && i < body->count; i++)
		if (atomic_load_explicit(store_mark(store, body->keys[i].hash),
					 memory_order_acquire) != body->keys[i].tag) {
			drop_entries(get);
			return false;
		}
	count_hits(&store->counts.cache_hits, body);
	return true;
}

static void to_cache(struct store_client *client, const struct store_get *get)
{
	const struct get_body *body = get->body;

	for (uint32_t i = 0; i < body->count; i++)
		if (!(body->keys[i].tag & 1))
			cache_put(&client->cache, body->keys[i].hash, body->keys[i].key,
				  body->keys[i].len, get->entries[i], body->keys[i].tag);
}

/* ---- RocksDB ---- */

static void hide_expired(struct store_get *get)
{
	const int64_t now_ms = store_now_ms();

	for (uint32_t i = 0; i < get->count; i++)
		if (!if_live(get->entries[i], now_ms))
			get->entries[i] = store_entry_unref(get->entries[i]);
}

/* 0, or a DB_E_ of the first key that has one; or STORE_E_BUSY, negative. */
static int read_all(struct store *store, struct db *db, struct store_get *get, bool in_memory)
{
	struct get_body *body = get->body;
	const rocksdb_snapshot_t *snapshot = NULL;
	int r = 0;

	get->revision = store_committed(store);
	for (uint32_t i = 0; i < body->count; i++)
		body->keys[i].tag = atomic_load_explicit(store_mark(store, body->keys[i].hash),
							 memory_order_acquire);
	if (body->count > 1)
		snapshot = rocksdb_create_snapshot(db->rocks);
	for (uint32_t i = 0; !r && i < body->count; i++) {
		r = db_get(db, db_family_of(body->keys[i].key), body->keys[i].key,
			   body->keys[i].len, in_memory, snapshot, &get->entries[i]);
		if (r == DB_E_ABSENT)
			r = 0;
	}
	if (snapshot)
		rocksdb_release_snapshot(db->rocks, snapshot);
	if (r)
		drop_entries(get);
	return r;
}

static bool from_memory(struct store_client *client, struct store_get *get)
{
	struct db *db = store_pin(client->store, &client->pin);
	int r;

	if (!db)
		return false;
	r = read_all(client->store, db, get, true);
	store_unpin(&client->pin);
	if (r)
		return false;
	to_cache(client, get);
	hide_expired(get);
	count_hits(&client->store->counts.block_hits, get->body);
	return true;
}

/* What the answer keeps in memory until it is released; an answer of one value within its limit always fits. */
static int charge(struct store *store, struct store_get *get)
{
	size_t bytes = 0;

	for (uint32_t i = 0; i < get->count; i++)
		bytes += get->entries[i] ? get->entries[i]->len : 0;
	if (bytes > store->db_config.sizes.request_max)
		return STORE_E_TOO_BIG;
	if (!store_read_charge(store, bytes))
		return STORE_E_BUSY;
	get->body->charged += bytes;
	return 0;
}

static void get_run(struct store_task *task, struct store_reader *reader)
{
	struct store_get *get = container_of(task, struct store_get, task);
	struct store *store = reader->store;
	struct db *db = store_reader_pin(reader);
	int r;

	if (!db) {
		get->result = STORE_E_FAILED;
		return;
	}
	r = read_all(store, db, get, false);
	store_unpin(&reader->pin);
	if (r) {
		get->result = r == DB_E_DAMAGED ? STORE_E_DAMAGED
			      : r < 0           ? STORE_E_BUSY
						: STORE_E_FAILED;
		return;
	}
	get->result = charge(store, get);
	if (get->result)
		drop_entries(get);
	count_hits(&store->counts.disk_gets, get->body);
}

/* ---- the client's side ---- */

static void uncharge_get(struct store_get *get)
{
	if (get->body->charged)
		store_read_release(get->task.client->store, get->body->charged);
	get->body->charged = 0;
}

static void get_finish(struct store_task *task)
{
	struct store_get *get = container_of(task, struct store_get, task);

	if (task->client->store->closing) /* which may be gone before what it gave */
		uncharge_get(get);
	if (!get->result) {
		to_cache(task->client, get);
		hide_expired(get);
	}
	get->done(get);
}

/* From what is in memory: 0, STORE_E_BUSY or _TOO_BIG; STORE_E_PENDING: not all of it is there. */
static int get_now(struct store_client *client, struct store_get *get)
{
	if (!from_cache(client, get) && !from_memory(client, get))
		return STORE_E_PENDING;
	get->result = charge(client->store, get);
	if (get->result)
		drop_entries(get);
	return get->result;
}

/* Keys that wait are in memory for a while, so they count, too. */
static int charge_keys(struct store *store, struct get_body *body)
{
	if (body->charged)
		return 0;
	if (!store_read_charge(store, body->bytes))
		return STORE_E_BUSY;
	body->charged = body->bytes;
	return 0;
}

/* 0, STORE_E_PENDING, _BUSY or _TOO_BIG. */
static int get_go(struct store_client *client, struct store_get *get)
{
	int r = get_now(client, get);

	if (r != STORE_E_PENDING)
		return r;
	if (charge_keys(client->store, get->body))
		return STORE_E_BUSY;
	return store_read_enqueue(client->store, &get->task) ? STORE_E_PENDING : STORE_E_BUSY;
}

static void get_resume(struct store_task *task)
{
	struct store_get *get = container_of(task, struct store_get, task);
	int r = get_go(task->client, get);

	if (r == STORE_E_PENDING)
		return;
	get->result = r;
	get->done(get);
}

static int check_keys(const struct store *store, const struct store_key *keys, uint32_t count,
		      size_t *ret_bytes)
{
	size_t bytes = 0;

	if (!count)
		return STORE_E_INVALID;
	if (count > store->db_config.sizes.ops_max)
		return STORE_E_TOO_BIG;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t space_len = key_space_len(&keys[i].space);

		if (!space_len || !keys[i].key_len)
			return STORE_E_INVALID;
		if (keys[i].key_len > store->db_config.sizes.key_max)
			return STORE_E_TOO_BIG;
		bytes += space_len + keys[i].key_len;
	}
	*ret_bytes = bytes;
	return bytes > store->db_config.sizes.request_max ? STORE_E_TOO_BIG : 0;
}

/* One block: body, entries where there are several, keys. */
static struct get_body *body_new(struct store *store, struct store_get *get,
				 const struct store_key *keys, uint32_t count, size_t bytes)
{
	struct get_body *body = malloc(
		sizeof(*body) + count * (sizeof(body->keys[0]) + sizeof(get->entries[0])) + bytes);
	struct store_entry **entries;
	uint8_t *to;

	if (!body)
		return NULL;
	body->count = count;
	body->bytes = bytes;
	body->charged = 0;
	entries = (struct store_entry **)&body->keys[count];
	memset(entries, 0, count * sizeof(entries[0]));
	to = (uint8_t *)&entries[count];
	for (uint32_t i = 0; i < count; i++) {
		struct get_key *key = &body->keys[i];

		key->key = to;
		key->len = key_space_len(&keys[i].space) + keys[i].key_len;
		key_space_write(&keys[i].space, to);
		memcpy(to + key->len - keys[i].key_len, keys[i].key, keys[i].key_len);
		key->hash = hash_bytes(&store->seed, to, key->len);
		to += key->len;
	}
	get->count = count;
	get->entries = entries;
	return body;
}

int store_get_submit(struct store_client *client, struct store_get *get,
		     const struct store_key *keys, uint32_t count)
{
	struct store *store = client->store;
	uint64_t wait_seq = 0;
	size_t bytes;
	int r;

	get->result = 0;
	get->count = 0;
	get->entries = NULL;
	get->body = NULL;
	r = store->closing ? STORE_E_STOPPED : check_keys(store, keys, count, &bytes);
	if (r)
		return r;
	get->body = body_new(store, get, keys, count, bytes);
	if (!get->body)
		return STORE_E_BUSY;
	get->task.client = client;
	get->task.result = &get->result;
	get->task.run = get_run;
	get->task.resume = get_resume;
	get->task.finish = get_finish;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t seq = client_pending(client, get->body->keys[i].hash);

		wait_seq = seq > wait_seq ? seq : wait_seq;
	}
	if (get->memory_only)
		r = wait_seq ? STORE_E_PENDING : get_now(client, get);
	else if (!wait_seq)
		r = get_go(client, get);
	else if (charge_keys(store, get->body))
		r = STORE_E_BUSY;
	else
		r = client_park(client, &get->task, wait_seq);
	if (r && (r != STORE_E_PENDING || get->memory_only))
		store_get_deinit(get);
	return r;
}

void store_get_deinit(struct store_get *get)
{
	if (!get->body)
		return;
	drop_entries(get);
	uncharge_get(get);
	free(get->body);
	get->body = NULL;
	get->entries = NULL;
	get->count = 0;
}
