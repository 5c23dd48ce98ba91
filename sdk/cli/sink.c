/* SPDX-License-Identifier: MIT */

#include "sdk/cli/sink.h"

#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "core/base/err.h"
#include "sdk/cli/put.h"

void sink_init(struct sink *sink, int fd, bool raw)
{
	*sink = (struct sink){.fd = fd, .filtered = !raw && isatty(fd)};
}

void sink_deinit(struct sink *sink)
{
	buf_deinit(&sink->waiting);
}

void sink_put(struct sink *sink, const void *bytes, size_t len)
{
	if (sink->filtered)
		screen_put(&sink->screen, &sink->waiting, bytes, len);
	else
		put_bytes(&sink->waiting, bytes, len);
}

void sink_finish(struct sink *sink)
{
	screen_finish(&sink->screen, &sink->waiting);
}

int sink_write(struct sink *sink)
{
	size_t len = buf_unread(&sink->waiting);
	ssize_t n;

	/* A pipe that is writable takes this much without blocking. */
	n = write(sink->fd, buf_head(&sink->waiting), len < PIPE_BUF ? len : PIPE_BUF);
	if (n < 0 && errno == EPIPE)
		return SINK_E_CLOSED;
	if (n < 0 && errno != EINTR && errno != EAGAIN)
		return err_raise(-errno);
	if (n > 0)
		buf_consume(&sink->waiting, (size_t)n);
	return 0;
}
