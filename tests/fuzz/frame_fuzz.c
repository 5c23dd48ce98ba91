/* SPDX-License-Identifier: MIT */

/*
 * Any byte stream at a real connection of a real core, without its threads
 *
 * One kernel with one core is built once; every input is a new connection on a socketpair that gets the
 * bytes in pieces (the first byte chooses their size) and then closes. EXEC, READ and WRITE meet no
 * launcher and no file threads here: they answer UNAVAILABLE or wait unserved. State is kept in a real store.
 * What comes back must be whole frames that answer, and the connection must be gone in the end.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/agent_table.h"
#include "core/call.h"
#include "core/conn.h"
#include "core/directory.h"
#include "core/shard.h"
#include "core/state.h"
#include "ipc/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct config config = {.sandbox = true, .launch_rate = 1};
static struct kernel kernel = {.config = &config, .core_count = 1};
static struct shard *shard;

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void unbuild(void)
{
	state_close(&kernel);
	(void)rmdir(config.data_dir);
}

static void build(void)
{
	log_init("", LOG_ERROR + 1);
	require(!loop_probe(LOOP_EPOLL, &kernel.io));
	require(!users_new(&kernel, &kernel.users));
	kernel.user = users_own(kernel.users);
	require(!agent_table_new(1, &kernel.agents));
	require(!directory_new(&kernel.directory));
	require(!shard_new(&kernel, 0, &kernel.shards[0]));
	shard = kernel.shards[0];
	require(!loop_new(&kernel.io, &shard->loop));
	config.ephemeral = true;
	config.store_cache = 8 << 20;
	config.owner_state_bytes = config.agent_state_bytes = 64 << 20;
	config.owner_state_keys = config.agent_state_keys = 1 << 16;
	config.data_dir = strdup("/tmp/clove-fuzz-XXXXXX");
	require(config.data_dir && mkdtemp(config.data_dir));
	require(!state_open(&kernel));
	require(!atexit(unbuild));
}

static void pass(uint64_t wait_ns)
{
	struct list now;
	struct list *it;

	shard->pass++;
	require(!loop_wait(shard->loop, wait_ns));
	list_init(&now);
	list_move(&now, &shard->carried);
	while ((it = list_shift(&now)))
		conn_continue(container_of(it, struct conn, carried));
	state_reap(shard);
	state_flush(shard);
	while ((it = list_shift(&shard->dirty)))
		conn_flush(container_of(it, struct conn, dirty));
	shard->out.len = 0;
	shard->out.piece_count = 0; /* epoll sends at once: nothing of it is needed any more */
}

/* Reads what came back; keeps a partial frame for the next time. */
static void check_replies(int fd, uint8_t *kept, size_t *kept_len)
{
	struct frame frame;
	size_t at = 0;
	ssize_t n;

	n = recv(fd, kept + *kept_len, (4 << 20) - *kept_len, MSG_DONTWAIT);
	*kept_len += n > 0 ? (size_t)n : 0;
	while (*kept_len - at >= FRAME_HEADER_BYTES) {
		struct cursor body;

		frame_read(kept + at, &frame);
		require(frame.flags & WIRE_FLAG_REPLY);
		require(frame.body_len <= FRAME_BODY_MAX);
		if (*kept_len - at - FRAME_HEADER_BYTES < frame.body_len)
			break;
		body = cursor_make(kept + at + FRAME_HEADER_BYTES, frame.body_len);
		require(!cursor_skip(&body) && body.pos == body.end);
		at += FRAME_HEADER_BYTES + frame.body_len;
	}
	memmove(kept, kept + at, *kept_len - at);
	*kept_len -= at;
}

/* Calls that need the parts that are not here would wait for ever. */
static void without_files(const uint8_t *data, size_t size, uint8_t *copy)
{
	memcpy(copy, data, size);
	for (size_t at = 0; size - at >= FRAME_HEADER_BYTES;) {
		struct frame frame;

		frame_read(copy + at, &frame);
		if (frame.op == WIRE_OP_READ || frame.op == WIRE_OP_WRITE ||
		    frame.op == WIRE_OP_SPAWN || frame.op == WIRE_OP_LOGS ||
		    frame.op == WIRE_OP_REMOVE || frame.op == WIRE_OP_STATS ||
		    frame.op == WIRE_OP_BACKUP || frame.op == WIRE_OP_RESTORE ||
		    frame.op == WIRE_OP_VERIFY)
			frame.op = WIRE_OP_NOOP;
		frame_write(copy + at, &frame);
		if (size - at - FRAME_HEADER_BYTES < frame.body_len)
			break;
		at += FRAME_HEADER_BYTES + frame.body_len;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t kept[4 << 20], copy[1 << 20];
	size_t kept_len = 0, piece, at = 0;
	int fds[2];

	if (!shard)
		build();
	if (size < 1 || size > sizeof(copy))
		return 0;
	piece = data[0] ? data[0] : size;
	without_files(data + 1, size - 1, copy);
	size--;
	require(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds));
	require(!conn_open(shard, fds[0]));
	while (at < size && !list_empty(&shard->conns)) {
		size_t n = size - at < piece ? size - at : piece;
		ssize_t sent = send(fds[1], copy + at, n, MSG_NOSIGNAL);

		at += sent > 0 ? (size_t)sent : 0;
		pass(0);
		check_replies(fds[1], kept, &kept_len);
	}
	(void)shutdown(fds[1], SHUT_WR);
	for (int i = 0; i < 10 && !list_empty(&shard->conns); i++) {
		pass(0);
		check_replies(fds[1], kept, &kept_len);
	}
	/* Watches end with the connection, what is being written when it is. */
	(void)close(fds[1]);
	for (int i = 0; i < 1000 && !list_empty(&shard->conns); i++)
		pass(1000000);
	require(list_empty(&shard->conns));
	require(!shard->in_bytes);
	return 0;
}
