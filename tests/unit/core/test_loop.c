/* SPDX-License-Identifier: MIT */

/*
 * Tests of both loop back ends through their one interface, with real descriptors
 *
 * Each test runs on io_uring with all features, without multishot recv, without MSG_RING, and on epoll.
 */

#include "tests/unit/testing.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/list.h"
#include "core/loop.h"

enum {
	STEP_NS = 5000000,
	STEPS_MAX = 2000,
};

struct end {
	struct loop_source source;
	int peer;
	char bytes[1 << 17];
	size_t len;
	int ended, error, writable, ready, accepted;
	int gone;
	int shorts, short_result;
	struct loop *loop;
	struct end *removes; /* what received() takes out of the loop */
};

static struct loop_features features;

static void on_received(struct loop_source *source, const uint8_t *bytes, uint32_t len)
{
	struct end *end = container_of(source, struct end, source);

	assert_true(end->len + len <= sizeof(end->bytes));
	memcpy(end->bytes + end->len, bytes, len);
	end->len += len;
	if (end->removes)
		loop_remove(end->loop, &end->removes->source);
}

static void on_ended(struct loop_source *source, int error)
{
	struct end *end = container_of(source, struct end, source);

	end->ended++;
	end->error = error;
}

static void on_sent_short(struct loop_source *source, int sent)
{
	struct end *end = container_of(source, struct end, source);

	end->shorts++;
	end->short_result = sent;
}

static void on_writable(struct loop_source *source)
{
	container_of(source, struct end, source)->writable++;
}

static void on_ready(struct loop_source *source)
{
	container_of(source, struct end, source)->ready++;
}

static void on_gone(struct loop_source *source)
{
	container_of(source, struct end, source)->gone++;
}

static void on_accepted(struct loop_source *source, int fd)
{
	container_of(source, struct end, source)->accepted++;
	(void)close(fd);
}

static void on_accept_failed(struct loop_source *source, int error)
{
	(void)source;
	fail_msg("accept failed: %s", strerror(error));
}

static const struct loop_handler handler = {
	.received = on_received,
	.ended = on_ended,
	.sent_short = on_sent_short,
	.writable = on_writable,
	.ready = on_ready,
	.gone = on_gone,
	.accepted = on_accepted,
	.accept_failed = on_accept_failed,
};

static int setup(void **state)
{
	struct loop *loop;

	assert_int_equal(loop_new(&features, &loop), 0);
	*state = loop;
	return 0;
}

static int teardown(void **state)
{
	(void)loop_free(*state);
	return 0;
}

static struct end *end_new(struct loop *loop)
{
	struct end *end = calloc(1, sizeof(*end));
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
			 0);
	end->peer = fds[1];
	end->loop = loop;
	assert_int_equal(loop_add(loop, &end->source, fds[0], &handler), 0);
	return end;
}

static void end_free(struct loop *loop, struct end *end)
{
	int fd = end->source.fd;

	loop_remove(loop, &end->source);
	(void)close(fd);
	if (end->peer >= 0)
		(void)close(end->peer);
	free(end);
}

#define WAIT_UNTIL(loop, cond)                                             \
	do {                                                               \
		for (int step_ = 0; step_ < STEPS_MAX && !(cond); step_++) \
			assert_int_equal(loop_wait(loop, STEP_NS), 0);     \
		assert_true(cond);                                         \
	} while (0)

/* @armed: how far the recv was when the peer sent and closed: not asked for, asked for, in the kernel. */
static void expect_bytes_and_end(struct loop *loop, int armed)
{
	for (int round = 0; round < 100; round++) {
		struct end *end = end_new(loop);

		if (armed > 0)
			loop_read(loop, &end->source, true);
		if (armed > 1)
			assert_int_equal(loop_wait(loop, 0), 0);
		assert_int_equal(send(end->peer, "hello", 5, 0), 5);
		end->peer = (close(end->peer), -1);
		loop_read(loop, &end->source, true);
		WAIT_UNTIL(loop, end->ended);
		assert_int_equal(end->len, 5);
		assert_int_equal(end->error, 0);
		end_free(loop, end);
	}
}

static void bytes_and_the_end_arrive_also_back_to_back(void **state)
{
	expect_bytes_and_end(*state, 2);
}

static void bytes_and_the_end_arrive_also_from_before_the_recv(void **state)
{
	expect_bytes_and_end(*state, 0);
	expect_bytes_and_end(*state, 1);
}

