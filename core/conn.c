/* SPDX-License-Identifier: MIT */

/*
 * Input: bytes are parsed where the loop put them; what is left (a frame not whole yet, or more frames
 * than one pass allows) is copied to conn->in, which exists only that long, so an idle connection holds
 * no buffer. A frame's announced length is checked before anything is kept for it, and memory
 * grows with the bytes that came, never with the length announced.
 *
 * Output: frames are made in the core's shared buffer, one after the other for all connections; each connection
 * remembers its pieces. At the end of the pass conn_flush() sends them with one call. What
 * the socket does not take moves to conn->backlog and waits until it is writable.
 *
 *               too much output waits               drained
 *   parsing  ------------------------>  stalled  ------------>  carried (parsed in the next pass)
 *      |        budget used up                                      |
 *      +------------------------------------------------------------+
 *      |  end of stream, no whole frame left and no request in work; broken framing; EXIT
 *      v                                       send error, peer gone
 *   leaving  ------- output has gone ------->  doomed: closed by conn_flush() at the end of the pass
 *
 * While stalled or carried, reading goes on until LIMIT_IN_PAUSE_BYTES wait; then the client's own
 * socket fills up and stops it.
 *
 * The end of the stream may be half of it: a client that has shut down its sending side still waits for
 * its answers. It gets them, and is closed when no request is left. One that closed its socket, at
 * once or later, is gone, and its requests are abandoned.
 */

#include "core/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "core/agent_conn.h"
#include "core/agent_table.h"
#include "core/base/check.h"
#include "core/base/err.h"
#include "core/call.h"
#include "core/listener.h"
#include "core/peer.h"
#include "core/request.h"
#include "core/shard.h"
#include "ipc/frame.h"
#include "ipc/pack.h"

enum {
	IOVS_MAX = 16,
};

static const struct loop_handler conn_handler;

/* ---- opening and closing ---- */

bool conn_is_operator(const struct conn *conn)
{
	return !conn->is_agents && conn->user->owner->is_operator;
}

/* Takes @fd, also on failure. 0 or -errno. */
static int conn_new(struct shard *shard, int fd, struct agent_entry *entry, struct user *user,
		    uint32_t rights, struct conn **ret_conn)
{
	struct conn *conn = calloc(1, sizeof(*conn));
	int r = conn ? loop_add(shard->loop, &conn->source, fd, &conn_handler) : err_raise(-ENOMEM);

	if (r) {
		free(conn);
		(void)close(fd);
		return err_trace(r);
	}
	conn->agent = entry;
	conn->shard = shard;
	conn->user = user_ref(user);
	conn->rights = rights;
	conn->out_first = conn->out_last = OUT_NONE;
	list_init(&conn->of_agent);
	list_init(&conn->dirty);
	list_init(&conn->carried);
	list_init(&conn->unparsed);
	list_init(&conn->requests);
	list_init(&conn->held);
	list_init(&conn->parked);
	list_append(&shard->conns, &conn->link);
	STAT_ADD(shard->stats.connections, 1);
	if (atomic_load_explicit(&user->owner->known, memory_order_acquire))
		loop_read(shard->loop, &conn->source, true);
	else
		list_append(&shard->unknown, &conn->carried);
	*ret_conn = conn;
	return 0;
}

void conn_admit_known(struct shard *shard)
{
	list_for_each_safe (it, &shard->unknown) {
		struct conn *conn = container_of(it, struct conn, carried);

		if (!atomic_load_explicit(&conn->user->owner->known, memory_order_acquire))
			continue;
		list_unlink(&conn->carried);
		list_append(&shard->carried, &conn->carried);
	}
}

int conn_open(struct shard *shard, int fd)
{
	struct agent_view view = {
		.core = (uint16_t)shard->index,
		.kind = AGENT_EXTERNAL,
		.since_ns = shard->now_ns,
	};
	struct agent_entry *entry;
	struct conn *conn = NULL;
	struct user *user = NULL;
	struct fault fault;
	int r;

	if (peer_admit(shard->kernel, fd, &user, &view.pid, &fault)) {
		listener_turn_away(fd, fault.code, fault.message);
		return -EPERM;
	}
	view.uid = user->owner->uid;
	entry = agent_table_take(shard->kernel->agents, &view);
	if (!entry)
		listener_turn_away(fd, WIRE_BUSY, "the kernel has as many agents as it may");
	r = entry ? conn_new(shard, fd, entry, user, ~0u, &conn) : -ENFILE;
	if (r && entry)
		agent_table_give_back(shard->kernel->agents, entry);
	if (r)
		quota_give(user->owner, QUOTA_CONNECTIONS);
	else
		conn->counted = true;
	(void)user_unref(user);
	return r;
}

