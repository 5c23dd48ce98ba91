/* SPDX-License-Identifier: MIT */

/*
 * libclove against the other end of a socketpair, which plays the kernel with bytes written by hand
 */

#include "sdk/c/clove.h"

#include "tests/unit/testing.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "ipc/frame.h"

enum {
	WAIT_MS = 5000, /* for what must come */
};

struct fixture {
	struct clove *clove;
	int kernel; /* the other end */
};

#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

/* Header of 16 bytes with a short body length, op, flags and id. */
#define HEAD(len, op, flags, id) len, 0, 0, 0, op, 0, flags, 0, id, 0, 0, 0, 0, 0, 0
#define ID_SENT                  0    /* top byte of an id of clove_send() */
#define ID_CALL                  0x80 /* of clove_call() */

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fds[2];

	assert_non_null(f);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(clove_adopt(fds[0], &f->clove), 0);
	f->kernel = fds[1];
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	f->clove = clove_close(f->clove);
	if (f->kernel >= 0)
		(void)close(f->kernel);
	free(f);
	return 0;
}

static void kernel_says(struct fixture *f, const uint8_t *bytes, size_t len)
{
	assert_int_equal(write(f->kernel, bytes, len), len);
}

static void kernel_hears(struct fixture *f, const uint8_t *bytes, size_t len)
{
	uint8_t got[256];

	assert_true(len <= sizeof(got));
	assert_int_equal(recv(f->kernel, got, len, MSG_WAITALL), len);
	assert_memory_equal(got, bytes, len);
}

static void kernel_leaves(struct fixture *f)
{
	assert_int_equal(close(f->kernel), 0);
	f->kernel = -1;
}

static void expect_frame(struct fixture *f, enum clove_kind kind, uint64_t id, const uint8_t *body,
			 size_t len)
{
	struct clove_frame frame;

	assert_int_equal(clove_recv(f->clove, WAIT_MS, &frame), 0);
	assert_int_equal(frame.kind, kind);
	assert_int_equal(frame.id, id);
	assert_int_equal(frame.body_len, len);
	assert_memory_equal(frame.body, body, len);
}

static void request_has_the_documented_bytes(void **state)
{
	struct fixture *f = *state;
	uint64_t id;

	assert_int_equal(clove_send(f->clove, WIRE_OP_NOOP, BYTES(0x91, 0x07), -1, &id), 0);
	assert_int_equal(id, 1);
	assert_int_equal(clove_send(f->clove, WIRE_OP_STATS, NULL, 0, 258, &id), 0);
	assert_int_equal(id, 2);
	assert_int_equal(clove_flush(f->clove), 0);
	kernel_hears(f, BYTES(HEAD(2, 0, 0, 1), ID_SENT, 0x91, 0x07));
	/* With a deadline the body begins with it: 258 ms. */
	kernel_hears(f, BYTES(4, 0, 0, 0, 0, 6, 16, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0));
}

