/* SPDX-License-Identifier: MIT */

/*
 * The file system of a box
 *
 *   /             tmpfs, read-only in the end
 *   /usr          the host's, read-only; /bin, /lib, ... as the host has them
 *   /etc          a few files of our own                                  box_files.c
 *   /dev          five devices of the host, shm                           box_files.c
 *   /proc         of the box's pid namespace, own processes only
 *   /tmp          tmpfs
 *   /workspace    a directory of the host, or a tmpfs
 *   ...           binds
 *
 * Everything goes by descriptor: what is mounted is what was opened, whatever happens to its path
 * meanwhile, and a place to mount on is found by steps that follow no link, since parts of the tree
 * (the workspace, say) were written by earlier programs of the box.
 *
 * The new root is mounted over the old one. That hides nothing from us, whose root directory stays
 * the old one until pivot_root(), and asks for no directory that a host might lack.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/cleanup.h"
#include "sandbox/box.h"
#include "sandbox/mount_api.h"

#define READ_ONLY  (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
#define SCRATCH    (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
#define ROOT_BYTES "1m"

static int prepare(int tree, uint64_t attributes)
{
	if (tree < 0)
		return -errno;
	if (mount_add_attributes(tree, attributes, MOUNT_RECURSIVE) < 0) {
		int error = errno;

		(void)close(tree);
		return -error;
	}
	return tree;
}

int box_bind_path(int dir, const char *path, uint64_t attributes)
{
	return prepare(mount_open_tree(dir, path, 0), attributes);
}

int box_bind_open(int fd, uint64_t attributes)
{
	return prepare(mount_open_tree(fd, "", AT_EMPTY_PATH), attributes);
}

int box_bind_open_mapped(int fd, uint64_t attributes, int ids)
{
	int tree = mount_open_tree(fd, "", AT_EMPTY_PATH);

	if (tree < 0)
		return -errno;
	if (mount_map_ids(tree, attributes, ids, MOUNT_RECURSIVE) < 0) {
		int error = errno;

		(void)close(tree);
		return -error;
	}
	return tree;
}

/*
 * A descriptor from outside names a mount of another mount namespace, which cannot be bound here.
 * Its path can be opened here; it must lead to the very same file.
 */
int box_bind_reopen(int fd, uint64_t attributes)
{
	CLEANUP(fd_closep) int again = -1;
	char link[32], path[SPEC_PATH_MAX + 1];
	struct stat is, should;
	ssize_t n;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return -errno;
	path[n] = '\0';
	again = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (again < 0 || fstat(again, &is) < 0 || fstat(fd, &should) < 0)
		return -errno;
	if (is.st_dev != should.st_dev || is.st_ino != should.st_ino)
		return -ESTALE;
	return box_bind_open(again, attributes);
}

uint64_t box_bind_attributes(const struct launch_bind *bind)
{
	uint64_t attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;

	if (!(bind->flags & LAUNCH_BIND_RW))
		attributes |= MOUNT_ATTR_RDONLY;
	if (bind->flags & LAUNCH_BIND_NOEXEC)
		attributes |= MOUNT_ATTR_NOEXEC;
	return attributes;
}

/* Makes what @tree can be mounted on. */
static int make_place(int dir, const char *name, bool is_dir)
{
	CLEANUP(fd_closep) int file = -1;

	if (is_dir)
		return mkdirat(dir, name, 0755) < 0 && errno != EEXIST ? -errno : 0;
	file = openat(dir, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0444);
	return file < 0 && errno != EEXIST ? -errno : 0;
}

