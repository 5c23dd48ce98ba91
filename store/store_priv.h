/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the parts of the store share
 *
 * Commit marks. Every key falls into one of MARKS words, which says at which revision a key of that word last
 * changed: revision << 1, with bit 0 set while a commit is in work. The writer sets bit 0 before RocksDB can show
 * the change to anybody and the new revision before anybody is told that it is done. A client's cache
 * keeps the word that was valid when a value was read (its tag), and uses the value only while the word is
 * not above the tag. So a client never sees a value older than what another client saw or was told,
 * and no message between clients is needed. Two keys in one word cost a needless miss.
 *
 * Pins. Whoever uses the database, other than the writer, pins it: raises a flag of its own, then looks whether there
 * is a database. The writer takes the database away first, then waits for the flags; both in sequentially
 * consistent order, so one of the two always sees the other.
 */

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/cache.h"
#include "store/db.h"
#include "store/entry.h"
#include "store/hash.h"
#include "store/history.h"
#include "store/key.h"
#include "store/store.h"
#include "store/usage.h"

enum {
	STORE_CLIENTS_MAX = 64,
	STORE_READERS = 2,
	STORE_MARKS = 1 << 16,
	STORE_PENDING_SLOTS = 1 << 12,
	STORE_SCAN_ROWS_MAX = 1000,
	STORE_SCAN_STEPS_MAX = 20000, /* entries looked at for one page: expired ones count */
	STORE_AHEAD = 32,             /* writes whose memory is asked for together */
	STORE_AHEAD_OPS = 4,          /* of each */
	STORE_BATCH_OPS = 512,
	STORE_BATCH_BYTES = 1 << 20,
	STORE_DROP_KEYS = 256, /* of one turn */
	STORE_SWEEP_KEYS = 256,
	STORE_SWEEP_MS = 100, /* between turns of the sweeper that found little */
	STORE_DIRECTORY_CHECK_MS = 200,
	STORE_REOPEN_MS = 250, /* first try after a failure; then twice as long, up to 16 times */
};

/* Revisions that may be given before the next ceiling is stored, and so the leap at each start. */
#define STORE_CEILING_STEP (UINT64_C(1) << 20)

struct pin {
	alignas(64) _Atomic uint32_t held;
};

struct store_client {
	struct store *store;
	uint32_t index;

	/* its thread's */
	struct store_task *submitted, **submitted_last; /* not yet flushed */
	struct store_task *parked, **parked_last; /* reads that wait for a write of this client */
	struct store_task *due, *due_tail;        /* taken from @finished, oldest first */
	uint64_t seq, seq_done;                   /* of its last write; of the last that is done */
	uint64_t pending[STORE_PENDING_SLOTS]; /* by hash of key: number of the last write to it */
	uint32_t parked_count;
	struct cache cache;

	/* shared */
	struct pin pin;
	alignas(64) _Atomic(struct store_task *) finished; /* newest first */
	_Atomic bool watches_ready, woken;
	struct list ready; /* watches; under the mutex of the history */
};

struct swap {
	const char *path; /* database to put in place of the present one */
	int result;
	char *text;
	bool finished;
};

struct store_reader {
	struct store *store;
	pthread_t thread;
	struct pin pin;
};

struct store {
	struct db_config db_config;
	uint32_t client_count;
	void (*wake)(void *arg);
	void *wake_args[STORE_CLIENTS_MAX];
	struct hash_seed seed;
	_Atomic uint64_t *marks;

	_Atomic(struct db *) db;
	_Atomic uint64_t committed; /* revision */

	/* counts that bound what waits */
	_Atomic uint64_t queue_ops, queue_bytes, reads, read_bytes;
	_Atomic bool failed, chore_busy;
	bool closing; /* the clients' threads have ended */

	pthread_mutex_t mutex; /* of what follows, up to @readers */
	pthread_cond_t work, read_work, db_changed;
	struct store_task *writes, **writes_last;
	struct store_task *read_tasks, **read_tasks_last;
	struct swap *swap;
	_Atomic bool stopping; /* set under it, looked at by long work without it */
	bool writer_asleep;
	bool no_db; /* not even for reading */
	char cause[STORE_TEXT_MAX];

	struct writer *writer; /* NULL until started */
	unsigned readers_started;
	struct store_reader readers[STORE_READERS];
	struct history history;
	struct store_client *clients;

	struct {
		_Atomic uint64_t batches, writes, syncs, stalls, failures, reopens;
		_Atomic uint64_t ops, bytes;
		_Atomic uint64_t cache_hits, block_hits, disk_gets, expired;
	} counts;
};

static inline void store_count(_Atomic uint64_t *count, uint64_t by)
{
	(void)atomic_fetch_add_explicit(count, by, memory_order_relaxed);
}

/* NULL, and nothing pinned, while there is no database. */
static inline struct db *store_pin(struct store *store, struct pin *pin)
{
	struct db *db;

	atomic_store_explicit(&pin->held, 1, memory_order_seq_cst); /* pairs with store_detach() */
	db = atomic_load_explicit(&store->db, memory_order_seq_cst);
	if (!db)
		atomic_store_explicit(&pin->held, 0, memory_order_release);
	return db;
}

static inline void store_unpin(struct pin *pin)
{
	atomic_store_explicit(&pin->held, 0, memory_order_release);
}

static inline _Atomic uint64_t *store_mark(struct store *store, uint64_t hash)
{
	return &store->marks[hash & (STORE_MARKS - 1)];
}

/* The ops of the writes among the next STORE_AHEAD tasks, which another thread has filled, and what @cache knows of their keys. */
void store_look_ahead(const struct cache *cache, struct store_task *task);

static inline uint64_t store_committed(struct store *store)
{
	return atomic_load_explicit(&store->committed, memory_order_acquire);
}

int64_t store_now_ms(void); /* CLOCK_REALTIME */

void store_set_cause(struct store *store, const char *text);

/* Hands @first..@last, linked by next with the newest first, to their one client. Any thread. */
void store_finish(struct store_client *client, struct store_task *first, struct store_task *last);
void store_wake(struct store_client *client);

/*
 * The writer's thread, for the database that was opened. Stores a ceiling of revisions first. 0, -errno or
 * STORE_E_FAILED with @reterr_text. Stopping commits what is queued and gives the database back, NULL if there is none.
 */
int store_writer_start(struct store *store, struct db *db, char *reterr_text);
struct db *store_writer_stop(struct store *store);

void *store_reader_main(void *arg);

/* Hands a read or chore to the readers. False when too many wait. */
bool store_read_enqueue(struct store *store, struct store_task *task);

/* In a reader: the database, pinned; NULL when there is none and none will come soon. */
struct db *store_reader_pin(struct store_reader *reader);

/* In a reader: counts @bytes of an answer, false when all answers together are too many. */
bool store_read_charge(struct store *store, size_t bytes);
void store_read_release(struct store *store, size_t bytes);

/* From a reader: has the writer put the database at @path in place of the present one. 0 or STORE_E_. */
int store_swap(struct store *store, const char *path, char *reterr_text);
