/* SPDX-License-Identifier: MIT */

/*
 * crash_load DIRECTORY LEDGER [--durable-only]: a store under load, to be killed
 *
 * Each run first checks the store against the ledger, a file shared with the runs before, then
 * prints one line of JSON, then writes until it is killed. What it is about to
 * write it notes in the ledger before it submits it, what it was told is stored when it was told. So a key must hold a
 * state between the last it was told and the last it asked for; with --durable-only (after a power cut) between the
 * last it was told is synced and the last it asked for. Exits with 1 when that does not hold.
 *
 * State n of a key: absent if n is a multiple of 5, else n with filler that depends on n. Pairs get
 * the same state in one transaction and must agree. Everybody increments one counter. Some values expire soon, so that
 * the sweeper is at work, too; the store's own check must find nothing wrong. Writes that fail may have happened, or not.
 * How often a write is durable differs from run to run: each, one in 4, ... one in 1024.
 */

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/base/list.h"
#include "store/store.h"

enum {
	THREADS = 2,
	KEYS = 48,
	PAIRS = 16,
	WINDOW = 24, /* writes in flight of each thread */
	DELETED_EVERY = 5,
	LARGE_EVERY = 41,
	OWNER = 7,
};

/* States of a key or a pair: asked for, told, told to be synced. */
struct track {
	_Atomic uint64_t asked, told, synced;
};

struct ledger {
	_Atomic uint64_t version_max, told_count, synced_count, failed_count, recovered_count;
	struct track keys[THREADS][KEYS], pairs[THREADS][PAIRS], counts[THREADS];
};

struct job {
	struct store_write write;
	struct actor *actor;
	struct track *track; /* NULL: nobody asks */
	uint64_t state;
	bool busy;
};

struct actor {
	struct store_client *client;
	struct job jobs[WINDOW];
	int event;
	uint32_t index;
	uint64_t seed;
	uint8_t *value;
};

static struct ledger *ledger;
static struct store *store;
static struct actor actors[THREADS];
static bool durable_only;
static uint32_t durable_every; /* how rare durable writes are, in this run */
static _Atomic bool failing;
static unsigned violations;

static uint64_t load(_Atomic uint64_t *from)
{
	return atomic_load_explicit(from, memory_order_acquire);
}

static void raise_to(_Atomic uint64_t *word, uint64_t to)
{
	uint64_t now = load(word);

	while (now < to && !atomic_compare_exchange_weak(word, &now, to))
		;
}

static uint32_t choose(struct actor *actor, uint32_t below)
{
	actor->seed = actor->seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t)(actor->seed >> 33) % below;
}

/* ---- values ---- */

static uint32_t filler_of(uint64_t state)
{
	return (uint32_t)(state % LARGE_EVERY ? state * 7919 % 300 : 20000 + state % 1000);
}

/* bin 32 of the state, then bytes that depend on it. */
static uint32_t value_write(uint64_t state, uint8_t *to)
{
	uint32_t len = 8 + filler_of(state);

	to[0] = 0xc6;
	for (unsigned i = 0; i < 4; i++)
		to[1 + i] = (uint8_t)(len >> (24 - 8 * i));
	memcpy(to + 5, &state, 8);
	for (uint32_t i = 0; i < filler_of(state); i++)
		to[13 + i] = (uint8_t)(state + i);
	return 5 + len;
}

static uint64_t state_of(const struct store_entry *entry)
{
	static uint8_t expected[1 << 16];
	uint32_t len;
	const uint8_t *bytes;
	uint64_t state;

	if (!entry)
		return 0;
	bytes = store_entry_value(entry, &len);
	memcpy(&state, bytes + 5, sizeof(state));
	if (len < 13 || len != value_write(state, expected) || memcmp(bytes, expected, len))
		return UINT64_MAX;
	return state;
}

static struct store_key key_named(const char *kind, uint32_t thread, uint32_t index, char *name)
{
	int len = snprintf(name, 32, "%s/%u/%u", kind, thread, index);

	return (struct store_key){
		.space = {.owner = OWNER, .scope = STORE_GLOBAL},
		.key = name,
		.key_len = (uint32_t)len,
	};
}

/* ---- waiting ---- */