/* Takes @fd and the descriptor that was taken for it, also on failure. 0 or -errno. */
static int open_agents(struct agent *agent, int fd, bool counted)
{
	struct shard *shard = agent->shard;
	struct conn *conn = NULL;
	int r = 0;

	if (fcntl(fd, F_SETFL, O_NONBLOCK)) {
		r = err_raise(-errno);
		(void)close(fd);
	}
	if (!r)
		r = conn_new(shard, fd, agent->entry, agent->user, agent->rights, &conn);
	if (r) {
		descriptors_give_connection(&shard->kernel->descriptors);
		return err_trace(r);
	}
	conn->spawned = agent;
	conn->is_agents = true;
	conn->counted = counted;
	list_append(&agent->conns, &conn->of_agent);
	(void)atomic_fetch_add_explicit(&shard->load, 1, memory_order_relaxed);
	return 0;
}

int conn_open_agent(struct agent *agent, int fd)
{
	CLEANUP(fd_closep) int owned_fd = fd;

	if (!descriptors_take_connection(&agent->shard->kernel->descriptors, false))
		return err_raise(-EMFILE);
	return err_trace(open_agents(agent, TAKE_FD(owned_fd), false));
}

/* WIRE_OK, with one counted; or a code, with @fault filled. */
static enum wire_error further_admit(const struct agent *agent, struct fault *fault)
{
	struct kernel *kernel = agent->shard->kernel;
	struct owner *owner = agent->user->owner;
	enum wire_error code;

	if (agent->shard->draining)
		return fault_set(fault, WIRE_SHUTTING_DOWN, "the kernel is stopping");
	if (agent_conn_count(agent) >= LIMIT_AGENT_CONNECTIONS)
		return fault_set(fault, WIRE_BUSY,
				 "the agent has %d connections, which is all it may; close some",
				 LIMIT_AGENT_CONNECTIONS);
	code = quota_take(kernel->config, owner, QUOTA_CONNECTIONS, fault);
	if (code || descriptors_take_connection(&kernel->descriptors, false))
		return code;
	quota_give(owner, QUOTA_CONNECTIONS);
	return fault_set(fault, WIRE_BUSY, "the kernel has as many connections as it may");
}

void conn_open_further(struct agent *agent, int fd)
{
	struct fault fault;

	if (further_admit(agent, &fault))
		listener_turn_away(fd, fault.code, fault.message);
	else if (open_agents(agent, fd, true))
		quota_give(agent->user->owner, QUOTA_CONNECTIONS);
}

/* Out of the table first, so that an agent that is just about to be tied to it notices. */
static void identity_end(struct conn *conn)
{
	uint32_t id = atomic_load_explicit(&conn->agent->id, memory_order_relaxed);

	agent_table_give_back(conn->shard->kernel->agents, conn->agent);
	if (conn->ties)
		agent_end_tied(conn->shard, id);
}

static void in_drop(struct conn *conn)
{
	conn->shard->in_bytes -= conn->in.cap;
	buf_deinit(&conn->in);
	list_unlink(&conn->unparsed);
}

void conn_close(struct conn *conn)
{
	struct shard *shard = conn->shard;
	int fd = conn->source.fd;

	request_abandon_all(conn);
	state_session_end(conn);
	loop_remove(shard->loop, &conn->source);
	(void)close(fd);
	list_unlink(&conn->link);
	list_unlink(&conn->dirty);
	list_unlink(&conn->carried);
	in_drop(conn);
	list_unlink(&conn->of_agent);
	if (!conn->spawned && conn->agent)
		identity_end(conn);
	buf_deinit(&conn->backlog);
	quota_uncharge(conn->user->owner, conn->charged);
	if (conn->counted)
		quota_give(conn->user->owner, QUOTA_CONNECTIONS);
	(void)user_unref(conn->user);
	STAT_ADD(shard->stats.connections, -1);
	listener_forget(shard);
	free(conn);
}

