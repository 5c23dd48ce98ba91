/* SPDX-License-Identifier: MIT */

/*
 * The client's side of writing, and what comes back
 *
 * Finished requests are pushed on a list by the threads of the store, newest first, and taken as a whole by the
 * client, which turns them round. Whoever makes the client due for the first time since its last reap wakes it.
 *
 * A read that concerns a key with a write under way is parked until that write is done: by the number of the write,
 * kept per hash of the key, so that nothing has to be allocated or removed. Two keys of one hash mean waiting for
 * nothing, no more.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/err.h"
#include "store/batch.h"
#include "store/client.h"
#include "store/store_priv.h"

/* ---- coming back ---- */

void store_wake(struct store_client *client)
{
	/* Pairs with store_client_reap(): what was handed over before is seen after the flag was taken. */
	if (!atomic_exchange_explicit(&client->woken, true, memory_order_acq_rel))
		client->store->wake(client->store->wake_args[client->index]);
}

void store_finish(struct store_client *client, struct store_task *first, struct store_task *last)
{
	struct store_task *head = atomic_load_explicit(&client->finished, memory_order_relaxed);

	do
		last->next = head;
	while (!atomic_compare_exchange_weak_explicit(&client->finished, &head, first,
						      memory_order_release, memory_order_relaxed));
	store_wake(client);
}

static void take_finished(struct store_client *client)
{
	struct store_task *task =
		atomic_exchange_explicit(&client->finished, NULL, memory_order_acquire);
	struct store_task *turned = NULL, *tail = task;

	while (task) {
		struct store_task *next = task->next;

		task->next = turned;
		turned = task;
		task = next;
	}
	if (!turned)
		return;
	if (client->due)
		client->due_tail->next = turned;
	else
		client->due = turned;
	client->due_tail = tail;
}

static void finish_write(struct store_task *task);

static struct store_write *write_of(struct store_task *task)
{
	return task->finish == finish_write ? container_of(task, struct store_write, task) : NULL;
}

void store_look_ahead(const struct cache *cache, struct store_task *first)
{
	struct store_task *task = first;

	for (unsigned n = 0; task && n < STORE_AHEAD; n++, task = task->next)
		if (write_of(task))
			__builtin_prefetch(write_of(task)->body);
	for (unsigned step = 0; step < CACHE_STEPS; step++) {
		task = first;
		for (unsigned n = 0; task && n < STORE_AHEAD; n++, task = task->next) {
			const struct store_write *write = write_of(task);

			for (uint32_t i = 0; write && i < write->body->count && i < STORE_AHEAD_OPS;
			     i++)
				cache_prefetch(cache, write->body->ops[i].hash, step);
		}
	}
}

/* Reads whose writes are done go on; the others stay in their order. */
static void unpark(struct store_client *client)
{
	struct store_task *task = client->parked;

	client->parked = NULL;
	client->parked_last = &client->parked;
	while (task) {
		struct store_task *next = task->next;

		task->next = NULL;
		if (task->wait_seq > client->seq_done) {
			*client->parked_last = task;
			client->parked_last = &task->next;
		} else {
			client->parked_count--;
			task->resume(task);
		}
		task = next;
	}
}

bool store_client_reap(struct store_client *client, uint32_t max)
{
	const uint64_t seq_before = client->seq_done;
	struct store_watch *watch;

	(void)atomic_exchange_explicit(&client->woken, false, memory_order_acq_rel);
	take_finished(client);
	for (unsigned n = 0; max && client->due; n++, max--) {
		struct store_task *task = client->due;

		if (n % STORE_AHEAD == 0)
			store_look_ahead(&client->cache, task);
		client->due = task->next;
		task->next = NULL;
		task->finish(task);
	}
	if (client->seq_done != seq_before)
		unpark(client);
	for (; max && (watch = history_take_ready(client)); max--)
		watch->ready(watch);
	return client->due || atomic_load_explicit(&client->finished, memory_order_relaxed) ||
	       atomic_load_explicit(&client->watches_ready, memory_order_relaxed);
}

