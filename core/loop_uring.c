/* SPDX-License-Identifier: MIT */

/*
 * Back end for kernels from 6.1: io_uring, one ring a core
 *
 * Set-up: SINGLE_ISSUER and DEFER_TASKRUN, so completions run only when this thread waits: nothing
 * interrupts the handlers, and one io_uring_enter() both submits and waits. Reading is a multishot recv
 * into a ring of provided buffers; the pool is small because it must stay in the cache, and a buffer
 * goes back as soon as its handler returns. Everything else is one-shot.
 *
 * user_data is {slot:32, generation:16, kind:8, sequence:8}. The slot and generation find the source,
 * or nobody when it has been removed since. The sequence counts a source's recvs: after pause and
 * resume the end of the former recv may arrive late and must not be taken for the end of the current one.
 * Bytes that a cancelled recv had already taken are delivered all the same.
 *
 * Removal: a cancel for everything armed goes with the next entries. But what is still in the submission
 * queue for that source is submitted at once, before the owner closes the descriptor: it names the
 * descriptor by number, and the number may be another file's by the time the kernel reads it.
 *
 * Entries are handed over whole: an enter that was short, or refused for want of memory, is repeated, because
 * sends name buffers that are good for this wait only.
 *
 * The end of a stream: a multishot recv waits for readiness to change, and bytes and end that are there
 * together are one change: it takes the bytes and never sees the end (Linux 6.18; a fix of 2026 covers
 * only an end that comes while the bytes are being taken). So every reader also has a poll for the
 * hang-up, which is found whenever it happened; from then on recv is armed once per read, and that
 * tries before it waits.
 *
 * Traps met: submit alone does not run deferred work, only GETEVENTS does; ENOBUFS ends a multishot
 * recv and it is armed again once buffers are back; close() does not end a multishot.
 */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "core/loop_priv.h"
#include "core/uring_abi.h"

enum {
	SQ_ENTRIES = 1024,
	CQ_ENTRIES = 8192,
	BUFFERS = 256,
	BUFFER_BYTES = 2048,
	BUFFER_GROUP = 0,
	SUBMIT_PAUSE_US = 1000,
	SUBMIT_TRIES = 10000, /* then a system without memory for ten seconds ends the core */

	ARMED_RECV = 1,
	ARMED_ACCEPT = 2,
	ARMED_WRITE = 4,
	ARMED_READY = 8,
	ARMED_HANGUP = 16,
	ARMED_GONE = 32,
};

enum kind {
	KIND_NONE, /* nobody waits for it */
	KIND_RECV,
	KIND_ACCEPT,
	KIND_SEND,
	KIND_WRITE,
	KIND_READY,
	KIND_HANGUP,
	KIND_GONE,
	KIND_MSG, /* our MSG_RING failed; the slot is the target's eventfd */
};

struct loop_uring {
	struct loop loop;
	struct io_uring ring;
	unsigned sq_mask, cq_mask;
	int enter_fd; /* registered index, or the ring's descriptor */
	unsigned enter_flags;
	bool no_sqarray, multishot, msg_ring;

	struct uring_buf *bufs;
	uint8_t *pool;
	uint16_t bufs_tail;

	struct io_uring_cqe *batch; /* completions being handled */
	unsigned batch_len, batch_cap;
};

static struct loop_uring *uring_of(struct loop *loop)
{
	return (struct loop_uring *)loop;
}

static int sys_register(int fd, unsigned op, const void *arg, unsigned count)
{
	long r = syscall(__NR_io_uring_register, fd, op, arg, count);

	return r < 0 ? -errno : (int)r;
}

/* Makes the entries filled since the last call visible to the kernel; returns how many are pending. */
static unsigned sq_publish(struct loop_uring *u)
{
	struct io_uring_sq *sq = &u->ring.sq;
	unsigned tail = *sq->ktail;

	for (; tail != sq->sqe_tail; tail++)
		if (!u->no_sqarray)
			sq->array[tail & u->sq_mask] = tail & u->sq_mask;
	sq->sqe_head = sq->sqe_tail;
	/* Pairs with the kernel's acquire of the tail. */
	__atomic_store_n(sq->ktail, tail, __ATOMIC_RELEASE);
	return tail - __atomic_load_n(sq->khead, __ATOMIC_ACQUIRE);
}

