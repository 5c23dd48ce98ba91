/* SPDX-License-Identifier: MIT */

/*
 * Which socket clove_open() chooses. The default path is left alone: a kernel may be running there.
 */

#include "sdk/c/clove.h"

#include "tests/unit/testing.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "sandbox/packet.h"

static void expect_bad_fd(const char *text)
{
	struct clove *clove;

	assert_int_equal(setenv("CLOVE_FD", text, 1), 0);
	assert_int_equal(clove_open(NULL, &clove), CLOVE_E_BAD_SOCKET);
}

static void open_follows_argument_then_fd_then_path(void **state)
{
	char dir[] = "/tmp/test-clove-XXXXXX", text[16];
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct clove *clove;
	uint64_t id;
	int fds[2], packets[2], listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/s", dir);
	assert_int_equal(clove_open(addr.sun_path, &clove), CLOVE_E_NO_KERNEL);
	assert_int_equal(bind(listener, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(clove_open(addr.sun_path, &clove), CLOVE_E_NO_KERNEL);
	assert_int_equal(listen(listener, 4), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, packets), 0);
	(void)snprintf(text, sizeof(text), "%d", fds[0]);
	assert_int_equal(setenv("CLOVE_FD", text, 1), 0);
	assert_int_equal(setenv("CLOVE_SOCKET", addr.sun_path, 1), 0);

	assert_null(clove_socket_path(NULL));
	assert_string_equal(clove_socket_path("/x"), "/x");
	assert_string_equal(clove_socket_path(""), "/tmp/clove.sock");
	assert_int_equal(clove_open(NULL, &clove), 0);
	assert_int_equal(clove_fd(clove), fds[0]);
	clove = clove_close(clove);
	/* An inherited identity outlives its user. */
	assert_int_equal(write(fds[0], "", 1), 1);
	assert_int_equal(clove_open(addr.sun_path, &clove), 0);
	assert_int_not_equal(clove_fd(clove), fds[0]);
	clove = clove_close(clove);

	(void)snprintf(text, sizeof(text), "%dx", fds[0]);
	expect_bad_fd(text);
	(void)snprintf(text, sizeof(text), "%d", listener);
	expect_bad_fd(text);
	(void)snprintf(text, sizeof(text), "%d", packets[0]);
	expect_bad_fd(text);

	assert_int_equal(unsetenv("CLOVE_FD"), 0);
	assert_string_equal(clove_socket_path(NULL), addr.sun_path);
	assert_int_equal(clove_open(NULL, &clove), 0);
	assert_int_equal(clove_send(clove, 0, NULL, 0, -1, &id), 0);
	assert_int_equal(clove_flush(clove), 0);
	clove = clove_close(clove);
	assert_int_equal(unsetenv("CLOVE_SOCKET"), 0);
	assert_string_equal(clove_socket_path(NULL), "/tmp/clove.sock");
	(void)close(fds[0]);
	(void)close(fds[1]);
	(void)close(packets[0]);
	(void)close(packets[1]);
	(void)close(listener);
	assert_int_equal(unlink(addr.sun_path), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void set_number(const char *name, int number)
{
	char text[16];

	(void)snprintf(text, sizeof(text), "%d", number);
	assert_int_equal(setenv(name, text, 1), 0);
}

static void an_inherited_stream_has_one_user(void **state)
{
	struct clove *one, *two;
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	set_number("CLOVE_FD", fds[0]);
	assert_int_equal(clove_open(NULL, &one), 0);
	assert_int_equal(clove_open(NULL, &two), CLOVE_E_IN_USE);
	one = clove_close(one);
	assert_int_equal(clove_open(NULL, &two), 0);
	two = clove_close(two);
	set_number("CLOVE_PID", getpid() + 1);
	assert_int_equal(clove_open(NULL, &one), CLOVE_E_IN_USE);
	set_number("CLOVE_PID", getpid());
	assert_int_equal(clove_open(NULL, &one), 0);
	one = clove_close(one);
	assert_int_equal(setenv("CLOVE_PID", "me", 1), 0);
	assert_int_equal(clove_open(NULL, &one), CLOVE_E_BAD_SOCKET);
	assert_int_equal(unsetenv("CLOVE_PID"), 0);
	assert_int_equal(unsetenv("CLOVE_FD"), 0);
	(void)close(fds[0]);
	(void)close(fds[1]);
}

struct keeper {
	int door, error, given; /* given: -1 to say nothing */
};

/* Answers one knock as an agent's init would. */
static void *keep(void *arg)
{
	const struct keeper *keeper = arg;
	struct packet packet = {.body = NULL};
	struct packet_head head = {.op = PACKET_DOOR, .arg = keeper->error};

	assert_int_equal(packet_recv(keeper->door, &packet, 0), 0);
	assert_int_equal(packet.head.op, PACKET_DOOR);
	assert_int_equal(packet.n_fds, 1);
	if (keeper->given >= 0)
		assert_int_equal(packet_send(packet.fds[0], &head, NULL, 0, &keeper->given,
					     keeper->error ? 0 : 1, 0),
				 0);
	packet_close_fds(&packet);
	return NULL;
}

static int open_at(const struct keeper *keeper, struct clove **ret_clove)
{
	pthread_t thread;
	int r;

	assert_int_equal(pthread_create(&thread, NULL, keep, (void *)(uintptr_t)keeper), 0);
	r = clove_open(NULL, ret_clove);
	assert_int_equal(pthread_join(thread, NULL), 0);
	return r;
}

static void others_get_theirs_by_the_door(void **state)
{
	int door[2], stream[2], inherited[2];
	struct keeper keeper;
	struct clove *first, *clove;
	uint64_t id;
	char byte;

	(void)state;
	assert_int_equal(packet_pair(door), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, inherited), 0);
	keeper = (struct keeper){.door = door[0], .given = stream[1]};
	set_number("CLOVE_FD", inherited[0]);
	set_number("CLOVE_DOOR", door[1]);
	assert_null(clove_socket_path(NULL));
	assert_int_equal(clove_open(NULL, &first), 0);
	assert_int_equal(clove_fd(first), inherited[0]);
	assert_int_equal(open_at(&keeper, &clove), 0);
	assert_int_equal(close(stream[1]), 0);
	assert_int_equal(clove_send(clove, 0, NULL, 0, -1, &id), 0);
	assert_int_equal(clove_flush(clove), 0);
	assert_int_equal(read(stream[0], &byte, 1), 1);
	clove = clove_close(clove);
	while (read(stream[0], &byte, 1) == 1)
		;
	/* It was its own, and its end left the inherited one to its user. */
	keeper.error = EAGAIN;
	keeper.given = stream[0];
	assert_int_equal(open_at(&keeper, &clove), -EAGAIN);
	keeper.given = -1;
	assert_int_equal(open_at(&keeper, &clove), CLOVE_E_CLOSED);
	first = clove_close(first);

	assert_int_equal(unsetenv("CLOVE_FD"), 0);
	assert_null(clove_socket_path(NULL));
	set_number("CLOVE_DOOR", inherited[0]);
	assert_int_equal(clove_open(NULL, &clove), CLOVE_E_BAD_SOCKET);
	set_number("CLOVE_DOOR", door[1]);
	assert_int_equal(close(door[0]), 0);
	assert_int_equal(clove_open(NULL, &clove), CLOVE_E_CLOSED);
	assert_int_equal(unsetenv("CLOVE_DOOR"), 0);
	(void)close(door[1]);
	(void)close(stream[0]);
	(void)close(inherited[0]);
	(void)close(inherited[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(open_follows_argument_then_fd_then_path),
		cmocka_unit_test(an_inherited_stream_has_one_user),
		cmocka_unit_test(others_get_theirs_by_the_door),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
