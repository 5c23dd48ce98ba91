/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Who is at the other end of an accepted connection, as the operating system says
 */

#include <stdbool.h>
#include <stdint.h>

#include "core/fault.h"
#include "core/user.h"

/*
 * A kernel run by root serves every local user as that user. Any other serves its own user and root, and
 * both act as its user, since it can act as nobody else.
 *
 * WIRE_OK, a reference to the user, and one of its connections taken; or a code with @fault filled.
 */
enum wire_error peer_admit(struct kernel *kernel, int fd, struct user **ret_user, uint32_t *ret_pid,
			   struct fault *fault);

/* Whether root or the kernel's own user connected. */
bool peer_is_operator(int fd);