static int ring_enter(struct loop_uring *u, unsigned wait_count, unsigned flags, const void *arg,
		      size_t arg_bytes)
{
	long r = syscall(__NR_io_uring_enter, u->enter_fd, sq_publish(u), wait_count,
			 flags | u->enter_flags, arg, arg_bytes);

	return r < 0 ? -errno : (int)r;
}

static bool sq_empty(const struct loop_uring *u)
{
	/* Pairs with the kernel's release of the head. */
	return __atomic_load_n(u->ring.sq.khead, __ATOMIC_ACQUIRE) == *u->ring.sq.ktail;
}

/* ring_enter() until everything is handed over. What the last one returned. */
static int submit(struct loop_uring *u, unsigned wait_count, unsigned flags, const void *arg,
		  size_t arg_bytes)
{
	for (unsigned tries = 0;; tries++) {
		int r = ring_enter(u, wait_count, flags, arg, arg_bytes);

		if (sq_empty(u))
			return r;
		/* EBUSY: completions have overflowed, which GETEVENTS mends; the others: no memory just now. */
		if (r < 0 && r != -EAGAIN && r != -EBUSY && r != -EINTR && r != -ENOMEM)
			return r;
		CHECK(tries < SUBMIT_TRIES);
		if (r <= 0)
			(void)usleep(SUBMIT_PAUSE_US);
	}
}

static struct io_uring_sqe *sqe_get(struct loop_uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	if (!sqe) {
		(void)submit(u, 0, URING_ENTER_GETEVENTS, NULL, 0);
		sqe = io_uring_get_sqe(&u->ring);
		CHECK(sqe);
	}
	memset(sqe, 0, sizeof(*sqe));
	return sqe;
}

/* An entry about the descriptor of @source. */
static struct io_uring_sqe *sqe_for(struct loop *loop, struct loop_source *source)
{
	struct loop_uring *u = uring_of(loop);
	struct io_uring_sqe *sqe = sqe_get(u);

	sqe->fd = source->fd;
	source->asked = u->ring.sq.sqe_tail;
	return sqe;
}

static uint64_t token(struct loop *loop, const struct loop_source *source, enum kind kind)
{
	uint64_t generation = loop->slots[source->slot].generation;
	uint64_t sequence = kind == KIND_RECV ? source->read_seq : 0;

	return source->slot | generation << 32 | (uint64_t)kind << 48 | sequence << 56;
}

static void cancel(struct loop *loop, struct loop_source *source, enum kind kind)
{
	struct io_uring_sqe *sqe = sqe_get(uring_of(loop));

	sqe->opcode = URING_OP_ASYNC_CANCEL;
	sqe->fd = -1;
	sqe->addr = token(loop, source, kind);
	sqe->flags = URING_SQE_CQE_SKIP_SUCCESS;
	sqe->user_data = (uint64_t)KIND_NONE << 48;
}

/* The entry, to be changed; NULL when it was armed already. */
static struct io_uring_sqe *arm_poll(struct loop *loop, struct loop_source *source, uint8_t bit,
				     enum kind kind, uint32_t events)
{
	struct io_uring_sqe *sqe;

	if (source->armed & bit)
		return NULL;
	source->armed |= bit;
	sqe = sqe_for(loop, source);
	sqe->opcode = URING_OP_POLL_ADD;
	sqe->poll32_events = events;
	sqe->user_data = token(loop, source, kind);
	return sqe;
}

static void arm_recv(struct loop *loop, struct loop_source *source)
{
	struct loop_uring *u = uring_of(loop);
	bool multishot = u->multishot && !source->hung_up;
	struct io_uring_sqe *sqe = sqe_for(loop, source);

	source->read_seq++;
	source->armed |= ARMED_RECV;
	sqe->opcode = URING_OP_RECV;
	sqe->flags = URING_SQE_BUFFER_SELECT;
	sqe->buf_group = BUFFER_GROUP;
	sqe->ioprio = multishot ? URING_RECV_MULTISHOT : 0;
	sqe->user_data = token(loop, source, KIND_RECV);
	if (multishot)
		(void)arm_poll(loop, source, ARMED_HANGUP, KIND_HANGUP, POLLRDHUP);
}