/* Counts what both buffers have become. False when they have outgrown what the owner may hold. */
static bool memory_count(struct conn *conn)
{
	struct owner *owner = conn->user->owner;
	size_t bytes = conn->in.cap + conn->backlog.cap;

	if (bytes > conn->charged && !quota_charge(owner, bytes - conn->charged))
		return false;
	if (bytes < conn->charged)
		quota_uncharge(owner, conn->charged - bytes);
	conn->charged = bytes;
	return true;
}

static void mark_dirty(struct conn *conn)
{
	if (list_empty(&conn->dirty))
		list_append(&conn->shard->dirty, &conn->dirty);
}

void conn_doom(struct conn *conn)
{
	conn->doomed = true;
	loop_read(conn->shard->loop, &conn->source, false);
	mark_dirty(conn);
}

void conn_leave(struct conn *conn)
{
	conn->leaving = true;
	loop_read(conn->shard->loop, &conn->source, false);
	mark_dirty(conn);
}

/* ---- output ---- */

static size_t out_waiting(const struct conn *conn)
{
	return buf_unread(&conn->backlog) + conn->out_bytes;
}

bool conn_has_room(const struct conn *conn)
{
	return out_waiting(conn) < LIMIT_OUT_SOFT_BYTES;
}

msgpack_packer *conn_begin(struct conn *conn)
{
	struct out *out = &conn->shard->out;
	static const uint8_t header[FRAME_HEADER_BYTES];

	out->start = out->len;
	out->failed = false;
	if (msgpack_pack_str_body(&out->packer, header, sizeof(header)))
		out->failed = true;
	return &out->packer;
}

void conn_splice(struct conn *conn, const uint8_t *bytes, size_t len)
{
	/* Appends as it stands: a str's body is its bytes. */
	(void)msgpack_pack_str_body(&conn->shard->out.packer, bytes, len);
}

/* Notes that the last @len bytes of the shared output are @conn's. 0 or -ENOMEM. */
static int piece_add(struct conn *conn, uint32_t offset, uint32_t len)
{
	struct out *out = &conn->shard->out;
	struct out_piece *last = conn->out_last == OUT_NONE ? NULL : &out->pieces[conn->out_last];

	if (last && last->offset + last->len == offset) {
		last->len += len;
		return 0;
	}
	if (out->piece_count == out->piece_cap) {
		uint32_t cap = out->piece_cap ? out->piece_cap * 2 : 64;
		struct out_piece *pieces = realloc(out->pieces, cap * sizeof(*pieces));

		if (!pieces)
			return err_raise(-ENOMEM);
		out->pieces = pieces;
		out->piece_cap = cap;
	}
	out->pieces[out->piece_count] = (struct out_piece){offset, len, OUT_NONE};
	if (conn->out_last == OUT_NONE)
		conn->out_first = out->piece_count;
	else
		out->pieces[conn->out_last].next = out->piece_count;
	conn->out_last = out->piece_count++;
	return 0;
}

void conn_end(struct conn *conn, uint16_t op, uint16_t flags, uint64_t id)
{
	struct shard *shard = conn->shard;
	struct out *out = &shard->out;
	size_t len = out->len - out->start;
	struct frame frame = {
		.body_len = (uint32_t)(len - FRAME_HEADER_BYTES),
		.op = op,
		.flags = flags,
		.id = id,
	};
	int r = 0;

	if (!out->failed) {
		CHECK(len - FRAME_HEADER_BYTES <= FRAME_BODY_MAX);
		frame_write(out->data + out->start, &frame);
		/* Order within a connection: behind a backlog only the backlog may grow. */
		if (buf_unread(&conn->backlog)) {
			CHECK(!conn->out_bytes);
			r = buf_append(&conn->backlog, out->data + out->start, len);
			out->len = out->start;
		} else {
			r = piece_add(conn, (uint32_t)out->start, (uint32_t)len);
			conn->out_bytes += r ? 0 : (uint32_t)len;
		}
	}
	if (out->failed || r) {
		/* A reply that cannot be made would leave its caller waiting for ever: end the connection. */
		out->len = out->start;
		conn_doom(conn);
		return;
	}
	STAT_ADD(shard->stats.replies, 1);
	mark_dirty(conn);
	if (!memory_count(conn))
		conn_doom(conn);
}