/* More than any number of buffers taken in a row, the end behind it, and reading paused meanwhile. */
static void end_behind_much_unread_arrives(void **state)
{
	static char sent[sizeof(((struct end *)0)->bytes)];

	for (int round = 0; round < 50; round++) {
		struct end *end = end_new(*state);
		int room = 1 << 20;

		assert_int_equal(setsockopt(end->peer, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)),
				 0);
		if (round % 2) {
			loop_read(*state, &end->source, true);
			assert_int_equal(loop_wait(*state, 0), 0);
			loop_read(*state, &end->source, false);
		}
		assert_int_equal(send(end->peer, sent, sizeof(sent), 0), sizeof(sent));
		assert_int_equal(loop_wait(*state, 0), 0);
		assert_int_equal(shutdown(end->peer, SHUT_WR), 0);
		assert_int_equal(loop_wait(*state, 0), 0);
		loop_read(*state, &end->source, true);
		WAIT_UNTIL(*state, end->ended);
		assert_int_equal(end->len, sizeof(sent));
		end_free(*state, end);
	}
}

static void large_stream_arrives_whole_and_in_order(void **state)
{
	struct end *end = end_new(*state);
	static char sent[60000];

	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (char)(i * 31 >> 3);
	loop_read(*state, &end->source, true);
	assert_int_equal(send(end->peer, sent, sizeof(sent), 0), sizeof(sent));
	WAIT_UNTIL(*state, end->len == sizeof(sent));
	assert_memory_equal(end->bytes, sent, sizeof(sent));
	end_free(*state, end);
}

/* More readers at once than there are buffers: those that found none must be armed again. */
static void more_readers_than_buffers_all_get_their_bytes(void **state)
{
	enum {
		READERS = 600,
	};
	static struct end *ends[READERS];
	size_t got = 0;

	for (int i = 0; i < READERS; i++) {
		ends[i] = end_new(*state);
		loop_read(*state, &ends[i]->source, true);
	}
	assert_int_equal(loop_wait(*state, 0), 0);
	for (int round = 1; round <= 3; round++) {
		for (int i = 0; i < READERS; i++)
			assert_int_equal(send(ends[i]->peer, "abc", 3, 0), 3);
		for (int step = 0; step < STEPS_MAX && got < (size_t)round * READERS * 3; step++) {
			assert_int_equal(loop_wait(*state, STEP_NS), 0);
			got = 0;
			for (int i = 0; i < READERS; i++)
				got += ends[i]->len;
		}
		assert_int_equal(got, (size_t)round * READERS * 3);
	}
	for (int i = 0; i < READERS; i++)
		end_free(*state, ends[i]);
}

static void paused_source_keeps_its_bytes_and_resumes(void **state)
{
	struct end *end = end_new(*state);

	for (int round = 0; round < 50; round++) {
		loop_read(*state, &end->source, true);
		assert_int_equal(loop_wait(*state, 0), 0);
		loop_read(*state, &end->source, false);
		loop_read(*state, &end->source, true);
		loop_read(*state, &end->source, false);
		assert_int_equal(loop_wait(*state, 0), 0);
		size_t before = end->len;
		assert_int_equal(send(end->peer, "xy", 2, 0), 2);
		assert_int_equal(loop_wait(*state, 0), 0);
		assert_int_equal(loop_wait(*state, 1000000), 0);
		assert_int_equal(end->len, before);
		loop_read(*state, &end->source, true);
		WAIT_UNTIL(*state, end->len == before + 2);
		assert_int_equal(end->ended, 0);
	}
	end_free(*state, end);
}

static void removed_source_is_never_called_again(void **state)
{
	struct end *a = end_new(*state);
	struct end *b = end_new(*state);

	a->removes = b;
	b->removes = a;
	loop_read(*state, &a->source, true);
	loop_read(*state, &b->source, true);
	assert_int_equal(loop_wait(*state, 0), 0);
	assert_int_equal(send(a->peer, "1", 1, 0), 1);
	assert_int_equal(send(b->peer, "2", 1, 0), 1);
	WAIT_UNTIL(*state, a->len + b->len > 0);
	assert_int_equal(loop_wait(*state, STEP_NS), 0);
	assert_int_equal(a->len + b->len, 1);
	end_free(*state, a);
	end_free(*state, b);
}

/* The number of a closed descriptor goes to the next one opened; nothing of the first may reach it. */
static void reused_descriptor_number_gets_only_its_own_events(void **state)
{
	for (int round = 0; round < 200; round++) {
		struct end *old = end_new(*state);
		struct end *new;

		loop_read(*state, &old->source, true);
		assert_int_equal(send(old->peer, "old", 3, 0), 3);
		end_free(*state, old);
		new = end_new(*state);
		loop_read(*state, &new->source, true);
		assert_int_equal(send(new->peer, "new!", 4, 0), 4);
		WAIT_UNTIL(*state, new->len >= 4);
		assert_int_equal(new->len, 4);
		assert_memory_equal(new->bytes, "new!", 4);
		end_free(*state, new);
	}
}

