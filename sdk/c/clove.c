/* SPDX-License-Identifier: MIT */

/*
 * A connection is three buffers around one descriptor:
 *
 *   clove_send ─> out ─> socket ─> in ─> frames ─> clove_call (its own answer)
 *                                           └────> kept ─> clove_recv, clove_next
 *
 * The framing (put_request, clove_parse, clove_next) does no I/O, so the blocking functions and event
 * loops share it. clove_call() puts frames that are not its answer into @kept, which is older than
 * @in and therefore read first.
 *
 * A frame is handed out as pointers into its buffer. The bytes are marked as read only by the next
 * call that reads, because a buffer that has been read to its end gives its memory back.
 *
 * Ids: clove_send() counts from 1, clove_call() sets the top bit on a count of its own. There is one
 * clove_call() at a time, so an answer with the top bit that nobody awaits belongs to a call that
 * timed out, and is dropped without a list of those.
 *
 * The end of the stream may come with answers, or the kernel's last error frame, before it, also when
 * writing fails first. So a failed write only discards the output: reading finds the end in order.
 */

#include "sdk/c/clove.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "ipc/frame.h"
#include "sdk/c/clove_priv.h"

#define CALL_ID_BIT (1ull << 63)

enum {
	READ_BYTES = 16 << 10, /* asked of one recv() unless a larger frame is under way */
};

struct clove {
	int fd;
	bool inherited; /* @fd is not ours to close */
	bool ended;     /* the end of the stream was read */
	uint64_t send_count, call_count;
	uint64_t awaited_id; /* of the latest clove_call(); 0 when it failed */
	struct buf out, in, kept;
	struct buf *viewed; /* holds the frame that was handed out last; NULL for none */
	size_t viewed_len;
};

int clove_adopt(int fd, struct clove **ret_clove)
{
	struct clove *clove = calloc(1, sizeof(*clove));

	if (!clove)
		return err_raise(-ENOMEM);
	clove->fd = fd;
	*ret_clove = clove;
	return 0;
}

int clove_open(const char *path, struct clove **ret_clove)
{
	struct clove *clove = NULL;
	bool inherited;
	int r, fd;

	r = clove_socket_find(path, &fd, &inherited);
	if (r)
		return r;
	r = clove_adopt(fd, &clove);
	if (r) {
		if (inherited)
			clove_socket_release();
		else
			(void)close(fd);
		return r;
	}
	clove->inherited = inherited;
	*ret_clove = clove;
	return 0;
}

struct clove *clove_close(struct clove *clove)
{
	if (!clove)
		return NULL;
	if (clove->inherited)
		clove_socket_release();
	else
		(void)close(clove->fd);
	buf_deinit(&clove->out);
	buf_deinit(&clove->in);
	buf_deinit(&clove->kept);
	free(clove);
	return NULL;
}

int clove_fd(const struct clove *clove)
{
	return clove->fd;
}

static int put_request(struct clove *clove, uint64_t id, uint16_t op, const void *args,
		       size_t args_len, int deadline_ms)
{
	uint32_t prefix = deadline_ms >= 0 ? (uint32_t)deadline_ms : 0;
	size_t prefix_len = deadline_ms >= 0 ? sizeof(prefix) : 0;
	struct frame frame = {.op = op, .flags = prefix_len ? WIRE_FLAG_DEADLINE : 0, .id = id};
	uint8_t *p;
	int r;

	if (args_len > FRAME_BODY_MAX - prefix_len)
		return CLOVE_E_TOO_LARGE;
	frame.body_len = (uint32_t)(prefix_len + args_len);
	r = buf_reserve(&clove->out, FRAME_HEADER_BYTES + frame.body_len);
	if (r)
		return err_trace(r);
	p = clove->out.data + clove->out.len;
	frame_write(p, &frame);
	memcpy(p + FRAME_HEADER_BYTES, &prefix, prefix_len);
	if (args_len)
		memcpy(p + FRAME_HEADER_BYTES + prefix_len, args, args_len);
	clove->out.len += FRAME_HEADER_BYTES + frame.body_len;
	return 0;
}

