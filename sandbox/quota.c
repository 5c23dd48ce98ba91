/* SPDX-License-Identifier: MIT */

#include "sandbox/quota.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/quota.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/cleanup.h"

#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443
#endif

enum {
	QUOTA_BLOCK = 1024,     /* of struct if_dqblk, whatever the file system's own */
	BYTES_PER_INODE = 4096, /* files of less are too many */
};

static void close_dirp(DIR **dir)
{
	if (*dir)
		(void)closedir(*dir);
}

static bool is_empty(int fd)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP(close_dirp) DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			return false;
	return dir;
}

static bool join(int fd, uint32_t project)
{
	struct fsxattr attributes;

	if (ioctl(fd, FS_IOC_FSGETXATTR, &attributes))
		return false;
	if (attributes.fsx_projid == project && attributes.fsx_xflags & FS_XFLAG_PROJINHERIT)
		return true;
	if (!is_empty(fd))
		return false;
	attributes.fsx_projid = project;
	attributes.fsx_xflags |= FS_XFLAG_PROJINHERIT;
	return !ioctl(fd, FS_IOC_FSSETXATTR, &attributes);
}

bool quota_set(int dir, uint32_t project, uint64_t bytes)
{
	struct if_dqblk limits = {
		.dqb_bhardlimit = bytes / QUOTA_BLOCK,
		.dqb_ihardlimit = bytes / BYTES_PER_INODE + 1,
		.dqb_valid = QIF_BLIMITS | QIF_ILIMITS,
	};
	struct if_dqblk got;
	CLEANUP(fd_closep) int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	/* The limit first: a project without one would look capped. */
	if (fd < 0 ||
	    syscall(SYS_quotactl_fd, fd, QCMD((unsigned)Q_SETQUOTA, PRJQUOTA), project, &limits) <
		    0 ||
	    syscall(SYS_quotactl_fd, fd, QCMD((unsigned)Q_GETQUOTA, PRJQUOTA), project, &got) < 0)
		return false;
	return got.dqb_bhardlimit == limits.dqb_bhardlimit && join(fd, project);
}