/* How many bytes loop_send() really took, whichever way it says so. */
static ssize_t send_all(struct loop *loop, struct end *end, const void *bytes, size_t len)
{
	ssize_t n = loop_send(loop, &end->source, bytes, len);

	if (n != LOOP_LATER)
		return n;
	end->shorts = 0;
	assert_int_equal(loop_wait(loop, 0), 0);
	return end->shorts ? end->short_result : (ssize_t)len;
}

/* Some sends fit, one fits partly, then none: what the peer reads is what was said to be taken. */
static void sends_that_fall_short_say_how_many_bytes_went(void **state)
{
	static uint8_t block[100000], got[sizeof(block)];
	struct end *end = end_new(*state);
	size_t taken = 0, read_back = 0;
	int partial = 0, none = 0;
	ssize_t n;

	for (int i = 0; i < 100 && !none; i++) {
		for (size_t at = 0; at < sizeof(block); at++)
			block[at] = (uint8_t)((taken + at) * 7 >> 2);
		n = send_all(*state, end, block, sizeof(block));
		if (n == -EAGAIN) {
			none++;
			continue;
		}
		assert_true(n > 0);
		partial += (size_t)n < sizeof(block);
		taken += (size_t)n;
	}
	assert_int_equal(none, 1);
	assert_true(partial > 0);
	while ((n = recv(end->peer, got, sizeof(got), 0)) > 0)
		for (ssize_t i = 0; i < n; i++, read_back++)
			assert_int_equal(got[i], (uint8_t)(read_back * 7 >> 2));
	assert_int_equal(read_back, taken);
	end_free(*state, end);
}

static void send_to_one_who_left_reports_it(void **state)
{
	struct end *end = end_new(*state);

	end->peer = (close(end->peer), -1);
	assert_int_equal(send_all(*state, end, "x", 1), -EPIPE);
	end_free(*state, end);
}

static void writable_comes_once_when_there_is_room(void **state)
{
	struct end *end = end_new(*state);
	static char block[4096];

	while (send(end->source.fd, block, sizeof(block), 0) > 0)
		;
	assert_int_equal(errno, EAGAIN);
	loop_want_write(*state, &end->source);
	assert_int_equal(loop_wait(*state, STEP_NS), 0);
	assert_int_equal(end->writable, 0);
	while (recv(end->peer, block, sizeof(block), 0) > 0)
		;
	WAIT_UNTIL(*state, end->writable);
	assert_int_equal(loop_wait(*state, STEP_NS), 0);
	assert_int_equal(end->writable, 1);
	end_free(*state, end);
}

static void ready_comes_once_for_a_pipe_and_its_hang_up(void **state)
{
	struct end end = {0};
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(loop_add(*state, &end.source, fds[0], &handler), 0);
	loop_want_ready(*state, &end.source);
	assert_int_equal(loop_wait(*state, STEP_NS), 0);
	assert_int_equal(end.ready, 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	WAIT_UNTIL(*state, end.ready == 1);
	assert_int_equal(loop_wait(*state, STEP_NS), 0);
	assert_int_equal(end.ready, 1);
	assert_int_equal(read(fds[0], end.bytes, 8), 1);
	loop_want_ready(*state, &end.source);
	(void)close(fds[1]);
	WAIT_UNTIL(*state, end.ready == 2);
	loop_remove(*state, &end.source);
	(void)close(fds[0]);
}

static void gone_comes_once_for_a_close_and_not_for_half_of_one(void **state)
{
	struct end *end = end_new(*state);

	loop_read(*state, &end->source, true);
	assert_int_equal(shutdown(end->peer, SHUT_WR), 0);
	WAIT_UNTIL(*state, end->ended);
	loop_want_gone(*state, &end->source);
	for (int i = 0; i < 5; i++)
		assert_int_equal(loop_wait(*state, 1000000), 0);
	assert_int_equal(end->gone, 0);
	/* Traffic of the other direction is none of it. */
	assert_int_equal(send(end->source.fd, "hello", 5, MSG_NOSIGNAL), 5);
	assert_int_equal(recv(end->peer, end->bytes, 5, 0), 5);
	loop_want_write(*state, &end->source);
	WAIT_UNTIL(*state, end->writable);
	assert_int_equal(end->gone, 0);
	end->peer = (close(end->peer), -1);
	WAIT_UNTIL(*state, end->gone);
	for (int i = 0; i < 3; i++)
		assert_int_equal(loop_wait(*state, 1000000), 0);
	assert_int_equal(end->gone, 1);
	end_free(*state, end);

	/* And for one that had closed before anybody asked. */
	end = end_new(*state);
	end->peer = (close(end->peer), -1);
	loop_want_gone(*state, &end->source);
	WAIT_UNTIL(*state, end->gone);
	assert_int_equal(end->gone, 1);
	end_free(*state, end);
}

static void listener_accepts_many(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct end end = {0};
	int listener, client;
	static int names;

	/* An abstract name: no file to clean up. Another each time: a closed ring lets go of its files late. */
	(void)snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "clove-test-%d-%d", getpid(),
		       ++names);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(listener, 128), 0);
	assert_int_equal(loop_add(*state, &end.source, listener, &handler), 0);
	loop_listen(*state, &end.source);
	for (int i = 1; i <= 100; i++) {
		client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(client, (struct sockaddr *)&addr, sizeof(addr)), 0);
		(void)close(client);
	}
	WAIT_UNTIL(*state, end.accepted == 100);
	loop_remove(*state, &end.source);
	(void)close(listener);
}

