/* SPDX-License-Identifier: MIT */

#include "core/data_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/base/err.h"

/* Like mkdir -p: parents with the usual mode, the directory itself closed to others. */
static int make_path(const char *path)
{
	CLEANUP(freep) char *copy = strdup(path);

	if (!copy)
		return err_raise(-ENOMEM);
	for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(copy, 0755) && errno != EEXIST)
			return err_raise(-errno);
		*slash = '/';
	}
	if (mkdir(copy, 0700) && errno != EEXIST)
		return err_raise(-errno);
	return 0;
}

int data_dir_open(const char *path, int *ret_dir, int *ret_lock)
{
	CLEANUP(fd_closep) int dir = -1, lock = -1;
	struct stat st;
	int r;

	r = make_path(path);
	if (r)
		return err_trace(r);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || fstat(dir, &st))
		return err_raise(-errno);
	if (st.st_uid != geteuid() || st.st_mode & 077)
		return DATA_DIR_E_FOREIGN;
	lock = openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (lock < 0)
		return err_raise(-errno);
	if (flock(lock, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK ? DATA_DIR_E_LOCKED : err_raise(-errno);
	*ret_dir = TAKE_FD(dir);
	*ret_lock = TAKE_FD(lock);
	return 0;
}