static void disarm_recv(struct loop *loop, struct loop_source *source)
{
	cancel(loop, source, KIND_RECV);
	source->armed &= (uint8_t)~ARMED_RECV;
}

static void uring_read(struct loop *loop, struct loop_source *source)
{
	if (source->reading && !(source->armed & ARMED_RECV))
		arm_recv(loop, source);
	else if (!source->reading && source->armed & ARMED_RECV)
		disarm_recv(loop, source);
}

static void on_hangup(struct loop *loop, struct loop_source *source)
{
	source->hung_up = true;
	if (!(source->armed & ARMED_RECV))
		return;
	disarm_recv(loop, source);
	arm_recv(loop, source);
}

static void uring_listen(struct loop *loop, struct loop_source *source, bool on)
{
	struct io_uring_sqe *sqe;

	if (!on && source->armed & ARMED_ACCEPT) {
		cancel(loop, source, KIND_ACCEPT);
		source->armed &= (uint8_t)~ARMED_ACCEPT;
	} else if (on && !(source->armed & ARMED_ACCEPT)) {
		source->armed |= ARMED_ACCEPT;
		sqe = sqe_for(loop, source);
		sqe->opcode = URING_OP_ACCEPT;
		sqe->ioprio = URING_ACCEPT_MULTISHOT;
		sqe->accept_flags = SOCK_CLOEXEC | SOCK_NONBLOCK;
		sqe->user_data = token(loop, source, KIND_ACCEPT);
	}
}

/*
 * All sends of a pass go with the enter that also waits. They are told not to wait and to take all or
 * fail (WAITALL), so each is over when that call returns, its buffer is free, and only one that fell short
 * costs a completion.
 */
static ssize_t uring_send(struct loop *loop, struct loop_source *source, const void *bytes,
			  size_t len)
{
	struct io_uring_sqe *sqe = sqe_for(loop, source);

	sqe->opcode = URING_OP_SEND;
	sqe->addr = (uint64_t)(uintptr_t)bytes;
	sqe->len = (uint32_t)len;
	sqe->msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_WAITALL;
	sqe->flags = URING_SQE_CQE_SKIP_SUCCESS;
	sqe->user_data = token(loop, source, KIND_SEND);
	return LOOP_LATER;
}

static void uring_want_write(struct loop *loop, struct loop_source *source)
{
	(void)arm_poll(loop, source, ARMED_WRITE, KIND_WRITE, POLLOUT);
}

static void uring_want_ready(struct loop *loop, struct loop_source *source)
{
	(void)arm_poll(loop, source, ARMED_READY, KIND_READY, POLLIN);
}

/*
 * A poll always reports that the peer sends no more, too. Multishot, it does so once, and goes on to
 * the next change.
 */
static void uring_want_gone(struct loop *loop, struct loop_source *source)
{
	struct io_uring_sqe *sqe = arm_poll(loop, source, ARMED_GONE, KIND_GONE, POLLHUP);

	if (sqe)
		sqe->len = URING_POLL_MULTISHOT;
}

static void uring_forget(struct loop *loop, struct loop_source *source)
{
	struct loop_uring *u = uring_of(loop);
	static const struct {
		uint8_t bit;
		enum kind kind;
	} arms[] = {
		{ARMED_RECV, KIND_RECV},   {ARMED_ACCEPT, KIND_ACCEPT}, {ARMED_WRITE, KIND_WRITE},
		{ARMED_READY, KIND_READY}, {ARMED_HANGUP, KIND_HANGUP}, {ARMED_GONE, KIND_GONE},
	};

	for (unsigned i = 0; i < sizeof(arms) / sizeof(arms[0]); i++)
		if (source->armed & arms[i].bit)
			cancel(loop, source, arms[i].kind);
	source->armed = 0;
	/* Counters that wrap: whether the kernel has not come that far yet. */
	if ((int32_t)(source->asked - *u->ring.sq.khead) > 0)
		(void)submit(u, 0, 0, NULL, 0);
}

