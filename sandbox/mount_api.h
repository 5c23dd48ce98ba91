/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Mounts by descriptor, as system calls
 *
 * glibc has wrappers since 2.36 only, and its <sys/mount.h> and the system's <linux/mount.h> cannot
 * be included together before that was mended; so this uses the latter alone. Linux >= 5.12.
 */

#include <fcntl.h>
#include <linux/mount.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

#ifndef MOUNT_ATTR_IDMAP
#define MOUNT_ATTR_IDMAP 0x00100000
#endif

enum {
	MOUNT_DETACH = 2,         /* MNT_DETACH */
	MOUNT_RECURSIVE = 0x8000, /* AT_RECURSIVE */
};

static inline int mount_open_tree(int dir, const char *path, unsigned flags)
{
	return (int)syscall(SYS_open_tree, dir, path,
			    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | MOUNT_RECURSIVE | flags);
}

static inline int mount_move(int tree, int dir, const char *path)
{
	return (int)syscall(SYS_move_mount, tree, "", dir, path, MOVE_MOUNT_F_EMPTY_PATH);
}

/* Adds @attributes; @flags is 0 or MOUNT_RECURSIVE. */
static inline int mount_add_attributes(int tree, uint64_t attributes, unsigned flags)
{
	struct mount_attr attr = {.attr_set = attributes, .propagation = MS_PRIVATE};

	return (int)syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | flags, &attr,
			    sizeof(attr));
}

/* The same, and ids mapped as in the user namespace @ids. */
static inline int mount_map_ids(int tree, uint64_t attributes, int ids, unsigned flags)
{
	struct mount_attr attr = {
		.attr_set = attributes | (uint64_t)MOUNT_ATTR_IDMAP,
		.propagation = MS_PRIVATE,
		.userns_fd = (uint32_t)ids,
	};

	return (int)syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | flags, &attr,
			    sizeof(attr));
}

static inline int mount_fsopen(const char *type)
{
	return (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
}

static inline int mount_fsconfig(int fs, const char *key, const char *value)
{
	return (int)syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0);
}

static inline int mount_fscreate(int fs)
{
	return (int)syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
}

static inline int mount_fsmount(int fs, uint64_t attributes)
{
	return (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes);
}
