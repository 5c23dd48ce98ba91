/* SPDX-License-Identifier: MIT */

#include "store/history.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "store/store_priv.h"

/* ---- changes ---- */

struct change *change_new(struct store *store, uint64_t revision, enum store_change what,
			  const uint8_t *key, uint32_t key_len, uint64_t hash,
			  struct store_entry *entry)
{
	struct change *change = malloc(sizeof(*change) + key_len);

	if (!change)
		return NULL;
	*change = (struct change){
		.revision = revision,
		.what = what,
		.hash = hash,
		.entry = store_entry_ref(entry),
		.key_len = key_len,
		.space_len = key_space_read(key, key_len),
	};
	memcpy(change->key, key, key_len);
	change->space_hash = hash_bytes(&store->seed, key, change->space_len);
	return change;
}

void change_free(struct change *change)
{
	(void)store_entry_unref(change->entry);
	free(change);
}

static size_t change_bytes(const struct change *change)
{
	return sizeof(*change) + change->key_len + (change->entry ? change->entry->len : 0);
}

/* ---- the ring ---- */

int history_init(struct history *history, struct store *store)
{
	uint32_t size = 1;

	while (size < store->db_config.sizes.history_events)
		size *= 2;
	*history = (struct history){
		.store = store,
		.ring = calloc(size, sizeof(struct change *)),
		.size = size,
		.bytes_max = store->db_config.sizes.history_bytes,
		.watches_max = store->db_config.sizes.watches_max,
	};
	if (!history->ring)
		return err_raise(-ENOMEM);
	(void)pthread_mutex_init(&history->mutex, NULL);
	for (unsigned i = 0; i < HISTORY_BUCKETS; i++)
		list_init(&history->buckets[i]);
	return 0;
}

static struct change **at(struct history *history, uint64_t position)
{
	return &history->ring[position & (history->size - 1)];
}

static void drop_oldest(struct history *history)
{
	struct change *change = *at(history, history->first++);

	history->floor = change->revision;
	history->bytes -= change_bytes(change);
	change_free(change);
}

void history_deinit(struct history *history)
{
	if (!history->ring)
		return;
	while (history->first != history->next)
		drop_oldest(history);
	free(history->ring);
	(void)pthread_mutex_destroy(&history->mutex);
}

/* It may be there still: its client fetched without waiting to be told. */
static void make_ready(struct store_watch *watch)
{
	list_unlink(&watch->by_ready);
	list_append(&watch->client->ready, &watch->by_ready);
}

static void wake_clients(struct history *history, const bool *wake)
{
	for (uint32_t i = 0; i < history->store->client_count; i++)
		if (wake[i]) {
			atomic_store_explicit(&history->store->clients[i].watches_ready, true,
					      memory_order_release);
			store_wake(&history->store->clients[i]);
		}
}

void history_forget(struct history *history, uint64_t floor, uint64_t last)
{
	bool wake[STORE_CLIENTS_MAX] = {0};

	(void)pthread_mutex_lock(&history->mutex);
	while (history->first != history->next)
		drop_oldest(history);
	history->floor = floor;
	history->last = last;
	for (unsigned i = 0; i < HISTORY_BUCKETS; i++)
		list_for_each (it, &history->buckets[i]) {
			struct store_watch *watch = container_of(it, struct store_watch, by_place);

			watch->lost = true;
			make_ready(watch);
			wake[watch->client->index] = true;
		}
	(void)pthread_mutex_unlock(&history->mutex);
	wake_clients(history, wake);
}

/* ---- matching ---- */

static bool matches(const struct store_watch *watch, const struct change *change)
{
	if (watch->prefix)
		return watch->hash == change->space_hash && watch->space_len == change->space_len &&
		       watch->len <= change->key_len &&
		       !memcmp(watch->place, change->key, watch->len);
	return watch->hash == change->hash && watch->len == change->key_len &&
	       !memcmp(watch->place, change->key, watch->len);
}

static void tell(struct history *history, struct list *bucket, uint64_t position, bool *wake)
{
	const struct change *change = *at(history, position);

	list_for_each (it, bucket) {
		struct store_watch *watch = container_of(it, struct store_watch, by_place);

		if (watch->pending || watch->lost || !matches(watch, change))
			continue;
		watch->pending = true;
		watch->position = position;
		make_ready(watch);
		wake[watch->client->index] = true;
	}
}

void history_publish(struct history *history, struct change **changes, uint32_t count)
{
	bool wake[STORE_CLIENTS_MAX] = {0};

	(void)pthread_mutex_lock(&history->mutex);
	for (uint32_t i = 0; i < count; i++) {
		struct change *change = changes[i];
		struct list *exact = &history->buckets[change->hash % HISTORY_BUCKETS];
		struct list *space = &history->buckets[change->space_hash % HISTORY_BUCKETS];

		history->bytes += change_bytes(change);
		while (history->first != history->next &&
		       (history->next - history->first == history->size ||
			history->bytes > history->bytes_max))
			drop_oldest(history);
		*at(history, history->next) = change;
		history->last = change->revision;
		tell(history, exact, history->next, wake);
		if (space != exact)
			tell(history, space, history->next, wake);
		history->next++;
	}
	(void)pthread_mutex_unlock(&history->mutex);
	wake_clients(history, wake);
}

