/* SPDX-License-Identifier: MIT */

/*
 * The part of the loop that both back ends share: the table of slots, waking by eventfd, the choice
 */

#include "core/loop_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/base/cleanup.h"
#include "core/base/err.h"

enum {
	SLOTS_FIRST = 64,
};

const char *loop_backend_name(enum loop_backend backend)
{
	static const char *const names[] = {"auto", "uring", "epoll"};

	return names[backend];
}

int loop_probe(enum loop_backend wanted, struct loop_features *ret_features)
{
	struct loop_features features = {.backend = LOOP_EPOLL};
	int r;

	if (wanted == LOOP_EPOLL) {
		(void)snprintf(features.reason, sizeof(features.reason), "asked for");
		*ret_features = features;
		return 0;
	}
	r = loop_uring_probe(&features);
	features.backend = r ? LOOP_EPOLL : LOOP_URING;
	*ret_features = features;
	return r && wanted == LOOP_URING ? -ENOSYS : 0;
}

static void on_wake(struct loop_source *source)
{
	struct loop *loop = (struct loop *)((char *)source - offsetof(struct loop, waker));
	uint64_t count;

	if (read(loop->wake_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		UNREACHABLE();
	loop_want_ready(loop, source);
}

static const struct loop_handler wake_handler = {.ready = on_wake};

int loop_new(const struct loop_features *features, struct loop **ret_loop)
{
	const struct loop_ops *ops =
		features->backend == LOOP_URING ? &loop_uring_ops : &loop_epoll_ops;
	struct loop *loop = calloc(1, ops->size);
	int r;

	if (!loop)
		return err_raise(-ENOMEM);
	loop->ops = ops;
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake_fd < 0) {
		r = err_raise(-errno);
		free(loop);
		return r;
	}
	r = ops->open(loop, features);
	if (r) {
		loop->wake_fd = fd_close(loop->wake_fd);
		free(loop);
		return err_trace(r);
	}
	r = loop_add(loop, &loop->waker, loop->wake_fd, &wake_handler);
	if (r) {
		(void)loop_free(loop);
		return err_trace(r);
	}
	loop_want_ready(loop, &loop->waker);
	*ret_loop = loop;
	return 0;
}

struct loop *loop_free(struct loop *loop)
{
	if (!loop)
		return NULL;
	loop->ops->close(loop);
	loop->wake_fd = fd_close(loop->wake_fd);
	free(loop->slots);
	free(loop);
	return NULL;
}

static int slots_grow(struct loop *loop)
{
	uint32_t count = loop->slot_count ? loop->slot_count * 2 : SLOTS_FIRST;
	struct loop_slot *slots = realloc(loop->slots, count * sizeof(*slots));

	if (!slots)
		return err_raise(-ENOMEM);
	memset(slots + loop->slot_count, 0, (count - loop->slot_count) * sizeof(*slots));
	for (uint32_t i = loop->slot_count ? loop->slot_count : 1; i < count; i++) {
		slots[i].next_free = loop->slot_free;
		loop->slot_free = i;
	}
	loop->slots = slots;
	loop->slot_count = count;
	return 0;
}

int loop_add(struct loop *loop, struct loop_source *source, int fd,
	     const struct loop_handler *handler)
{
	struct loop_slot *slot;
	int r;

	CHECK(!loop_has(source));
	if (!loop->slot_free) {
		r = slots_grow(loop);
		if (r)
			return err_trace(r);
	}
	*source = (struct loop_source){.handler = handler, .fd = fd, .slot = loop->slot_free};
	slot = &loop->slots[source->slot];
	loop->slot_free = slot->next_free;
	slot->source = source;
	return 0;
}

void loop_remove(struct loop *loop, struct loop_source *source)
{
	struct loop_slot *slot;

	if (!loop_has(source))
		return;
	source->reading = false;
	loop->ops->forget(loop, source);
	slot = &loop->slots[source->slot];
	CHECK(slot->source == source);
	slot->source = NULL;
	slot->generation++;
	slot->next_free = loop->slot_free;
	loop->slot_free = source->slot;
	source->slot = 0;
}

void loop_listen(struct loop *loop, struct loop_source *source)
{
	loop->ops->listen(loop, source, true);
}

void loop_unlisten(struct loop *loop, struct loop_source *source)
{
	loop->ops->listen(loop, source, false);
}

void loop_read(struct loop *loop, struct loop_source *source, bool on)
{
	if (source->reading == on)
		return;
	source->reading = on;
	loop->ops->read(loop, source);
}

ssize_t loop_send(struct loop *loop, struct loop_source *source, const void *bytes, size_t len)
{
	return loop->ops->send(loop, source, bytes, len);
}

void loop_want_write(struct loop *loop, struct loop_source *source)
{
	loop->ops->want_write(loop, source);
}

void loop_want_ready(struct loop *loop, struct loop_source *source)
{
	loop->ops->want_ready(loop, source);
}

void loop_want_gone(struct loop *loop, struct loop_source *source)
{
	loop->ops->want_gone(loop, source);
}

int loop_wait(struct loop *loop, uint64_t timeout_ns)
{
	return loop->ops->wait(loop, timeout_ns);
}

void loop_wake(struct loop *from, struct loop *to)
{
	static const uint64_t one = 1;

	if (from && to->ops->wake && to->ops->wake(from, to))
		return;
	/* EAGAIN means the counter is full: the wake is already there. */
	if (write(to->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		UNREACHABLE();
}
