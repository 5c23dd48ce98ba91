/* SPDX-License-Identifier: MIT */

/*
 * Landlock rules by ABI
 *
 * A right that is handled and not granted is denied; one that an old system does not know cannot be
 * handled, so each ABI has its mask. ABI 1 is not used: it denies every rename between directories,
 * which breaks ordinary programs, where the mounts already hold.
 *
 * Reading is granted on the box's own root directory, which is a tmpfs made for this box: a file of
 * the host that is reached past the mounts, by a leaked descriptor, has no such ancestor.
 */

#include "sandbox/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/cleanup.h"

/* From the system's own header, which may be older than the system. */
enum {
	FS_EXECUTE = 1 << 0,
	FS_WRITE_FILE = 1 << 1,
	FS_READ_FILE = 1 << 2,
	FS_READ_DIR = 1 << 3,
	FS_MAKE_CHAR = 1 << 6,
	FS_MAKE_BLOCK = 1 << 11,
	FS_REFER = 1 << 13,
	FS_TRUNCATE = 1 << 14,
	FS_IOCTL_DEV = 1 << 15,
	FS_ABI_1 = (1 << 13) - 1,
	FS_OF_FILES = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV,

	NET_BIND_TCP = 1 << 0,
	NET_CONNECT_TCP = 1 << 1,

	SCOPE_ABSTRACT = 1 << 0,
	SCOPE_SIGNAL = 1 << 1,

	CREATE_VERSION = 1 << 0,
	RULE_PATH_BENEATH = 1,
	ABI_MIN = 2,
};

struct ruleset_attr {
	uint64_t fs, net, scoped;
};

struct path_beneath {
	uint64_t allowed;
	int32_t parent_fd;
} __attribute__((packed));

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule       445
#define SYS_landlock_restrict_self  446
#endif

uint32_t landlock_abi(const char **ret_reason)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_VERSION);

	*ret_reason = "";
	if (abi >= ABI_MIN)
		return (uint32_t)abi;
	if (abi == 1)
		*ret_reason = "ABI 1 denies renames between directories; needs Linux 5.19";
	else if (errno == EOPNOTSUPP)
		*ret_reason = "disabled at boot: add landlock to the lsm= parameter";
	else
		*ret_reason = "not in this system";
	return 0;
}

static uint64_t fs_rights(uint32_t abi)
{
	uint64_t rights = FS_ABI_1 | FS_REFER;

	if (abi >= 3)
		rights |= FS_TRUNCATE;
	if (abi >= 5)
		rights |= FS_IOCTL_DEV;
	return rights;
}

static int allow(int ruleset, const char *path, uint64_t rights)
{
	struct path_beneath rule = {.allowed = rights};
	CLEANUP(fd_closep) int fd = open(path, O_PATH | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		rule.allowed &= FS_OF_FILES;
	rule.parent_fd = fd;
	return syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno
											: 0;
}

int landlock_apply(const struct landlock_rules *rules)
{
	static const uint64_t reading = FS_EXECUTE | FS_READ_FILE | FS_READ_DIR;
	uint64_t all = fs_rights(rules->abi);
	struct ruleset_attr attr = {
		.fs = all,
		.net = rules->tcp ? 0 : NET_BIND_TCP | NET_CONNECT_TCP,
		.scoped = SCOPE_SIGNAL | (rules->abstract ? 0 : SCOPE_ABSTRACT),
	};
	size_t size = rules->abi >= 6   ? sizeof(attr)
		      : rules->abi >= 4 ? offsetof(struct ruleset_attr, scoped)
					: offsetof(struct ruleset_attr, net);
	CLEANUP(fd_closep) int ruleset = -1;
	int r;

	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	if (ruleset < 0)
		return -errno;
	r = allow(ruleset, "/", reading);
	if (!r)
		r = allow(ruleset, "/dev",
			  (reading | FS_WRITE_FILE | FS_TRUNCATE | FS_IOCTL_DEV) & all);
	for (size_t i = 0; !r && rules->rw_paths[i]; i++)
		r = allow(ruleset, rules->rw_paths[i],
			  all & ~(uint64_t)(FS_MAKE_CHAR | FS_MAKE_BLOCK));
	if (r)
		return r;
	return syscall(SYS_landlock_restrict_self, ruleset, 0) < 0 ? -errno : 0;
}
