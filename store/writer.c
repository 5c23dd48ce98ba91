/* SPDX-License-Identifier: MIT */

/*
 * The writer: one thread, the only one that writes
 *
 * A turn takes what is queued, up to STORE_BATCH_OPS, makes one commit of it, and answers. While the commit is being
 * synced the next queue forms; nothing waits for a timer. Between commits it does, some hundred keys at a
 * time, what drops and the sweeper have to delete.
 *
 *            queue            commit ok
 *   idle ------------> batch ----------> answer ---> idle
 *                        | stalled: all BUSY
 *                        | failed: all FAILED
 *                        v
 *                     failed --- probe, reopen ok ---> idle
 *
 * Failed: RocksDB takes no writes once one has failed, and a database that stays open may hold
 * the pages that never reached the disk. So it is closed and opened again, which replays the log. Until a probe shows
 * that the disk takes writes it stays open, for reading. If opening it fails all the same, it
 * is opened for reading only. A write that failed may be in the log, and so there after all: nobody knows before, so
 * all watches start anew then.
 *
 * A database whose directory is gone still takes writes, into files without a name. So the directory is looked at,
 * at most every STORE_DIRECTORY_CHECK_MS, before a commit.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "store/batch.h"
#include "store/store_priv.h"

struct writer {
	struct store *store;
	pthread_t thread;
	struct batch batch;
	struct store_task *queue, **queue_last; /* taken from the store's, oldest first */
	struct store_task *drops, **drops_last;
	uint64_t sweep_at_ns, directory_at_ns, reopen_at_ns;
	uint64_t reopen_wait_ms;
	dev_t device;
	ino_t inode;
	bool failed;
};

/* ---- answers ---- */

struct answers {
	struct {
		struct store_task *first, *last; /* newest first */
	} clients[STORE_CLIENTS_MAX];
};

static void answer(struct answers *answers, struct store_task *task)
{
	uint32_t index = task->client->index;

	if (!answers->clients[index].first)
		answers->clients[index].last = task;
	task->next = answers->clients[index].first;
	answers->clients[index].first = task;
}

static void answers_send(struct store *store, struct answers *answers)
{
	for (uint32_t i = 0; i < store->client_count; i++)
		if (answers->clients[i].first)
			store_finish(&store->clients[i], answers->clients[i].first,
				     answers->clients[i].last);
}

/* ---- the database ---- */

static void attach(struct store *store, struct db *db)
{
	(void)pthread_mutex_lock(&store->mutex);
	atomic_store_explicit(&store->db, db, memory_order_seq_cst);
	store->no_db = !db;
	(void)pthread_cond_broadcast(&store->db_changed);
	(void)pthread_mutex_unlock(&store->mutex);
}

/* Takes the database away from everybody, and waits until nobody has it. */
static struct db *detach(struct store *store)
{
	const struct timespec pause = {.tv_nsec = 50000};
	struct db *db = atomic_exchange_explicit(&store->db, NULL, memory_order_seq_cst);

	for (uint32_t i = 0; i < store->client_count; i++)
		while (atomic_load_explicit(&store->clients[i].pin.held, memory_order_seq_cst))
			(void)nanosleep(&pause, NULL);
	for (unsigned i = 0; i < STORE_READERS; i++)
		while (atomic_load_explicit(&store->readers[i].pin.held, memory_order_seq_cst))
			(void)nanosleep(&pause, NULL);
	return db;
}

static void remember_directory(struct writer *writer)
{
	struct stat st;

	if (!stat(writer->store->db_config.path, &st)) {
		writer->device = st.st_dev;
		writer->inode = st.st_ino;
	}
}

static bool directory_gone(struct writer *writer, char *text)
{
	const char *path = writer->store->db_config.path;
	uint64_t now_ns = clock_now_ns();
	struct stat st;

	if (now_ns < writer->directory_at_ns)
		return false;
	writer->directory_at_ns = now_ns + STORE_DIRECTORY_CHECK_MS * CLOCK_NS_PER_MS;
	if (!stat(path, &st) && st.st_dev == writer->device && st.st_ino == writer->inode)
		return false;
	(void)snprintf(text, STORE_TEXT_MAX, "%.500s was removed or replaced", path);
	return true;
}

/* Nobody may go on with what the caches hold, nor with what watches were told. */
static void invalidate_all(struct store *store, struct batch *batch)
{
	/* Without a revision it is new, so that from 0 on everything is known. */
	const bool new = !batch->revision;
	uint64_t revision = ++batch->revision;

	for (uint32_t i = 0; i < STORE_MARKS; i++)
		atomic_store_explicit(&store->marks[i], revision << 1, memory_order_release);
	history_forget(&store->history, new ? 0 : revision, revision);
	atomic_store_explicit(&store->committed, revision, memory_order_release);
}