static void buffer_return(struct loop_uring *u, uint16_t bid)
{
	struct uring_buf *buf = &u->bufs[u->bufs_tail & (BUFFERS - 1)];

	/* Not a struct assignment: entry 0 also holds the tail. */
	buf->addr = (uint64_t)(uintptr_t)(u->pool + (size_t)bid * BUFFER_BYTES);
	buf->len = BUFFER_BYTES;
	buf->bid = bid;
	u->bufs_tail++;
}

static void buffers_publish(struct loop_uring *u)
{
	/* Pairs with the kernel's acquire when it takes a buffer. */
	__atomic_store_n(&u->bufs[0].tail, u->bufs_tail, __ATOMIC_RELEASE);
}

static void on_recv_end(struct loop *loop, struct loop_source *source, int res)
{
	source->armed &= (uint8_t)~ARMED_RECV;
	if (!source->reading)
		return;
	if (res > 0 || res == -ENOBUFS || res == -EINTR || res == -ECANCELED) {
		arm_recv(loop, source);
		return;
	}
	source->reading = false;
	source->handler->ended(source, -res);
}

static void on_recv(struct loop *loop, uint32_t slot, uint64_t data, int res, uint32_t flags)
{
	struct loop_uring *u = uring_of(loop);
	uint16_t generation = (uint16_t)(data >> 32);
	struct loop_source *source = loop_find(loop, slot, generation);

	if (flags & URING_CQE_BUFFER) {
		uint16_t bid = (uint16_t)(flags >> URING_CQE_BUFFER_SHIFT);

		if (source && res > 0)
			source->handler->received(source, u->pool + (size_t)bid * BUFFER_BYTES,
						  (uint32_t)res);
		buffer_return(u, bid);
		source = loop_find(loop, slot, generation);
	}
	if (source && !(flags & URING_CQE_MORE) && (uint8_t)(data >> 56) == source->read_seq &&
	    source->armed & ARMED_RECV)
		on_recv_end(loop, source, res);
}

static void on_accept(struct loop *loop, struct loop_source *source, int res, uint32_t flags)
{
	bool again = source->armed & ARMED_ACCEPT && !(flags & URING_CQE_MORE);

	if (again)
		source->armed &= (uint8_t)~ARMED_ACCEPT;
	if (res < 0 && res != -ECONNABORTED && res != -EINTR) {
		if (res != -ECANCELED)
			source->handler->accept_failed(source, -res);
		return;
	}
	if (again)
		uring_listen(loop, source, true);
	if (res >= 0)
		source->handler->accepted(source, res);
}

static void on_gone(struct loop *loop, struct loop_source *source, int res, uint32_t flags)
{
	const bool more = flags & URING_CQE_MORE, gone = res > 0 && res & POLLHUP;

	if (!(source->armed & ARMED_GONE))
		return; /* said already, in the same batch */
	if (gone && more)
		cancel(loop, source, KIND_GONE);
	if (gone || !more)
		source->armed &= (uint8_t)~ARMED_GONE;
	if (gone)
		source->handler->gone(source);
	else if (!more && res >= 0)
		uring_want_gone(loop, source);
}

static void dispatch(struct loop *loop, uint64_t data, int res, uint32_t flags)
{
	static const uint64_t one = 1;
	enum kind kind = (enum kind)(uint8_t)(data >> 48);
	struct loop_source *source;

	if (kind == KIND_NONE)
		return;
	if (kind == KIND_MSG) {
		if (res < 0)
			(void)!write((int)(uint32_t)data, &one, sizeof(one));
		return;
	}
	if (kind == KIND_RECV) {
		on_recv(loop, (uint32_t)data, data, res, flags);
		return;
	}
	source = loop_find(loop, (uint32_t)data, (uint16_t)(data >> 32));
	if (!source) {
		if (kind == KIND_ACCEPT && res >= 0)
			(void)close(res);
		return;
	}
	switch (kind) {
	case KIND_ACCEPT:
		on_accept(loop, source, res, flags);
		break;
	case KIND_SEND:
		source->handler->sent_short(source, res);
		break;
	case KIND_WRITE:
		source->armed &= (uint8_t)~ARMED_WRITE;
		source->handler->writable(source);
		break;
	case KIND_HANGUP:
		source->armed &= (uint8_t)~ARMED_HANGUP;
		on_hangup(loop, source);
		break;
	case KIND_GONE:
		on_gone(loop, source, res, flags);
		break;
	case KIND_READY:
		source->armed &= (uint8_t)~ARMED_READY;
		source->handler->ready(source);
		break;
	default:
		UNREACHABLE();
	}
}

