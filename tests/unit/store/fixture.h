/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A real store in a directory of its own, and calls that wait for their answer
 *
 * Client 0 and 1 both belong to the test's thread, which is allowed: one thread at a time.
 */

#include "tests/unit/testing.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "store/store.h"

enum {
	FIXTURE_CLIENTS = 2,
	FIXTURE_OWNER = 1000,
	FIXTURE_WAIT_MS = 30000, /* a deadline for tests that hang, never a measure */
};

struct fixture {
	char path[64], text[STORE_TEXT_MAX];
	struct store *store;
	int events[FIXTURE_CLIENTS];
	void *args[FIXTURE_CLIENTS];
	struct store_config config;
};

static inline void fixture_wake(void *arg)
{
	uint64_t one = 1;

	assert_int_equal(write(*(int *)arg, &one, sizeof(one)), sizeof(one));
}

static inline int fixture_try_open(struct fixture *f)
{
	return store_open(&f->config, &f->store, f->text);
}

static inline void fixture_open(struct fixture *f)
{
	int r = fixture_try_open(f);

	if (r)
		print_error("%d: %s\n", r, f->text);
	assert_int_equal(r, 0);
}

static inline void fixture_close(struct fixture *f)
{
	if (f->store)
		store_close(f->store);
	f->store = NULL;
}

static inline void fixture_reopen(struct fixture *f)
{
	fixture_close(f);
	fixture_open(f);
}

