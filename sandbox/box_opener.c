/* SPDX-License-Identifier: MIT */

/*
 * An opener inside an agent's box: READ and WRITE of the agent
 *
 * It steps into the box's user and mount namespaces, whose root then is its own, and becomes the
 * agent's user there: what it opens is what the agent could open, by the same rules. It stays
 * outside of the box's pid namespace, where the agent cannot reach it.
 */

#include <errno.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "core/base/check.h"
#include "sandbox/box.h"
#include "sandbox/identity.h"
#include "sandbox/opener.h"
#include "sandbox/packet.h"

enum {
	SOCK_FD = 3,
	NAMESPACES_FD = 4,
};

static int enter(void)
{
	int r;

	/* Before the uid is the agent's, which would like to look into this process. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -errno;
	r = identity_leave_keys((uid_t)-1);
	if (r)
		return r;
	if (setns(NAMESPACES_FD, CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return -errno;
	(void)close(NAMESPACES_FD);
	r = identity_set_gid(BOX_UID);
	if (!r)
		r = identity_set_uid(BOX_UID);
	if (!r)
		r = box_drop_capabilities();
	if (!r)
		r = box_no_new_privs();
	if (!r && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		r = -errno;
	return r;
}

_Noreturn void box_opener_run(int sock, int namespaces)
{
	int r;

	/* Both are above what they become: the launcher holds 3 and 4. */
	CHECK(dup2(namespaces, NAMESPACES_FD) == NAMESPACES_FD && dup2(sock, SOCK_FD) == SOCK_FD);
	CHECK(close_range(NAMESPACES_FD + 1, ~0U, 0) == 0);
	(void)prctl(PR_SET_NAME, "clove-opener");
	r = enter();
	packet_send_ready(SOCK_FD, -r);
	if (r)
		_exit(1);
	opener_serve(SOCK_FD);
}