int clove_send(struct clove *clove, uint16_t op, const void *args, size_t args_len, int deadline_ms,
	       uint64_t *ret_id)
{
	uint64_t id = clove->send_count + 1;
	int r;

	r = put_request(clove, id, op, args, args_len, deadline_ms);
	if (r)
		return r;
	clove->send_count = id;
	*ret_id = id;
	return 0;
}

const uint8_t *clove_pending_output(const struct clove *clove, size_t *ret_len)
{
	*ret_len = buf_unread(&clove->out);
	return *ret_len ? buf_head(&clove->out) : NULL;
}

void clove_output_sent(struct clove *clove, size_t len)
{
	buf_consume(&clove->out, len);
}

static void release_view(struct clove *clove)
{
	if (clove->viewed)
		buf_consume(clove->viewed, clove->viewed_len);
	clove->viewed = NULL;
}

static bool is_late(const struct clove *clove, const struct clove_frame *frame)
{
	return frame->kind != CLOVE_PUSH && frame->id & CALL_ID_BIT &&
	       frame->id != clove->awaited_id;
}

static int next_in(struct clove *clove, struct buf *buf, struct clove_frame *ret_frame)
{
	struct clove_frame frame;
	int r;

	for (;;) {
		if (!buf_unread(buf))
			return CLOVE_E_AGAIN;
		r = clove_parse(buf_head(buf), buf_unread(buf), &frame);
		if (r)
			return r;
		clove->viewed = buf;
		clove->viewed_len = FRAME_HEADER_BYTES + frame.body_len;
		if (!is_late(clove, &frame))
			break;
		release_view(clove);
	}
	*ret_frame = frame;
	return 0;
}

int clove_next(struct clove *clove, struct clove_frame *ret_frame)
{
	int r;

	release_view(clove);
	r = next_in(clove, &clove->kept, ret_frame);
	return r == CLOVE_E_AGAIN ? next_in(clove, &clove->in, ret_frame) : r;
}

int clove_input(struct clove *clove, const void *bytes, size_t len)
{
	release_view(clove);
	return err_trace(buf_append(&clove->in, bytes, len));
}

static uint64_t deadline_after(int timeout_ms)
{
	uint64_t timeout_ns = (unsigned)timeout_ms * CLOCK_NS_PER_MS;

	return timeout_ms < 0 ? UINT64_MAX : clock_now_ns() + timeout_ns;
}

