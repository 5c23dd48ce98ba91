/* SPDX-License-Identifier: MIT */

/*
 * Which socket, and whether to trust it
 *
 * A spawned agent is told its identity as a descriptor, CLOVE_FD; everybody else connects. It is one stream,
 * and so has one user: the agent's program, which is the process CLOVE_PID, and in it one connection at
 * a time. All others in the agent, forked children among them, get theirs by the door, CLOVE_DOOR. Any local
 * user can bind the default path in /tmp while no kernel runs there, and would then be handed
 * prompts, files and state. So the default is used only when root or this very user serves it. A path
 * that the caller or CLOVE_SOCKET names was somebody's decision and is used as it is.
 */

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "sdk/c/clove_priv.h"

#define DEFAULT_PATH "/tmp/clove.sock"

/* Whether a connection of this process is on CLOVE_FD. */
static atomic_bool taken;

/* The value of a variable of the environment; NULL when it is unset or empty. */
static const char *setting(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

/* The number that a variable holds; -1 when it is unset, -2 when it holds anything else. */
static int number(const char *name)
{
	const char *text = setting(name);
	char *end;
	long value;

	if (!text)
		return -1;
	errno = 0;
	value = strtol(text, &end, 10);
	return errno || *end || end == text || value < 0 || value > INT_MAX ? -2 : (int)value;
}

static bool is_connection(int fd)
{
	struct sockaddr_un peer;
	socklen_t peer_len = sizeof(peer), type_len = sizeof(int);
	int type = 0;

	return !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) && type == SOCK_STREAM &&
	       !getpeername(fd, (struct sockaddr *)&peer, &peer_len) && peer.sun_family == AF_UNIX;
}

/* 0, CLOVE_E_BAD_SOCKET, or CLOVE_E_IN_USE when it is somebody else's or there is none. */
static int inherit_fd(int fd)
{
	int owner = number("CLOVE_PID");

	if (fd == -1 || (owner >= 0 && owner != getpid()))
		return CLOVE_E_IN_USE;
	if (fd < 0 || owner < -1 || !is_connection(fd))
		return CLOVE_E_BAD_SOCKET;
	return atomic_exchange(&taken, true) ? CLOVE_E_IN_USE : 0;
}

void clove_socket_release(void)
{
	atomic_store(&taken, false);
}

static int find_in_agent(int *ret_fd, bool *ret_inherited)
{
	int fd = number("CLOVE_FD"), door = number("CLOVE_DOOR");
	int r = inherit_fd(fd);

	*ret_inherited = r == 0;
	if (r == 0)
		*ret_fd = fd;
	if (r != CLOVE_E_IN_USE || door == -1)
		return r;
	return door < 0 ? CLOVE_E_BAD_SOCKET : clove_door_open(door, ret_fd);
}

static int connect_path(const char *path, int *ret_fd)
{
	CLEANUP(fd_closep) int fd = -1;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len = strlen(path);
	int r;

	if (len >= sizeof(addr.sun_path))
		return CLOVE_E_BAD_SOCKET;
	memcpy(addr.sun_path, path, len + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_raise(-errno);
	do {
		r = connect(fd, (const struct sockaddr *)&addr, sizeof(addr));
	} while (r && errno == EINTR);
	if (r)
		return errno == ENOENT || errno == ECONNREFUSED ? CLOVE_E_NO_KERNEL
								: err_raise(-errno);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int check_server(int fd)
{
	struct ucred server;
	socklen_t len = sizeof(server);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &server, &len))
		return err_raise(-errno);
	return server.uid == 0 || server.uid == geteuid() ? 0 : CLOVE_E_UNTRUSTED;
}

/* What the caller or CLOVE_SOCKET names; NULL for nothing. */
static const char *named_path(const char *path)
{
	if (!path)
		return setting("CLOVE_SOCKET");
	return *path ? path : NULL;
}

const char *clove_socket_path(const char *path)
{
	const char *named = named_path(path);

	if (!path && (setting("CLOVE_FD") || setting("CLOVE_DOOR")))
		return NULL;
	return named ? named : DEFAULT_PATH;
}

int clove_socket_find(const char *path, int *ret_fd, bool *ret_inherited)
{
	CLEANUP(fd_closep) int fd = -1;
	const char *chosen = clove_socket_path(path);
	int r;

	if (!chosen)
		return find_in_agent(ret_fd, ret_inherited);
	r = connect_path(chosen, &fd);
	if (!r && !named_path(path))
		r = check_server(fd);
	if (r)
		return r;
	*ret_fd = TAKE_FD(fd);
	*ret_inherited = false;
	return 0;
}