static void fail(struct writer *writer, const char *text)
{
	struct store *store = writer->store;

	store_set_cause(store, text);
	if (writer->failed)
		return;
	store_count(&store->counts.failures, 1);
	atomic_store_explicit(&store->failed, true, memory_order_relaxed);
	writer->failed = true;
	writer->reopen_wait_ms = STORE_REOPEN_MS;
	writer->reopen_at_ns = clock_now_ns() + STORE_REOPEN_MS * CLOCK_NS_PER_MS;
}

/* Opens the database in place and goes on with it. 0 or anything else, with @text. */
static int resume(struct writer *writer, enum db_mode mode, char *text)
{
	struct store *store = writer->store;
	struct batch *batch = &writer->batch;
	struct db *db = NULL;
	int r = db_open(&store->db_config, mode, &db, text);

	if (r)
		return r;
	batch->db = db;
	r = batch_raise(batch, batch->revision, text);
	if (r) {
		batch->db = NULL;
		db_free(db);
		return r;
	}
	remember_directory(writer);
	invalidate_all(store, batch);
	attach(store, db);
	return 0;
}

/* After a resume() that failed: what there is, for reading. */
static void resume_reading(struct writer *writer)
{
	struct db *db = NULL;
	char text[STORE_TEXT_MAX];

	if (db_open(&writer->store->db_config, DB_READ_ONLY, &db, text))
		db = NULL;
	writer->batch.db = db;
	invalidate_all(writer->store, &writer->batch);
	attach(writer->store, db);
}

static void reopen(struct writer *writer)
{
	struct store *store = writer->store;
	char text[STORE_TEXT_MAX];
	struct db *db;

	if (!db_probe(store->db_config.path, text)) {
		db = detach(store);
		batch_begin(&writer->batch);
		usage_forget(&writer->batch.usage);
		if (db)
			db_free(db);
		if (!resume(writer, DB_REOPEN, text)) {
			writer->failed = false;
			store_count(&store->counts.reopens, 1);
			atomic_store_explicit(&store->failed, false, memory_order_relaxed);
			return;
		}
		resume_reading(writer);
	}
	store_set_cause(store, text);
	if (writer->reopen_wait_ms < 16 * STORE_REOPEN_MS)
		writer->reopen_wait_ms *= 2;
	writer->reopen_at_ns = clock_now_ns() + writer->reopen_wait_ms * CLOCK_NS_PER_MS;
}

/* ---- commits ---- */

/* Commits what is in the batch. 0 or STORE_E_BUSY, _FAILED. */
static int commit(struct writer *writer, bool sync, bool *ret_synced)
{
	char text[STORE_TEXT_MAX];
	int r;

	*ret_synced = false;
	if (directory_gone(writer, text)) {
		batch_abandon(&writer->batch);
		fail(writer, text);
		return STORE_E_FAILED;
	}
	r = batch_commit(&writer->batch, sync, ret_synced, text);
	if (r == DB_E_STALLED) {
		store_count(&writer->store->counts.stalls, 1);
		return STORE_E_BUSY;
	}
	if (r) {
		fail(writer, text);
		return STORE_E_FAILED;
	}
	return 0;
}

static void settle_write(struct store *store, struct store_write *write, int r, bool synced)
{
	if (r)
		write->result = r;
	write->given = store->db_config.ephemeral ? STORE_GIVEN_MEMORY
		       : synced && !write->result ? STORE_GIVEN_SYNCED
						  : STORE_GIVEN_LOG;
	(void)atomic_fetch_sub_explicit(&store->queue_ops, write->body->count,
					memory_order_relaxed);
	(void)atomic_fetch_sub_explicit(&store->queue_bytes, write->body->bytes,
					memory_order_relaxed);
}

