/* SPDX-License-Identifier: MIT */

/*
 * Which socket clove_open() chooses. The default path is left alone: a kernel may be running there.
 */

#include "sdk/c/clove.h"

#include "tests/unit/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(open_follows_argument_then_fd_then_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