/* Position of the first change of a revision above @after; @next of the ring when there is none. They only grow. */
static uint64_t first_above(struct history *history, uint64_t after)
{
	uint64_t low = history->first, high = history->next;

	while (low != high) {
		uint64_t middle = low + (high - low) / 2;

		if ((*at(history, middle))->revision > after)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* ---- watches ---- */

int store_watch_open(struct store_client *client, struct store_watch *watch,
		     const struct store_key *key, bool prefix, uint64_t after)
{
	struct store *store = client->store;
	struct history *history = &store->history;
	uint32_t space_len = key_space_len(&key->space);
	CLEANUP(freep) uint8_t *place = NULL;
	bool behind = false;
	int r = 0;

	if (!space_len || (!prefix && !key->key_len) ||
	    key->key_len > store->db_config.sizes.key_max)
		return STORE_E_INVALID;
	place = malloc(space_len + key->key_len);
	if (!place)
		return err_raise(-ENOMEM);
	key_space_write(&key->space, place);
	if (key->key_len)
		memcpy(place + space_len, key->key, key->key_len);
	watch->client = client;
	watch->prefix = prefix;
	watch->pending = watch->lost = false;
	watch->len = space_len + key->key_len;
	watch->space_len = space_len;
	watch->hash = hash_bytes(&store->seed, place, prefix ? space_len : watch->len);
	watch->place = place;
	list_init(&watch->by_ready);

	(void)pthread_mutex_lock(&history->mutex);
	/* Above what was ever given: of a past that a restored backup has undone. */
	if (after != STORE_WATCH_NOW && (after < history->floor || after > history->last))
		r = STORE_E_COMPACTED;
	else if (history->watches == history->watches_max)
		r = STORE_E_BUSY;
	if (!r) {
		history->watches++;
		list_append(&history->buckets[watch->hash % HISTORY_BUCKETS], &watch->by_place);
		/* What of it matches collect() finds, some at a time: the writer waits for this mutex, too. */
		watch->position = first_above(history, after);
		behind = watch->position != history->next;
		if (behind) {
			watch->pending = true;
			make_ready(watch);
			atomic_store_explicit(&client->watches_ready, true, memory_order_release);
		}
	}
	(void)pthread_mutex_unlock(&history->mutex);
	if (r)
		return r;
	if (behind)
		store_wake(client);
	place = NULL;
	return 0;
}

void store_watch_close(struct store_watch *watch)
{
	struct history *history = &watch->client->store->history;

	(void)pthread_mutex_lock(&history->mutex);
	list_unlink(&watch->by_place);
	list_unlink(&watch->by_ready);
	history->watches--;
	(void)pthread_mutex_unlock(&history->mutex);
	free(watch->place);
	watch->place = NULL;
}

struct store_watch *history_take_ready(struct store_client *client)
{
	struct history *history = &client->store->history;
	struct store_watch *watch = NULL;
	struct list *node;

	if (client->store->closing ||
	    !atomic_load_explicit(&client->watches_ready, memory_order_acquire))
		return NULL;
	(void)pthread_mutex_lock(&history->mutex);
	node = list_shift(&client->ready);
	if (node)
		watch = container_of(node, struct store_watch, by_ready);
	else
		atomic_store_explicit(&client->watches_ready, false, memory_order_relaxed);
	(void)pthread_mutex_unlock(&history->mutex);
	return watch;
}

/* Copies one change out. False without memory. */
static bool event_init(struct store_event *event, const struct change *change, bool more)
{
	uint32_t key_len = change->key_len - change->space_len;
	uint8_t *key = malloc(key_len ? key_len : 1);

	if (!key)
		return false;
	memcpy(key, change->key + change->space_len, key_len);
	*event = (struct store_event){
		.more = more,
		.revision = change->revision,
		.change = change->what,
		.entry = store_entry_ref(change->entry),
		.key_len = key_len,
		.key = key,
	};
	return true;
}

void store_event_deinit(struct store_event *event)
{
	event->entry = store_entry_unref(event->entry);
	free(event->key);
	event->key = NULL;
}

/*
 * Whether the revision at the watch's position has another change for it. All of a revision were published at once, so what
 * is not here now never comes. Looked at is what collect() passes next, so both together are linear.
 */
static bool more_of_revision(struct history *history, const struct store_watch *watch)
{
	const uint64_t revision = (*at(history, watch->position))->revision;
	uint64_t position = watch->position + 1;

	for (; position != history->next; position++) {
		const struct change *change = *at(history, position);

		if (change->revision != revision)
			return false;
		if (matches(watch, change))
			return true;
	}
	return false;
}

/* Looks at the changes from the watch's position on. */
static uint32_t collect(struct history *history, struct store_watch *watch,
			struct store_event *events, uint32_t max)
{
	uint32_t count = 0, steps = 0;

	while (watch->position != history->next && count < max && steps++ < HISTORY_STEPS) {
		const struct change *change = *at(history, watch->position);

		if (matches(watch, change)) {
			/* Without memory the rest comes another time. */
			if (!event_init(&events[count], change, more_of_revision(history, watch)))
				break;
			count++;
		}
		watch->position++;
	}
	watch->pending = watch->position != history->next;
	if (watch->pending && count < max) {
		make_ready(watch);
		atomic_store_explicit(&watch->client->watches_ready, true, memory_order_release);
	}
	return count;
}

int store_watch_next(struct store_watch *watch, struct store_event *events, uint32_t max,
		     uint32_t *ret_count)
{
	struct history *history = &watch->client->store->history;
	int r = 0;

	(void)pthread_mutex_lock(&history->mutex);
	if (watch->pending && watch->position < history->first)
		watch->lost = true;
	if (watch->lost)
		r = STORE_E_COMPACTED;
	else
		*ret_count = watch->pending ? collect(history, watch, events, max) : 0;
	(void)pthread_mutex_unlock(&history->mutex);
	return r;
}