/* One commit of writes at the head of the queue, up to the next drop. */
static void write_turn(struct writer *writer)
{
	struct store *store = writer->store;
	struct answers answers = {0};
	struct store_task *first = writer->queue, *task;
	uint32_t ops = 0, writes = 0;
	size_t bytes = 0;
	bool sync = false, synced = false;
	int r = writer->failed ? STORE_E_FAILED : 0;

	batch_begin(&writer->batch);
	for (task = first; task && !task->drop; task = task->next) {
		struct store_write *write = container_of(task, struct store_write, task);

		if (ops >= STORE_BATCH_OPS || bytes >= STORE_BATCH_BYTES)
			break;
		if (writes % STORE_AHEAD == 0)
			store_look_ahead(&writer->batch.known, task);
		ops += write->body->count;
		bytes += write->body->bytes;
		writes++;
		sync = sync || write->durable;
		if (!r)
			batch_write(&writer->batch, write);
	}
	writer->queue = task;
	if (!r)
		r = commit(writer, sync, &synced);
	store_count(&store->counts.batches, 1);
	store_count(&store->counts.writes, writes);
	if (!r) {
		store_count(&store->counts.ops, ops);
		store_count(&store->counts.bytes, bytes);
	}
	for (task = first; task != writer->queue;) {
		struct store_task *next = task->next;

		settle_write(store, container_of(task, struct store_write, task), r, synced);
		answer(&answers, task);
		task = next;
	}
	answers_send(store, &answers);
}

/* ---- drops ---- */

static void drop_end(struct writer *writer, int r)
{
	struct store_task *task = writer->drops;
	struct answers answers = {0};

	writer->drops = task->next;
	if (!writer->drops)
		writer->drops_last = &writer->drops;
	*task->result = r;
	(void)atomic_fetch_sub_explicit(&writer->store->queue_ops, 1, memory_order_relaxed);
	answer(&answers, task);
	answers_send(writer->store, &answers);
}

/* Of an iterator that has ended, or was left: 0, STORE_E_DAMAGED or _FAILED. Destroys it. */
static int iterator_end(rocksdb_iterator_t *it)
{
	char *error = NULL;

	rocksdb_iter_get_error(it, &error);
	rocksdb_iter_destroy(it);
	if (!error)
		return 0;
	return db_error(error, NULL) == DB_E_DAMAGED ? STORE_E_DAMAGED : STORE_E_FAILED;
}

/* Deletes some keys of the first drop. */
static void drop_turn(struct writer *writer)
{
	struct store_drop *drop = container_of(writer->drops, struct store_drop, task);
	struct batch *batch = &writer->batch;
	rocksdb_iterator_t *it;
	uint64_t deleted = 0;
	uint32_t keys = 0;
	bool synced, removed, more;
	int r = writer->failed ? STORE_E_FAILED : 0, ended;

	batch_begin(batch);
	if (r) {
		drop_end(writer, r);
		return;
	}
	it = rocksdb_create_iterator_cf(batch->db->rocks, batch->db->reads,
					batch->db->families[db_family_of(drop->prefix)]);
	rocksdb_iter_seek(it, (const char *)drop->prefix, drop->prefix_len);
	for (; !r && keys < STORE_DROP_KEYS && rocksdb_iter_valid(it);
	     rocksdb_iter_next(it), keys++) {
		size_t len;
		const char *key = rocksdb_iter_key(it, &len);

		if (len < drop->prefix_len || memcmp(key, drop->prefix, drop->prefix_len))
			break;
		r = batch_remove(batch, (const uint8_t *)key, (uint32_t)len, 0, &removed);
		deleted += removed;
	}
	more = keys == STORE_DROP_KEYS;
	ended = iterator_end(it);
	r = r ? r : ended;
	if (!r)
		r = commit(writer, false, &synced);
	else
		batch_abandon(batch);
	if (!r)
		drop->deleted += deleted;
	if (r || !more)
		drop_end(writer, r);
}

/* ---- expiry ---- */

/* Deletes some of what has expired. */
static void sweep_turn(struct writer *writer)
{
	struct batch *batch = &writer->batch;
	struct store *store = writer->store;
	rocksdb_iterator_t *it;
	uint8_t from[KEY_TIME_BYTES];
	uint32_t keys = 0, expired = 0;
	int64_t next_ms = INT64_MAX;
	bool synced, removed;
	int r = 0, ended;

	batch_begin(batch);
	it = rocksdb_create_iterator_cf(batch->db->rocks, batch->db->reads,
					batch->db->families[DB_EXPIRY]);
	key_time_write(batch->expiry_min_ms, from); /* past the tombstones of earlier turns */
	rocksdb_iter_seek(it, (const char *)from, sizeof(from));
	for (; !r && rocksdb_iter_valid(it); rocksdb_iter_next(it)) {
		size_t len;
		const uint8_t *key = (const uint8_t *)rocksdb_iter_key(it, &len);
		int64_t at_ms = len > KEY_TIME_BYTES ? key_time_read(key) : 0;

		if (at_ms > batch->now_ms || keys++ == STORE_SWEEP_KEYS) {
			next_ms = at_ms;
			break;
		}
		removed = false;
		if (len > KEY_TIME_BYTES &&
		    key_space_read(key + KEY_TIME_BYTES, len - KEY_TIME_BYTES))
			r = batch_remove(batch, key + KEY_TIME_BYTES,
					 (uint32_t)(len - KEY_TIME_BYTES), at_ms, &removed);
		if (r == STORE_E_DAMAGED) /* must not keep the others from expiring */
			r = 0;
		if (!r && !removed)
			batch_remove_index(batch, key, len);
		expired += removed;
	}
	ended = iterator_end(it);
	r = r ? r : ended;
	if (!r)
		r = commit(writer, false, &synced);
	else
		batch_abandon(batch);
	if (!r) {
		batch->expiry_min_ms = next_ms;
		store_count(&store->counts.expired, expired);
	}
	writer->sweep_at_ns = clock_now_ns();
	if (r || keys < STORE_SWEEP_KEYS)
		writer->sweep_at_ns += STORE_SWEEP_MS * CLOCK_NS_PER_MS;
}

