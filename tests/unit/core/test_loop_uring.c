/* SPDX-License-Identifier: MIT */

/*
 * Tests of core/loop_uring.c when io_uring_enter() falls short: it takes none of the entries, or fails
 *
 * That happens for want of memory, which cannot be had on demand. So a seccomp filter on the loop's thread hands
 * each such call to the main thread, which has the first of them fail and lets the kernel do the others.
 */

#include "tests/unit/testing.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/loop.h"

#ifndef SECCOMP_USER_NOTIF_FLAG_CONTINUE
#define SECCOMP_USER_NOTIF_FLAG_CONTINUE (1UL << 0)
#endif

enum {
	MANY = 3000, /* more than the submission queue holds */
	WAIT_MS = 10000,
};

static struct loop_features features;

struct thread {
	pthread_t thread;
	bool (*body)(struct thread *thread, struct loop *loop);
	_Atomic int listener; /* of the filter; -1 before, -2 when there can be none */
	_Atomic int failures; /* how many calls still fail */
	int error;            /* with this errno; 0: they take nothing, and say so */
	_Atomic bool ok,
		done; /* the body's judgement; cmocka's own works in the main thread only */
};

static int filter_install(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_enter, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
			    &program);
}

static void *thread_main(void *arg)
{
	struct thread *thread = arg;
	struct loop *loop;
	int listener;

	if (loop_new(&features, &loop)) {
		thread->listener = -2;
		return NULL;
	}
	listener = filter_install();
	thread->listener = listener < 0 ? -2 : listener;
	if (listener >= 0)
		thread->ok = thread->body(thread, loop);
	(void)loop_free(loop);
	thread->done = true;
	return NULL;
}

/* Answers one call that the filter holds, if there is one. */
static void supervise(struct thread *thread)
{
	struct pollfd poll_fd = {.fd = thread->listener, .events = POLLIN};
	struct seccomp_notif call = {0};
	struct seccomp_notif_resp answer = {0};

	if (poll(&poll_fd, 1, 10) <= 0 || !(poll_fd.revents & POLLIN) ||
	    ioctl(thread->listener, SECCOMP_IOCTL_NOTIF_RECV, &call))
		return;
	answer.id = call.id;
	if (thread->failures > 0) {
		thread->failures--;
		answer.error = -thread->error;
	} else {
		answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	}
	(void)ioctl(thread->listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
}

/* Runs @body in a thread whose calls fail as @thread->failures says, which it sets when it likes. */
static void run(bool (*body)(struct thread *thread, struct loop *loop), int error)
{
	struct thread thread = {.body = body, .error = error, .listener = -1};
	uint64_t end_ns = clock_now_ns() + WAIT_MS * CLOCK_NS_PER_MS;

	assert_int_equal(pthread_create(&thread.thread, NULL, thread_main, &thread), 0);
	while (thread.listener == -1)
		(void)usleep(100);
	if (thread.listener == -2) {
		assert_int_equal(pthread_join(thread.thread, NULL), 0);
		print_message("SKIP: no seccomp listener here\n");
		skip();
	}
	while (!thread.done && clock_now_ns() < end_ns)
		supervise(&thread);
	assert_true(thread.done);
	assert_int_equal(pthread_join(thread.thread, NULL), 0);
	(void)close(thread.listener);
	assert_true(thread.ok);
	assert_int_equal(thread.failures, 0);
}

struct pair {
	struct loop_source source;
	int peer;
};

static void on_event(struct loop_source *source)
{
	(void)source;
}

static void on_sent_short(struct loop_source *source, int sent)
{
	(void)source;
	(void)sent;
}

static const struct loop_handler handler = {
	.ready = on_event,
	.writable = on_event,
	.sent_short = on_sent_short,
};

static bool pair_open(struct loop *loop, struct pair *pair)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds))
		return false;
	*pair = (struct pair){.peer = fds[1]};
	return !loop_add(loop, &pair->source, fds[0], &handler);
}

