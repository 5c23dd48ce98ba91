/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What cgroup.c and cgroup_root.c share: the small files of a group, and trees of groups
 *
 * The int results here are 0 or -errno as the system call gave it, for the caller to compare. The
 * kernel says ENOENT for a file of a removed group, ENODEV when it is removed while the file is open.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "sandbox/cgroup.h"

enum {
	CGROUP_TEXT_MAX = 4096, /* of a file; memory.events and cpu.stat are a few hundred bytes */
	CGROUP_DEPTH_MAX = 16,  /* of groups below an agent's, which has none of its own accord */
};

int cgroup_file_write(int dirfd, const char *file, const char *text);

/* Cuts what does not fit. */
int cgroup_file_read(int dirfd, const char *file, char *text, size_t size);

/* The number after "@key " at the start of a line. */
bool cgroup_file_field(const char *text, const char *key, uint64_t *ret_value);

/* One word among others, separated by blanks. */
bool cgroup_file_has_word(const char *text, const char *word);

/* Calls @fn for every process in the group, not below. Stops at the first that is not 0. */
int cgroup_file_each_pid(int dirfd, int (*fn)(pid_t pid, void *arg), void *arg);

/* Calls @fn for every group right below. Stops at the first that is not 0. */
int cgroup_file_each_child(int dirfd, int (*fn)(int dirfd, const char *name, void *arg), void *arg);

/* Removes the group and those below. -EBUSY while there are processes; 0 when there is no group. */
int cgroup_file_remove_tree(int dirfd, const char *name);

/* Waits until no process is left, at most @timeout_ms. 0, -ETIME or -errno. */
int cgroup_file_wait_empty(int dirfd, int timeout_ms);

/* Keeps the group for cgroup_sweep(). 0 or -ENOMEM. */
int cgroup_retire(struct cgroup_root *root, const char *group);
