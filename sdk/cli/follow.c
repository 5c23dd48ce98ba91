/* SPDX-License-Identifier: MIT */

#include "sdk/cli/follow.h"

#include <errno.h>
#include <poll.h>

#include "core/base/err.h"
#include "ipc/frame.h"
#include "ipc/pack.h"
#include "sdk/cli/agents.h"
#include "sdk/cli/complain.h"
#include "sdk/cli/deadline.h"
#include "sdk/cli/put.h"

enum {
	PIECE_BYTES = FRAME_PAYLOAD_MAX, /* of an answer; one with less has come to the end */
	PAUSE_MS_MIN = 10,
	PAUSE_MS_MAX = 200,
};

static bool stream_is_full(const struct follow_stream *stream)
{
	return stream->sink && sink_is_full(stream->sink);
}

static bool stream_may_ask(const struct follow_stream *stream)
{
	return !stream->ended && !stream->request_id && !stream_is_full(stream);
}

bool follow_is_done(const struct follow *follow)
{
	for (unsigned i = 0; i < follow->stream_count; i++)
		if (!follow->streams[i].ended || stream_is_full(&follow->streams[i]))
			return false;
	return true;
}

void follow_hurry(struct follow *follow)
{
	for (unsigned i = 0; i < follow->stream_count; i++) {
		follow->streams[i].due_ns = 0;
		follow->streams[i].pause_ms = 0;
	}
}

/* ---- asking ---- */

static int ask(struct follow *follow, struct follow_stream *stream)
{
	CLEANUP(buf_deinit) struct buf args = {0};
	msgpack_packer pk;

	msgpack_packer_init(&pk, &args, put_packed);
	pack_array(&pk, stream->cursor ? 3 : 2);
	agents_pack(&pk, follow->agent);
	pack_text(&pk, stream->name);
	if (stream->cursor)
		pack_uint(&pk, stream->cursor);
	stream->late_ns = deadline_in(follow->timeout_ms, 0);
	return clove_send(follow->clove, WIRE_OP_LOGS, args.data, args.len, -1,
			  &stream->request_id);
}

static int ask_due(struct follow *follow)
{
	uint64_t now_ns = clock_now_ns();
	int r = 0;

	for (unsigned i = 0; i < follow->stream_count && !r; i++)
		if (stream_may_ask(&follow->streams[i]) && follow->streams[i].due_ns <= now_ns)
			r = ask(follow, &follow->streams[i]);
	return r ? r : clove_flush(follow->clove);
}

static bool is_late(const struct follow *follow)
{
	for (unsigned i = 0; i < follow->stream_count; i++)
		if (follow->streams[i].request_id && !deadline_left_ms(follow->streams[i].late_ns))
			return true;
	return false;
}

/* When a turn ends at the latest: the first stream is due, or its answer late. */
static uint64_t turn_end(const struct follow *follow, uint64_t until_ns)
{
	for (unsigned i = 0; i < follow->stream_count; i++) {
		const struct follow_stream *stream = &follow->streams[i];
		uint64_t at_ns = stream->request_id ? stream->late_ns : stream->due_ns;

		if ((stream->request_id || stream_may_ask(stream)) && at_ns < until_ns)
			until_ns = at_ns;
	}
	return until_ns;
}

/* ---- answers ---- */

static void stream_pause(struct follow_stream *stream)
{
	uint32_t ms = stream->pause_ms ? stream->pause_ms * 2 : PAUSE_MS_MIN;

	stream->pause_ms = ms < PAUSE_MS_MAX ? ms : PAUSE_MS_MAX;
	stream->due_ns = deadline_in(0, stream->pause_ms);
}

static void stream_put(struct follow_stream *stream, const uint8_t *data, uint32_t len, bool at_end)
{
	if (!stream->sink)
		return;
	if (!stream->tail) {
		sink_put(stream->sink, data, len);
		return;
	}
	tail_put(stream->tail, data, len);
	if (!at_end)
		return;
	sink_put(stream->sink, buf_head(&stream->tail->kept), buf_unread(&stream->tail->kept));
	stream->tail = NULL;
}