static bool sweep_due(const struct writer *writer, uint64_t now_ns)
{
	return !writer->failed && now_ns >= writer->sweep_at_ns &&
	       writer->batch.expiry_min_ms <= store_now_ms();
}

/* ---- putting a backup in place ---- */

static int swap_files(const char *path, const char *fresh, const char *aside, char *text)
{
	int r;

	db_destroy(aside);
	if (rename(path, aside)) {
		r = -errno;
		(void)snprintf(text, STORE_TEXT_MAX, "%.400s: %s", path, strerrordesc_np(-r));
		return STORE_E_FAILED;
	}
	if (!rename(fresh, path))
		return 0;
	r = -errno;
	(void)snprintf(text, STORE_TEXT_MAX, "%.400s: %s", fresh, strerrordesc_np(-r));
	(void)rename(aside, path);
	return STORE_E_FAILED;
}

static int sync_path(const char *path, char *text)
{
	CLEANUP(freep) char *parent = NULL;
	int r;

	if (asprintf(&parent, "%s/..", path) < 0)
		return STORE_E_BUSY;
	r = db_sync_directory(parent);
	if (!r)
		return 0;
	(void)snprintf(text, STORE_TEXT_MAX, "%.400s: %s", parent, strerrordesc_np(-r));
	return STORE_E_FAILED;
}

static int swap_database(struct writer *writer, const char *fresh, char *text)
{
	struct store *store = writer->store;
	const char *path = store->db_config.path;
	CLEANUP(freep) char *aside = NULL;
	char why[STORE_TEXT_MAX];
	struct db *db;
	int r;

	if (asprintf(&aside, "%s.old", path) < 0)
		return STORE_E_BUSY;
	db = detach(store);
	batch_begin(&writer->batch);
	usage_forget(&writer->batch.usage);
	if (db)
		db_free(db);
	writer->batch.db = NULL;
	r = swap_files(path, fresh, aside, text);
	if (!r) {
		r = sync_path(path, text);
		if (!r)
			r = resume(writer, DB_RESTORED, text);
		if (!r) {
			db_destroy(aside);
			return 0;
		}
		(void)rename(path, fresh); /* as it was */
		(void)rename(aside, path);
		(void)sync_path(path, why);
	}
	if (resume(writer, DB_REOPEN, why)) {
		fail(writer, why);
		resume_reading(writer);
	}
	return r;
}

static void swap_turn(struct writer *writer, struct swap *swap)
{
	struct store *store = writer->store;
	int r = writer->failed ? STORE_E_FAILED : swap_database(writer, swap->path, swap->text);

	(void)pthread_mutex_lock(&store->mutex);
	swap->result = r;
	swap->finished = true;
	store->swap = NULL;
	(void)pthread_cond_broadcast(&store->db_changed);
	(void)pthread_mutex_unlock(&store->mutex);
}

int store_swap(struct store *store, const char *path, char *reterr_text)
{
	struct swap swap = {.path = path, .text = reterr_text};

	(void)pthread_mutex_lock(&store->mutex);
	if (!store->stopping) {
		store->swap = &swap;
		(void)pthread_cond_signal(&store->work);
		while (!swap.finished)
			(void)pthread_cond_wait(&store->db_changed, &store->mutex);
	} else {
		swap.result = STORE_E_STOPPED;
	}
	(void)pthread_mutex_unlock(&store->mutex);
	return swap.result;
}

/* ---- the thread ---- */