static void *wake_from_thread(void *arg)
{
	loop_wake(NULL, arg);
	return NULL;
}

static void wake_ends_an_endless_wait(void **state)
{
	pthread_t thread;

	for (int i = 0; i < 100; i++) {
		assert_int_equal(pthread_create(&thread, NULL, wake_from_thread, *state), 0);
		assert_int_equal(loop_wait(*state, UINT64_MAX), 0);
		assert_int_equal(pthread_join(thread, NULL), 0);
	}
}

struct partner {
	pthread_barrier_t ready;
	struct loop *loop;
};

static void *wait_for_wake(void *arg)
{
	struct partner *partner = arg;

	if (loop_new(&features, &partner->loop))
		abort();
	(void)pthread_barrier_wait(&partner->ready);
	if (loop_wait(partner->loop, UINT64_MAX))
		abort();
	(void)pthread_barrier_wait(&partner->ready); /* the waker's wake was submitted */
	(void)loop_free(partner->loop);
	return NULL;
}

static void loop_wakes_another_loop(void **state)
{
	struct partner partner;
	pthread_t thread;

	assert_int_equal(pthread_barrier_init(&partner.ready, NULL, 2), 0);
	assert_int_equal(pthread_create(&thread, NULL, wait_for_wake, &partner), 0);
	(void)pthread_barrier_wait(&partner.ready);
	loop_wake(*state, partner.loop);
	assert_int_equal(loop_wait(*state, 0), 0);
	(void)pthread_barrier_wait(&partner.ready);
	assert_int_equal(pthread_join(thread, NULL), 0);
	(void)pthread_barrier_destroy(&partner.ready);
}

static void wait_times_out(void **state)
{
	uint64_t before = clock_now_ns();

	assert_int_equal(loop_wait(*state, 3000000), 0);
	assert_true(clock_now_ns() - before >= 3000000);
}

#define LOOP_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static int run(const char *name)
{
	const struct CMUnitTest tests[] = {
		LOOP_TEST(bytes_and_the_end_arrive_also_back_to_back),
		LOOP_TEST(bytes_and_the_end_arrive_also_from_before_the_recv),
		LOOP_TEST(end_behind_much_unread_arrives),
		LOOP_TEST(large_stream_arrives_whole_and_in_order),
		LOOP_TEST(more_readers_than_buffers_all_get_their_bytes),
		LOOP_TEST(paused_source_keeps_its_bytes_and_resumes),
		LOOP_TEST(removed_source_is_never_called_again),
		LOOP_TEST(reused_descriptor_number_gets_only_its_own_events),
		LOOP_TEST(sends_that_fall_short_say_how_many_bytes_went),
		LOOP_TEST(send_to_one_who_left_reports_it),
		LOOP_TEST(writable_comes_once_when_there_is_room),
		LOOP_TEST(ready_comes_once_for_a_pipe_and_its_hang_up),
		LOOP_TEST(gone_comes_once_for_a_close_and_not_for_half_of_one),
		LOOP_TEST(listener_accepts_many),
		LOOP_TEST(wake_ends_an_endless_wait),
		LOOP_TEST(loop_wakes_another_loop),
		LOOP_TEST(wait_times_out),
	};

	return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
	static const char *const switches[] = {"", "-multishot", "-msgring"};
	int failed = 0;

	assert_int_equal(loop_probe(LOOP_EPOLL, &features), 0);
	failed += run("core/loop epoll");
	for (size_t i = 0; i < sizeof(switches) / sizeof(switches[0]); i++) {
		char name[64];

		(void)setenv("CLOVE_URING", switches[i], 1);
		if (loop_probe(LOOP_URING, &features)) {
			print_message("SKIP io_uring: %s\n", features.reason);
			break;
		}
		(void)snprintf(name, sizeof(name), "core/loop uring %s", switches[i]);
		failed += run(name);
	}
	return failed;
}
