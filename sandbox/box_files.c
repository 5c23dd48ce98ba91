/* SPDX-License-Identifier: MIT */

/*
 * /etc and /dev of a box
 *
 * /etc has what programs look up to start at all: who they are, how to find names and libraries, the
 * time zone, the certificates. Small files are written anew and say nothing of the host; large ones
 * are the host's own, read-only.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "core/base/cleanup.h"
#include "sandbox/box.h"
#include "sandbox/mount_api.h"

#define READ_ONLY (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

struct text_file {
	const char *name, *text;
};

static int write_file(int dir, const struct text_file *file)
{
	size_t n = strlen(file->text);
	CLEANUP(fd_closep)
	int fd = openat(dir, file->name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);

	if (fd < 0)
		return -errno;
	return write(fd, file->text, n) == (ssize_t)n ? 0 : -EIO;
}

/* The host's file or directory, if it has one. */
static int bind_existing(int root, const char *path)
{
	int tree = box_bind_path(AT_FDCWD, path, READ_ONLY);

	if (tree == -ENOENT)
		return 0;
	return tree < 0 ? tree : box_attach(tree, root, path + 1);
}

/* Time zones lie below /usr; a localtime that is a file of its own means UTC inside. */
static int copy_localtime(int etc)
{
	char target[256];
	ssize_t n = readlink("/etc/localtime", target, sizeof(target) - 1);

	if (n <= 0)
		return 0;
	target[n] = '\0';
	return symlinkat(target, etc, "localtime") < 0 ? -errno : 0;
}

int box_root_etc(struct box_root *root)
{
	static const struct text_file files[] = {
		{"passwd", "agent:x:1000:1000:agent:/workspace:/bin/sh\n"
			   "nobody:x:65534:65534:nobody:/:/bin/false\n"},
		{"group", "agent:x:1000:\nnogroup:x:65534:\n"},
		{"nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"},
		{"hosts", "127.0.0.1 localhost\n::1 localhost\n"},
	};
	static const char *const from_host[] = {
		"/etc/ld.so.cache",   "/etc/alternatives",           "/etc/ssl/certs",
		"/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted",
	};
	CLEANUP(fd_closep) int etc = -1;
	int r = 0;

	if (mkdirat(root->fd, "etc", 0755) < 0)
		return -errno;
	etc = openat(root->fd, "etc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (etc < 0)
		return -errno;
	for (size_t i = 0; !r && i < sizeof(files) / sizeof(files[0]); i++)
		r = write_file(etc, &files[i]);
	if (!r)
		r = copy_localtime(etc);
	for (size_t i = 0; !r && i < sizeof(from_host) / sizeof(from_host[0]); i++)
		r = bind_existing(root->fd, from_host[i]);
	if (!r && root->job->spec->box.net == LAUNCH_NET_HOST)
		r = bind_existing(root->fd, "/etc/resolv.conf");
	return r;
}

/* The device itself, and no other file that somebody put in its place. */
static int bind_device(int root, const char *path, unsigned minor_number)
{
	CLEANUP(fd_closep) int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	int tree;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, minor_number))
		return -ENODEV;
	tree = box_bind_open(fd, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
	return tree < 0 ? tree : box_attach(tree, root, path + 1);
}

int box_root_dev(struct box_root *root)
{
	static const struct {
		const char *path;
		unsigned minor_number;
	} devices[] = {{"/dev/null", 3},
		       {"/dev/zero", 5},
		       {"/dev/full", 7},
		       {"/dev/random", 8},
		       {"/dev/urandom", 9}};
	static const char *const links[][2] = {{"/proc/self/fd", "dev/fd"},
					       {"/proc/self/fd/0", "dev/stdin"},
					       {"/proc/self/fd/1", "dev/stdout"},
					       {"/proc/self/fd/2", "dev/stderr"}};
	int r = 0;

	for (size_t i = 0; !r && i < sizeof(devices) / sizeof(devices[0]); i++)
		r = bind_device(root->fd, devices[i].path, devices[i].minor_number);
	for (size_t i = 0; !r && i < sizeof(links) / sizeof(links[0]); i++)
		r = symlinkat(links[i][0], root->fd, links[i][1]) < 0 ? -errno : 0;
	return r;
}