int client_park(struct store_client *client, struct store_task *task, uint64_t seq)
{
	if (client->parked_count >= client->store->db_config.sizes.reads_max)
		return STORE_E_BUSY;
	client->parked_count++;
	task->client = client;
	task->wait_seq = seq;
	task->next = NULL;
	*client->parked_last = task;
	client->parked_last = &task->next;
	return STORE_E_PENDING;
}

/* ---- writing ---- */

static bool takes_value(const struct store_op *op)
{
	return op->verb != STORE_DELETE && op->verb != STORE_CHECK;
}

static int check_op(const struct store *store, const struct store_op *op, size_t *bytes)
{
	const struct store_sizes *sizes = &store->db_config.sizes;
	uint32_t space_len = key_space_len(&op->key.space);

	if (!space_len || !op->key.key_len || op->verb > STORE_CHECK || op->when > STORE_IF_EXISTS)
		return STORE_E_INVALID;
	if (op->ttl_ms < 0 || op->ttl_ms > STORE_TTL_MS_MAX ||
	    takes_value(op) != (op->value_len > 0))
		return STORE_E_INVALID;
	if (op->key.key_len > sizes->key_max || op->value_len > sizes->value_max)
		return STORE_E_TOO_BIG;
	*bytes += space_len + op->key.key_len + op->value_len;
	return 0;
}

static int check_write(const struct store *store, struct store_write *write,
		       const struct store_op *ops, uint32_t count, size_t *ret_bytes)
{
	size_t bytes = write->payer.account_len;
	int r;

	if (!count || write->payer.account_len > STORE_NAME_MAX)
		return STORE_E_INVALID;
	if (count > store->db_config.sizes.ops_max)
		return STORE_E_TOO_BIG;
	for (uint32_t i = 0; i < count; i++) {
		write->failed_op = i;
		r = check_op(store, &ops[i], &bytes);
		if (r)
			return r;
	}
	*ret_bytes = bytes;
	return bytes > store->db_config.sizes.request_max ? STORE_E_TOO_BIG : 0;
}

static struct write_body *body_new(struct store *store, struct store_write *write,
				   const struct store_op *ops, uint32_t count, size_t bytes)
{
	struct write_body *body = malloc(sizeof(*body) + count * sizeof(body->ops[0]) + bytes);
	uint8_t *to;

	if (!body)
		return NULL;
	body->count = count;
	body->bytes = bytes;
	to = (uint8_t *)&body->ops[count];
	for (uint32_t i = 0; i < count; i++) {
		const struct store_op *op = &ops[i];
		uint32_t space_len = key_space_len(&op->key.space);

		body->ops[i] = (struct write_op){
			.verb = op->verb,
			.when = op->when,
			.version = op->version,
			.ttl_ms = op->ttl_ms,
			.key_len = space_len + op->key.key_len,
			.value_len = op->value_len,
			.key = to,
			.value = to + space_len + op->key.key_len,
		};
		key_space_write(&op->key.space, to);
		memcpy(to + space_len, op->key.key, op->key.key_len);
		if (op->value_len)
			memcpy(body->ops[i].value, op->value, op->value_len);
		body->ops[i].hash = hash_bytes(&store->seed, to, body->ops[i].key_len);
		to = body->ops[i].value + op->value_len;
	}
	if (write->payer.account_len) {
		memcpy(to, write->payer.account, write->payer.account_len);
		write->payer.account = to;
	}
	return body;
}

/* What waits for the writer, of all clients together. */
static bool reserve(struct store *store, uint64_t ops, uint64_t bytes)
{
	const struct store_sizes *sizes = &store->db_config.sizes;
	uint64_t had_ops = atomic_fetch_add_explicit(&store->queue_ops, ops, memory_order_relaxed);
	uint64_t had_bytes =
		atomic_fetch_add_explicit(&store->queue_bytes, bytes, memory_order_relaxed);

	if (had_ops + ops <= sizes->queue_ops && had_bytes + bytes <= sizes->queue_bytes)
		return true;
	(void)atomic_fetch_sub_explicit(&store->queue_ops, ops, memory_order_relaxed);
	(void)atomic_fetch_sub_explicit(&store->queue_bytes, bytes, memory_order_relaxed);
	return false;
}

