/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Between the files of libclove only
 */

#include <stdbool.h>

#include "sdk/c/clove.h"

/*
 * Connects as clove_open() describes. @ret_inherited: the descriptor is CLOVE_FD's and stays open.
 * Returns 0, CLOVE_E_NO_KERNEL, CLOVE_E_UNTRUSTED, CLOVE_E_BAD_SOCKET or -errno.
 */
int clove_socket_find(const char *path, int *ret_fd, bool *ret_inherited);

/* 0 with the first frame of @bytes, CLOVE_E_AGAIN when it is not whole, or CLOVE_E_BROKEN. */
int clove_parse(const uint8_t *bytes, size_t len, struct clove_frame *ret_frame);