/* A piece of output. 0 or CLOVE_E_BROKEN. */
static int stream_take(struct follow *follow, struct follow_stream *stream, struct cursor piece)
{
	const uint8_t *data;
	bool running, lost, at_end;
	uint32_t len;

	if (clove_map_bytes(piece, "data", &data, &len) ||
	    clove_map_uint(piece, "next", &stream->cursor) ||
	    clove_map_bool(piece, "lost", &lost) || clove_map_bool(piece, "running", &running))
		return CLOVE_E_BROKEN;
	if (lost && !stream->lost_said)
		complain("some of its %s was rotated away before it could be read", stream->name);
	stream->lost_said = stream->lost_said || lost;
	at_end = len < PIECE_BYTES;
	stream->ended = follow->stays ? !len && !running : at_end;
	stream_put(stream, data, len, at_end);
	if (len)
		stream->due_ns = stream->pause_ms = 0;
	else
		stream_pause(stream);
	if (stream->ended && stream->sink)
		sink_finish(stream->sink);
	return 0;
}

static struct follow_stream *stream_of(struct follow *follow, const struct clove_frame *frame)
{
	for (unsigned i = 0; i < follow->stream_count && frame->kind != CLOVE_PUSH; i++)
		if (follow->streams[i].request_id && follow->streams[i].request_id == frame->id)
			return &follow->streams[i];
	return NULL;
}

static int frame_take(struct follow *follow, struct follow_event *event)
{
	struct follow_stream *stream = stream_of(follow, &event->frame);

	if (!stream) {
		event->kind = FOLLOW_FRAME;
		return 0;
	}
	stream->request_id = 0;
	if (event->frame.kind != CLOVE_ERROR)
		return stream_take(follow, stream, clove_body(&event->frame));
	if (wire_error_retryable(event->frame.error.code)) {
		stream_pause(stream);
		return 0;
	}
	stream->ended = true;
	event->kind = FOLLOW_REFUSED;
	return 0;
}

/* ---- waiting ---- */

enum { POLL_KERNEL, POLL_SIGNAL, POLL_SINKS, POLL_COUNT = POLL_SINKS + FOLLOW_STREAMS };

static void sinks_write(struct follow *follow, const struct pollfd *fds, struct follow_event *event)
{
	for (unsigned i = 0; i < follow->stream_count; i++) {
		struct sink *sink = follow->streams[i].sink;
		short events = fds[i].revents;
		int r = 0;

		if (!sink)
			continue;
		if (events & POLLOUT)
			r = sink_is_full(sink) ? sink_write(sink) : 0;
		else if (events & (POLLERR | POLLHUP))
			r = SINK_E_CLOSED;
		else if (events & POLLNVAL)
			r = -EBADF;
		if (r) {
			event->kind = FOLLOW_SINK;
			event->sink_error = r;
		}
	}
}

static int wait_some(struct follow *follow, int signal_fd, uint64_t until_ns,
		     struct follow_event *event)
{
	struct pollfd fds[POLL_COUNT] = {
		[POLL_KERNEL] = {.fd = clove_fd(follow->clove), .events = POLLIN},
		[POLL_SIGNAL] = {.fd = signal_fd, .events = POLLIN},
	};
	int n, r;

	for (unsigned i = 0; i < FOLLOW_STREAMS; i++) {
		struct sink *sink = i < follow->stream_count ? follow->streams[i].sink : NULL;

		/* Without an event poll() tells of a pipe whose reader is gone. */
		fds[POLL_SINKS + i] = (struct pollfd){
			.fd = sink ? sink->fd : -1,
			.events = sink && sink_is_full(sink) ? POLLOUT : 0,
		};
	}
	n = poll(fds, POLL_COUNT, deadline_left_ms(turn_end(follow, until_ns)));
	if (n < 0)
		return errno == EINTR ? 0 : err_raise(-errno);
	if (n == 0 && is_late(follow))
		return CLOVE_E_TIMEOUT;
	sinks_write(follow, &fds[POLL_SINKS], event);
	if (event->kind == FOLLOW_NOTHING && fds[POLL_SIGNAL].revents)
		event->kind = FOLLOW_SIGNAL;
	if (event->kind != FOLLOW_NOTHING || !fds[POLL_KERNEL].revents)
		return 0;
	r = clove_recv(follow->clove, 0, &event->frame);
	if (r == CLOVE_E_TIMEOUT)
		return 0;
	return r ? r : frame_take(follow, event);
}

int follow_turn(struct follow *follow, int signal_fd, uint64_t until_ns,
		struct follow_event *ret_event)
{
	struct follow_event event = {.kind = FOLLOW_NOTHING};
	int r = ask_due(follow);

	if (!r)
		r = clove_next(follow->clove, &event.frame);
	if (!r)
		r = frame_take(follow, &event);
	else if (r == CLOVE_E_AGAIN)
		r = wait_some(follow, signal_fd, until_ns, &event);
	if (!r)
		*ret_event = event;
	return r;
}
