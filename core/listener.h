/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The socket that clients connect to: its file, and placing accepted connections on the cores
 */

#include <sys/types.h>

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
};

/*
 * Binds a listening socket at @path with mode 0600; takes over the file of a kernel that is gone.
 * 0, LISTENER_E_x or -errno.
 */
int listener_bind(const char *path, int *ret_fd, struct listener_file *ret_file);

/* Removes the file at @path, if it is still that one. */
void listener_unbind(const char *path, const struct listener_file *file);

/* In core 0: accept from kernel->listen_fd. */
int listener_start(struct shard *shard);
/* In the core that owned it: an accepted connection is gone. */
void listener_forget(struct shard *shard);
void listener_stop(struct shard *shard); /* on a core that does not listen: nothing */