static int attach(int tree, int root, const char *name)
{
	CLEANUP(fd_closep) int dir = fcntl(root, F_DUPFD_CLOEXEC, 0);
	char part[256];
	struct stat st;
	int r;

	if (dir < 0 || fstat(tree, &st) < 0)
		return -errno;
	for (;;) {
		size_t n = strcspn(name, "/");
		int next;

		if (n >= sizeof(part))
			return -ENAMETOOLONG;
		memcpy(part, name, n);
		part[n] = '\0';
		if (!name[n])
			break;
		name += n + 1;
		r = make_place(dir, part, true);
		/* A place that exists in a read-only tree is as good. */
		next = r && r != -EROFS
			       ? -1
			       : openat(dir, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			return r && r != -EROFS ? r : -errno;
		(void)close(dir);
		dir = next;
	}
	r = make_place(dir, part, S_ISDIR(st.st_mode));
	if (r && r != -EROFS)
		return r;
	return mount_move(tree, dir, part) < 0 ? -errno : 0;
}

int box_attach(int tree, int root, const char *name)
{
	int r = attach(tree, root, name);

	(void)close(tree);
	return r;
}

/* A tmpfs of the box's own, detached. A descriptor or -errno. */
static int make_tmpfs(const char *bytes, const char *inodes, const char *mode, uint64_t attributes)
{
	CLEANUP(fd_closep) int fs = mount_fsopen("tmpfs");
	int tree;

	if (fs < 0 || mount_fsconfig(fs, "size", bytes) < 0 ||
	    mount_fsconfig(fs, "nr_inodes", inodes) < 0 || mount_fsconfig(fs, "mode", mode) < 0 ||
	    mount_fscreate(fs) < 0)
		return -errno;
	tree = mount_fsmount(fs, attributes);
	return tree < 0 ? -errno : tree;
}

/* One inode for every 4 KiB: more than that are names without content, which memory also pays. */
static int make_scratch(uint64_t bytes, const char *mode)
{
	char size[32], inodes[32];

	(void)snprintf(size, sizeof(size), "%llu", (unsigned long long)bytes);
	(void)snprintf(inodes, sizeof(inodes), "%llu", (unsigned long long)bytes / 4096 + 64);
	return make_tmpfs(size, inodes, mode, SCRATCH);
}

int box_root_mount(struct box_root *root)
{
	struct mount_attr private = {.propagation = MS_PRIVATE};

	(void)umask(022);
	if (syscall(SYS_mount_setattr, AT_FDCWD, "/", MOUNT_RECURSIVE, &private, sizeof(private)) <
	    0)
		return -errno;
	root->fd = make_tmpfs(ROOT_BYTES, "4096", "0755", SCRATCH);
	if (root->fd < 0)
		return root->fd;
	return mount_move(root->fd, AT_FDCWD, "/") < 0 ? -errno : 0;
}

/* /bin and its kind: the same link as on the host, or the directory itself. */
static int copy_top(int root, const char *name)
{
	char path[16], target[64];
	struct stat st;
	ssize_t n;
	int tree;

	(void)snprintf(path, sizeof(path), "/%s", name);
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISLNK(st.st_mode)) {
		n = readlink(path, target, sizeof(target) - 1);
		if (n < 0)
			return -errno;
		target[n] = '\0';
		return symlinkat(target, root, name) < 0 ? -errno : 0;
	}
	tree = box_bind_path(AT_FDCWD, path, READ_ONLY);
	return tree < 0 ? tree : box_attach(tree, root, name);
}

int box_root_usr(struct box_root *root)
{
	static const char *const tops[] = {"bin", "sbin", "lib", "lib32", "lib64", "libx32"};
	int tree = box_bind_path(AT_FDCWD, "/usr", READ_ONLY), r;

	r = tree < 0 ? tree : box_attach(tree, root->fd, "usr");
	for (size_t i = 0; !r && i < sizeof(tops) / sizeof(tops[0]); i++)
		r = copy_top(root->fd, tops[i]);
	return r;
}

/* With nothing in it but the processes of the box there is nothing left to hide. */
int box_root_proc(struct box_root *root)
{
	CLEANUP(fd_closep) int fs = mount_fsopen("proc");
	int tree;

	if (fs < 0 || mount_fsconfig(fs, "hidepid", "invisible") < 0 ||
	    mount_fsconfig(fs, "subset", "pid") < 0 || mount_fscreate(fs) < 0)
		return -errno;
	tree = mount_fsmount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	return tree < 0 ? -errno : box_attach(tree, root->fd, "proc");
}

int box_root_tmp(struct box_root *root)
{
	uint64_t bytes = root->job->spec->box.tmp_bytes;
	int tree = make_scratch(bytes, "1777"), r;

	r = tree < 0 ? tree : box_attach(tree, root->fd, "tmp");
	if (r)
		return r;
	tree = make_scratch(bytes, "1777");
	return tree < 0 ? tree : box_attach(tree, root->fd, "dev/shm");
}

/* @fd as the launcher handed it over: under root it is the mount already. */
static int take_tree(const struct box_job *job, int fd, uint64_t attributes)
{
	int again;

	if (!job->host->is_root)
		return box_bind_reopen(fd, attributes);
	again = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return again < 0 ? -errno : again;
}

int box_root_workspace(struct box_root *root)
{
	const struct launch_box *box = &root->job->spec->box;
	int tree;

	if (box->workspace_fd == SPEC_NO_FD)
		tree = make_scratch(box->workspace_bytes, "0755");
	else
		tree = take_tree(root->job, root->job->fds[box->workspace_fd], SCRATCH);
	return tree < 0 ? tree : box_attach(tree, root->fd, "workspace");
}

int box_root_binds(struct box_root *root)
{
	const struct launch_box *box = &root->job->spec->box;
	int r = 0;

	for (size_t i = 0; !r && i < box->n_binds; i++) {
		const struct launch_bind *bind = &box->binds[i];
		int tree =
			take_tree(root->job, root->job->fds[bind->fd], box_bind_attributes(bind));

		r = tree < 0 ? tree : box_attach(tree, root->fd, bind->target + 1);
	}
	return r;
}

int box_root_pivot(struct box_root *root)
{
	if (mount_add_attributes(root->fd, MOUNT_ATTR_RDONLY, 0) < 0 || fchdir(root->fd) < 0)
		return -errno;
	/* The old root ends up on top of the new one, and leaves from there. */
	if (syscall(SYS_pivot_root, ".", ".") < 0 || syscall(SYS_umount2, ".", MOUNT_DETACH) < 0 ||
	    chdir("/") < 0)
		return -errno;
	root->fd = fd_close(root->fd);
	return 0;
}
