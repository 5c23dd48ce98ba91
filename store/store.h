/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The state store: versioned values under keys, durable, atomic, watchable
 *
 * A store serves a fixed number of clients, one per thread that asks (a core of the kernel). No call
 * of a client ever waits for a disk: it answers at once, or refuses at once, or hands the request to
 * the store's own threads. A finished request comes back like this: a thread of the store calls the
 * client's wake() (any thread, must not block), the client's thread calls store_client_reap(), and that calls
 * done(), so done() always runs in the client's own thread.
 *
 * Requests (struct store_write, store_get, ...) are embedded in an object of the caller, which must
 * live until done() was called; there is no cancelling. Keys, values and ops are copied by the submit
 * call and may be gone after it. A submit call returns
 *
 *   0                  answered already: the results are there, done() is not called (store_get only)
 *   STORE_E_PENDING    accepted; done() will be called once
 *   another STORE_E_   refused; done() will not be called
 *
 * Order: writes of one client are done in the order they were submitted, and are visible to others in that
 * order. A get or scan sees every write its client submitted before it; it waits for those that
 * concern it. What one client was told is done, every other client sees from then on.
 *
 * Revisions: each write that changes something gets the next revision of the store. It is the version of
 * every value that this write left behind. Revisions never go back and are never given twice, not by a
 * crash, not by a power cut, not by restoring a backup. They do leap at each start.
 *
 * Values are MessagePack, kept byte for byte. Times are milliseconds; expiry is by CLOCK_REALTIME.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/list.h"

struct store;
struct store_client;
struct store_reader;

enum {
	STORE_E_PENDING = 1, /* accepted */
	STORE_E_CONFLICT,    /* a condition does not hold: @failed_op, @version */
	STORE_E_BUSY,    /* queue full, or the disk cannot keep up: try again in STORE_RETRY_MS */
	STORE_E_QUOTA,   /* @quota says which, with what is used and allowed */
	STORE_E_TOO_BIG, /* a key, a value or a whole request is over its limit */
	STORE_E_INVALID, /* empty key, unknown scope, forged cursor, ttl out of range, no value */
	STORE_E_TYPE,    /* increment of what is no number, append to what cannot grow */
	STORE_E_RANGE,   /* the sum is no 64-bit integer, or not finite */
	STORE_E_COMPACTED, /* changes from that revision on are no longer known: read, then watch anew */
	STORE_E_FAILED,  /* the disk: store_cause() has the text. A write may or may not be there */
	STORE_E_DAMAGED, /* what is stored cannot be read; the rest of the store can */
	STORE_E_STOPPED, /* store_close() came first */
	STORE_E_EXISTS,  /* backup: there is something at that path */
	STORE_E_LOCKED,  /* open: another process has this store */
	STORE_E_CORRUPT, /* open, restore: damaged files */
	STORE_E_NEWER,   /* open, restore: written by a newer version of Clove */
};

const char *store_strerror(int r); /* one phrase; "unknown" for what is no STORE_E_ */

enum {
	STORE_RETRY_MS = 50,
	STORE_NAME_MAX = 255, /* of a space, of an account */
	STORE_TEXT_MAX = 1024,
};

/* A hundred years bound the arithmetic. */
#define STORE_TTL_MS_MAX INT64_C(3153600000000)

/* ---- open and close ---- */

/* Zero means the default, in brackets. What waits or is remembered never grows beyond these. */
struct store_sizes {
	uint32_t key_max;     /* bytes [1024] */
	uint32_t value_max;   /* bytes [1 MiB] */
	uint32_t ops_max;     /* ops of one write, keys of one get [1024] */
	uint32_t request_max; /* bytes of keys and values of one write, or of one answer [4 MiB] */
	uint32_t queue_ops;   /* ops that wait for the writer, of all clients [65536] */
	size_t queue_bytes;   /* and their keys and values [64 MiB] */
	uint32_t reads_max;   /* reads that wait or run off their client, of all clients [4096] */
	size_t read_bytes; /* keys that wait, answers not yet released by store_*_deinit() [128 MiB] */
	size_t client_cache; /* bytes of each client's own cache [16 MiB] */
	size_t writer_cache; /* bytes of what the writer knows of the database [8 MiB] */
	size_t block_cache;  /* bytes of RocksDB's cache: blocks, indexes and filters [32 MiB] */
	size_t write_buffer; /* bytes of a memtable; up to four are in memory [16 MiB] */
	uint32_t history_events; /* changes remembered for watches [65536] */
	size_t history_bytes;    /* and their keys and values [16 MiB] */
	uint32_t watches_max;    /* of all clients [65536] */
};

