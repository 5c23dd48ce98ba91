/* SPDX-License-Identifier: MIT */

#include "sandbox/identity.h"

#include <errno.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/spec.h"

static bool groups_are(const gid_t *groups, size_t n_groups)
{
	gid_t own[SPEC_GROUPS_MAX];
	int n = getgroups(SPEC_GROUPS_MAX, own);

	return n >= 0 && (size_t)n == n_groups &&
	       (n == 0 || !memcmp(own, groups, n_groups * sizeof(*groups)));
}

int identity_leave_keys(uid_t uid)
{
	if (uid == geteuid() || syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) >= 0)
		return 0;
	/* A system without keys, or a container that lets nobody at them. */
	return errno == ENOSYS || errno == EPERM ? 0 : -errno;
}

int identity_set_groups(const gid_t *groups, size_t n_groups)
{
	if (geteuid() != 0 || groups_are(groups, n_groups))
		return 0;
	return setgroups(n_groups, groups) < 0 ? -errno : 0;
}

int identity_set_gid(gid_t gid)
{
	gid_t real, effective, saved;

	if (!getresgid(&real, &effective, &saved) && real == gid && effective == gid &&
	    saved == gid)
		return 0;
	return setresgid(gid, gid, gid) < 0 ? -errno : 0;
}

int identity_set_uid(uid_t uid)
{
	uid_t real, effective, saved;

	if (!getresuid(&real, &effective, &saved) && real == uid && effective == uid &&
	    saved == uid)
		return 0;
	return setresuid(uid, uid, uid) < 0 ? -errno : 0;
}
