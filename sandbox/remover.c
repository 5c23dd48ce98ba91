/* SPDX-License-Identifier: MIT */

#include "sandbox/remover.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "sandbox/box.h"
#include "sandbox/packet.h"

struct remover {
	int dir;
	unsigned long moved;   /* names for what moves up */
	unsigned long changes; /* each brings it nearer to the end */
	int error;
};

static void close_dirp(DIR **dir)
{
	if (*dir)
		(void)closedir(*dir);
}

static void note(struct remover *remover, int error)
{
	if (!remover->error && error != ENOENT)
		remover->error = error;
}

static DIR *open_dir(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir)
		(void)fd_close(fd);
	return dir;
}

/* Its owner may have closed it to everybody, which stops those without root's rights. False if it is no directory. */
static bool open_up(int at, const char *name)
{
	struct stat st;

	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISDIR(st.st_mode))
		return false;
	if ((st.st_mode & 0700) != 0700)
		(void)fchmodat(at, name, 0700, 0);
	return true;
}

static bool is_dots(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

/* Moves a directory up, under a name that is free. 0 or -errno. */
static int move_up(struct remover *remover, int from, const char *name)
{
	char to[32];
	int r;

	do {
		(void)snprintf(to, sizeof(to), ".%lu", remover->moved++);
		r = renameat2(from, name, remover->dir, to, RENAME_NOREPLACE) ? -errno : 0;
	} while (r == -EEXIST);
	return r;
}

static void remove_entry(struct remover *remover, int dir, const char *name)
{
	int r = 0;

	if (!unlinkat(dir, name, 0)) {
		remover->changes++;
		return;
	}
	r = -errno;
	/* Moving it changes its "..", which takes the right to write in it. */
	if (open_up(dir, name))
		r = move_up(remover, dir, name);
	remover->changes += !r;
	if (r)
		note(remover, -r);
}

/* Empties what is at the top of the trash and removes it, if it can. */
static void remove_one(struct remover *remover, const char *name)
{
	CLEANUP(close_dirp) DIR *dir = NULL;
	struct dirent *entry;

	if (!unlinkat(remover->dir, name, 0)) {
		remover->changes++;
		return;
	}
	dir = open_up(remover->dir, name) ? open_dir(remover->dir, name) : NULL;
	if (!dir) {
		note(remover, errno);
		return;
	}
	while ((entry = readdir(dir)))
		if (!is_dots(entry->d_name))
			remove_entry(remover, dirfd(dir), entry->d_name);
	if (unlinkat(remover->dir, name, AT_REMOVEDIR))
		note(remover, errno);
	else
		remover->changes++;
}

int remover_empty(int dir)
{
	struct remover remover = {.dir = dir};
	unsigned long before;

	do {
		CLEANUP(close_dirp) DIR *trash = open_dir(dir, ".");
		struct dirent *entry;

		if (!trash)
			return -errno;
		before = remover.changes;
		remover.error = 0; /* what is left over may be done in another pass */
		while ((entry = readdir(trash)))
			if (!is_dots(entry->d_name))
				remove_one(&remover, entry->d_name);
	} while (remover.changes != before);
	return -remover.error;
}

_Noreturn void remover_run(int sock, int dir)
{
	int keep[] = {sock, dir};
	int r = box_close_others(keep, sizeof(keep) / sizeof(keep[0]));

	(void)prctl(PR_SET_NAME, "clove-remover");
	packet_send_ready(sock, r ? -r : -remover_empty(dir));
	_exit(0);
}
