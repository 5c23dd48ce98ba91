/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The socket that clients connect to: its file, and placing accepted connections on the cores
 */

#include <sys/types.h>

#include "ipc/wire.h"

struct shard;

/* Which file a socket was bound to, to know it again. */
struct listener_file {
	dev_t dev;
	ino_t ino;
};

enum {
	LISTENER_E_LIVE = 1,   /* another kernel listens there */
	LISTENER_E_NOT_SOCKET, /* the path is taken by something that is not a socket */
	LISTENER_E_TOO_LONG,   /* the path does not fit a socket address */
	LISTENER_E_FOREIGN,    /* a socket file of another user, which is not ours to remove */
	LISTENER_E_EXPOSED,    /* others could put a socket of theirs in the place of ours */
};

/*
 * Binds a listening socket at @path with permission bits @mode; takes over the file of a kernel that is
 * gone.
 * 0, LISTENER_E_x or -errno.
 */
int listener_bind(const char *path, unsigned mode, int *ret_fd, struct listener_file *ret_file);

/* Removes the file at @path, if it is still that one. */
void listener_unbind(const char *path, const struct listener_file *file);

/* In core 0: accept from kernel->listen_fd. */
int listener_start(struct shard *shard);
/* In the core that owned it: an accepted connection is gone. */
void listener_forget(struct shard *shard);
/* Tells whoever connected to @fd why it is not served, best effort, and closes it. */
void listener_turn_away(int fd, enum wire_error code, const char *message);
void listener_stop(struct shard *shard); /* on a core that does not listen: nothing */
