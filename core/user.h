/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A local user as the system's user database has it
 */

#include <sys/types.h>

struct user {
	uid_t uid;
	gid_t gid;
	gid_t *groups; /* owned */
	int group_count;
	char *name, *home; /* owned */
};

/* Looks @uid up; one without an entry gets its number for a name and / for a home. 0 or -errno. */
int user_init(struct user *user, uid_t uid);
void user_deinit(struct user *user);
