/* SPDX-License-Identifier: MIT */

/*
 * Sleeping and waking
 *
 * A core that is about to wait says so in @sleeping, then looks at its lanes once more; a producer pushes, then
 * looks at @sleeping. Between store and look both have a full fence, so at least one of them sees
 * the other: either the producer wakes, or the core finds the item. The exchange lets exactly one of
 * several producers pay for the wake. ThreadSanitizer does not model fences; it gets sequentially
 * consistent accesses instead, which order the same.
 *
 * Draining
 *
 * kernel->draining is set by main, once. Each core then takes no new work, lets what is in flight end, and
 * after LIMIT_DRAIN_MS gives up on the rest: jobs are killed, connections closed, and when no job is
 * left the thread returns. The launcher, which outlives the cores, ends what would not die.
 */

#include "core/shard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "core/agent.h"
#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/conn.h"
#include "core/files.h"
#include "core/job.h"
#include "core/listener.h"
#include "core/request.h"

enum {
	PARCEL_RETRY_NS = 100000, /* the other core is busy draining a full lane */
};

/* ---- the shared output ---- */

static int out_append(void *data, const char *bytes, size_t len)
{
	struct out *out = data;

	CHECK(!out->handed);
	if (out->cap - out->len < len) {
		size_t cap = out->cap * 2;
		uint8_t *grown;

		while (cap - out->len < len)
			cap *= 2;
		grown = realloc(out->data, cap);
		if (!grown) {
			out->failed = true;
			return -1;
		}
		out->data = grown;
		out->cap = cap;
	}
	if (len) /* msgpack-c passes NULL for nothing */
		memcpy(out->data + out->len, bytes, len);
	out->len += len;
	return 0;
}

static int out_init(struct out *out)
{
	out->cap = out->former_cap = 2 * LIMIT_OUT_SHARED_BYTES;
	out->data = malloc(out->cap);
	out->former = malloc(out->former_cap);
	if (!out->data || !out->former)
		return err_raise(-ENOMEM);
	msgpack_packer_init(&out->packer, out, out_append);
	return 0;
}

static void out_reset(struct out *out)
{
	out->handed = false;
	out->len = 0;
	out->piece_count = 0;
}

/* The pass is over: everything was sent, will be sent from here by the loop, or moved to backlogs. */
static void out_turn(struct out *out)
{
	uint8_t *data = out->former;
	size_t cap = out->former_cap;

	if (!out->len)
		return;
	out->former = out->data;
	out->former_cap = out->cap;
	out->data = data;
	out->cap = cap;
	out_reset(out);
	if (cap <= 4 * LIMIT_OUT_SHARED_BYTES)
		return;
	/* A burst's memory is given back. */
	data = realloc(data, 2 * LIMIT_OUT_SHARED_BYTES);
	if (data) {
		out->data = data;
		out->cap = 2 * LIMIT_OUT_SHARED_BYTES;
	}
}

void shard_bound_output(struct shard *shard)
{
	if (shard->out.len <= LIMIT_OUT_SHARED_BYTES)
		return;
	list_for_each (it, &shard->dirty)
		conn_send(container_of(it, struct conn, dirty), true);
	out_reset(&shard->out);
}

/* ---- waking ---- */

