/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Becoming another user, in this order: groups, gid, uid
 *
 * Each is a no-op when it is so already, which is all that a process without root can have, except
 * that such a process keeps its own supplementary groups. For single-threaded processes. 0 or
 * -errno.
 */

#include <stddef.h>
#include <sys/types.h>

/*
 * A session keyring of its own, before it becomes another user: by the launcher's it would hold the
 * launcher's keys, and share some with every other user.
 */
int identity_leave_keys(uid_t uid);
int identity_set_groups(const gid_t *groups, size_t n_groups);
int identity_set_gid(gid_t gid);
int identity_set_uid(uid_t uid);
