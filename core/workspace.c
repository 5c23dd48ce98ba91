/* SPDX-License-Identifier: MIT */

#include "core/workspace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/agent.h"
#include "core/base/cleanup.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/kernel.h"
#include "core/shard.h"
#include "sandbox/measurer.h"

enum {
	TICK_MS = 1000,
	DROP_BYTES = 1 << 20, /* less is not worth a round */
	DROP_FILES = 256,
};

static void on_tick(struct timer *timer);

static struct shard *shard_of(struct workspace_watch *watch)
{
	return container_of(watch, struct shard, workspaces);
}

static void tick_later(struct workspace_watch *watch)
{
	struct shard *shard = shard_of(watch);

	(void)timer_set(&shard->timers, &watch->tick, shard->now_ns + TICK_MS * CLOCK_NS_PER_MS,
			on_tick);
}

static void measurer_close(struct workspace_watch *watch)
{
	int fd = watch->source.fd;

	if (fd < 0)
		return;
	loop_remove(shard_of(watch)->loop, &watch->source);
	(void)close(fd);
	watch->source.fd = -1;
	watch->asked = 0;
}

static void round_end(struct workspace_watch *watch)
{
	free(watch->ids);
	watch->ids = NULL;
	watch->count = watch->next = 0;
}

struct verdict {
	struct parcel parcel;
	uint32_t id;
};

static void end_it(struct shard *shard, void *arg, uint64_t bytes)
{
	struct verdict *verdict = arg;
	struct agent *agent = agent_find(shard, verdict->id);

	if (agent) {
		log_warn("workspace-full", "id=%u name=%s bytes=%llu limit=%llu", agent->id,
			 agent->options.name, (unsigned long long)bytes,
			 (unsigned long long)agent->options.workspace_bytes);
		agent_kill(agent, AGENT_WORKSPACE_FULL, 0, 0);
	}
	free(verdict);
}

static void end_nothing(void *arg, uint64_t value)
{
	(void)value;
	free(arg);
}

static void judge(struct workspace_watch *watch, const struct measure *measure)
{
	struct shard *shard = shard_of(watch);
	struct agent_card card;
	struct verdict *verdict;

	if (measure->error ||
	    directory_find(shard->kernel->directory, (uint32_t)measure->id, &card) || !card.live ||
	    measure->bytes < card.workspace_bytes)
		return;
	verdict = calloc(1, sizeof(*verdict));
	if (!verdict)
		return; /* the next round finds it again */
	verdict->id = card.id;
	shard_send(shard, shard->kernel->shards[card.core], &verdict->parcel,
		   (struct lane_item){.deliver = end_it,
				      .drop = end_nothing,
				      .arg = verdict,
				      .value = measure->bytes});
}

/* True when a question is out. */
static bool ask(struct workspace_watch *watch, uint32_t id)
{
	struct kernel *kernel = shard_of(watch)->kernel;
	char path[16 + LIMIT_AGENT_HOME_BYTES + 16];
	CLEANUP(fd_closep) int dir = -1;
	struct agent_card card;

	if (directory_find(kernel->directory, id, &card) || !card.live || !card.workspace_bytes)
		return false;
	(void)snprintf(path, sizeof(path), "%u/%s/workspace", card.owner, card.home);
	dir = openat(kernel->agents_fd, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || measurer_ask(watch->source.fd, id, dir, card.workspace_bytes))
		return false;
	watch->asked = id;
	return true;
}

static void round_go_on(struct workspace_watch *watch)
{
	while (watch->next < watch->count)
		if (ask(watch, watch->ids[watch->next++]))
			return;
	round_end(watch);
}

static void on_answer(struct loop_source *source)
{
	struct workspace_watch *watch = container_of(source, struct workspace_watch, source);
	struct measure measure;
	int r = measurer_answer(source->fd, &measure);

	if (r && r != LAUNCH_E_EMPTY) {
		/* The next tick starts another. */
		measurer_close(watch);
		round_end(watch);
		return;
	}
	if (!r) {
		watch->asked = 0;
		judge(watch, &measure);
		round_go_on(watch);
	}
	loop_want_ready(shard_of(watch)->loop, source);
}

static const struct loop_handler handler = {.ready = on_answer};

/* 0 or -errno. */
static int measurer_open(struct workspace_watch *watch)
{
	struct shard *shard = shard_of(watch);
	int fd;
	int r;

	if (watch->source.fd >= 0)
		return 0;
	r = measurer_start(shard->kernel->launcher, &fd);
	if (!r)
		r = loop_add(shard->loop, &watch->source, fd, &handler);
	if (r)
		return r > 0 ? -ECHILD : r;
	loop_want_ready(shard->loop, &watch->source);
	return 0;
}

static bool has_dropped(uint64_t *then, uint64_t now, uint64_t by)
{
	bool dropped = now + by <= *then;

	/* What others give back must be lost again before it is worth a look. */
	if (dropped || now > *then)
		*then = now;
	return dropped;
}

static void on_tick(struct timer *timer)
{
	struct workspace_watch *watch = container_of(timer, struct workspace_watch, tick);
	struct shard *shard = shard_of(watch);
	struct kernel *kernel = shard->kernel;
	struct statvfs fs;
	bool dropped;

	if (!directory_capped(kernel->directory, NULL, 0)) {
		measurer_close(watch); /* until the next agent starts */
		round_end(watch);
		watch->free_bytes = watch->free_files = 0;
		return;
	}
	tick_later(watch);
	if (watch->ids || fstatvfs(kernel->agents_fd, &fs))
		return;
	dropped = has_dropped(&watch->free_bytes, (uint64_t)fs.f_bfree * fs.f_frsize, DROP_BYTES);
	dropped = has_dropped(&watch->free_files, fs.f_ffree, DROP_FILES) || dropped;
	if (!dropped || measurer_open(watch))
		return;
	watch->ids = malloc(LIMIT_AGENTS_LIVE * sizeof(*watch->ids));
	if (!watch->ids)
		return;
	watch->count = directory_capped(kernel->directory, watch->ids, LIMIT_AGENTS_LIVE);
	watch->next = 0;
	round_go_on(watch);
}

static void begin(struct shard *shard, void *arg, uint64_t value)
{
	struct workspace_watch *watch = &shard->workspaces;

	(void)arg;
	(void)value;
	/* The first tick notes what is free, before the agent can have written much; or it is running already. */
	if (!watch->tick.place) {
		watch->free_bytes = watch->free_files = UINT64_MAX;
		tick_later(watch);
	}
}

void workspace_watch_begin(struct shard *shard)
{
	struct shard *first = shard->kernel->shards[0];

	/* A lane that is full is full of others that start; the next one does it. */
	if (shard == first)
		begin(first, NULL, 0);
	else
		(void)shard_post(shard, first, (struct lane_item){.deliver = begin});
}

void workspace_watch_init(struct workspace_watch *watch)
{
	watch->source.fd = -1;
}

void workspace_watch_deinit(struct shard *shard)
{
	measurer_close(&shard->workspaces);
	timer_unset(&shard->timers, &shard->workspaces.tick);
	round_end(&shard->workspaces);
}