struct store_config {
	const char *
		path; /* a directory that exists; the store makes and owns db/ in it, or ephemeral/ */
	const char
		*salvage_hint; /* how a user asks for @salvage, for the error text; may be NULL */
	uint32_t clients;      /* 1..64 */
	bool ephemeral;        /* starts empty, leaves nothing: no log, no fsync */
	bool salvage; /* take what precedes damage in the write-ahead log, lose what follows */
	void (*wake)(void *arg); /* from the store's threads; at most once until the next reap */
	void *const *wake_args;  /* one for each client */
	struct store_sizes sizes;
};

/*
 * 0, -errno, STORE_E_LOCKED, _CORRUPT or _NEWER; on failure @reterr_text, STORE_TEXT_MAX bytes, names
 * the path and the way out. Blocks: replays the log, and syncs once. Empties the session scope, since no
 * session outlives its kernel. Starts three threads, and RocksDB its own two for all stores of the process.
 */
int store_open(const struct store_config *config, struct store **ret_store, char *reterr_text);

/*
 * When the clients' threads have ended: commits what was submitted, answers the rest with
 * STORE_E_STOPPED, calls every done() that is due (in this thread; what it submits is refused), syncs, frees.
 * What gets and scans gave may be released later.
 */
void store_close(struct store *store);

/* Any thread. The last failure of the disk in words, "" when there was none. */
void store_cause(struct store *store, char *ret_text, size_t size);

struct store_stats {
	uint64_t revision;
	uint64_t batches, writes, syncs,
		stalls;      /* group commits; writes in them; synced ones; BUSY by RocksDB */
	uint64_t ops, bytes; /* of the writes that were committed; keys and values */
	uint64_t failures, reopens;                 /* of the disk */
	uint64_t cache_hits, block_hits, disk_gets; /* gets, by what answered them */
	uint64_t expired;
	uint64_t queue_ops, queue_bytes, reads, read_bytes;
	uint64_t watches, history_events, history_bytes;
	bool failed; /* writes are refused now */
};

void store_stats(struct store *store, struct store_stats *ret_stats); /* any thread */

/* ---- clients ---- */

/* Of @index < config.clients. Everything below is called by that client's thread only. */
struct store_client *store_client(struct store *store, uint32_t index);

/* Hands submitted writes to the writer, in one go. Once a pass, before the thread sleeps. */
void store_client_flush(struct store_client *client);

/* Calls done() of up to @max finished requests and ready() of watches. True when more are due. */
bool store_client_reap(struct store_client *client, uint32_t max);

/* ---- where a value lives ---- */

enum store_scope {
	STORE_GLOBAL = 1, /* of one owner; @name is empty */
	STORE_AGENT,      /* of one owner and agent name */
	STORE_SESSION,    /* of one session; gone with it, or with the kernel */
};

struct store_space {
	uint32_t owner;
	enum store_scope scope;
	uint32_t name_len; /* 0 for STORE_GLOBAL, else 1..STORE_NAME_MAX */
	const void *name;  /* the agent's name; the session's id */
};

struct store_key {
	struct store_space space;
	const void *key; /* any bytes */
	uint32_t key_len;
};

/* A value with what belongs to it. Counted; constant once seen. */
struct store_entry;

uint64_t store_entry_version(const struct store_entry *entry);
int64_t store_entry_expiry_ms(const struct store_entry *entry); /* since 1970; 0: never */
const uint8_t *store_entry_value(const struct store_entry *entry, uint32_t *ret_len);
struct store_entry *store_entry_ref(struct store_entry *entry);
struct store_entry *store_entry_unref(struct store_entry *entry); /* NULL is fine; returns NULL */

/* ---- writing ---- */

enum store_verb {
	STORE_PUT,
	STORE_DELETE, /* of what is absent: nothing happens, and that is fine */
	/*
	 * Adds the number in @value. Absent counts as integer 0. Two integers give an integer, or
	 * STORE_E_RANGE outside of [-2^63, 2^64); with a float the sum is a float.
	 */
	STORE_INCREMENT,
	/* Joins str to str, bin to bin, the elements of an array to an array. Absent: becomes @value. */
	STORE_APPEND,
	STORE_CHECK, /* only the condition */
};

/* Holds for the state before the write, whatever its other ops do. Expired is absent. */
enum store_when {
	STORE_ALWAYS,
	STORE_IF_VERSION, /* has exactly @version; with version 0: is absent */
	STORE_IF_EXISTS,
};

struct store_op {
	struct store_key key;
	enum store_verb verb;
	enum store_when when;
	uint64_t version;
	const void *value; /* one MessagePack value; not for STORE_DELETE and STORE_CHECK */
	uint32_t value_len;
	int64_t ttl_ms; /* 0: PUT for ever; INCREMENT and APPEND as before. Never negative */
};

