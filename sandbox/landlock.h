/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Landlock: a second fence around the files of a box, should a mount or a descriptor be wrong
 */

#include <stdbool.h>
#include <stdint.h>

/* 0 when this system has none that is of use, and why. */
uint32_t landlock_abi(const char **ret_reason);

struct landlock_rules {
	uint32_t abi;
	bool tcp;                    /* may connect and listen */
	bool abstract;               /* may reach abstract sockets from outside */
	const char *const *rw_paths; /* ends with NULL; each must exist */
};

/*
 * Restricts the calling thread: reading and running below its root, writing below the paths and to
 * devices, signals to its own kind. Needs no_new_privs. 0 or -errno.
 */
int landlock_apply(const struct landlock_rules *rules);
