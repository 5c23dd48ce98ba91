/* SPDX-License-Identifier: MIT */

/*
 * Back end for every kernel: level-triggered epoll
 *
 * A descriptor is registered once, with the union of what its owner wants; @armed keeps that mask so
 * that nothing is asked of the kernel twice. Readiness that is answered once (write, ready) is taken out
 * of the mask before its handler runs. One scratch buffer per loop takes what is read, so an idle
 * connection holds no buffer.
 */

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "core/loop_priv.h"

enum {
	EVENTS_MAX = 256,
	SCRATCH_BYTES = 64 << 10,
	ACCEPTS_PER_WAIT = 64,
	READS_PER_WAIT = 2, /* of SCRATCH_BYTES, then the others get their turn */

	WANT_READ = 1,
	WANT_WRITE = 2,
	WANT_READY = 4,
	WANT_ACCEPT = 8,
	WANT_GONE = 16, /* no event of its own: hang-ups are always reported */
};

struct loop_epoll {
	struct loop loop;
	int fd;
	uint8_t *scratch;
	struct epoll_event events[EVENTS_MAX];
};

static struct loop_epoll *epoll_of(struct loop *loop)
{
	return (struct loop_epoll *)loop;
}

static int epoll_open(struct loop *loop, const struct loop_features *features)
{
	struct loop_epoll *e = epoll_of(loop);

	(void)features;
	e->scratch = malloc(SCRATCH_BYTES);
	if (!e->scratch)
		return err_raise(-ENOMEM);
	e->fd = epoll_create1(EPOLL_CLOEXEC);
	if (e->fd < 0) {
		free(e->scratch);
		return err_raise(-errno);
	}
	return 0;
}

static void epoll_close(struct loop *loop)
{
	struct loop_epoll *e = epoll_of(loop);

	e->fd = fd_close(e->fd);
	free(e->scratch);
}

static void want(struct loop *loop, struct loop_source *source, uint8_t armed)
{
	struct loop_slot *slot = &loop->slots[source->slot];
	struct epoll_event event = {
		.data.u64 = (uint64_t)slot->generation << 32 | source->slot,
	};
	int op = source->armed ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if (armed == source->armed)
		return;
	if (armed & (WANT_READ | WANT_READY | WANT_ACCEPT))
		event.events |= EPOLLIN;
	if (armed & WANT_WRITE)
		event.events |= EPOLLOUT;
	/* An unwanted descriptor leaves the set: epoll reports hang-ups whatever the mask. */
	if (!armed)
		op = EPOLL_CTL_DEL;
	/* Fails only for lack of memory or watches; then the source is silent, which its owner's timer ends. */
	if (epoll_ctl(epoll_of(loop)->fd, op, source->fd, &event) == 0)
		source->armed = armed;
	else
		(void)err_raise(-errno);
}

static void epoll_forget(struct loop *loop, struct loop_source *source)
{
	want(loop, source, 0);
}

static void epoll_listen(struct loop *loop, struct loop_source *source, bool on)
{
	want(loop, source, on ? WANT_ACCEPT : 0);
}

static void epoll_read(struct loop *loop, struct loop_source *source)
{
	uint8_t others = source->armed & (uint8_t)~WANT_READ;

	want(loop, source, source->reading ? others | WANT_READ : others);
}

