/* SPDX-License-Identifier: MIT */

/*
 * The door: how a process of an agent gets a connection of its own
 *
 *   any process of the agent       keeper                       kernel
 *     pair of its own
 *     one end ----- door --------> makes a stream pair
 *                                  one end ------ report ------> a further connection of the agent
 *     the other end <------------- the other end, or an errno
 *
 * The agent holds no end of the socket by which it asks that anybody but it reads, and the kernel's end
 * of a connection was never in its hands: nobody else shares the flags of that end.
 *
 * What comes through the door is hostile: any descriptors, any number of them, closed peers, nothing
 * that reads. Whoever takes a descriptor is the one who closes it, which may take as long as its owner
 * likes: a connection that lingers, a file system that does not answer. An init that waits for that would
 * neither reap nor obey. So it only looks whether somebody knocks, and then forks a keeper, which
 * does nothing else, goes when nobody has knocked for a while, and may be killed or stuck at the
 * agent's own loss. For the same reason the init never closes its end of the door before its own
 * end: what lies in it would be closed, too.
 *
 * The kernel decides how many connections there may be. As long as it has not taken what was handed over,
 * further ones are refused here with EAGAIN.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "sandbox/box.h"
#include "sandbox/packet.h"

enum {
	IDLE_MS = 1000,
};

int box_door_open(int *ret_ours, int *ret_programs)
{
	CLEANUP(fd_closep) int ours = -1;
	CLEANUP(fd_closep) int programs = -1;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	/* Above the numbers that the program's descriptors will have. */
	ours = fcntl(ends[0], F_DUPFD_CLOEXEC, BOX_DOOR_FD + 1);
	programs = fcntl(ends[1], F_DUPFD_CLOEXEC, BOX_DOOR_FD + 1);
	(void)close(ends[0]);
	(void)close(ends[1]);
	if (ours < 0 || programs < 0)
		return -EMFILE;
	*ret_ours = TAKE_FD(ours);
	*ret_programs = TAKE_FD(programs);
	return 0;
}

static bool has_option(int fd, int option, int value)
{
	int is = -1;
	socklen_t len = sizeof(is);

	return getsockopt(fd, SOL_SOCKET, option, &is, &len) == 0 && is == value;
}

/* A socket of another kind would not keep our message and its descriptor together. */
static bool is_asker(int fd)
{
	return has_option(fd, SO_DOMAIN, AF_UNIX) && has_option(fd, SO_TYPE, SOCK_SEQPACKET);
}

/* Hands the kernel its end of a new connection. 0 or an errno. */
static int connect_kernel(int report, int *ret_agents)
{
	struct packet_head head = {.op = PACKET_CONNECTION};
	CLEANUP(fd_closep) int agents = -1;
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return errno;
	agents = pair[1];
	r = packet_send(report, &head, NULL, 0, &pair[0], 1, MSG_DONTWAIT);
	(void)close(pair[0]);
	if (r)
		return r == PACKET_E_AGAIN ? EAGAIN : r == PACKET_E_GONE ? ESHUTDOWN : EIO;
	*ret_agents = TAKE_FD(agents);
	return 0;
}

/* An asker that has gone or does not read costs nobody anything: a connection without a peer ends. */
static void answer(int asker, int error, int agents)
{
	struct packet_head head = {.op = PACKET_DOOR, .arg = error};

	(void)packet_send(asker, &head, NULL, 0, &agents, error ? 0 : 1, MSG_DONTWAIT);
}

static void serve(int report, const struct packet *packet)
{
	CLEANUP(fd_closep) int agents = -1;
	int error;

	if (packet->n_fds < 1 || !is_asker(packet->fds[0]))
		return;
	if (packet->n_fds > 1 || packet->head.op != PACKET_DOOR || packet->head.arg)
		error = EINVAL;
	else
		error = connect_kernel(report, &agents);
	answer(packet->fds[0], error, agents);
}

_Noreturn void box_door_keep(int door, int report, pid_t init)
{
	int keep[] = {door, report};

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != init || box_close_others(keep, 2))
		_exit(0);
	for (;;) {
		struct pollfd polled = {.fd = door, .events = POLLIN | POLLRDHUP};
		struct packet packet = {.body = NULL};
		int r;

		if (poll(&polled, 1, IDLE_MS) == 0)
			_exit(0);
		r = packet_recv(door, &packet, MSG_DONTWAIT);
		if (r == 0)
			serve(report, &packet);
		packet_close_fds(&packet);
		if (r < 0)
			_exit(0);
		/* An empty message looks like the end, too. */
		if (r == PACKET_E_GONE && polled.revents & (POLLRDHUP | POLLHUP))
			_exit(BOX_DOOR_ENDED);
	}
}
