/* SPDX-License-Identifier: MIT */

/*
 * A socket file outlives a killed kernel. Whether it is live is asked by connecting and by a NOOP: refused
 * means nobody listens, and the file is removed. Accepted alone means little: the ring of a process that
 * was just killed holds the socket for some moments more, and then lets all go.
 *
 * Clients trust a path: so the directory must be one where nobody else can replace the socket, of root or
 * of the kernel's user, and if all may write there, sticky as /tmp is. There, others can still
 * take the name first. Who listens on it is never driven out; a socket left behind is removed by
 * its owner, or by root, and nothing else ever is.
 *
 * Core 0 accepts and hands each connection to the core that has the fewest; a connection stays there.
 */

#include "core/listener.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/conn.h"
#include "core/peer.h"
#include "core/shard.h"
#include "ipc/frame.h"

enum {
	BACKLOG = 4096,
	ANSWER_WAIT_MS = 2000,
	ATTEMPTS = 100,
	ATTEMPT_PAUSE_US = 20000,
};

static int address(const char *path, struct sockaddr_un *ret_addr)
{
	size_t len = strlen(path);

	*ret_addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (len >= sizeof(ret_addr->sun_path))
		return LISTENER_E_TOO_LONG;
	memcpy(ret_addr->sun_path, path, len + 1);
	return 0;
}

/* True when whoever holds the other end answers a NOOP, or keeps the connection without answering. */
static bool answers(int fd)
{
	static const uint8_t noop[FRAME_HEADER_BYTES]; /* op 0, id 0, no body */
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	uint8_t reply[FRAME_HEADER_BYTES];

	if (send(fd, noop, sizeof(noop), MSG_NOSIGNAL) < 0 && errno != EAGAIN)
		return false;
	return poll(&poll_fd, 1, ANSWER_WAIT_MS) == 0 || recv(fd, reply, sizeof(reply), 0) > 0;
}

/* 0 when nobody listens at @addr, LISTENER_E_LIVE, or -errno. */
static int listened_to(const struct sockaddr_un *addr)
{
	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		CLEANUP(fd_closep)
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		bool connected;

		if (fd < 0)
			return err_raise(-errno);
		connected = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0;
		if (!connected && errno == ECONNREFUSED)
			return 0;
		/* EAGAIN: its queue is full. EACCES: another user's, not ours to judge or remove. */
		if (!connected && errno != EAGAIN)
			return err_raise(-errno);
		if (!connected || answers(fd))
			return LISTENER_E_LIVE;
		(void)usleep(ATTEMPT_PAUSE_US);
	}
	return LISTENER_E_LIVE;
}

/* Removes a socket file that nobody listens on. 0 (also when there is none), LISTENER_E_x or -errno. */
static int stale_remove(const char *path, const struct sockaddr_un *addr)
{
	struct stat st;
	int r;

	if (lstat(path, &st))
		return errno == ENOENT ? 0 : err_raise(-errno);
	if (!S_ISSOCK(st.st_mode))
		return LISTENER_E_NOT_SOCKET;
	if (st.st_uid != geteuid() && geteuid() != 0)
		return LISTENER_E_FOREIGN;
	r = listened_to(addr);
	if (r)
		return r;
	if (unlink(path) && errno != ENOENT)
		return err_raise(-errno);
	log_info("socket-taken-over", "path=\"%s\" reason=\"nobody listened\"", path);
	return 0;
}

/* 0, LISTENER_E_EXPOSED or -errno. */
static int place_check(const char *path)
{
	const char *slash = strrchr(path, '/');
	CLEANUP(freep)
	char *dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
	struct stat st;

	if (!dir)
		return err_raise(-ENOMEM);
	if (stat(dir, &st))
		return err_raise(-errno);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return LISTENER_E_EXPOSED;
	return st.st_mode & S_IWOTH && !(st.st_mode & S_ISVTX) ? LISTENER_E_EXPOSED : 0;
}

int listener_bind(const char *path, unsigned mode, int *ret_fd, struct listener_file *ret_file)
{
	CLEANUP(fd_closep) int fd = -1;
	struct sockaddr_un addr;
	struct stat st;
	mode_t umask_before;
	int r;

	r = address(path, &addr);
	if (!r)
		r = place_check(path);
	if (!r)
		r = stale_remove(path, &addr);
	if (r)
		return r > 0 ? r : err_trace(r);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_raise(-errno);
	/* The mode must be right from the first instant; chmod() after bind() would leave a window. */
	umask_before = umask(0777 & ~mode);
	r = bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) ? -errno : 0;
	(void)umask(umask_before);
	if (r == -EADDRINUSE)
		return LISTENER_E_LIVE; /* another kernel came between */
	if (r)
		return err_raise(r);
	if (listen(fd, BACKLOG) || lstat(path, &st))
		return err_raise(-errno);
	if (!S_ISSOCK(st.st_mode) || st.st_uid != geteuid())
		return LISTENER_E_EXPOSED;
	*ret_file = (struct listener_file){.dev = st.st_dev, .ino = st.st_ino};
	*ret_fd = TAKE_FD(fd);
	return 0;
}