static void wake(void *arg)
{
	uint64_t one = 1;

	(void)!write(*(int *)arg, &one, sizeof(one));
}

static void sleep_for(struct actor *actor)
{
	struct pollfd ready = {.fd = actor->event, .events = POLLIN};
	uint64_t count;

	if (poll(&ready, 1, 1000) == 1)
		(void)!read(actor->event, &count, sizeof(count));
}

static void await(struct actor *actor, const bool *done)
{
	store_client_flush(actor->client);
	for (;;) {
		while (store_client_reap(actor->client, WINDOW))
			;
		if (*done)
			return;
		sleep_for(actor);
	}
}

struct waited {
	struct store_get get;
	struct store_chore chore;
	bool done;
};

static void get_done(struct store_get *get)
{
	container_of(get, struct waited, get)->done = true;
}

static void chore_done(struct store_chore *chore)
{
	container_of(chore, struct waited, chore)->done = true;
}

static void read_one(struct store_key key, struct waited *waited)
{
	*waited = (struct waited){.get = {.done = get_done}};
	if (store_get_submit(actors[0].client, &waited->get, &key, 1) == STORE_E_PENDING)
		await(&actors[0], &waited->done);
	if (waited->get.result) {
		printf("cannot read: %s\n", store_strerror(waited->get.result));
		exit(1);
	}
}

/* ---- checking ---- */

static void violation(const char *what, uint32_t thread, uint32_t index, uint64_t found,
		      struct track *track)
{
	violations++;
	(void)fprintf(stderr,
		      "violation: %s %u/%u is at %" PRIu64 "; asked %" PRIu64 ", told %" PRIu64
		      ", synced %" PRIu64 "\n",
		      what, thread, index, found, load(&track->asked), load(&track->told),
		      load(&track->synced));
}

/* The state that @entry shows, as a number from the range it must be in; then that is where the next run begins. */
static void check_track(const char *what, uint32_t thread, uint32_t index,
			const struct store_entry *entry, struct track *track)
{
	uint64_t least = durable_only ? load(&track->synced) : load(&track->told),
		 most = load(&track->asked);
	uint64_t found = state_of(entry);

	if (!entry) /* a deletion that was asked for; zero is one: it was never there */
		found = most - most % DELETED_EVERY;
	if (found < least || found > most || (entry && found % DELETED_EVERY == 0))
		violation(what, thread, index, found, track);
	if (entry)
		raise_to(&ledger->version_max, store_entry_version(entry));
	/* Opening a store makes durable what it finds. */
	atomic_store(&track->asked, found);
	atomic_store(&track->told, found);
	atomic_store(&track->synced, found);
}

static void check_keys(uint32_t thread)
{
	struct waited one, two;
	char name[32];

	for (uint32_t i = 0; i < KEYS; i++) {
		read_one(key_named("key", thread, i, name), &one);
		check_track("key", thread, i, one.get.entries[0], &ledger->keys[thread][i]);
		store_get_deinit(&one.get);
	}
	for (uint32_t i = 0; i < PAIRS; i++) {
		read_one(key_named("left", thread, i, name), &one);
		read_one(key_named("right", thread, i, name), &two);
		if (state_of(one.get.entries[0]) != state_of(two.get.entries[0]))
			violation("half a pair", thread, i, state_of(two.get.entries[0]),
				  &ledger->pairs[thread][i]);
		check_track("pair", thread, i, one.get.entries[0], &ledger->pairs[thread][i]);
		store_get_deinit(&one.get);
		store_get_deinit(&two.get);
	}
}

static uint64_t number_of(const struct store_entry *entry)
{
	uint32_t len;
	const uint8_t *bytes;
	uint64_t number = 0;

	if (!entry)
		return 0;
	bytes = store_entry_value(entry, &len);
	if (len == 1)
		return bytes[0];
	for (uint32_t i = 1; i < len; i++)
		number = number << 8 | bytes[i];
	return number;
}