void conn_reply_error(struct conn *conn, uint16_t op, uint64_t id, const struct fault *fault)
{
	msgpack_packer *pk = conn_begin(conn);

	pack_array(pk, 3);
	pack_uint(pk, fault->code);
	pack_text(pk, fault->message);
	pack_map(pk, (fault->os_error ? 1u : 0u) + (fault->step ? 1u : 0u) +
			     (fault->bytes_written ? 1u : 0u) + (fault->outcome_unknown ? 1u : 0u) +
			     (fault->retry_ms ? 1u : 0u) + (fault->has_version ? 1u : 0u));
	if (fault->os_error)
		pack_key_uint(pk, "errno", (uint64_t)fault->os_error);
	if (fault->step)
		pack_key_text(pk, "step", fault->step);
	if (fault->bytes_written)
		pack_key_uint(pk, "bytes_written", fault->bytes_written);
	if (fault->outcome_unknown)
		pack_key_text(pk, "outcome", "unknown");
	if (fault->retry_ms)
		pack_key_uint(pk, "retry_ms", fault->retry_ms);
	if (fault->has_version)
		pack_key_uint(pk, "version", fault->version);
	conn_end(conn, op, WIRE_FLAG_REPLY | WIRE_FLAG_ERROR, id);
}

/* What the socket did not take of this pass's pieces, from @sent bytes on, waits in the backlog. */
static int backlog_keep(struct conn *conn, size_t sent)
{
	struct out *out = &conn->shard->out;
	int r = 0;

	for (uint32_t i = conn->out_first; i != OUT_NONE && !r; i = out->pieces[i].next) {
		const struct out_piece *piece = &out->pieces[i];
		size_t skip = sent < piece->len ? sent : piece->len;

		sent -= skip;
		r = buf_append(&conn->backlog, out->data + piece->offset + skip, piece->len - skip);
	}
	return err_trace(!r && !memory_count(conn) ? -ENOBUFS : r);
}

/* What a send left over, or all of it: 0, or -errno when the connection is lost. */
static int sent(struct conn *conn, ssize_t n)
{
	int r;

	if (n < 0 && n != -EAGAIN && n != -EINTR && n != -ENOBUFS)
		return (int)n;
	n = n < 0 ? 0 : n;
	STAT_ADD(conn->shard->stats.out_bytes, n);
	if ((size_t)n == conn->out_bytes)
		return 0;
	r = backlog_keep(conn, (size_t)n);
	if (!r)
		loop_want_write(conn->shard->loop, &conn->source);
	return err_trace(r);
}