static void nothing_is_written_before_flush(void **state)
{
	struct fixture *f = *state;
	uint64_t id;
	uint8_t byte;

	assert_int_equal(clove_send(f->clove, WIRE_OP_NOOP, NULL, 0, -1, &id), 0);
	assert_int_equal(recv(f->kernel, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

static void call_returns_its_reply(void **state)
{
	struct fixture *f = *state;
	struct clove_frame frame;

	kernel_says(f, BYTES(HEAD(1, 0, 1, 1), ID_CALL, 0x2a));
	assert_int_equal(clove_call(f->clove, WIRE_OP_NOOP, BYTES(0x91, 0x2a), -1, &frame), 0);
	kernel_hears(f, BYTES(HEAD(2, 0, 0, 1), ID_CALL, 0x91, 0x2a));
	assert_int_equal(frame.kind, CLOVE_REPLY);
	assert_int_equal(frame.op, WIRE_OP_NOOP);
	assert_int_equal(frame.body_len, 1);
	assert_int_equal(frame.body[0], 0x2a);
}

/* The reply to an older request, and a push, overtake the answer to the call. */
static void call_keeps_other_frames_in_order(void **state)
{
	struct fixture *f = *state;
	struct clove_frame frame;
	uint64_t id;

	assert_int_equal(clove_send(f->clove, WIRE_OP_NOOP, NULL, 0, -1, &id), 0);
	kernel_says(f, BYTES(HEAD(1, 0, 1, 1), ID_SENT, 0x01));
	kernel_says(f, BYTES(HEAD(1, 0x21, 8, 9), ID_SENT, 0x02));
	kernel_says(f, BYTES(HEAD(1, 0x21, 8, 1), ID_CALL, 0x05));
	kernel_says(f, BYTES(HEAD(1, 0, 1, 1), ID_CALL, 0x03));
	kernel_says(f, BYTES(HEAD(1, 0x21, 8, 8), ID_SENT, 0x04));
	assert_int_equal(clove_call(f->clove, WIRE_OP_NOOP, NULL, 0, WAIT_MS, &frame), 0);
	assert_int_equal(frame.body[0], 0x03);
	expect_frame(f, CLOVE_REPLY, 1, BYTES(0x01));
	expect_frame(f, CLOVE_PUSH, 9, BYTES(0x02));
	/* A push has ids of its own, which may be those of a call. */
	expect_frame(f, CLOVE_PUSH, 1ull << 63 | 1, BYTES(0x05));
	expect_frame(f, CLOVE_PUSH, 8, BYTES(0x04));
}

static void error_reply_is_taken_apart(void **state)
{
	struct fixture *f = *state;
	struct clove_frame frame;

	/* [7, "no", {"k": 1}] */
	kernel_says(f,
		    BYTES(HEAD(9, 3, 3, 1), ID_CALL, 0x93, 7, 0xa2, 'n', 'o', 0x81, 0xa1, 'k', 1));
	assert_int_equal(clove_call(f->clove, WIRE_OP_READ, NULL, 0, WAIT_MS, &frame), 0);
	assert_int_equal(frame.kind, CLOVE_ERROR);
	assert_int_equal(frame.error.code, WIRE_NOT_FOUND);
	assert_string_equal(frame.error.name, "NOT_FOUND");
	assert_int_equal(frame.error.message_len, 2);
	assert_memory_equal(frame.error.message, "no", 2);
	assert_int_equal(frame.error.detail_len, 4);
	assert_memory_equal(frame.error.detail, "\x81\xa1k\x01", 4);
}

static void frames_split_at_every_byte_arrive_whole(void **state)
{
	static const uint8_t bytes[] = {
		HEAD(2, 0, 1, 1), ID_SENT,          0xa1,    'x', HEAD(0, 0, 1, 2),
		ID_SENT,          HEAD(1, 0, 5, 3), ID_SENT, 0xc0};
	struct fixture *f = *state;
	struct clove_frame frame;

	for (size_t i = 0; i < sizeof(bytes); i++) {
		kernel_says(f, bytes + i, 1);
		if (i + 1 == 18)
			expect_frame(f, CLOVE_REPLY, 1, BYTES(0xa1, 'x'));
		else if (i + 1 == 34)
			expect_frame(f, CLOVE_REPLY, 2, (const uint8_t *)"", 0);
		else if (i + 1 == 51)
			expect_frame(f, CLOVE_CHUNK, 3, BYTES(0xc0));
		else
			assert_int_equal(clove_recv(f->clove, 0, &frame), CLOVE_E_TIMEOUT);
	}
}

static void fed_bytes_need_no_socket(void **state)
{
	static const uint8_t bytes[] = {HEAD(1, 0, 1, 1), ID_SENT, 0x01,
					HEAD(1, 0, 1, 2), ID_SENT, 0x02};
	struct fixture *f = *state;
	struct clove_frame frame;

	assert_int_equal(clove_input(f->clove, bytes, 20), 0);
	assert_int_equal(clove_next(f->clove, &frame), 0);
	assert_int_equal(frame.id, 1);
	assert_int_equal(clove_next(f->clove, &frame), CLOVE_E_AGAIN);
	assert_int_equal(clove_input(f->clove, bytes + 20, sizeof(bytes) - 20), 0);
	assert_int_equal(clove_next(f->clove, &frame), 0);
	assert_int_equal(frame.id, 2);
	assert_int_equal(frame.body[0], 0x02);
	assert_int_equal(clove_next(f->clove, &frame), CLOVE_E_AGAIN);
}

static void output_is_taken_in_pieces(void **state)
{
	struct fixture *f = *state;
	const uint8_t *bytes;
	uint64_t id;
	size_t len;

	assert_null(clove_pending_output(f->clove, &len));
	assert_int_equal(len, 0);
	assert_int_equal(clove_send(f->clove, WIRE_OP_NOOP, BYTES(0x91, 0x07), -1, &id), 0);
	bytes = clove_pending_output(f->clove, &len);
	assert_int_equal(len, 18);
	assert_int_equal(bytes[0], 2);
	clove_output_sent(f->clove, 17);
	bytes = clove_pending_output(f->clove, &len);
	assert_int_equal(len, 1);
	assert_int_equal(bytes[0], 0x07);
	clove_output_sent(f->clove, 1);
	assert_null(clove_pending_output(f->clove, &len));
}

static void oversized_frame_is_broken_before_its_body(void **state)
{
	struct fixture *f = *state;
	struct clove_frame frame;
	uint8_t head[FRAME_HEADER_BYTES];

	frame_write(head, &(struct frame){.body_len = FRAME_BODY_MAX, .flags = WIRE_FLAG_REPLY});
	kernel_says(f, head, sizeof(head));
	assert_int_equal(clove_recv(f->clove, 0, &frame), CLOVE_E_TIMEOUT);
	f->clove = clove_close(f->clove);
	(void)close(f->kernel);
	free(f);
	assert_int_equal(setup(state), 0);
	f = *state;
	frame_write(head,
		    &(struct frame){.body_len = FRAME_BODY_MAX + 1, .flags = WIRE_FLAG_REPLY});
	kernel_says(f, head, sizeof(head));
	assert_int_equal(clove_recv(f->clove, WAIT_MS, &frame), CLOVE_E_BROKEN);
}

static void oversized_request_is_refused(void **state)
{
	struct fixture *f = *state;
	uint8_t *args = calloc(1, FRAME_BODY_MAX + 1);
	uint64_t id = 99;
	size_t len;

	assert_non_null(args);
	assert_int_equal(clove_send(f->clove, 0, args, FRAME_BODY_MAX + 1, -1, &id),
			 CLOVE_E_TOO_LARGE);
	assert_int_equal(clove_send(f->clove, 0, args, FRAME_BODY_MAX - 3, 0, &id),
			 CLOVE_E_TOO_LARGE);
	assert_int_equal(id, 99);
	assert_null(clove_pending_output(f->clove, &len));
	assert_int_equal(clove_send(f->clove, 0, args, FRAME_BODY_MAX, -1, &id), 0);
	assert_int_equal(id, 1);
	free(args);
}

static void end_between_frames_comes_after_the_frames(void **state)
{
	struct fixture *f = *state;
	struct clove_frame frame;

	kernel_says(f, BYTES(HEAD(1, 0, 1, 1), ID_SENT, 0x05));
	kernel_leaves(f);
	expect_frame(f, CLOVE_REPLY, 1, BYTES(0x05));
	assert_int_equal(clove_recv(f->clove, WAIT_MS, &frame), CLOVE_E_CLOSED);
	assert_int_equal(clove_recv(f->clove, -1, &frame), CLOVE_E_CLOSED);
}

static void end_within_a_frame_is_broken(void **state)
{
	struct fixture *f = *state;
	struct clove_frame frame;

	kernel_says(f, BYTES(HEAD(2, 0, 1, 1), ID_SENT, 0x05));
	kernel_leaves(f);
	assert_int_equal(clove_recv(f->clove, -1, &frame), CLOVE_E_BROKEN);
}

/* The kernel answers a broken stream with an error frame and leaves, with our bytes still unread. */
static void last_words_are_read_though_writing_fails(void **state)
{
	struct fixture *f = *state;
	struct clove_frame frame;
	uint64_t id;

	assert_int_equal(clove_send(f->clove, WIRE_OP_NOOP, NULL, 0, -1, &id), 0);
	assert_int_equal(clove_flush(f->clove), 0);
	kernel_says(f, BYTES(HEAD(4, 0, 3, 1), ID_SENT, 0x93, 4, 0xa0, 0x80));
	kernel_leaves(f);
	assert_int_equal(clove_call(f->clove, WIRE_OP_NOOP, NULL, 0, -1, &frame), CLOVE_E_CLOSED);
	assert_int_equal(clove_recv(f->clove, -1, &frame), 0);
	assert_int_equal(frame.error.code, WIRE_PROTOCOL);
	assert_int_equal(clove_recv(f->clove, -1, &frame), CLOVE_E_CLOSED);
}

static void call_that_timed_out_drops_its_late_answer(void **state)
{
	struct fixture *f = *state;
	struct clove_frame frame;
	uint64_t start_ns = clock_now_ns();

	assert_int_equal(clove_call(f->clove, WIRE_OP_NOOP, NULL, 0, 30, &frame), CLOVE_E_TIMEOUT);
	assert_true(clock_now_ns() - start_ns >= 30 * CLOCK_NS_PER_MS);
	kernel_hears(f, BYTES(HEAD(4, 0, 16, 1), ID_CALL, 30, 0, 0, 0));
	kernel_says(f, BYTES(HEAD(1, 0, 1, 1), ID_CALL, 0x01));
	assert_int_equal(clove_recv(f->clove, 0, &frame), CLOVE_E_TIMEOUT);
	kernel_says(f, BYTES(HEAD(1, 0, 1, 1), ID_CALL, 0x01));
	kernel_says(f, BYTES(HEAD(1, 0, 1, 2), ID_CALL, 0x02));
	assert_int_equal(clove_call(f->clove, WIRE_OP_NOOP, NULL, 0, -1, &frame), 0);
	assert_int_equal(frame.body[0], 0x02);
}

/* Sends each request back as its reply, and reads nothing more while it cannot write. */
static void *echo_blocking(void *arg)
{
	const int fd = *(const int *)arg;
	uint8_t *body = malloc(FRAME_BODY_MAX);
	uint8_t head[FRAME_HEADER_BYTES];
	struct frame frame;

	while (recv(fd, head, sizeof(head), MSG_WAITALL) == sizeof(head)) {
		frame_read(head, &frame);
		frame.flags = WIRE_FLAG_REPLY;
		frame_write(head, &frame);
		if (recv(fd, body, frame.body_len, MSG_WAITALL) != (ssize_t)frame.body_len ||
		    send(fd, head, sizeof(head), MSG_NOSIGNAL) != sizeof(head) ||
		    send(fd, body, frame.body_len, MSG_NOSIGNAL) != (ssize_t)frame.body_len)
			break;
	}
	free(body);
	return NULL;
}

/* 8 MiB each way are far more than the socket holds: flush must read while it writes. */
static void flush_does_not_deadlock_with_a_kernel_that_waits(void **state)
{
	struct fixture *f = *state;
	uint8_t *args = malloc(FRAME_PAYLOAD_MAX);
	struct clove_frame frame;
	pthread_t thread;
	uint64_t id;

	assert_non_null(args);
	assert_int_equal(pthread_create(&thread, NULL, echo_blocking, &f->kernel), 0);
	for (uint8_t i = 1; i <= 8; i++) {
		memset(args, i, FRAME_PAYLOAD_MAX);
		assert_int_equal(clove_send(f->clove, 0, args, FRAME_PAYLOAD_MAX, -1, &id), 0);
	}
	assert_int_equal(clove_flush(f->clove), 0);
	for (uint8_t i = 1; i <= 8; i++) {
		assert_int_equal(clove_recv(f->clove, WAIT_MS, &frame), 0);
		assert_int_equal(frame.id, i);
		assert_int_equal(frame.body_len, FRAME_PAYLOAD_MAX);
		assert_int_equal(frame.body[0], i);
		assert_int_equal(frame.body[FRAME_PAYLOAD_MAX - 1], i);
	}
	f->clove = clove_close(f->clove);
	assert_int_equal(pthread_join(thread, NULL), 0);
	free(args);
}

static void every_result_has_words_of_its_own(void **state)
{
	(void)state;
	for (int r = 0; r <= CLOVE_E_IN_USE; r++) {
		assert_string_not_equal(clove_strerror(r), "unknown error");
		for (int other = 0; other < r; other++)
			assert_string_not_equal(clove_strerror(r), clove_strerror(other));
	}
	assert_string_equal(clove_strerror(0), "success");
	assert_string_equal(clove_strerror(CLOVE_E_TIMEOUT), "no answer in time");
	assert_string_equal(clove_strerror(-ENOENT), strerrordesc_np(ENOENT));
	assert_string_equal(clove_strerror(CLOVE_E_IN_USE + 1), "unknown error");
	assert_string_equal(clove_strerror(INT_MAX), "unknown error");
	assert_string_equal(clove_strerror(-4095), "unknown error");
	assert_string_equal(clove_strerror(INT_MIN), "unknown error");
}

#define CLOVE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CLOVE_TEST(request_has_the_documented_bytes),
		CLOVE_TEST(nothing_is_written_before_flush),
		CLOVE_TEST(call_returns_its_reply),
		CLOVE_TEST(call_keeps_other_frames_in_order),
		CLOVE_TEST(error_reply_is_taken_apart),
		CLOVE_TEST(frames_split_at_every_byte_arrive_whole),
		CLOVE_TEST(fed_bytes_need_no_socket),
		CLOVE_TEST(output_is_taken_in_pieces),
		CLOVE_TEST(oversized_frame_is_broken_before_its_body),
		CLOVE_TEST(oversized_request_is_refused),
		CLOVE_TEST(end_between_frames_comes_after_the_frames),
		CLOVE_TEST(end_within_a_frame_is_broken),
		CLOVE_TEST(last_words_are_read_though_writing_fails),
		CLOVE_TEST(call_that_timed_out_drops_its_late_answer),
		CLOVE_TEST(flush_does_not_deadlock_with_a_kernel_that_waits),
		cmocka_unit_test(every_result_has_words_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
