/* SPDX-License-Identifier: MIT */

/*
 * Does io_uring work here, and which of its features can be trusted?
 *
 * Probed, not read off a version: containers filter the calls, an administrator can switch them off
 * (sysctl kernel.io_uring_disabled), and distributions backport. One real loop is opened and made to
 * read to the end from a peer that sends and closes back to back, which is what every client that says goodbye does
 * and where multishot recv has had faults (axboe/liburing issue 1549; loop_uring.c). Where the
 * probe loses bytes or the end, recv is armed once per read.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/base/list.h"
#include "core/loop_priv.h"

struct reader {
	struct loop_source source;
	uint32_t bytes;
	bool ended;
};

static void on_received(struct loop_source *source, const uint8_t *bytes, uint32_t len)
{
	(void)bytes;
	container_of(source, struct reader, source)->bytes += len;
}

static void on_ended(struct loop_source *source, int error)
{
	(void)error;
	container_of(source, struct reader, source)->ended = true;
}

static const struct loop_handler reader_handler = {.received = on_received, .ended = on_ended};

/*
 * Sends five bytes and closes, both before the loop looks: after the recv was armed, or @early before that.
 * 0, -EIO when bytes or end got lost, or -errno.
 */
static int read_to_end(const struct loop_features *features, bool early)
{
	CLEANUP(loop_freep) struct loop *loop = NULL;
	CLEANUP(fd_closep) int near = -1, far = -1;
	struct reader reader = {0};
	int fds[2];
	int r;

	r = loop_new(features, &loop);
	if (r)
		return r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds))
		return err_raise(-errno);
	near = fds[0];
	far = fds[1];
	r = loop_add(loop, &reader.source, near, &reader_handler);
	if (r)
		return err_trace(r);
	if (!early) {
		loop_read(loop, &reader.source, true);
		r = loop_wait(loop, 0); /* submits the recv */
		if (r)
			return err_trace(r);
	}
	if (send(far, "hello", 5, MSG_NOSIGNAL) != 5)
		return err_raise(-EIO);
	far = fd_close(far);
	loop_read(loop, &reader.source, true);
	for (int i = 0; i < 5 && !reader.ended; i++) {
		r = loop_wait(loop, CLOCK_NS_PER_MS);
		if (r)
			break;
	}
	loop_remove(loop, &reader.source);
	if (r)
		return err_trace(r);
	return reader.ended && reader.bytes == 5 ? 0 : -EIO;
}

static int read_both_ways(const struct loop_features *features)
{
	int r = read_to_end(features, false);

	return r ? r : read_to_end(features, true);
}

/* Reads CLOVE_URING. A misspelt switch would have a test pass that tested nothing: -EINVAL. */
static int switches_read(struct loop_features *features)
{
	const char *word = getenv("CLOVE_URING");

	while (word && *word) {
		size_t len = strcspn(word, ",");

		if (len == strlen("-multishot") && !strncmp(word, "-multishot", len))
			features->multishot_recv = false;
		else if (len == strlen("-msgring") && !strncmp(word, "-msgring", len))
			features->msg_ring = false;
		else
			return -EINVAL;
		word += len + (word[len] == ',');
	}
	return 0;
}

int loop_uring_probe(struct loop_features *ret)
{
	struct loop_features features = {
		.backend = LOOP_URING,
		.multishot_recv = true,
		.msg_ring = true,
	};
	int r;

	if (switches_read(&features)) {
		(void)snprintf(features.reason, sizeof(features.reason),
			       "CLOVE_URING knows -multishot and -msgring only");
		*ret = features;
		return -EINVAL;
	}
	r = read_both_ways(&features);

	if (r == -EIO && features.multishot_recv) {
		features.multishot_recv = false;
		r = read_both_ways(&features);
	}
	if (r)
		(void)snprintf(
			features.reason, sizeof(features.reason), "io_uring: %s%s", strerror(-r),
			r == -EPERM || r == -ENOSYS
				? " (blocked by a seccomp profile or kernel.io_uring_disabled)"
			: r == -EINVAL ? " (needs Linux 6.1)"
				       : "");
	else
		(void)snprintf(features.reason, sizeof(features.reason),
			       "probes passed, multishot recv %s, MSG_RING %s",
			       features.multishot_recv ? "on" : "off",
			       features.msg_ring ? "on" : "off");
	*ret = features;
	return r;
}