/* Waits for @events. 0, CLOVE_E_TIMEOUT or -errno. */
static int wait_events(struct clove *clove, short events, uint64_t deadline_ns, short *ret_events)
{
	struct pollfd poll_fd = {.fd = clove->fd, .events = events};
	uint64_t now_ns, wait_ms;
	int n, poll_ms = -1;

	do {
		if (deadline_ns != UINT64_MAX) {
			now_ns = clock_now_ns();
			wait_ms = deadline_ns > now_ns
					  ? (deadline_ns - now_ns - 1) / CLOCK_NS_PER_MS + 1
					  : 0;
			poll_ms = wait_ms > INT_MAX ? INT_MAX : (int)wait_ms;
		}
		n = poll(&poll_fd, 1, poll_ms);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_raise(-errno);
	if (!n)
		return CLOVE_E_TIMEOUT;
	*ret_events = poll_fd.revents;
	return 0;
}

/* One recv() into @in. 0 (something came, or the end), CLOVE_E_AGAIN when it would block, -errno. */
static int read_some(struct clove *clove, int flags)
{
	size_t want = READ_BYTES;
	struct frame frame;
	ssize_t n;
	int r;

	if (buf_unread(&clove->in) >= FRAME_HEADER_BYTES) {
		frame_read(buf_head(&clove->in), &frame);
		if (frame.body_len <= FRAME_BODY_MAX && frame.body_len > want)
			want = frame.body_len;
	}
	r = buf_reserve(&clove->in, want);
	if (r)
		return err_trace(r);
	do {
		n = recv(clove->fd, clove->in.data + clove->in.len, clove->in.cap - clove->in.len,
			 flags);
	} while (n < 0 && errno == EINTR);
	if (n > 0)
		clove->in.len += (size_t)n;
	else if (!n || errno == ECONNRESET)
		clove->ended = true;
	else
		return errno == EAGAIN ? CLOVE_E_AGAIN : err_raise(-errno);
	return 0;
}

/* Gets more bytes, to be called when @in holds no whole frame. */
static int fill_input(struct clove *clove, uint64_t deadline_ns)
{
	short events = 0;
	int r;

	if (clove->ended)
		return buf_unread(&clove->in) ? CLOVE_E_BROKEN : CLOVE_E_CLOSED;
	/* Without a deadline recv() itself waits, unless the caller made the socket non-blocking. */
	r = read_some(clove, deadline_ns == UINT64_MAX ? 0 : MSG_DONTWAIT);
	if (r != CLOVE_E_AGAIN)
		return r;
	return wait_events(clove, POLLIN, deadline_ns, &events);
}

static int flush_until(struct clove *clove, uint64_t deadline_ns)
{
	short events = 0;
	ssize_t n;
	int r;

	release_view(clove);
	while (buf_unread(&clove->out)) {
		n = send(clove->fd, buf_head(&clove->out), buf_unread(&clove->out),
			 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n >= 0) {
			buf_consume(&clove->out, (size_t)n);
			continue;
		}
		if (errno == EPIPE || errno == ECONNRESET) {
			buf_deinit(&clove->out);
			return CLOVE_E_CLOSED;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return err_raise(-errno);
		r = wait_events(clove, clove->ended ? POLLOUT : POLLIN | POLLOUT, deadline_ns,
				&events);
		if (r)
			return r;
		r = events & POLLIN ? read_some(clove, MSG_DONTWAIT) : 0;
		if (r && r != CLOVE_E_AGAIN)
			return r;
	}
	return 0;
}

int clove_flush(struct clove *clove)
{
	return flush_until(clove, UINT64_MAX);
}

int clove_recv(struct clove *clove, int timeout_ms, struct clove_frame *ret_frame)
{
	uint64_t deadline_ns = deadline_after(timeout_ms);
	int r;

	for (;;) {
		r = clove_next(clove, ret_frame);
		if (r != CLOVE_E_AGAIN)
			return r;
		r = fill_input(clove, deadline_ns);
		if (r)
			return r;
	}
}

/* Waits for the answer that is awaited; what else comes is put into @kept. */
static int await_answer(struct clove *clove, uint64_t deadline_ns, struct clove_frame *ret_frame)
{
	struct clove_frame frame;
	int r;

	for (;;) {
		release_view(clove);
		r = next_in(clove, &clove->in, &frame);
		if (!r && frame.id == clove->awaited_id && frame.kind != CLOVE_PUSH) {
			*ret_frame = frame;
			return 0;
		}
		if (!r)
			r = err_trace(
				buf_append(&clove->kept, buf_head(&clove->in), clove->viewed_len));
		else if (r == CLOVE_E_AGAIN)
			r = fill_input(clove, deadline_ns);
		if (r)
			return r;
	}
}

int clove_call(struct clove *clove, uint16_t op, const void *args, size_t args_len, int timeout_ms,
	       struct clove_frame *ret_frame)
{
	uint64_t id = CALL_ID_BIT | (clove->call_count + 1);
	uint64_t deadline_ns = deadline_after(timeout_ms);
	int r;

	r = put_request(clove, id, op, args, args_len, timeout_ms);
	if (r)
		return r;
	clove->call_count++;
	clove->awaited_id = id;
	r = flush_until(clove, deadline_ns);
	if (!r)
		r = await_answer(clove, deadline_ns, ret_frame);
	if (r)
		clove->awaited_id = 0;
	return r;
}
