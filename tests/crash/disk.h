/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A disk that can lose its power, fill up and fail
 *
 * disk.c stands before the C library's file calls, by LD_PRELOAD or linked into a program. For everything below one
 * directory it records what the process has made durable, and no more: the length of each file at its last fsync or
 * fdatasync that succeeded, and whether its directory was synced since its name was made. cut.c
 * takes a directory back to that, after the process was killed: the worst that a power cut may do, since what
 * was not synced may be lost, though it need not.
 *
 * Both share a file, named by CRASH_DISK_STATE, which survives the process; CRASH_DISK_DIR names the directory.
 * Files and directories that were there before count as durable. Faults are switched on and off in the same file.
 *
 * Known gaps: contents rewritten in place and mmap; RocksDB only appends. A file deleted without a sync stays deleted.
 */

#include <stdatomic.h>
#include <stdint.h>

enum {
	DISK_MAGIC = 0x434b5244,
	DISK_NODES = 4096,

	/* nodes */
	DISK_USED = 1,
	DISK_DIRECTORY = 2,
	DISK_NAME_SYNCED = 4, /* its directory was synced since it got its name */
	DISK_RENAMED = 8,     /* from @old_name, and not synced since */
	DISK_REPLACED =
		16, /* what had its name before is kept in the graveyard, under its inode number */

	/* faults, to be combined */
	DISK_FULL = 1,         /* writing, creating: half a write, then ENOSPC */
	DISK_SYNC_FAILS = 2,   /* fsync, fdatasync: EIO */
	DISK_WRITE_FAILS = 4,  /* EIO */
	DISK_HOLD_TABLES = 8,  /* writes to *.sst wait until this is off */
	DISK_NO_SYNC = 16,     /* fsync, fdatasync: success, and nothing done */
	DISK_TABLES_FAIL = 32, /* writes to *.sst: EIO */
};

struct disk_node {
	uint64_t inode, parent, synced_bytes;
	uint32_t flags;
	char old_name[60];
};

struct disk_state {
	uint32_t magic;
	_Atomic uint32_t faults;
	_Atomic uint64_t syncs;
	struct disk_node nodes[DISK_NODES];
};

/* Maps @path, made if it is missing. NULL on failure. */
struct disk_state *disk_map(const char *path);

/* What the environment says, for a program that disk.c is linked into. The state, or NULL. */
struct disk_state *disk_watch(const char *state_path, const char *dir);