/* Zero means no limit. An entry counts its key, its value and STORE_ENTRY_COST. */
struct store_limits {
	uint64_t bytes, keys;
};

enum {
	STORE_ENTRY_COST = 64,
};

enum store_quota {
	STORE_QUOTA_NONE,
	STORE_QUOTA_OWNER_BYTES,
	STORE_QUOTA_OWNER_KEYS,
	STORE_QUOTA_ACCOUNT_BYTES,
	STORE_QUOTA_ACCOUNT_KEYS,
};

/*
 * Who pays for what a write leaves behind: an owner, and an account within it (an agent's name),
 * if @account_len is not 0. An entry is paid by who wrote it last. A write that makes neither figure of
 * a payer larger is never refused, however far over the limit.
 */
struct store_payer {
	uint32_t owner;
	uint32_t account_len;
	const void *account; /* borrowed until the submit call returns */
	struct store_limits owner_limits, account_limits;
};

enum store_given {
	STORE_GIVEN_MEMORY, /* ephemeral: gone with the process */
	STORE_GIVEN_LOG,    /* survives the death of the process, not a power cut */
	STORE_GIVEN_SYNCED, /* fsync came before the answer */
};

/* The store's part of a request. */
struct store_task {
	struct store_task *next;
	struct store_client *client;
	/* By a reader; NULL: by the writer, as a write or, with @drop, a drop. */
	void (*run)(struct store_task *task, struct store_reader *reader);
	void (*resume)(struct store_task *task); /* of a read: the write it waited for is done */
	void (*finish)(struct store_task *task); /* in the client's thread */
	int *result;                             /* of the request */
	uint64_t wait_seq;                       /* number of the write it waits for */
	bool drop;
};

struct store_write {
	/* by the caller */
	void (*done)(struct store_write *write);
	struct store_payer payer;
	bool durable; /* fsync before done() */

	/* results */
	int result; /* 0 or STORE_E_; unless 0, nothing of it has happened (but see _FAILED) */
	uint64_t
		revision; /* what its values have as version; of the store, if it changed nothing */
	enum store_given given;
	uint32_t failed_op; /* CONFLICT, TYPE, RANGE, TOO_BIG: which */
	uint64_t version;   /* CONFLICT: what that key has; 0: absent */
	enum store_quota quota;
	uint64_t quota_used, quota_limit; /* what it would have come to */

	struct store_task task;
	struct write_body *body;
	uint64_t seq;
};

/* All ops or none, atomic for every reader. STORE_E_PENDING, _BUSY, _TOO_BIG, _INVALID or _STOPPED. */
int store_write_submit(struct store_client *client, struct store_write *write,
		       const struct store_op *ops, uint32_t count);

/* In or after done(), with result 0: what op @index left, NULL for nothing; and whether its key existed before. */
struct store_entry *store_write_entry(const struct store_write *write,
				      uint32_t index); /* borrowed */
bool store_write_existed(const struct store_write *write, uint32_t index);
void store_write_deinit(struct store_write *write); /* after done(); releases what it holds */

/*
 * Deletes everything in a space, some hundred keys at a time between other writes. Later writes to that space
 * may be deleted with it, so its user must be gone.
 */
struct store_drop {
	void (*done)(struct store_drop *drop);

	int result; /* 0, STORE_E_BUSY, _FAILED, _DAMAGED or _STOPPED: then some may be left; drop again */
	uint64_t deleted;

	struct store_task task;
	uint32_t prefix_len;
	uint8_t prefix[7 + STORE_NAME_MAX];
};

int store_drop_submit(struct store_client *client, struct store_drop *drop,
		      const struct store_space *space);

/* ---- reading ---- */

/*
 * One key or several; several are read as of one moment. Tiers: the client's cache; what RocksDB has
 * in memory, on the client's thread; the disk, on a thread of the store.
 */
struct store_get {
	void (*done)(struct store_get *get);
	bool memory_only; /* what would take waiting is not begun: STORE_E_PENDING, and no done() */

	int result; /* 0, STORE_E_BUSY, _TOO_BIG, _FAILED, _DAMAGED or _STOPPED */
	uint64_t
		revision; /* every change up to this one is in the answer: get.c. Watch from here */
	uint32_t count;
	struct store_entry **entries; /* NULL: absent. Owned by @get */

	struct store_task task;
	struct get_body *body;
};

/* 0 (answered), STORE_E_PENDING, _BUSY, _TOO_BIG or _INVALID. */
int store_get_submit(struct store_client *client, struct store_get *get,
		     const struct store_key *keys, uint32_t count);
void store_get_deinit(struct store_get *get);

struct store_row {
	uint8_t *key; /* within the space */
	uint32_t key_len;
	struct store_entry *entry; /* NULL with @keys_only */
};