/* Moves what is in the completion queue to the batch. */
static void batch_take(struct loop_uring *u)
{
	struct io_uring_cq *cq = &u->ring.cq;
	unsigned head = *cq->khead;
	/* Pairs with the kernel's release of the tail: the entries before it are whole. */
	unsigned tail = __atomic_load_n(cq->ktail, __ATOMIC_ACQUIRE);

	if (tail - head > u->batch_cap - u->batch_len) {
		unsigned cap = u->batch_len + CQ_ENTRIES;
		struct io_uring_cqe *batch = realloc(u->batch, cap * sizeof(*batch));

		CHECK(batch);
		u->batch = batch;
		u->batch_cap = cap;
	}
	for (; head != tail; head++)
		u->batch[u->batch_len++] = cq->cqes[head & u->cq_mask];
	__atomic_store_n(cq->khead, head, __ATOMIC_RELEASE);
}

static bool is_send(const struct io_uring_cqe *cqe)
{
	return (uint8_t)(cqe->user_data >> 48) == KIND_SEND;
}

/*
 * All that has completed is looked at before anything is handled, because sends that fell short go
 * first: whatever else is handled may make replies, and those belong behind what was left over.
 */
static void reap(struct loop *loop)
{
	struct loop_uring *u = uring_of(loop);

	u->batch_len = 0;
	batch_take(u);
	/* What did not fit the completion queue waits in the kernel. */
	while (__atomic_load_n(u->ring.sq.kflags, __ATOMIC_RELAXED) & URING_SQ_CQ_OVERFLOW) {
		(void)ring_enter(u, 0, URING_ENTER_GETEVENTS, NULL, 0);
		batch_take(u);
	}
	for (unsigned i = 0; i < u->batch_len; i++)
		if (is_send(&u->batch[i]))
			dispatch(loop, u->batch[i].user_data, u->batch[i].res, u->batch[i].flags);
	for (unsigned i = 0; i < u->batch_len; i++)
		if (!is_send(&u->batch[i]))
			dispatch(loop, u->batch[i].user_data, u->batch[i].res, u->batch[i].flags);
	buffers_publish(u);
}

static int uring_wait(struct loop *loop, uint64_t timeout_ns)
{
	struct loop_uring *u = uring_of(loop);
	struct __kernel_timespec ts = {
		.tv_sec = (long long)(timeout_ns / 1000000000),
		.tv_nsec = (long long)(timeout_ns % 1000000000),
	};
	struct uring_wait_arg arg = {
		.timespec = timeout_ns == UINT64_MAX ? 0 : (uint64_t)(uintptr_t)&ts,
	};
	int r;

	r = submit(u, timeout_ns ? 1 : 0, URING_ENTER_GETEVENTS | URING_ENTER_EXT_ARG, &arg,
		   sizeof(arg));
	if (r < 0 && r != -ETIME && r != -EINTR && r != -EBUSY && r != -EAGAIN)
		return err_raise(r);
	reap(loop);
	return 0;
}

static bool uring_wake(struct loop *from, struct loop *to)
{
	struct loop_uring *u = uring_of(from);
	struct io_uring_sqe *sqe;

	if (!u->msg_ring)
		return false;
	sqe = sqe_get(u);
	sqe->opcode = URING_OP_MSG_RING;
	sqe->fd = uring_of(to)->ring.ring_fd;
	sqe->off = (uint64_t)KIND_NONE << 48; /* user_data of the completion at @to */
	sqe->flags = URING_SQE_CQE_SKIP_SUCCESS;
	sqe->user_data = (uint32_t)to->wake_fd | (uint64_t)KIND_MSG << 48;
	return true;
}

