/* SPDX-License-Identifier: MIT */

#include "core/channel.h"

#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "core/base/log.h"
#include "core/kernel.h"
#include "core/shard.h"
#include "sandbox/launcher.h"

enum {
	REPLIES_PER_READY = 64,
};

static struct list *bucket_of(struct channel *channel, uint64_t id)
{
	return &channel->buckets[id % CHANNEL_BUCKETS];
}

void channel_init(struct channel *channel)
{
	channel->fd = -1;
	list_init(&channel->queue);
	for (unsigned i = 0; i < CHANNEL_BUCKETS; i++)
		list_init(&channel->buckets[i]);
}

bool channel_is_open(const struct shard *shard)
{
	return shard->channel.fd >= 0;
}

void channel_add(struct shard *shard, struct launch *launch, const struct launch_type *type)
{
	*launch = (struct launch){.type = type, .id = ++shard->channel.next_id};
	list_init(&launch->queued);
	list_append(bucket_of(&shard->channel, launch->id), &launch->link);
}

void channel_remove(struct launch *launch)
{
	if (!launch->type)
		return;
	list_unlink(&launch->link);
	list_unlink(&launch->queued);
	launch->type = NULL;
}

/* False when the channel is full; otherwise it is on its way or has failed. */
static bool send_now(struct shard *shard, struct launch *launch)
{
	int r = shard->channel.fd < 0 ? LAUNCH_E_GONE
				      : launch->type->send(launch, shard->channel.fd);

	if (r == LAUNCH_E_BUSY)
		return false;
	list_unlink(&launch->queued);
	launch->state = r ? LAUNCH_IDLE : LAUNCH_ASKED;
	if (r)
		launch->type->unsent(launch, r);
	return true;
}

void channel_launch(struct shard *shard, struct launch *launch)
{
	struct channel *channel = &shard->channel;

	if (list_empty(&channel->queue) && send_now(shard, launch))
		return;
	launch->state = LAUNCH_QUEUED;
	list_append(&channel->queue, &launch->queued);
	loop_want_write(shard->loop, &channel->source);
}

int channel_signal(struct shard *shard, struct launch *launch, int signo, bool whole_tree)
{
	return shard->channel.fd < 0
		       ? LAUNCH_E_GONE
		       : launch_signal(shard->channel.fd, launch->id, signo, whole_tree);
}

static struct launch *find(struct channel *channel, uint64_t id)
{
	list_for_each (it, bucket_of(channel, id)) {
		struct launch *launch = container_of(it, struct launch, link);

		if (launch->id == id)
			return launch;
	}
	return NULL;
}

static void reply_apply(struct shard *shard, struct launch_reply *reply)
{
	struct launch *launch = find(&shard->channel, reply->id);

	if (!launch) {
		log_warn("launch-reply-lost", "id=%llu", (unsigned long long)reply->id);
	} else if (reply->type == LAUNCH_KILLED) {
		launch->type->signalled(launch, reply->error);
	} else {
		launch->state = LAUNCH_ANSWERED;
		launch->type->answered(launch, reply);
	}
	if (reply->pidfd >= 0)
		(void)close(reply->pidfd);
}

/* The launcher has died. */
static void channel_lost(struct shard *shard)
{
	struct channel *channel = &shard->channel;

	log_error("launcher-lost", "core=%u effect=\"nothing can be started until a restart\"",
		  shard->index);
	loop_remove(shard->loop, &channel->source);
	channel->fd = fd_close(channel->fd);
	for (unsigned i = 0; i < CHANNEL_BUCKETS; i++) {
		list_for_each_safe (it, &channel->buckets[i]) {
			struct launch *launch = container_of(it, struct launch, link);
			enum launch_state state = launch->state;

			list_unlink(&launch->queued);
			if (state == LAUNCH_QUEUED || state == LAUNCH_ASKED) {
				launch->state = LAUNCH_IDLE;
				launch->type->unsent(launch, LAUNCH_E_GONE);
			} else if (state == LAUNCH_ANSWERED) {
				launch->type->lost(launch);
			}
		}
	}
	strays_tell(shard);
}

static void on_ready(struct loop_source *source)
{
	struct shard *shard = container_of(source, struct shard, channel.source);
	struct launch_reply reply;
	int r = 0;

	for (unsigned n = 0; n < REPLIES_PER_READY && !r; n++) {
		r = launch_recv(shard->channel.fd, &reply);
		if (!r)
			reply_apply(shard, &reply);
	}
	if (!r || r == LAUNCH_E_EMPTY)
		loop_want_ready(shard->loop, source);
	else
		channel_lost(shard);
}

static void on_room(struct loop_source *source)
{
	struct shard *shard = container_of(source, struct shard, channel.source);
	struct list *queue = &shard->channel.queue;

	while (!list_empty(queue)) {
		if (!send_now(shard, container_of(queue->next, struct launch, queued))) {
			loop_want_write(shard->loop, source);
			return;
		}
	}
}

static const struct loop_handler handler = {
	.ready = on_ready,
	.writable = on_room,
};

int channel_open(struct shard *shard)
{
	struct channel *channel = &shard->channel;
	int r = launcher_channel(shard->kernel->launcher, &channel->fd);

	/* No two cores have the same: a command may enter the box of another core's agent. */
	channel->next_id = (uint64_t)shard->index << 48;

	if (r)
		return err_fold(r);
	r = loop_add(shard->loop, &channel->source, channel->fd, &handler);
	if (!r)
		loop_want_ready(shard->loop, &channel->source);
	return err_trace(r);
}

void channel_close(struct shard *shard)
{
	loop_remove(shard->loop, &shard->channel.source);
	shard->channel.fd = fd_close(shard->channel.fd);
}