/*
 * Keys of a space with a prefix, in byte order. A page is as of one moment; the next page sees later
 * writes. A page may be short, even empty, and still not be the last: go by @more.
 */
struct store_scan {
	void (*done)(struct store_scan *scan);
	bool keys_only;
	uint32_t limit; /* rows; 0 or more than 1000: 1000 */
	uint32_t prefix_len, cursor_len;
	const void *prefix; /* borrowed until the submit call returns */
	const void *
		cursor; /* @next_cursor of the page before; none: NULL, 0. Cannot leave space and prefix */

	int result;
	uint64_t revision;
	uint32_t count;
	struct store_row *rows;
	bool more;
	const uint8_t *next_cursor;
	uint32_t next_cursor_len;

	struct store_task task;
	struct scan_body *body;
};

/* STORE_E_PENDING, _BUSY, _INVALID. Freed by store_scan_deinit() after done(). */
int store_scan_submit(struct store_client *client, struct store_scan *scan,
		      const struct store_space *space);
void store_scan_deinit(struct store_scan *scan);

/* ---- watching ---- */

enum store_change {
	STORE_CHANGED,
	STORE_DELETED,
	STORE_EXPIRED,
};

struct store_event {
	uint64_t revision;
	enum store_change change;
	struct store_entry *entry; /* STORE_CHANGED: the value; owned by whoever got the event */
	bool more; /* further events of this watch have the same revision: none is between them */
	uint32_t key_len;
	uint8_t *key; /* within the space; freed with the event */
};

/*
 * Changes of a key, or of all keys with a prefix. The store remembers a bounded number of changes; a
 * watch is a place among them, so a slow watcher costs nothing and is at worst told STORE_E_COMPACTED.
 * A watch without matching changes does not fall behind, once it has looked through those it began with.
 */
struct store_watch {
	void (*ready)(
		struct store_watch *watch); /* from store_client_reap(): call store_watch_next() */

	struct list by_place, by_ready; /* the store's, under its mutex */
	struct store_client *client;
	uint64_t hash, position; /* of the space or key; of the next event to look at */
	bool pending, lost, prefix;
	uint32_t len, space_len;
	uint8_t *place; /* encoded space and key or prefix */
};

/* From now on; no revision reaches it. */
#define STORE_WATCH_NOW UINT64_MAX

/*
 * Of a whole key, or with @prefix of all keys that begin with it (key_len may be 0). Tells changes of
 * revisions above @after, which is the revision of a read, of an event without @more, or STORE_WATCH_NOW. Above 0
 * are all that ever were: the store remembers those only while it is new.
 * 0, -ENOMEM, STORE_E_COMPACTED, _INVALID or _BUSY (watches_max).
 */
int store_watch_open(struct store_client *client, struct store_watch *watch,
		     const struct store_key *key, bool prefix, uint64_t after);

/*
 * Up to @max next events, oldest first. With fewer than @max, ready() will tell of further ones. After
 * STORE_E_COMPACTED the watch tells nothing more: close it, read again, open it anew.
 */
int store_watch_next(struct store_watch *watch, struct store_event *events, uint32_t max,
		     uint32_t *ret_count);
void store_watch_close(struct store_watch *watch);
void store_event_deinit(struct store_event *event);

/* ---- rarely ---- */

/*
 * Long work on the store as a whole, one at a time; another meanwhile is STORE_E_BUSY. Reads and writes go
 * on; a restore holds up writes, and reads that need RocksDB, while the database is changed.
 */
enum store_chore_kind {
	/* To @path, a directory that it makes, mode 0700; on the same file system it is quick. */
	STORE_BACKUP,
	/*
	 * From @path, which a backup made: checked as a whole first, then put in place at one instant. Afterwards all
	 * watches are STORE_E_COMPACTED, and the session scope is empty. On failure nothing has changed.
	 */
	STORE_RESTORE,
	/*
	 * Reads every byte, compares checksums, usage figures and expiries. Finds: STORE_E_DAMAGED. Gives up with
	 * STORE_E_BUSY when the database is replaced meanwhile.
	 */
	STORE_VERIFY,
	/* What the payer @owner, @account uses. */
	STORE_USAGE,
};

struct store_chore {
	void (*done)(struct store_chore *chore);
	enum store_chore_kind kind;
	const char *path; /* borrowed until done() */
	uint32_t owner;
	uint32_t account_len;
	const void *account; /* borrowed until done() */

	int result;
	uint64_t bytes, keys; /* VERIFY: read; USAGE: used */
	char text[STORE_TEXT_MAX];

	struct store_task task;
};

/* STORE_E_PENDING, _BUSY or _STOPPED. */
int store_chore_submit(struct store_client *client, struct store_chore *chore);
