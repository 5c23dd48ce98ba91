/* SPDX-License-Identifier: MIT */

/*
 * SEQPACKET messages with descriptors
 *
 * Everything a hostile or confused peer can do to sendmsg() and recvmsg() ends here: too short, too
 * long, control data that was cut, more descriptors than asked for, descriptors on a message that
 * is refused. Whoever receives gets either a whole packet or an error and nothing to clean up.
 *
 * A closed peer shows as 0 bytes, and before that, when it left unread data behind, once as
 * ECONNRESET. What it sent earlier is still to be read after that, and may carry a pidfd: so the
 * receiver asks again.
 */

#include "sandbox/packet.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "core/base/check.h"
#include "core/base/err.h"

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(PACKET_FDS_MAX * sizeof(int))];
};

int packet_pair(int ret_pair[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_pair) < 0)
		return err_raise(-errno);
	return 0;
}

int packet_send(int sock, const struct packet_head *head, const void *body, size_t body_len,
		const int *fds, unsigned n_fds, int flags)
{
	/* sendmsg() does not write through these, though their types say so. */
	struct iovec iov[2] = {
		{.iov_base = (void *)(uintptr_t)head, .iov_len = sizeof(*head)},
		{.iov_base = (void *)(uintptr_t)body, .iov_len = body_len},
	};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = body_len ? 2 : 1};
	union control control;
	ssize_t n;

	CHECK(n_fds <= PACKET_FDS_MAX);
	if (n_fds) {
		memset(&control, 0, CMSG_SPACE(n_fds * sizeof(int)));
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
	}

	do {
		n = sendmsg(sock, &msg, MSG_NOSIGNAL | flags);
	} while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 0;
	switch (errno) {
	case EAGAIN:
		return PACKET_E_AGAIN;
	case EPIPE:
	case ECONNRESET:
	case ENOTCONN:
		return PACKET_E_GONE;
	case EMSGSIZE:
		return PACKET_E_TOO_BIG;
	default:
		return err_raise(-errno);
	}
}

static void collect_fds(struct msghdr *msg, struct packet *packet)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t bytes = c->cmsg_len - CMSG_LEN(0);
		CHECK(packet->n_fds * sizeof(int) + bytes <= sizeof(packet->fds));
		memcpy(packet->fds + packet->n_fds, CMSG_DATA(c), bytes);
		packet->n_fds += (unsigned)(bytes / sizeof(int));
	}
}

/* 0, or why a message of @n bytes is no packet. */
static int judge(const struct msghdr *msg, ssize_t n, struct packet *packet)
{
	if (n == 0)
		return PACKET_E_GONE;
	if ((size_t)n < sizeof(packet->head)) {
		memset(&packet->head, 0, sizeof(packet->head));
		return PACKET_E_MALFORMED;
	}
	if (msg->msg_flags & MSG_TRUNC)
		return PACKET_E_MALFORMED;
	return msg->msg_flags & MSG_CTRUNC ? PACKET_E_NO_FDS : 0;
}

int packet_recv(int sock, struct packet *packet, int flags)
{
	struct iovec iov[2] = {
		{.iov_base = &packet->head, .iov_len = sizeof(packet->head)},
		{.iov_base = packet->body, .iov_len = packet->body_max},
	};
	union control control;
	struct msghdr msg = {
		.msg_iov = iov,
		.msg_iovlen = 2,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t n;
	int r;

	memset(&packet->head, 0, sizeof(packet->head));
	packet->body_len = 0;
	packet->n_fds = 0;
	do {
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | flags);
	} while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	if (n < 0)
		return errno == EAGAIN ? PACKET_E_AGAIN : err_raise(-errno);

	collect_fds(&msg, packet);
	r = judge(&msg, n, packet);
	if (r && r != PACKET_E_NO_FDS) {
		packet_close_fds(packet);
		return r;
	}
	packet->body_len = (size_t)n - sizeof(packet->head);
	if (r)
		packet_close_fds(packet);
	return r;
}

void packet_close_fds(struct packet *packet)
{
	for (unsigned i = 0; i < packet->n_fds; i++)
		packet->fds[i] = fd_close(packet->fds[i]);
	packet->n_fds = 0;
}

void packet_send_ready(int sock, int error)
{
	struct packet_head head = {.op = PACKET_READY, .arg = error};

	(void)packet_send(sock, &head, NULL, 0, NULL, 0, MSG_DONTWAIT);
}

int packet_await_ready(int sock)
{
	struct packet packet = {0};
	int r;

	r = packet_recv(sock, &packet, 0);
	if (r == PACKET_E_AGAIN)
		return err_raise(-ETIMEDOUT);
	if (r)
		return r == PACKET_E_GONE ? r : err_fold(r);
	packet_close_fds(&packet);
	if (packet.head.op != PACKET_READY || packet.head.arg < 0)
		return err_raise(-EBADMSG);
	return -packet.head.arg;
}