static void full_fence(void)
{
#ifndef CLOVE_TSAN
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

#ifdef CLOVE_TSAN
#define SLEEP_ORDER memory_order_seq_cst
#else
#define SLEEP_ORDER memory_order_relaxed
#endif

static bool sleeper_claim(struct shard *to)
{
	full_fence();
	return atomic_load_explicit(&to->sleeping, SLEEP_ORDER) &&
	       atomic_exchange_explicit(&to->sleeping, false, memory_order_acq_rel);
}

void shard_wake(struct shard *from, struct shard *to)
{
	if (from)
		from->wake_mask |= 1u << to->index;
	else if (sleeper_claim(to))
		loop_wake(NULL, to->loop);
}

bool shard_post(struct shard *from, struct shard *to, struct lane_item item)
{
	if (!lane_push(from->kernel->lanes[from->index][to->index], item))
		return false;
	STAT_ADD(from->stats.crossings, 1);
	shard_wake(from, to);
	return true;
}

void shard_send(struct shard *from, struct shard *to, struct parcel *parcel, struct lane_item item)
{
	*parcel = (struct parcel){.to = to, .item = item};
	list_init(&parcel->waiting);
	if (from == to)
		item.deliver(to, item.arg, item.value);
	else if (!list_empty(&from->parcels) || !shard_post(from, to, item))
		list_append(&from->parcels, &parcel->waiting);
}

/* In order, those behind one for a full lane included: few, and soon over. */
static void parcels_send(struct shard *shard)
{
	while (!list_empty(&shard->parcels)) {
		struct parcel *parcel = container_of(shard->parcels.next, struct parcel, waiting);

		/* Unlinked first: once posted, the other core may free it. */
		list_unlink(&parcel->waiting);
		if (!shard_post(shard, parcel->to, parcel->item)) {
			list_prepend(&shard->parcels, &parcel->waiting);
			return;
		}
	}
}

static void wake_others(struct shard *shard)
{
	for (; shard->wake_mask; shard->wake_mask &= shard->wake_mask - 1) {
		struct shard *to = shard->kernel->shards[__builtin_ctz(shard->wake_mask)];

		if (sleeper_claim(to))
			loop_wake(shard->loop, to->loop);
	}
}

/* ---- the pass ---- */

static unsigned lane_sources(const struct kernel *kernel)
{
	return kernel->core_count + LIMIT_SIDE_THREADS;
}

static bool lanes_pending(struct shard *shard)
{
	for (unsigned from = 0; from < lane_sources(shard->kernel); from++)
		if (lane_pending(shard->kernel->lanes[from][shard->index]))
			return true;
	return false;
}

static void lanes_drain(struct shard *shard)
{
	struct lane_item item;

	for (unsigned from = 0; from < lane_sources(shard->kernel); from++) {
		struct lane *lane = shard->kernel->lanes[from][shard->index];

		for (unsigned n = 0; n < LIMIT_LANE_ITEMS_PER_PASS && lane_pop(lane, &item); n++)
			item.deliver(shard, item.arg, item.value);
	}
}

static void carried_run(struct shard *shard)
{
	struct list now;
	struct list *it;

	list_init(&now);
	list_move(&now, &shard->carried);
	while ((it = list_shift(&now)))
		conn_continue(container_of(it, struct conn, carried));
}

static void dirty_flush(struct shard *shard)
{
	struct list *it;

	while ((it = list_shift(&shard->dirty)))
		conn_flush(container_of(it, struct conn, dirty));
	out_turn(&shard->out);
}

/* Waits for events, unless there is work: none may appear unseen between the last look and the wait. */
static int wait_for_work(struct shard *shard)
{
	uint64_t timeout_ns = timers_next(&shard->timers, shard->now_ns);
	bool draining;
	int r;

	if (!list_empty(&shard->carried) || !list_empty(&shard->dirty))
		timeout_ns = 0;
	if (!list_empty(&shard->parcels) && timeout_ns > PARCEL_RETRY_NS)
		timeout_ns = PARCEL_RETRY_NS;
	if (timeout_ns) {
		atomic_store_explicit(&shard->sleeping, true, SLEEP_ORDER);
		full_fence();
		draining = atomic_load_explicit(&shard->kernel->draining, memory_order_relaxed);
		if (lanes_pending(shard) || state_is_due(shard) || draining != shard->draining)
			timeout_ns = 0;
	}
	r = loop_wait(shard->loop, timeout_ns);
	atomic_store_explicit(&shard->sleeping, false, SLEEP_ORDER);
	STAT_ADD(shard->stats.wakeups, 1);
	return r;
}

/* ---- draining ---- */

static bool any_in_flight(struct shard *shard)
{
	list_for_each (it, &shard->conns) {
		struct conn *conn = container_of(it, struct conn, link);

		if (conn->in_flight || buf_unread(&conn->backlog))
			return true;
	}
	return false;
}

static void on_drain_end(struct timer *timer)
{
	(void)timer; /* only makes the loop pass by */
}

static void drain_begin(struct shard *shard)
{
	shard->draining = true;
	shard->drain_end_ns = shard->now_ns + LIMIT_DRAIN_MS * CLOCK_NS_PER_MS;
	listener_stop(shard);
	agent_kill_all(shard);
	list_for_each (it, &shard->conns)
		request_end_streams(container_of(it, struct conn, link));
	if (timer_set(&shard->timers, &shard->drain_end, shard->drain_end_ns, on_drain_end))
		shard->drain_end_ns = shard->now_ns;
}

/* True when nothing is left to wait for. */
static bool drain_step(struct shard *shard)
{
	bool late = shard->now_ns >= shard->drain_end_ns;

	if (!late && (any_in_flight(shard) || !list_empty(&shard->agents)))
		return false;
	while (!list_empty(&shard->conns))
		conn_close(container_of(shard->conns.next, struct conn, link));
	return true;
}

static int shard_run(struct shard *shard)
{
	int r;

	for (;;) {
		shard->pass++;
		parcels_send(shard);
		wake_others(shard);
		dirty_flush(shard);
		/* Connections that were closed by that may have sent something on. */
		wake_others(shard);
		state_flush(shard);
		if (shard->draining && drain_step(shard))
			return 0;
		r = wait_for_work(shard);
		if (r)
			return err_trace(r);
		shard->now_ns = clock_now_ns();
		carried_run(shard);
		lanes_drain(shard);
		state_reap(shard);
		timers_run(&shard->timers, shard->now_ns);
		if (!shard->draining &&
		    atomic_load_explicit(&shard->kernel->draining, memory_order_relaxed))
			drain_begin(shard);
	}
}

/* ---- life ---- */

int shard_new(struct kernel *kernel, unsigned index, struct shard **ret_shard)
{
	CLEANUP(shard_freep) struct shard *shard = NULL;
	int r;

	shard = aligned_alloc(64, sizeof(*shard));
	if (!shard)
		return err_raise(-ENOMEM);
	memset(shard, 0, sizeof(*shard));
	shard->kernel = kernel;
	shard->index = index;
	channel_init(&shard->channel);
	list_init(&shard->conns);
	list_init(&shard->dirty);
	list_init(&shard->carried);
	list_init(&shard->unparsed);
	list_init(&shard->unknown);
	list_init(&shard->parcels);
	list_init(&shard->children);
	list_init(&shard->jobs);
	list_init(&shard->agents);
	workspace_watch_init(&shard->workspaces);
	state_init(shard);
	shard->null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (shard->null_fd < 0)
		return err_raise(-errno);
	r = out_init(&shard->out);
	if (r)
		return err_trace(r);
	*ret_shard = TAKE(shard);
	return 0;
}

struct shard *shard_free(struct shard *shard)
{
	if (!shard)
		return NULL;
	shard->loop = loop_free(shard->loop);
	timers_deinit(&shard->timers);
	shard->null_fd = fd_close(shard->null_fd);
	shard->channel.fd = fd_close(shard->channel.fd);
	free(shard->out.data);
	free(shard->out.former);
	free(shard->out.pieces);
	state_free(shard);
	free(shard);
	return NULL;
}

/* Handed to the new thread until it has said how its start went. */
struct start {
	struct shard *shard;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	bool done;
	int result;
};

static int loop_open(struct shard *shard)
{
	int r;

	shard->now_ns = clock_now_ns();
	r = loop_new(&shard->kernel->io, &shard->loop);
	if (!r)
		r = channel_open(shard);
	if (!r && shard->index == 0)
		r = listener_start(shard);
	return err_trace(r);
}

static void *shard_main(void *arg)
{
	struct start *start = arg;
	struct shard *shard = start->shard;
	char name[16];
	int r;

	(void)snprintf(name, sizeof(name), "core-%u", shard->index);
	(void)prctl(PR_SET_NAME, name);
	r = loop_open(shard);
	(void)pthread_mutex_lock(&start->mutex);
	start->result = r;
	start->done = true;
	(void)pthread_cond_signal(&start->changed);
	(void)pthread_mutex_unlock(&start->mutex);
	if (r)
		return NULL;

	r = shard_run(shard);
	if (r) {
		/* A core without its loop cannot serve, and its clients must not hang: end the process. */
		log_error("core-lost", "core=%u errno=%d", shard->index, -r);
		abort();
	}
	job_free_all(shard);
	agent_free_all(shard);
	workspace_watch_deinit(shard);
	channel_close(shard);
	/* What was removed is let go of now, not when all cores have ended: clients see that they are closed. */
	(void)loop_wait(shard->loop, 0);
	return NULL;
}

int shard_start(struct shard *shard)
{
	struct start start = {
		.shard = shard,
		.mutex = PTHREAD_MUTEX_INITIALIZER,
		.changed = PTHREAD_COND_INITIALIZER,
	};
	int r = pthread_create(&shard->thread, NULL, shard_main, &start);

	if (r)
		return err_raise(-r);
	(void)pthread_mutex_lock(&start.mutex);
	while (!start.done)
		(void)pthread_cond_wait(&start.changed, &start.mutex);
	(void)pthread_mutex_unlock(&start.mutex);
	if (start.result)
		(void)pthread_join(shard->thread, NULL);
	return err_trace(start.result);
}

void shard_join(struct shard *shard)
{
	(void)pthread_join(shard->thread, NULL);
}

static void item_drop(const struct lane_item *item)
{
	if (item->drop)
		item->drop(item->arg, item->value);
}

void shards_drop_sent(struct kernel *kernel)
{
	struct lane_item item;
	struct list *it;

	for (unsigned from = 0; from < kernel->core_count; from++) {
		for (unsigned to = 0; to < kernel->core_count; to++)
			while (lane_pop(kernel->lanes[from][to], &item))
				item_drop(&item);
		while ((it = list_shift(&kernel->shards[from]->parcels))) {
			item = container_of(it, struct parcel, waiting)->item;
			item_drop(&item);
		}
	}
}