static int buffers_open(struct loop_uring *u)
{
	size_t ring_bytes = BUFFERS * sizeof(struct uring_buf);
	struct uring_buf_reg reg = {.ring_entries = BUFFERS, .bgid = BUFFER_GROUP};
	void *ring, *pool;
	int r;

	ring = mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ring == MAP_FAILED)
		return err_raise(-errno);
	pool = mmap(NULL, (size_t)BUFFERS * BUFFER_BYTES, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pool == MAP_FAILED) {
		r = err_raise(-errno);
		(void)munmap(ring, ring_bytes);
		return r;
	}
	u->bufs = ring;
	u->pool = pool;
	reg.ring_addr = (uint64_t)(uintptr_t)ring;
	r = sys_register(u->ring.ring_fd, URING_REGISTER_PBUF_RING, &reg, 1);
	if (r < 0)
		return err_raise(r);
	for (uint16_t bid = 0; bid < BUFFERS; bid++)
		buffer_return(u, bid);
	buffers_publish(u);
	return 0;
}

static void buffers_close(struct loop_uring *u)
{
	if (!u->bufs)
		return;
	(void)munmap(u->bufs, BUFFERS * sizeof(struct uring_buf));
	(void)munmap(u->pool, (size_t)BUFFERS * BUFFER_BYTES);
}

/* Saves a descriptor look-up at each enter; a kernel without it only costs that. */
static void ring_fd_register(struct loop_uring *u)
{
	struct uring_fd_update update = {.offset = UINT32_MAX, .data = (uint64_t)u->ring.ring_fd};

	if (sys_register(u->ring.ring_fd, URING_REGISTER_RING_FDS, &update, 1) != 1)
		return;
	u->enter_fd = (int)update.offset;
	u->enter_flags = URING_ENTER_REGISTERED_RING;
}

static bool op_supported(int ring_fd, unsigned op)
{
	CLEANUP(freep)
	struct io_uring_probe *probe =
		calloc(1, sizeof(*probe) + 256 * sizeof(struct io_uring_probe_op));

	if (!probe || sys_register(ring_fd, URING_REGISTER_PROBE, probe, 256) < 0)
		return false;
	return op < probe->ops_len && probe->ops[op].flags & IO_URING_OP_SUPPORTED;
}

static int uring_open(struct loop *loop, const struct loop_features *features)
{
	struct loop_uring *u = uring_of(loop);
	struct io_uring_params params = {
		.flags = URING_SETUP_SINGLE_ISSUER | URING_SETUP_DEFER_TASKRUN |
			 URING_SETUP_SUBMIT_ALL | URING_SETUP_CQSIZE | URING_SETUP_CLAMP,
		.cq_entries = CQ_ENTRIES,
	};
	int r;

	r = io_uring_queue_init_params(SQ_ENTRIES, &u->ring, &params);
	if (r < 0)
		return err_raise(r);
	u->no_sqarray = params.flags & URING_SETUP_NO_SQARRAY;
	u->sq_mask = params.sq_entries - 1;
	u->cq_mask = params.cq_entries - 1;
	u->enter_fd = u->ring.ring_fd;
	u->multishot = features->multishot_recv;
	u->msg_ring = features->msg_ring && op_supported(u->ring.ring_fd, URING_OP_MSG_RING);
	r = buffers_open(u);
	if (r) {
		io_uring_queue_exit(&u->ring);
		buffers_close(u);
		return err_trace(r);
	}
	ring_fd_register(u);
	return 0;
}

static void uring_close(struct loop *loop)
{
	struct loop_uring *u = uring_of(loop);

	/* Closing the ring cancels and waits for what is in flight; only then may the buffers go. */
	io_uring_queue_exit(&u->ring);
	buffers_close(u);
	free(u->batch);
}

const struct loop_ops loop_uring_ops = {
	.size = sizeof(struct loop_uring),
	.open = uring_open,
	.close = uring_close,
	.forget = uring_forget,
	.listen = uring_listen,
	.read = uring_read,
	.send = uring_send,
	.want_write = uring_want_write,
	.want_ready = uring_want_ready,
	.want_gone = uring_want_gone,
	.wait = uring_wait,
	.wake = uring_wake,
};
