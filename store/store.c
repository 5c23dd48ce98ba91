/* SPDX-License-Identifier: MIT */

#include "store/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/check.h"
#include "core/base/err.h"
#include "store/store_priv.h"

enum {
	KIB = 1 << 10,
	MIB = 1 << 20,
	VALUE_MAX_MAX = 256 * MIB, /* lengths of what is joined fit 32 bits */
};

const char *store_strerror(int r)
{
	static const char *const phrases[] = {
		[0] = "done",
		[STORE_E_PENDING] = "accepted",
		[STORE_E_CONFLICT] = "a condition does not hold",
		[STORE_E_BUSY] = "busy; try again",
		[STORE_E_QUOTA] = "over the quota",
		[STORE_E_TOO_BIG] = "too big",
		[STORE_E_INVALID] = "invalid",
		[STORE_E_TYPE] = "not a value of the right type",
		[STORE_E_RANGE] = "out of range",
		[STORE_E_COMPACTED] = "too old: read, then watch again",
		[STORE_E_FAILED] = "the disk failed",
		[STORE_E_DAMAGED] = "damaged",
		[STORE_E_STOPPED] = "the store has stopped",
		[STORE_E_EXISTS] = "exists",
		[STORE_E_LOCKED] = "in use by another process",
		[STORE_E_CORRUPT] = "damaged files",
		[STORE_E_NEWER] = "written by a newer version",
	};

	return r >= 0 && (size_t)r < sizeof(phrases) / sizeof(phrases[0]) ? phrases[r] : "unknown";
}

int64_t store_now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void store_set_cause(struct store *store, const char *text)
{
	(void)pthread_mutex_lock(&store->mutex);
	(void)snprintf(store->cause, sizeof(store->cause), "%s", text);
	(void)pthread_mutex_unlock(&store->mutex);
}

void store_cause(struct store *store, char *ret_text, size_t size)
{
	(void)pthread_mutex_lock(&store->mutex);
	(void)snprintf(ret_text, size, "%s", store->cause);
	(void)pthread_mutex_unlock(&store->mutex);
}

struct store_client *store_client(struct store *store, uint32_t index)
{
	CHECK(index < store->client_count);
	return &store->clients[index];
}

static uint64_t load(_Atomic uint64_t *from)
{
	return atomic_load_explicit(from, memory_order_relaxed);
}

void store_stats(struct store *store, struct store_stats *ret)
{
	*ret = (struct store_stats){
		.revision = store_committed(store),
		.batches = load(&store->counts.batches),
		.writes = load(&store->counts.writes),
		.syncs = load(&store->counts.syncs),
		.ops = load(&store->counts.ops),
		.bytes = load(&store->counts.bytes),
		.stalls = load(&store->counts.stalls),
		.failures = load(&store->counts.failures),
		.reopens = load(&store->counts.reopens),
		.cache_hits = load(&store->counts.cache_hits),
		.block_hits = load(&store->counts.block_hits),
		.disk_gets = load(&store->counts.disk_gets),
		.expired = load(&store->counts.expired),
		.queue_ops = load(&store->queue_ops),
		.queue_bytes = load(&store->queue_bytes),
		.reads = load(&store->reads),
		.read_bytes = load(&store->read_bytes),
		.failed = atomic_load_explicit(&store->failed, memory_order_relaxed),
	};
	(void)pthread_mutex_lock(&store->history.mutex);
	ret->watches = store->history.watches;
	ret->history_events = store->history.next - store->history.first;
	ret->history_bytes = store->history.bytes;
	(void)pthread_mutex_unlock(&store->history.mutex);
}

/* ---- open ---- */

static struct store_sizes with_defaults(const struct store_sizes *given)
{
	struct store_sizes sizes = *given;

#define DEFAULT(field, value)                  \
	do {                                   \
		if (!sizes.field)              \
			sizes.field = (value); \
	} while (0)
	DEFAULT(key_max, 1024);
	DEFAULT(value_max, 1 * MIB);
	DEFAULT(ops_max, 1024);
	DEFAULT(request_max, 4 * MIB);
	DEFAULT(queue_ops, 65536);
	DEFAULT(queue_bytes, 64 * MIB);
	DEFAULT(reads_max, 4096);
	DEFAULT(read_bytes, 128 * MIB);
	DEFAULT(client_cache, 16 * MIB);
	DEFAULT(writer_cache, 8 * MIB);
	DEFAULT(block_cache, 32 * MIB);
	DEFAULT(write_buffer, 16 * MIB);
	DEFAULT(history_events, 65536);
	DEFAULT(history_bytes, 16 * MIB);
	DEFAULT(watches_max, 65536);
#undef DEFAULT
	return sizes;
}

static int clients_init(struct store *store, const struct store_config *config)
{
	store->clients = aligned_alloc(64, config->clients * sizeof(struct store_client));
	if (!store->clients)
		return err_raise(-ENOMEM);
	memset(store->clients, 0, config->clients * sizeof(struct store_client));
	for (uint32_t i = 0; i < config->clients; i++) {
		struct store_client *client = &store->clients[i];
		int r = cache_init(&client->cache, store->db_config.sizes.client_cache);

		if (r)
			return err_trace(r);
		client->store = store;
		client->index = i;
		client->submitted_last = &client->submitted;
		client->parked_last = &client->parked;
		list_init(&client->ready);
		store->wake_args[i] = config->wake_args[i];
		store->client_count++;
	}
	return 0;
}

static void cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attributes;

	(void)pthread_condattr_init(&attributes);
	(void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	(void)pthread_cond_init(cond, &attributes);
	(void)pthread_condattr_destroy(&attributes);
}