static void check_counter(void)
{
	struct track sum = {0};
	struct waited one;
	char name[32];
	uint64_t found;

	for (uint32_t i = 0; i < THREADS; i++) {
		sum.asked += ledger->counts[i].asked;
		sum.told += ledger->counts[i].told;
		sum.synced += ledger->counts[i].synced;
	}
	read_one(key_named("counter", 0, 0, name), &one);
	found = number_of(one.get.entries[0]);
	if (found < (durable_only ? sum.synced : sum.told) || found > sum.asked)
		violation("counter", 0, 0, found, &sum);
	store_get_deinit(&one.get);
	/* From here on, exactly known: as if thread 0 had asked for all of it. */
	for (uint32_t i = 0; i < THREADS; i++)
		ledger->counts[i].asked = ledger->counts[i].told = ledger->counts[i].synced =
			i ? 0 : found;
}

static void check_store(void)
{
	struct waited waited = {.chore = {.kind = STORE_VERIFY, .done = chore_done}};
	struct store_stats stats;

	if (store_chore_submit(actors[0].client, &waited.chore) != STORE_E_PENDING)
		abort();
	await(&actors[0], &waited.done);
	if (waited.chore.result) {
		violations++;
		(void)fprintf(stderr, "violation: %s: %s\n", store_strerror(waited.chore.result),
			      waited.chore.text);
	}
	store_stats(store, &stats);
	if (stats.revision <= load(&ledger->version_max)) {
		violations++;
		(void)fprintf(stderr,
			      "violation: revisions went back to %" PRIu64 " from %" PRIu64 "\n",
			      stats.revision, load(&ledger->version_max));
	}
}

/* ---- writing ---- */

static void write_done(struct store_write *write)
{
	struct job *job = container_of(write, struct job, write);

	job->busy = false;
	if (write->result == STORE_E_FAILED) { /* it may have happened */
		(void)atomic_fetch_add(&ledger->failed_count, 1);
		atomic_store(&failing, true);
	}
	if (write->result == STORE_E_BUSY || write->result == STORE_E_FAILED) {
		store_write_deinit(write);
		return;
	}
	if (write->result) {
		(void)fprintf(stderr, "refused: %s\n", store_strerror(write->result));
		_exit(3);
	}
	if (atomic_exchange(&failing, false)) {
		(void)atomic_fetch_add(&ledger->recovered_count, 1);
		(void)puts("recovered");
		(void)fflush(stdout);
	}
	raise_to(&ledger->version_max, write->revision);
	if (job->track) {
		bool synced = write->given == STORE_GIVEN_SYNCED;

		(void)atomic_fetch_add(&ledger->told_count, 1);
		(void)atomic_fetch_add(&ledger->synced_count, synced);
		if (job->state == UINT64_MAX) { /* the counter */
			uint64_t told = atomic_fetch_add(&job->track->told, 1) + 1;

			if (synced)
				atomic_store(&job->track->synced, told);
		} else {
			atomic_store_explicit(&job->track->told, job->state, memory_order_release);
			if (synced)
				atomic_store_explicit(&job->track->synced, job->state,
						      memory_order_release);
		}
	}
	store_write_deinit(write);
}

static void submit(struct job *job, struct track *track, uint64_t state, const struct store_op *ops,
		   uint32_t count)
{
	job->write = (struct store_write){
		.done = write_done,
		.payer = {.owner = OWNER, .account = "load", .account_len = 4},
		.durable = !choose(job->actor, durable_every),
	};
	job->track = track;
	job->state = state;
	job->busy = true;
	if (store_write_submit(job->actor->client, &job->write, ops, count) != STORE_E_PENDING)
		_exit(3);
}

/* The next state of a key, or with @second of a pair of keys. */
static void advance(struct job *job, struct track *track, const struct store_key *keys,
		    uint32_t count)
{
	uint64_t state = load(&track->asked) + 1;
	struct store_op ops[2];
	bool delete = state % DELETED_EVERY == 0;
	uint32_t len = value_write(state, job->actor->value);

	for (uint32_t i = 0; i < count; i++)
		ops[i] = (struct store_op){
			.key = keys[i],
			.verb = delete ? STORE_DELETE : STORE_PUT,
			.value = delete ? NULL : job->actor->value,
			.value_len = delete ? 0 : len,
		};
	atomic_store_explicit(&track->asked, state, memory_order_release);
	submit(job, track, state, ops, count);
}