void listener_unbind(const char *path, const struct listener_file *file)
{
	struct stat st;

	if (lstat(path, &st) == 0 && st.st_dev == file->dev && st.st_ino == file->ino)
		(void)unlink(path);
}

/* ---- placing ---- */

static void adopt(struct shard *shard, void *arg, uint64_t value)
{
	(void)arg;
	STAT_ADD(shard->stats.accepted, 1);
	if (conn_open(shard, (int)value))
		listener_forget(shard);
}

/* The core with the fewest, those on their way to it included. */
static struct shard *place(struct shard *shard)
{
	struct kernel *kernel = shard->kernel;
	struct shard *best = shard;

	for (unsigned i = 0; i < kernel->core_count; i++) {
		struct shard *at = kernel->shards[i];

		if (atomic_load_explicit(&at->load, memory_order_relaxed) <
		    atomic_load_explicit(&best->load, memory_order_relaxed))
			best = at;
	}
	return best;
}

void listener_forget(struct shard *shard)
{
	(void)atomic_fetch_sub_explicit(&shard->load, 1, memory_order_relaxed);
	descriptors_give_connection(&shard->kernel->descriptors);
}

void listener_turn_away(int fd, enum wire_error code, const char *message)
{
	uint8_t bytes[FRAME_HEADER_BYTES + 5 + UINT8_MAX] = {0};
	size_t len = strnlen(message, UINT8_MAX);
	struct frame frame = {
		.flags = WIRE_FLAG_REPLY | WIRE_FLAG_ERROR,
		.body_len = (uint32_t)len + 5,
	};
	uint8_t *body = bytes + FRAME_HEADER_BYTES;

	/* [code, message, {}] by hand: a fixarray, a fixint, a str8, an empty fixmap. */
	CHECK(code < 0x80);
	body[0] = 0x93;
	body[1] = (uint8_t)code;
	body[2] = 0xd9;
	body[3] = (uint8_t)len;
	memcpy(body + 4, message, len);
	body[4 + len] = 0x80;
	frame_write(bytes, &frame);
	(void)send(fd, bytes, FRAME_HEADER_BYTES + frame.body_len, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)close(fd);
}

/* Some connections are kept for operators, who must get in to end what takes all others. */
static void adopt_never(void *arg, uint64_t value)
{
	(void)arg;
	(void)close((int)value);
}

static bool connection_take(struct kernel *kernel, int fd)
{
	return descriptors_take_connection(&kernel->descriptors, false) ||
	       (peer_is_operator(fd) && descriptors_take_connection(&kernel->descriptors, true));
}

static void on_accepted(struct loop_source *source, int fd)
{
	struct shard *shard = container_of(source, struct shard, listener);
	struct shard *to;

	if (!connection_take(shard->kernel, fd)) {
		listener_turn_away(fd, WIRE_BUSY, "the kernel has as many connections as it may");
		return;
	}
	to = place(shard);
	(void)atomic_fetch_add_explicit(&to->load, 1, memory_order_relaxed);
	if (to != shard &&
	    shard_post(shard, to,
		       (struct lane_item){
			       .deliver = adopt, .drop = adopt_never, .value = (uint64_t)fd}))
		return;
	if (to != shard) {
		/* Its lane is full. */
		(void)atomic_fetch_sub_explicit(&to->load, 1, memory_order_relaxed);
		(void)atomic_fetch_add_explicit(&shard->load, 1, memory_order_relaxed);
	}
	adopt(shard, NULL, (uint64_t)fd);
}

static void on_accept_retry(struct timer *timer)
{
	struct shard *shard = container_of(timer, struct shard, accept_retry);

	if (loop_has(&shard->listener))
		loop_listen(shard->loop, &shard->listener);
}

static void on_accept_failed(struct loop_source *source, int error)
{
	struct shard *shard = container_of(source, struct shard, listener);

	log_warn("accept-failed", "errno=%d text=\"%s\" retry_ms=%d", error, strerrordesc_np(error),
		 LIMIT_ACCEPT_RETRY_MS);
	if (timer_set(&shard->timers, &shard->accept_retry,
		      shard->now_ns + LIMIT_ACCEPT_RETRY_MS * CLOCK_NS_PER_MS, on_accept_retry))
		loop_listen(shard->loop, source);
}

static const struct loop_handler listener_handler = {
	.accepted = on_accepted,
	.accept_failed = on_accept_failed,
};

int listener_start(struct shard *shard)
{
	int r = loop_add(shard->loop, &shard->listener, shard->kernel->listen_fd,
			 &listener_handler);

	if (!r)
		loop_listen(shard->loop, &shard->listener);
	return err_trace(r);
}

void listener_stop(struct shard *shard)
{
	loop_remove(shard->loop, &shard->listener);
}