static ssize_t epoll_send(struct loop *loop, struct loop_source *source, const void *bytes,
			  size_t len)
{
	ssize_t sent = send(source->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	(void)loop;
	return sent < 0 ? -errno : sent;
}

static void epoll_want_write(struct loop *loop, struct loop_source *source)
{
	want(loop, source, source->armed | WANT_WRITE);
}

static void epoll_want_ready(struct loop *loop, struct loop_source *source)
{
	want(loop, source, source->armed | WANT_READY);
}

static void epoll_want_gone(struct loop *loop, struct loop_source *source)
{
	want(loop, source, source->armed | WANT_GONE);
}

static void accept_some(struct loop *loop, struct loop_source *source, uint64_t token)
{
	for (unsigned i = 0; i < ACCEPTS_PER_WAIT; i++) {
		int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			source->handler->accepted(source, fd);
			if (loop_find(loop, (uint32_t)token, (uint16_t)(token >> 32)) != source)
				return;
			continue;
		}
		if (errno == EAGAIN)
			return;
		if (errno == ECONNABORTED || errno == EINTR)
			continue;
		int error = errno;
		want(loop, source, 0);
		source->handler->accept_failed(source, error);
		return;
	}
}

static void read_some(struct loop *loop, struct loop_source *source, uint64_t token)
{
	struct loop_epoll *e = epoll_of(loop);

	for (unsigned i = 0; i < READS_PER_WAIT && source->reading; i++) {
		ssize_t n = recv(source->fd, e->scratch, SCRATCH_BYTES, 0);

		if (n > 0) {
			source->handler->received(source, e->scratch, (uint32_t)n);
			if (loop_find(loop, (uint32_t)token, (uint16_t)(token >> 32)) != source)
				return;
			if (n < SCRATCH_BYTES)
				return;
			continue;
		}
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		int error = n < 0 ? errno : 0;
		loop_read(loop, source, false);
		source->handler->ended(source, error);
		return;
	}
}

static void dispatch(struct loop *loop, const struct epoll_event *event)
{
	uint64_t token = event->data.u64;
	struct loop_source *source = loop_find(loop, (uint32_t)token, (uint16_t)(token >> 32));
	uint32_t in = event->events & (EPOLLIN | EPOLLHUP | EPOLLERR);
	uint32_t out = event->events & (EPOLLOUT | EPOLLHUP | EPOLLERR);

	if (!source)
		return;
	if (out && source->armed & WANT_WRITE) {
		want(loop, source, source->armed & (uint8_t)~WANT_WRITE);
		source->handler->writable(source);
		source = loop_find(loop, (uint32_t)token, (uint16_t)(token >> 32));
	}
	if (source && event->events & EPOLLHUP && source->armed & WANT_GONE) {
		want(loop, source, source->armed & (uint8_t)~WANT_GONE);
		source->handler->gone(source);
		source = loop_find(loop, (uint32_t)token, (uint16_t)(token >> 32));
	}
	if (!source || !in)
		return;
	if (source->armed & WANT_ACCEPT) {
		accept_some(loop, source, token);
	} else if (source->armed & WANT_READY) {
		want(loop, source, source->armed & (uint8_t)~WANT_READY);
		source->handler->ready(source);
	} else if (source->armed & WANT_READ) {
		read_some(loop, source, token);
	}
}

static int epoll_wait_events(struct loop *loop, uint64_t timeout_ns)
{
	struct loop_epoll *e = epoll_of(loop);
	int timeout_ms = -1;
	int n;

	/* Rounded up: a timer must not find itself a fraction of a millisecond early and spin. */
	if (timeout_ns != UINT64_MAX) {
		uint64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 ? 1 : 0);

		timeout_ms = ms > 3600000 ? 3600000 : (int)ms;
	}
	n = epoll_wait(e->fd, e->events, EVENTS_MAX, timeout_ms);
	if (n < 0 && errno != EINTR)
		return err_raise(-errno);
	for (int i = 0; i < n; i++)
		dispatch(loop, &e->events[i]);
	return 0;
}

const struct loop_ops loop_epoll_ops = {
	.size = sizeof(struct loop_epoll),
	.open = epoll_open,
	.close = epoll_close,
	.forget = epoll_forget,
	.listen = epoll_listen,
	.read = epoll_read,
	.send = epoll_send,
	.want_write = epoll_want_write,
	.want_ready = epoll_want_ready,
	.want_gone = epoll_want_gone,
	.wait = epoll_wait_events,
};