/* Everything but the database and the threads. */
static int parts_init(struct store *store, const struct store_config *config)
{
	int r;

	store->db_config.sizes = with_defaults(&config->sizes);
	store->db_config.ephemeral = config->ephemeral;
	store->db_config.salvage = config->salvage;
	store->db_config.salvage_hint = config->salvage_hint;
	/* Another name, so that no mistake can make a throw-away store of one that is to stay. */
	if (asprintf(&store->db_config.path, "%s/%s", config->path,
		     config->ephemeral ? "ephemeral" : "db") < 0)
		return err_raise(-ENOMEM);
	store->db_config.cache = rocksdb_cache_create_lru(store->db_config.sizes.block_cache);
	store->wake = config->wake;
	store->writes_last = &store->writes;
	store->read_tasks_last = &store->read_tasks;
	(void)pthread_mutex_init(&store->mutex, NULL);
	cond_init(&store->work);
	cond_init(&store->read_work);
	cond_init(&store->db_changed);
	store->marks = calloc(STORE_MARKS, sizeof(store->marks[0]));
	if (!store->marks)
		return err_raise(-ENOMEM);
	r = hash_seed_init(&store->seed);
	if (!r)
		r = history_init(&store->history, store);
	if (!r)
		r = clients_init(store, config);
	return r;
}

static int readers_start(struct store *store)
{
	for (unsigned i = 0; i < STORE_READERS; i++) {
		int r;

		store->readers[i].store = store;
		r = pthread_create(&store->readers[i].thread, NULL, store_reader_main,
				   &store->readers[i]);
		if (r)
			return err_raise(-r);
		store->readers_started++;
	}
	return 0;
}

static int start(struct store *store, char *reterr_text)
{
	CLEANUP(db_freep) struct db *db = NULL;
	int r = db_open(&store->db_config, DB_START, &db, reterr_text);

	if (r)
		return r;
	r = store_writer_start(store, db, reterr_text);
	if (r)
		return r;
	db = NULL;
	store->db_config.salvage = false; /* a later reopening takes the log as it is */
	return readers_start(store);
}

static void store_stop(struct store *store)
{
	struct db *db;

	(void)pthread_mutex_lock(&store->mutex);
	store->stopping = true;
	(void)pthread_cond_broadcast(&store->read_work);
	(void)pthread_cond_broadcast(&store->db_changed);
	(void)pthread_mutex_unlock(&store->mutex);
	for (unsigned i = 0; i < store->readers_started; i++)
		(void)pthread_join(store->readers[i].thread, NULL);
	if (!store->writer)
		return;
	db = store_writer_stop(store);
	if (!db)
		return;
	/* A log that failed must not be touched: RocksDB asserts that nobody does. */
	if (!db->read_only && !store->db_config.ephemeral &&
	    !atomic_load_explicit(&store->failed, memory_order_relaxed)) {
		char *error = NULL;

		rocksdb_flush_wal(db->rocks, 1, &error);
		rocksdb_free(error);
	}
	db_free(db);
	if (store->db_config.ephemeral)
		db_destroy(store->db_config.path);
}

static void store_free(struct store *store)
{
	for (uint32_t i = 0; i < store->client_count; i++)
		cache_deinit(&store->clients[i].cache);
	history_deinit(&store->history);
	free(store->clients);
	free(store->marks);
	if (store->db_config.cache)
		rocksdb_cache_destroy(store->db_config.cache);
	free(store->db_config.path);
	(void)pthread_cond_destroy(&store->work);
	(void)pthread_cond_destroy(&store->read_work);
	(void)pthread_cond_destroy(&store->db_changed);
	(void)pthread_mutex_destroy(&store->mutex);
	free(store);
}

int store_open(const struct store_config *config, struct store **ret_store, char *reterr_text)
{
	struct store *store;
	int r;

	reterr_text[0] = '\0';
	if (!config->clients || config->clients > STORE_CLIENTS_MAX ||
	    config->sizes.key_max > KEY_WITHIN_MAX || config->sizes.value_max > VALUE_MAX_MAX)
		return err_raise(-EINVAL);
	store = aligned_alloc(64, (sizeof(*store) + 63) / 64 * 64);
	if (!store)
		return err_raise(-ENOMEM);
	memset(store, 0, sizeof(*store));
	r = parts_init(store, config);
	if (!r)
		r = start(store, reterr_text);
	if (r) {
		if (!reterr_text[0])
			(void)snprintf(reterr_text, STORE_TEXT_MAX, "%.500s: %s", config->path,
				       r < 0 ? strerrordesc_np(-r) : store_strerror(r));
		store_stop(store);
		store_free(store);
		return r;
	}
	*ret_store = store;
	return 0;
}

/* ---- close ---- */

/* What no thread of the store will run any more. */
static void stop_reads(struct store *store)
{
	for (uint32_t i = 0; i < store->client_count; i++) {
		struct store_client *client = &store->clients[i];

		while (client->parked) {
			struct store_task *task = client->parked;

			client->parked = task->next;
			*store->read_tasks_last = task;
			store->read_tasks_last = &task->next;
			task->next = NULL;
		}
	}
	while (store->read_tasks) {
		struct store_task *task = store->read_tasks;

		store->read_tasks = task->next;
		task->next = NULL;
		*task->result = STORE_E_STOPPED;
		task->finish(task);
	}
}

void store_close(struct store *store)
{
	store->closing = true;
	for (uint32_t i = 0; i < store->client_count; i++)
		store_client_flush(&store->clients[i]);
	store_stop(store);
	stop_reads(store);
	for (uint32_t i = 0; i < store->client_count; i++)
		(void)store_client_reap(&store->clients[i], UINT32_MAX);
	stop_reads(store);
	store_free(store);
}