static void next_job(struct job *job)
{
	struct actor *actor = job->actor;
	uint32_t index = choose(actor, KEYS), kind = choose(actor, 10);
	struct store_key keys[2];
	struct store_op op = {.value = "\x01", .value_len = 1};
	char names[2][32];

	if (kind < 5) {
		keys[0] = key_named("key", actor->index, index, names[0]);
		advance(job, &ledger->keys[actor->index][index], keys, 1);
	} else if (kind < 8) {
		index %= PAIRS;
		keys[0] = key_named("left", actor->index, index, names[0]);
		keys[1] = key_named("right", actor->index, index, names[1]);
		advance(job, &ledger->pairs[actor->index][index], keys, 2);
	} else if (kind == 8) {
		op.key = key_named("counter", 0, 0, names[0]);
		op.verb = STORE_INCREMENT;
		(void)atomic_fetch_add(&ledger->counts[actor->index].asked, 1);
		submit(job, &ledger->counts[actor->index], UINT64_MAX, &op, 1);
	} else {
		op.key = key_named("brief", actor->index, index, names[0]);
		op.verb = STORE_PUT;
		op.ttl_ms = 1 + choose(actor, 40);
		submit(job, NULL, 0, &op, 1);
	}
}

static void *act(void *arg)
{
	struct actor *actor = arg;

	for (;;) {
		for (uint32_t i = 0; i < WINDOW; i++)
			if (!actor->jobs[i].busy)
				next_job(&actor->jobs[i]);
		store_client_flush(actor->client);
		sleep_for(actor);
		while (store_client_reap(actor->client, WINDOW))
			;
		if (atomic_load(&failing))
			(void)usleep(1000);
	}
	return NULL;
}

/* ---- start ---- */

static struct ledger *ledger_map(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	void *map;

	if (fd < 0 || ftruncate(fd, sizeof(struct ledger)))
		return NULL;
	map = mmap(NULL, sizeof(struct ledger), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	(void)close(fd);
	return map == MAP_FAILED ? NULL : map;
}

static int open_store(const char *path)
{
	void *args[THREADS];
	char text[STORE_TEXT_MAX];
	struct store_config config = {
		.path = path,
		.salvage_hint = "salvage it",
		.clients = THREADS,
		.wake = wake,
		.wake_args = args,
		/* Small, so that tables are written and merged within a round. */
		.sizes = {.write_buffer = 128 << 10, .client_cache = 64 << 10},
	};
	int r;

	for (uint32_t i = 0; i < THREADS; i++) {
		actors[i].index = i;
		actors[i].event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		actors[i].value = malloc(1 << 16);
		args[i] = &actors[i].event;
		if (getrandom(&actors[i].seed, 8, 0) != 8)
			return 2;
		for (uint32_t j = 0; j < WINDOW; j++)
			actors[i].jobs[j].actor = &actors[i];
	}
	r = store_open(&config, &store, text);
	if (r) {
		(void)fprintf(stderr, "violation: cannot be opened (%d): %s\n", r, text);
		return 1;
	}
	for (uint32_t i = 0; i < THREADS; i++)
		actors[i].client = store_client(store, i);
	return 0;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	int r;

	if (argc < 3 || !(ledger = ledger_map(argv[2]))) {
		(void)fprintf(stderr, "usage: crash_load DIRECTORY LEDGER [--durable-only]\n");
		return 2;
	}
	durable_only = argc > 3 && !strcmp(argv[3], "--durable-only");
	r = open_store(argv[1]);
	if (r)
		return r;
	check_store();
	for (uint32_t i = 0; i < THREADS; i++)
		check_keys(i);
	check_counter();
	printf("{\"violations\": %u, \"told\": %" PRIu64 ", \"synced\": %" PRIu64
	       ", \"failed\": %" PRIu64 ", \"recovered\": %" PRIu64 "}\n",
	       violations, load(&ledger->told_count), load(&ledger->synced_count),
	       load(&ledger->failed_count), load(&ledger->recovered_count));
	(void)fflush(stdout);
	if (violations)
		return 1;
	durable_every = 1u << 2 * choose(&actors[0], 6);
	for (uint32_t i = 0; i < THREADS; i++)
		if (pthread_create(&thread, NULL, act, &actors[i]))
			return 2;
	(void)pause();
	return 0;
}