static ssize_t pieces_send_many(struct conn *conn)
{
	struct out *out = &conn->shard->out;
	struct iovec iov[IOVS_MAX];
	struct msghdr msg = {.msg_iov = iov};
	ssize_t n;

	for (uint32_t i = conn->out_first; i != OUT_NONE && msg.msg_iovlen < IOVS_MAX;
	     i = out->pieces[i].next) {
		iov[msg.msg_iovlen].iov_base = out->data + out->pieces[i].offset;
		iov[msg.msg_iovlen++].iov_len = out->pieces[i].len;
	}
	n = sendmsg(conn->source.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	return n < 0 ? -errno : n;
}

/* Sends this pass's pieces. 0, or -errno when the connection is lost. */
static int pieces_send(struct conn *conn, bool now)
{
	struct shard *shard = conn->shard;
	const struct out_piece *first;
	ssize_t n;

	if (!conn->out_bytes)
		return 0;
	/* conn_end() makes no pieces behind a backlog, and a send that falls short is told of before any reply is made. */
	CHECK(!buf_unread(&conn->backlog));
	STAT_ADD(shard->stats.sends, 1);
	first = &shard->out.pieces[conn->out_first];
	if (now || first->next != OUT_NONE)
		return sent(conn, pieces_send_many(conn));
	n = loop_send(shard->loop, &conn->source, shard->out.data + first->offset, first->len);
	if (n != LOOP_LATER)
		return sent(conn, n);
	shard->out.handed = true;
	conn->later_offset = first->offset;
	conn->later_len = first->len;
	STAT_ADD(shard->stats.out_bytes, first->len);
	return 0;
}

static void on_sent_short(struct loop_source *source, int n)
{
	struct conn *conn = container_of(source, struct conn, source);
	const uint8_t *bytes = conn->shard->out.former + conn->later_offset;
	uint32_t taken = n > 0 ? (uint32_t)n : 0;

	CHECK(!conn->out_bytes);
	if ((n < 0 && n != -EAGAIN && n != -EINTR && n != -ENOBUFS) ||
	    buf_append(&conn->backlog, bytes + taken, conn->later_len - taken) ||
	    !memory_count(conn)) {
		conn_doom(conn);
		return;
	}
	STAT_ADD(conn->shard->stats.out_bytes, -(uint64_t)(conn->later_len - taken));
	loop_want_write(conn->shard->loop, source);
}

void conn_send(struct conn *conn, bool now)
{
	int r = pieces_send(conn, now);

	conn->out_first = conn->out_last = OUT_NONE;
	conn->out_bytes = 0;
	if (r || buf_unread(&conn->backlog) > LIMIT_OUT_HARD_BYTES)
		conn->doomed = true;
}

/*
 * There is room again for what waited for it: in the next pass. Not at once, because replies made while
 * the output is being sent could move the buffer that the loop still sends from.
 */
static void resume(struct conn *conn)
{
	if ((conn->stalled || !list_empty(&conn->held)) && list_empty(&conn->carried))
		list_append(&conn->shard->carried, &conn->carried);
}

void conn_flush(struct conn *conn)
{
	/* When this may be the last pass, nothing is left to the loop. */
	conn_send(conn, conn->doomed || conn->leaving || conn->shard->draining);
	if (conn->doomed || (conn->leaving && !buf_unread(&conn->backlog)))
		conn_close(conn);
	else if (conn_has_room(conn))
		resume(conn);
}

static void on_writable(struct loop_source *source)
{
	struct conn *conn = container_of(source, struct conn, source);
	ssize_t sent = send(source->fd, buf_head(&conn->backlog), buf_unread(&conn->backlog),
			    MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS) {
		conn_doom(conn);
		return;
	}
	if (sent > 0) {
		buf_consume(&conn->backlog, (size_t)sent);
		(void)memory_count(conn);
		STAT_ADD(conn->shard->stats.out_bytes, sent);
	}
	if (buf_unread(&conn->backlog))
		loop_want_write(conn->shard->loop, source);
	else if (conn->leaving)
		mark_dirty(conn);
	if (conn_has_room(conn))
		resume(conn);
}

/* ---- input ---- */

static void framing_fault(struct conn *conn, const struct frame *frame, const char *message)
{
	struct fault fault;

	(void)fault_set(&fault, WIRE_PROTOCOL, "%s; closing the connection", message);
	conn_reply_error(conn, frame->op, frame->id, &fault);
	conn_leave(conn);
}

/* Nothing more is parsed. */
static bool finished(const struct conn *conn)
{
	return conn->doomed || conn->leaving;
}

/* Runs whole frames from the front of @bytes; returns how many bytes were used up. */
static size_t parse(struct conn *conn, const uint8_t *bytes, size_t len)
{
	struct frame frame;
	size_t used = 0;

	if (conn->pass != conn->shard->pass) {
		conn->pass = conn->shard->pass;
		conn->budget = LIMIT_FRAMES_PER_PASS;
	}
	while (!finished(conn)) {
		if (len - used < FRAME_HEADER_BYTES)
			return used;
		frame_read(bytes + used, &frame);
		if (frame.body_len > FRAME_BODY_MAX) {
			framing_fault(conn, &frame,
				      "a frame's body may have 1114112 bytes at most");
			return len;
		}
		if (frame.flags & ~WIRE_FLAG_DEADLINE) {
			framing_fault(conn, &frame, "a request may carry no flag but DEADLINE");
			return len;
		}
		if (len - used - FRAME_HEADER_BYTES < frame.body_len)
			return used;
		if (!conn_has_room(conn)) {
			conn->stalled = true;
			return used;
		}
		if (!conn->budget) {
			list_append(&conn->shard->carried, &conn->carried);
			return used;
		}
		conn->budget--;
		call_dispatch(conn, &frame, bytes + used + FRAME_HEADER_BYTES);
		used += FRAME_HEADER_BYTES + frame.body_len;
	}
	return len;
}

static bool waiting(const struct conn *conn)
{
	return conn->stalled || !list_empty(&conn->carried);
}

static void evict(struct conn *conn, const char *who)
{
	struct fault fault;

	in_drop(conn);
	(void)memory_count(conn);
	(void)fault_set(
		&fault, WIRE_BUSY,
		"%s holds too much input, and yours has waited longest for its rest; closing", who);
	conn_reply_error(conn, 0, 0, &fault);
	conn_leave(conn);
}

/* Of those of the same owner, @conn at the latest. */
static struct conn *longest_silent(struct conn *conn)
{
	list_for_each (it, &conn->shard->unparsed) {
		struct conn *other = container_of(it, struct conn, unparsed);

		if (other->user->owner == conn->user->owner)
			return other;
	}
	return conn;
}

/*
 * Keeps unparsed bytes. Where there is no room for more, who has sent nothing for the longest time pays with
 * its connection, and this one only when it is the last. Where its owner may hold no more, so do the owner's own.
 */
static void keep(struct conn *conn, const uint8_t *bytes, size_t len)
{
	struct shard *shard = conn->shard;
	size_t before = conn->in.cap;

	list_unlink(&conn->unparsed);
	list_append(&shard->unparsed, &conn->unparsed);
	while (shard->in_bytes + len > LIMIT_IN_CORE_BYTES && !finished(conn))
		evict(container_of(shard->unparsed.next, struct conn, unparsed), "the kernel");
	if (finished(conn))
		return;
	if (buf_append(&conn->in, bytes, len)) {
		evict(conn, "the kernel");
		return;
	}
	shard->in_bytes += conn->in.cap - before;
	while (!finished(conn) && !memory_count(conn))
		evict(longest_silent(conn), "your user");
}

/* Parses what is in conn->in. */
static void parse_kept(struct conn *conn)
{
	size_t before = conn->in.cap;

	buf_consume(&conn->in, parse(conn, buf_head(&conn->in), buf_unread(&conn->in)));
	conn->shard->in_bytes -= before - conn->in.cap;
	(void)memory_count(conn);
	if (!buf_unread(&conn->in))
		list_unlink(&conn->unparsed);
}

void conn_rest(struct conn *conn)
{
	if (conn->ended && !finished(conn) && !waiting(conn) && !conn->in_flight)
		conn_leave(conn);
}

static void after_input(struct conn *conn)
{
	bool pause = waiting(conn) && buf_unread(&conn->in) >= LIMIT_IN_PAUSE_BYTES;

	if (finished(conn))
		return;
	conn_rest(conn);
	if (!conn->ended)
		loop_read(conn->shard->loop, &conn->source, !pause);
}

static void on_received(struct loop_source *source, const uint8_t *bytes, uint32_t len)
{
	struct conn *conn = container_of(source, struct conn, source);
	size_t used;

	if (finished(conn))
		return;
	STAT_ADD(conn->shard->stats.in_bytes, len);
	if (buf_unread(&conn->in) || waiting(conn)) {
		keep(conn, bytes, len);
		if (!finished(conn) && !waiting(conn))
			parse_kept(conn);
	} else {
		used = parse(conn, bytes, len);
		if (used < len)
			keep(conn, bytes + used, len - used);
	}
	after_input(conn);
}

void conn_continue(struct conn *conn)
{
	if (finished(conn))
		return;
	conn->stalled = false;
	request_release_held(conn);
	parse_kept(conn);
	after_input(conn);
}

/* Whether the client has closed its whole end, not only its sending side. */
static bool is_gone(const struct conn *conn)
{
	struct pollfd poll_fd = {.fd = conn->source.fd};

	return poll(&poll_fd, 1, 0) > 0 && poll_fd.revents & POLLHUP;
}

static void on_ended(struct loop_source *source, int error)
{
	struct conn *conn = container_of(source, struct conn, source);

	conn->ended = true;
	if (error || is_gone(conn)) {
		conn_doom(conn);
		return;
	}
	loop_want_gone(conn->shard->loop, source);
	conn_rest(conn);
}

static void on_gone(struct loop_source *source)
{
	conn_doom(container_of(source, struct conn, source));
}

static const struct loop_handler conn_handler = {
	.received = on_received,
	.ended = on_ended,
	.gone = on_gone,
	.sent_short = on_sent_short,
	.writable = on_writable,
};
