/* SPDX-License-Identifier: MIT */

#include "core/user.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/base/err.h"

enum {
	PASSWD_BYTES = 16 << 10,
	GROUPS_MAX = 1 << 16,
};

static int groups_read(struct user *user)
{
	int count = 32;

	for (;;) {
		gid_t *groups = realloc(user->groups, (size_t)count * sizeof(gid_t));
		int room = count;

		if (!groups)
			return err_raise(-ENOMEM);
		user->groups = groups;
		if (getgrouplist(user->name, user->gid, groups, &count) >= 0) {
			user->group_count = count;
			return 0;
		}
		/* Not every libc reports how many there are. */
		if (count <= room)
			count = room * 2;
		if (count > GROUPS_MAX)
			return err_raise(-E2BIG);
	}
}

/* Where commands start: a home that is not there (nobody's, say) would let none of them. */
static bool enterable(const char *dir)
{
	struct stat st;

	return *dir == '/' && !stat(dir, &st) && S_ISDIR(st.st_mode) && !access(dir, X_OK);
}

int user_init(struct user *user, uid_t uid)
{
	CLEANUP(freep) char *text = malloc(PASSWD_BYTES);
	struct passwd passwd, *found = NULL;
	char number[16];
	int r;

	if (!text)
		return err_raise(-ENOMEM);
	*user = (struct user){.uid = uid, .gid = getgid()};
	r = getpwuid_r(uid, &passwd, text, PASSWD_BYTES, &found);
	(void)snprintf(number, sizeof(number), "%u", (unsigned)uid);
	if (found)
		user->gid = passwd.pw_gid;
	user->name = strdup(r == 0 && found ? passwd.pw_name : number);
	user->home = strdup(r == 0 && found && enterable(passwd.pw_dir) ? passwd.pw_dir : "/");
	if (!user->name || !user->home) {
		user_deinit(user);
		return err_raise(-ENOMEM);
	}
	r = groups_read(user);
	if (r)
		user_deinit(user);
	return err_trace(r);
}

void user_deinit(struct user *user)
{
	free(user->groups);
	free(user->name);
	free(user->home);
	*user = (struct user){0};
}
