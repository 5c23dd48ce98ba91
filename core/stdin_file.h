/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The input of a command or agent, as a file in memory: it is whole, so nobody has to feed it, and its
 * reader meets the end. 0 or -errno.
 */

#include <stdint.h>

int stdin_file_open(const uint8_t *bytes, uint32_t len, int *ret_fd);
