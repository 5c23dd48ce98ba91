/* SPDX-License-Identifier: MIT */

/*
 * Tests of sandbox/packet.c: a packet arrives whole, or it is an error that leaves nothing behind.
 */

#include "tests/unit/sandbox/fixture.h"

#include <sys/resource.h>
#include <sys/socket.h>

#include "sandbox/packet.h"

struct pair {
	int near, far;
	int n_fds;
};

static int setup(void **state)
{
	static struct pair pair;
	int ends[2];

	pair.n_fds = count_fds(getpid());
	if (packet_pair(ends))
		return -1;
	pair.near = ends[0];
	pair.far = ends[1];
	*state = &pair;
	return 0;
}

static int teardown(void **state)
{
	struct pair *p = *state;

	p->near = fd_close(p->near);
	p->far = fd_close(p->far);
	return count_fds(getpid()) == p->n_fds ? 0 : -1;
}

/* @len bytes that need not be a packet, with @n_fds descriptors. */
static void send_raw(int sock, const void *bytes, size_t len, unsigned n_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(3 * sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n_fds) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), (int[]){0, 1, 2}, n_fds * sizeof(int));
	}
	assert_int_equal(sendmsg(sock, &msg, 0), len);
}

static void expect_recv(struct pair *p, size_t body_max, int result)
{
	char body[64];
	struct packet packet = {.body = body, .body_max = body_max};

	assert_int_equal(packet_recv(p->far, &packet, MSG_DONTWAIT), result);
	assert_int_equal(packet.n_fds, 0);
}

static void head_body_and_descriptors_arrive(void **state)
{
	const struct packet_head head = {.op = 1, .arg = -2, .id = 3};
	struct pair *p = *state;
	char body[8];
	struct packet packet = {.body = body, .body_max = sizeof(body)};

	assert_int_equal(packet_send(p->near, &head, "body", 4, (int[]){0, 1}, 2, 0), 0);
	assert_int_equal(packet_send(p->near, &head, NULL, 0, NULL, 0, 0), 0);
	assert_int_equal(packet_recv(p->far, &packet, 0), 0);
	assert_memory_equal(&packet.head, &head, sizeof(head));
	assert_int_equal(packet.body_len, 4);
	assert_memory_equal(body, "body", 4);
	assert_int_equal(packet.n_fds, 2);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(fcntl(packet.fds[i], F_GETFD), FD_CLOEXEC);
	packet_close_fds(&packet);
	assert_int_equal(packet_recv(p->far, &packet, 0), 0);
	assert_int_equal(packet.body_len, 0);
	assert_int_equal(packet.n_fds, 0);
	assert_int_equal(packet_recv(p->far, &packet, MSG_DONTWAIT), PACKET_E_AGAIN);
}

/* What is refused brought descriptors: teardown counts that none is left. */
static void message_that_is_no_packet_is_refused(void **state)
{
	const struct packet_head zeros = {0};
	struct pair *p = *state;
	char body[64];
	struct packet packet = {.body = body, .body_max = 8};

	send_raw(p->near, "0123456789abcde", 15, 3);
	assert_int_equal(packet_recv(p->far, &packet, 0), PACKET_E_MALFORMED);
	assert_memory_equal(&packet.head, &zeros, sizeof(zeros));
	assert_int_equal(packet.n_fds, 0);
	send_raw(p->near, "0123456789abcdef01234567", 24, 3);
	assert_int_equal(packet_recv(p->far, &packet, 0), 0);
	assert_int_equal(packet.n_fds, 3);
	packet_close_fds(&packet);
	send_raw(p->near, "0123456789abcdef012345678", 25, 3);
	expect_recv(p, 8, PACKET_E_MALFORMED);
	send_raw(p->near, "", 0, 3);
	expect_recv(p, 8, PACKET_E_GONE);
}

static void lost_descriptors_are_noticed(void **state)
{
	struct pair *p = *state;
	struct rlimit limit, low;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	send_raw(p->near, "0123456789abcdef", 16, 3);
	low = (struct rlimit){(rlim_t)p->far + 2, limit.rlim_max}; /* room for one */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	expect_recv(p, 8, PACKET_E_NO_FDS);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* Closing with unread data is reported before the data of the other direction is read. */
static void last_words_of_a_closed_peer_are_heard(void **state)
{
	struct pair *p = *state;

	send_raw(p->far, "0123456789abcdef", 16, 0);
	send_raw(p->near, "0123456789abcdef", 16, 0);
	p->near = fd_close(p->near);
	expect_recv(p, 8, 0);
	expect_recv(p, 8, PACKET_E_GONE);
}

static void sending_says_why_it_could_not(void **state)
{
	static char large[1024 * 1024];
	const struct packet_head head = {.op = 1};
	struct pair *p = *state;
	int r;

	assert_int_equal(packet_send(p->near, &head, large, sizeof(large), NULL, 0, 0),
			 PACKET_E_TOO_BIG);
	do {
		r = packet_send(p->near, &head, NULL, 0, NULL, 0, MSG_DONTWAIT);
	} while (r == 0);
	assert_int_equal(r, PACKET_E_AGAIN);
	p->far = fd_close(p->far);
	assert_int_equal(packet_send(p->near, &head, NULL, 0, NULL, 0, 0), PACKET_E_GONE);
}

#define PACKET_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PACKET_TEST(head_body_and_descriptors_arrive),
		PACKET_TEST(message_that_is_no_packet_is_refused),
		PACKET_TEST(lost_descriptors_are_noticed),
		PACKET_TEST(last_words_of_a_closed_peer_are_heard),
		PACKET_TEST(sending_says_why_it_could_not),
	};

	return cmocka_run_group_tests_name("packet", tests, NULL, NULL);
}