static void pair_close(struct loop *loop, struct pair *pair)
{
	int fd = pair->source.fd;

	loop_remove(loop, &pair->source);
	(void)close(fd);
	(void)close(pair->peer);
}

/* The bytes of LOOP_LATER are good until the wait returns, and no longer. */
static bool send_whole(struct thread *thread, struct loop *loop)
{
	char bytes[] = "as it was", got[sizeof(bytes)] = "";
	struct pair pair;
	bool ok = pair_open(loop, &pair);

	thread->failures = 3;
	ok = ok && loop_send(loop, &pair.source, bytes, sizeof(bytes)) == LOOP_LATER;
	ok = ok && !loop_wait(loop, 0);
	memset(bytes, 'X', sizeof(bytes));
	ok = ok && !loop_wait(loop, 0);
	ok = ok && recv(pair.peer, got, sizeof(got), 0) == sizeof(got) && !strcmp(got, "as it was");
	pair_close(loop, &pair);
	return ok;
}

static void sends_are_over_when_the_wait_is_though_a_call_failed(void **state)
{
	(void)state;
	run(send_whole, EAGAIN);
}

static void sends_are_over_when_the_wait_is_though_a_call_was_short(void **state)
{
	(void)state;
	run(send_whole, 0);
}

/* More entries than the queue holds, at a time when the kernel takes none. */
static bool send_many(struct thread *thread, struct loop *loop)
{
	static const char byte = 'x';
	static char got[MANY];
	struct pair pair;
	bool ok = pair_open(loop, &pair);
	size_t len = 0;
	ssize_t n;

	for (int i = 0; ok && i < MANY; i++) {
		if (i % 1000 == 0)
			thread->failures = 2;
		ok = loop_send(loop, &pair.source, &byte, 1) == LOOP_LATER;
		/* The socket takes few pieces at a time: it must not fall short here. */
		if (i % 100 == 99)
			while ((n = recv(pair.peer, got, sizeof(got), MSG_DONTWAIT)) > 0)
				len += (size_t)n;
	}
	ok = ok && !loop_wait(loop, 0);
	while ((n = recv(pair.peer, got, sizeof(got), MSG_DONTWAIT)) > 0)
		len += (size_t)n;
	thread->failures = 0;
	pair_close(loop, &pair);
	/* What the socket did not take was reported as short; something of all must have come. */
	return ok && len > 0;
}

static void full_queue_waits_for_the_kernel(void **state)
{
	(void)state;
	run(send_many, EAGAIN);
}

/* What was asked about a descriptor reaches the kernel before its number can be another's. */
static bool remove_and_reuse(struct thread *thread, struct loop *loop)
{
	struct pair first, second;
	bool ok = pair_open(loop, &first);
	char got;
	int fd;

	fd = first.source.fd;
	ok = ok && loop_send(loop, &first.source, "a", 1) == LOOP_LATER;
	thread->failures = 2;
	loop_remove(loop, &first.source);
	(void)close(fd);
	ok = ok && pair_open(loop, &second);
	ok = ok && second.source.fd == fd;
	ok = ok && !loop_wait(loop, 0);
	ok = ok && recv(first.peer, &got, 1, MSG_DONTWAIT) == 1;
	ok = ok && recv(second.peer, &got, 1, MSG_DONTWAIT) < 0;
	(void)close(first.peer);
	pair_close(loop, &second);
	return ok;
}

static void removal_hands_over_what_names_the_descriptor(void **state)
{
	(void)state;
	run(remove_and_reuse, EAGAIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sends_are_over_when_the_wait_is_though_a_call_failed),
		cmocka_unit_test(sends_are_over_when_the_wait_is_though_a_call_was_short),
		cmocka_unit_test(full_queue_waits_for_the_kernel),
		cmocka_unit_test(removal_hands_over_what_names_the_descriptor),
	};

	if (loop_probe(LOOP_URING, &features)) {
		print_message("SKIP io_uring: %s\n", features.reason);
		return 77;
	}
	return cmocka_run_group_tests_name("core/loop_uring", tests, NULL, NULL);
}
