/* SPDX-License-Identifier: MIT */

/*
 * A connection by the door of an agent, as ipc/WIRE.md has it
 *
 * The door is shared by all processes of the agent, so nothing is read from it and no flag of it is
 * changed: the answer comes on a pair of our own.
 */

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "sdk/c/clove_priv.h"

enum {
	OP = 64,
	ANSWER_MS = 10000,
};

struct head {
	uint32_t op;
	int32_t error;
	uint64_t reserved;
};

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int))];
};

static bool option_is(int fd, int option, int value)
{
	int is = -1;
	socklen_t len = sizeof(is);

	return getsockopt(fd, SOL_SOCKET, option, &is, &len) == 0 && is == value;
}

/* 0, CLOVE_E_TIMEOUT or -errno. */
static int await(int fd, short events, uint64_t deadline_ns)
{
	struct pollfd poll_fd = {.fd = fd, .events = events};
	int n;

	do {
		uint64_t now_ns = clock_now_ns();

		if (now_ns >= deadline_ns)
			return CLOVE_E_TIMEOUT;
		n = poll(&poll_fd, 1, (int)((deadline_ns - now_ns) / CLOCK_NS_PER_MS) + 1);
	} while (n == 0 || (n < 0 && errno == EINTR));
	return n < 0 ? err_raise(-errno) : 0;
}

static int knock(int door, int passed, uint64_t deadline_ns)
{
	struct head head = {.op = OP};
	struct iovec iov = {.iov_base = &head, .iov_len = sizeof(head)};
	union control control = {.bytes = {0}};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	int r = 0;

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &passed, sizeof(int));
	while (!r && sendmsg(door, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		if (errno == EAGAIN)
			r = await(door, POLLOUT, deadline_ns);
		else if (errno != EINTR)
			r = errno == EPIPE || errno == ECONNRESET ? CLOVE_E_CLOSED
								  : err_raise(-errno);
	}
	return r;
}

static int take_answer(int sock, int *ret_fd)
{
	struct head head;
	struct iovec iov = {.iov_base = &head, .iov_len = sizeof(head)};
	union control control;
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *cmsg;
	ssize_t n;

	do {
		n = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_raise(-errno);
	if (n != sizeof(head))
		return n ? CLOVE_E_BROKEN : CLOVE_E_CLOSED;
	if (head.error > 0)
		return -head.error;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg || cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
		return err_raise(-EMFILE);
	memcpy(ret_fd, CMSG_DATA(cmsg), sizeof(int));
	return 0;
}

int clove_door_open(int door, int *ret_fd)
{
	uint64_t deadline_ns = clock_now_ns() + ANSWER_MS * CLOCK_NS_PER_MS;
	CLEANUP(fd_closep) int ours = -1;
	CLEANUP(fd_closep) int passed = -1;
	int pair[2], r;

	if (!option_is(door, SO_DOMAIN, AF_UNIX) || !option_is(door, SO_TYPE, SOCK_SEQPACKET))
		return CLOVE_E_BAD_SOCKET;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_raise(-errno);
	ours = pair[0];
	passed = pair[1];
	r = knock(door, passed, deadline_ns);
	/* The last copy goes with whoever got it, so that an answer that never comes shows as the end. */
	passed = fd_close(passed);
	if (!r)
		r = await(ours, POLLIN, deadline_ns);
	return r ? r : take_answer(ours, ret_fd);
}
