/* SPDX-License-Identifier: MIT */

/*
 * crash_cut STATE DIRECTORY [SEED]: what is left of DIRECTORY when the power is cut
 *
 * Run when the process that used it is dead. Prints what it lost, a line each. Without SEED everything is lost that
 * may be. With one, chance decides for each file and name by itself: of what was not synced, some reached the disk.
 */

#include <errno.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/crash/disk.h"

static struct disk_state *state;
static bool by_chance;
static char graveyard[512];

static const struct disk_node *find(uint64_t inode)
{
	for (unsigned i = 0; i < DISK_NODES; i++)
		if (state->nodes[i].flags & DISK_USED && state->nodes[i].inode == inode)
			return &state->nodes[i];
	return NULL;
}

static void fail(const char *path)
{
	perror(path);
	exit(2);
}

static void take_back_name(const char *path, const struct disk_node *node)
{
	const char *name = strrchr(path, '/') + 1;
	char other[2048];

	if (node->flags & DISK_RENAMED)
		(void)snprintf(other, sizeof(other), "%.*s%s", (int)(name - path), path,
			       node->old_name);
	else
		(void)snprintf(other, sizeof(other), "%s/lost-%lu", graveyard,
			       (unsigned long)node->inode);
	printf("name %s\n", path);
	if (rename(path, other))
		fail(path);
	if (!(node->flags & DISK_REPLACED))
		return;
	(void)snprintf(other, sizeof(other), "%s/%s", graveyard, name);
	if (rename(other, path))
		fail(other);
}

static void lose_bytes(const char *path, uint64_t size, uint64_t synced)
{
	uint64_t kept = synced + (by_chance ? (uint64_t)random() % (size - synced + 1) : 0);

	if (kept == size)
		return;
	printf("bytes %s %lu\n", path, (unsigned long)(size - kept));
	if (truncate(path, (off_t)kept))
		fail(path);
}

/* Deepest first, so that a directory's name goes after what is in it was dealt with. */
static int visit(const char *path, const struct stat *st, int type, struct FTW *at)
{
	const struct disk_node *node = find(st->st_ino);

	(void)at;
	if (!node)
		return 0;
	if (type == FTW_F && (uint64_t)st->st_size > node->synced_bytes)
		lose_bytes(path, (uint64_t)st->st_size, node->synced_bytes);
	if (!(node->flags & DISK_NAME_SYNCED) && !(by_chance && random() % 2))
		take_back_name(path, node);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 3 || !(state = disk_map(argv[1]))) {
		(void)fprintf(stderr, "usage: crash_cut STATE DIRECTORY [SEED]\n");
		return 2;
	}
	by_chance = argc > 3;
	if (by_chance)
		srandom((unsigned)strtoul(argv[3], NULL, 10));
	(void)snprintf(graveyard, sizeof(graveyard), "%.480s.graveyard", argv[2]);
	if (nftw(argv[2], visit, 16, FTW_DEPTH | FTW_PHYS))
		fail(argv[2]);
	return 0;
}
