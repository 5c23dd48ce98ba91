/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Between the files of libclove only
 */

#include <stdbool.h>

#include "sdk/c/clove.h"

/*
 * Connects as clove_open() describes. @ret_inherited: the descriptor is CLOVE_FD's and stays open; it is
 * this connection's until clove_socket_release(). Returns 0, CLOVE_E_NO_KERNEL, CLOVE_E_UNTRUSTED,
 * CLOVE_E_BAD_SOCKET, CLOVE_E_IN_USE, what clove_door_open() returns, or -errno.
 */
int clove_socket_find(const char *path, int *ret_fd, bool *ret_inherited);
void clove_socket_release(void);

/*
 * A connection of the agent to which the door @door belongs. 0, CLOVE_E_BAD_SOCKET, CLOVE_E_TIMEOUT,
 * CLOVE_E_CLOSED, CLOVE_E_BROKEN, or -errno; -EAGAIN: too many were asked for at once.
 */
int clove_door_open(int door, int *ret_fd);

/* 0 with the first frame of @bytes, CLOVE_E_AGAIN when it is not whole, or CLOVE_E_BROKEN. */
int clove_parse(const uint8_t *bytes, size_t len, struct clove_frame *ret_frame);