/* When there is something to do without being asked; UINT64_MAX: never. */
static uint64_t next_turn_ns(const struct writer *writer)
{
	uint64_t now_ns = clock_now_ns(), at_ns;
	int64_t wait_ms;

	if (writer->failed)
		return writer->reopen_at_ns;
	if (writer->batch.expiry_min_ms == INT64_MAX)
		return UINT64_MAX;
	wait_ms = writer->batch.expiry_min_ms - store_now_ms();
	/* The clock may be set meanwhile: look at least once an hour. */
	if (wait_ms > 3600000)
		wait_ms = 3600000;
	at_ns = now_ns + (wait_ms > 0 ? (uint64_t)wait_ms * CLOCK_NS_PER_MS : 0);
	return at_ns > writer->sweep_at_ns ? at_ns : writer->sweep_at_ns;
}

static void sleep_until(struct store *store, uint64_t at_ns)
{
	struct timespec at = {
		.tv_sec = (time_t)(at_ns / CLOCK_NS_PER_S),
		.tv_nsec = (long)(at_ns % CLOCK_NS_PER_S),
	};

	store->writer_asleep = true;
	if (at_ns == UINT64_MAX)
		(void)pthread_cond_wait(&store->work, &store->mutex);
	else
		(void)pthread_cond_timedwait(&store->work, &store->mutex, &at);
	store->writer_asleep = false;
}

/* Takes what was handed in; sleeps while there is nothing at all to do. False: to end. */
static bool await_work(struct writer *writer, struct swap **ret_swap)
{
	struct store *store = writer->store;
	uint64_t at_ns = writer->drops ? 0 : next_turn_ns(writer);
	bool going;

	(void)pthread_mutex_lock(&store->mutex);
	if (!writer->queue && !store->writes && !store->swap && !store->stopping &&
	    clock_now_ns() < at_ns)
		sleep_until(store, at_ns);
	if (!writer->queue)
		writer->queue_last = &writer->queue;
	if (store->writes) {
		*writer->queue_last = store->writes;
		writer->queue_last = store->writes_last;
	}
	store->writes = NULL;
	store->writes_last = &store->writes;
	*ret_swap = store->swap;
	going = !store->stopping || writer->queue || *ret_swap;
	(void)pthread_mutex_unlock(&store->mutex);
	return going;
}

/* Drops at the head of the queue: what was written before them is committed. */
static void take_drops(struct writer *writer)
{
	while (writer->queue && writer->queue->drop) {
		struct store_task *task = writer->queue;

		writer->queue = task->next;
		task->next = NULL;
		*writer->drops_last = task;
		writer->drops_last = &task->next;
	}
}

static void *writer_main(void *arg)
{
	struct writer *writer = arg;
	struct swap *swap;

	(void)prctl(PR_SET_NAME, "store");
	while (await_work(writer, &swap)) {
		if (writer->failed && clock_now_ns() >= writer->reopen_at_ns)
			reopen(writer);
		take_drops(writer);
		if (writer->queue)
			write_turn(writer);
		if (writer->drops)
			drop_turn(writer);
		if (sweep_due(writer, clock_now_ns()))
			sweep_turn(writer);
		if (swap)
			swap_turn(writer, swap);
	}
	while (writer->drops)
		drop_end(writer, STORE_E_STOPPED);
	return NULL;
}

int store_writer_start(struct store *store, struct db *db, char *reterr_text)
{
	CLEANUP(freep) struct writer *writer = calloc(1, sizeof(*writer));
	int r;

	if (!writer)
		return err_raise(-ENOMEM);
	writer->store = store;
	writer->drops_last = &writer->drops;
	r = batch_init(&writer->batch, store);
	if (r)
		return err_trace(r);
	writer->batch.db = db;
	r = batch_raise(&writer->batch, 0, reterr_text);
	if (r) {
		batch_deinit(&writer->batch);
		return STORE_E_FAILED;
	}
	remember_directory(writer);
	invalidate_all(store, &writer->batch);
	attach(store, db);
	r = pthread_create(&writer->thread, NULL, writer_main, writer);
	if (r) {
		batch_deinit(&writer->batch);
		return err_raise(-r);
	}
	store->writer = TAKE(writer);
	return 0;
}

struct db *store_writer_stop(struct store *store)
{
	struct writer *writer = TAKE(store->writer);
	struct db *db;

	(void)pthread_mutex_lock(&store->mutex);
	store->stopping = true;
	(void)pthread_cond_signal(&store->work);
	(void)pthread_mutex_unlock(&store->mutex);
	(void)pthread_join(writer->thread, NULL);
	db = detach(store);
	batch_deinit(&writer->batch);
	free(writer);
	return db;
}