static void submit(struct store_client *client, struct store_task *task, int *result)
{
	task->result = result;
	task->client = client;
	task->run = NULL;
	task->next = NULL;
	*client->submitted_last = task;
	client->submitted_last = &task->next;
}

static void finish_write(struct store_task *task)
{
	struct store_write *write = container_of(task, struct store_write, task);
	struct store_client *client = task->client;

	client->seq_done = write->seq;
	for (uint32_t i = 0; !write->result && i < write->body->count; i++) {
		const struct write_op *op = &write->body->ops[i];

		/* A write to one key twice: the cache keeps the later, for it comes last. */
		if (op->verb != STORE_CHECK)
			cache_put(&client->cache, op->hash, op->key, op->key_len, op->entry,
				  write->revision << 1);
	}
	write->done(write);
}

int store_write_submit(struct store_client *client, struct store_write *write,
		       const struct store_op *ops, uint32_t count)
{
	struct store *store = client->store;
	size_t bytes;
	int r;

	write->result = 0;
	write->failed_op = 0;
	write->version = 0;
	write->revision = 0;
	write->quota = STORE_QUOTA_NONE;
	write->body = NULL;
	r = store->closing ? STORE_E_STOPPED : check_write(store, write, ops, count, &bytes);
	if (r)
		return r;
	write->failed_op = 0;
	if (!reserve(store, count, bytes))
		return STORE_E_BUSY;
	write->body = body_new(store, write, ops, count, bytes);
	if (!write->body) {
		(void)atomic_fetch_sub_explicit(&store->queue_ops, count, memory_order_relaxed);
		(void)atomic_fetch_sub_explicit(&store->queue_bytes, bytes, memory_order_relaxed);
		return STORE_E_BUSY;
	}
	write->seq = ++client->seq;
	for (uint32_t i = 0; i < count; i++)
		client->pending[write->body->ops[i].hash % STORE_PENDING_SLOTS] = write->seq;
	write->task.finish = finish_write;
	write->task.drop = false;
	submit(client, &write->task, &write->result);
	return STORE_E_PENDING;
}

struct store_entry *store_write_entry(const struct store_write *write, uint32_t index)
{
	CHECK(index < write->body->count);
	return write->body->ops[index].entry;
}

bool store_write_existed(const struct store_write *write, uint32_t index)
{
	CHECK(index < write->body->count);
	return write->body->ops[index].existed;
}

void store_write_deinit(struct store_write *write)
{
	if (!write->body)
		return;
	for (uint32_t i = 0; i < write->body->count; i++)
		(void)store_entry_unref(write->body->ops[i].entry);
	free(write->body);
	write->body = NULL;
}

static void finish_drop(struct store_task *task)
{
	struct store_drop *drop = container_of(task, struct store_drop, task);

	drop->done(drop);
}

int store_drop_submit(struct store_client *client, struct store_drop *drop,
		      const struct store_space *space)
{
	uint32_t len = key_space_len(space);

	if (!len)
		return STORE_E_INVALID;
	if (client->store->closing)
		return STORE_E_STOPPED;
	if (!reserve(client->store, 1, 0))
		return STORE_E_BUSY;
	drop->result = 0;
	drop->deleted = 0;
	drop->prefix_len = len;
	key_space_write(space, drop->prefix);
	drop->task.finish = finish_drop;
	drop->task.drop = true;
	submit(client, &drop->task, &drop->result);
	return STORE_E_PENDING;
}

void store_client_flush(struct store_client *client)
{
	struct store *store = client->store;

	if (!client->submitted)
		return;
	(void)pthread_mutex_lock(&store->mutex);
	*store->writes_last = client->submitted;
	store->writes_last = client->submitted_last;
	if (store->writer_asleep)
		(void)pthread_cond_signal(&store->work);
	(void)pthread_mutex_unlock(&store->mutex);
	client->submitted = NULL;
	client->submitted_last = &client->submitted;
}
