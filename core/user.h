/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Who is served: owners and users
 *
 * An owner is a local uid: names, agents and limits are kept by it, and what belongs to one owner does
 * not exist for another. A user is an owner with the group and the supplementary groups that a
 * client came with: whom its commands and files act as. Both are shared by all threads and
 * counted; a user keeps its owner.
 *
 * The name and home of an owner come from the system's user database, which may ask a network and
 * take its time. So they are looked up by a thread of their own, and a connection of an owner that is
 * not known yet is parsed once it is. They are kept while anybody uses the owner, and some time longer.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/base/list.h"
#include "core/quota.h"

struct kernel;
struct users;

struct owner {
	uint32_t uid;
	bool is_operator; /* root, or whom the kernel runs as: reaches all agents, is not limited */
	_Atomic bool known;
	char *name, *home; /* owned; once known. Without an entry its number, and / */
	struct quota quota;

	/* user.c's, under its lock */
	struct users *table;
	struct list link;  /* in a bucket */
	struct list idle;  /* in users->idle, oldest first; while nobody uses it */
	struct list asked; /* in users->asked; to be looked up */
	struct list users;
	uint64_t looked_up_ns;
};

struct user {
	struct owner *owner;
	uid_t uid;
	gid_t gid;
	gid_t *groups; /* owned */
	size_t group_count;

	struct list link; /* in owner->users */
	unsigned refs;
};

/* With the user that the kernel runs as, looked up at once. 0 or -errno. */
int users_new(struct kernel *kernel, struct users **ret_users);
struct users *users_free(struct users *users); /* no user is left */

/* The thread that looks up; the cores exist. 0 or -errno. False: it hangs in a user database. */
int users_start(struct users *users);
bool users_stop(struct users *users);

/* A new reference; NULL without memory. */
struct user *user_get(struct users *users, uid_t uid, gid_t gid, const gid_t *groups,
		      size_t group_count);
struct user *user_ref(struct user *user);
/* Returns NULL; of NULL nothing. */
struct user *user_unref(struct user *user);

/* Whom the kernel runs as; borrowed. */
struct user *users_own(struct users *users);