static inline int fixture_setup_closed(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	(void)snprintf(f->path, sizeof(f->path), "%s/clove-store.XXXXXX", "/tmp");
	assert_non_null(mkdtemp(f->path));
	for (unsigned i = 0; i < FIXTURE_CLIENTS; i++) {
		f->events[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		f->args[i] = &f->events[i];
	}
	f->config = (struct store_config){
		.path = f->path,
		.salvage_hint = "use --salvage",
		.clients = FIXTURE_CLIENTS,
		.wake = fixture_wake,
		.wake_args = f->args,
	};
	*state = f;
	return 0;
}

static inline int fixture_setup(void **state)
{
	(void)fixture_setup_closed(state);
	fixture_open(*state);
	return 0;
}

static inline int fixture_teardown(void **state)
{
	struct fixture *f = *state;
	char command[128];

	fixture_close(f);
	for (unsigned i = 0; i < FIXTURE_CLIENTS; i++)
		(void)fd_close(f->events[i]);
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", f->path);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

/* Lets client @index work until @done. */
static inline void fixture_await(struct fixture *f, uint32_t index, const bool *done)
{
	struct store_client *client = store_client(f->store, index);

	store_client_flush(client);
	while (!*done) {
		struct pollfd ready = {.fd = f->events[index], .events = POLLIN};
		uint64_t count;

		if (store_client_reap(client, 64)) {
			store_client_flush(client);
			continue;
		}
		store_client_flush(client);
		if (*done)
			break;
		assert_int_equal(poll(&ready, 1, FIXTURE_WAIT_MS), 1);
		assert_int_equal(read(f->events[index], &count, sizeof(count)), sizeof(count));
	}
}

static inline struct store_space space_global(void)
{
	return (struct store_space){.owner = FIXTURE_OWNER, .scope = STORE_GLOBAL};
}

static inline struct store_space space_named(enum store_scope scope, const char *name)
{
	return (struct store_space){
		.owner = FIXTURE_OWNER,
		.scope = scope,
		.name = name,
		.name_len = (uint32_t)strlen(name),
	};
}

static inline struct store_key key_global(const char *key)
{
	return (struct store_key){
		.space = space_global(), .key = key, .key_len = (uint32_t)strlen(key)};
}

/* MessagePack of a short text; one static buffer for each of four calls. */
static inline const char *packed(const char *text)
{
	static char texts[4][34];
	static unsigned next;
	char *to = texts[next++ % 4];
	size_t len = strlen(text);

	assert_true(len < 32);
	to[0] = (char)(0xa0 | len);
	memcpy(to + 1, text, len + 1);
	return to;
}

static inline struct store_op op_put(const char *key, const char *text)
{
	const char *value = packed(text);

	return (struct store_op){
		.key = key_global(key),
		.verb = STORE_PUT,
		.value = value,
		.value_len = (uint32_t)strlen(value),
	};
}

struct waited_write {
	struct store_write write;
	bool done;
};

static inline void waited_write_done(struct store_write *write)
{
	container_of(write, struct waited_write, write)->done = true;
}

/* The result; @write is to be released by store_write_deinit(). */
static inline int do_write(struct fixture *f, uint32_t index, struct waited_write *write,
			   const struct store_op *ops, uint32_t count)
{
	int r;

	write->done = false;
	write->write.done = waited_write_done;
	write->write.payer.owner = FIXTURE_OWNER;
	r = store_write_submit(store_client(f->store, index), &write->write, ops, count);
	if (r != STORE_E_PENDING)
		return r;
	fixture_await(f, index, &write->done);
	return write->write.result;
}

/* One op whose result matters alone. Its revision, or 0 for a failure that @ret_result has. */
static inline uint64_t write_one(struct fixture *f, struct store_op op, int *ret_result)
{
	struct waited_write write = {0};
	uint64_t revision;
	int r = do_write(f, 0, &write, &op, 1);

	if (ret_result)
		*ret_result = r;
	else
		assert_int_equal(r, 0);
	revision = r ? 0 : write.write.revision;
	store_write_deinit(&write.write);
	return revision;
}

static inline uint64_t put(struct fixture *f, const char *key, const char *text)
{
	return write_one(f, op_put(key, text), NULL);
}

struct waited_get {
	struct store_get get;
	bool done;
};

static inline void waited_get_done(struct store_get *get)
{
	container_of(get, struct waited_get, get)->done = true;
}

static inline int do_get(struct fixture *f, uint32_t index, struct waited_get *get,
			 const struct store_key *keys, uint32_t count)
{
	int r;

	get->done = false;
	get->get.done = waited_get_done;
	r = store_get_submit(store_client(f->store, index), &get->get, keys, count);
	if (r != STORE_E_PENDING)
		return r;
	fixture_await(f, index, &get->done);
	return get->get.result;
}

/* The value's bytes must be those of @text; NULL: absent. Its version, or 0. */
static inline uint64_t expect_at(struct fixture *f, uint32_t index, struct store_key key,
				 const char *text)
{
	struct waited_get get = {0};
	uint64_t version = 0;

	assert_int_equal(do_get(f, index, &get, &key, 1), 0);
	assert_int_equal(get.get.count, 1);
	if (!text) {
		assert_null(get.get.entries[0]);
	} else {
		const char *value = packed(text);
		uint32_t len;
		const uint8_t *bytes;

		assert_non_null(get.get.entries[0]);
		bytes = store_entry_value(get.get.entries[0], &len);
		assert_int_equal(len, strlen(value));
		assert_memory_equal(bytes, value, len);
		version = store_entry_version(get.get.entries[0]);
	}
	store_get_deinit(&get.get);
	return version;
}

static inline uint64_t expect(struct fixture *f, const char *key, const char *text)
{
	return expect_at(f, 0, key_global(key), text);
}

struct waited_scan {
	struct store_scan scan;
	bool done;
};

static inline void waited_scan_done(struct store_scan *scan)
{
	container_of(scan, struct waited_scan, scan)->done = true;
}

static inline int do_scan(struct fixture *f, uint32_t index, struct waited_scan *scan,
			  struct store_space space)
{
	int r;

	scan->done = false;
	scan->scan.done = waited_scan_done;
	r = store_scan_submit(store_client(f->store, index), &scan->scan, &space);
	if (r != STORE_E_PENDING)
		return r;
	fixture_await(f, index, &scan->done);
	return scan->scan.result;
}

struct waited_drop {
	struct store_drop drop;
	bool done;
};

static inline void waited_drop_done(struct store_drop *drop)
{
	container_of(drop, struct waited_drop, drop)->done = true;
}

static inline uint64_t do_drop(struct fixture *f, struct store_space space)
{
	struct waited_drop drop = {.drop = {.done = waited_drop_done}};

	assert_int_equal(store_drop_submit(store_client(f->store, 0), &drop.drop, &space),
			 STORE_E_PENDING);
	fixture_await(f, 0, &drop.done);
	assert_int_equal(drop.drop.result, 0);
	return drop.drop.deleted;
}

struct waited_chore {
	struct store_chore chore;
	bool done;
};

static inline void waited_chore_done(struct store_chore *chore)
{
	container_of(chore, struct waited_chore, chore)->done = true;
}

static inline int do_chore(struct fixture *f, struct waited_chore *chore,
			   enum store_chore_kind kind, const char *path)
{
	int r;

	chore->done = false;
	chore->chore.done = waited_chore_done;
	chore->chore.kind = kind;
	chore->chore.path = path;
	r = store_chore_submit(store_client(f->store, 0), &chore->chore);
	if (r != STORE_E_PENDING)
		return r;
	fixture_await(f, 0, &chore->done);
	return chore->chore.result;
}

/* Everything the store knows of itself agrees. */
static inline void expect_sound(struct fixture *f)
{
	struct waited_chore chore = {0};
	int r = do_chore(f, &chore, STORE_VERIFY, NULL);

	if (r)
		print_error("%s\n", chore.chore.text);
	assert_int_equal(r, 0);
}

static inline void expect_usage(struct fixture *f, const char *account, uint64_t keys,
				uint64_t bytes)
{
	struct waited_chore chore = {.chore = {.owner = FIXTURE_OWNER, .account = account}};

	chore.chore.account_len = (uint32_t)strlen(account);
	assert_int_equal(do_chore(f, &chore, STORE_USAGE, NULL), 0);
	assert_int_equal(chore.chore.keys, keys);
	assert_int_equal(chore.chore.bytes, bytes);
}
