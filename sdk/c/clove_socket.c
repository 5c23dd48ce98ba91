/* SPDX-License-Identifier: MIT */

/*
 * Which socket, and whether to trust it
 *
 * A spawned agent is told its identity as a descriptor, CLOVE_FD; everybody else connects. Any local
 * user can bind the default path in /tmp while no kernel runs there, and would then be handed
 * prompts, files and state. So the default is used only when root or this very user serves it. A path
 * that the caller or CLOVE_SOCKET names was somebody's decision and is used as it is.
 */

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "sdk/c/clove_priv.h"

#define DEFAULT_PATH "/tmp/clove.sock"

static int inherit_fd(const char *text, int *ret_fd)
{
	struct sockaddr_un peer;
	socklen_t peer_len = sizeof(peer), type_len = sizeof(int);
	int type = 0;
	char *end;
	long fd;

	errno = 0;
	fd = strtol(text, &end, 10);
	if (errno || *end || end == text || fd < 0 || fd > INT_MAX)
		return CLOVE_E_BAD_SOCKET;
	if (getsockopt((int)fd, SOL_SOCKET, SO_TYPE, &type, &type_len) || type != SOCK_STREAM)
		return CLOVE_E_BAD_SOCKET;
	if (getpeername((int)fd, (struct sockaddr *)&peer, &peer_len) || peer.sun_family != AF_UNIX)
		return CLOVE_E_BAD_SOCKET;
	*ret_fd = (int)fd;
	return 0;
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

/* The value of a variable of the environment; NULL when it is unset or empty. */
static const char *setting(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
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

	if (!path && setting("CLOVE_FD"))
		return NULL;
	return named ? named : DEFAULT_PATH;
}

int clove_socket_find(const char *path, int *ret_fd, bool *ret_inherited)
{
	CLEANUP(fd_closep) int fd = -1;
	const char *chosen = clove_socket_path(path);
	int r;

	if (!chosen) {
		r = inherit_fd(setting("CLOVE_FD"), ret_fd);
		if (!r)
			*ret_inherited = true;
		return r;
	}
	r = connect_path(chosen, &fd);
	if (!r && !named_path(path))
		r = check_server(fd);
	if (r)
		return r;
	*ret_fd = TAKE_FD(fd);
	*ret_inherited = false;
	return 0;
}
