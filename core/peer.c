/* SPDX-License-Identifier: MIT */

#include "core/peer.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/agent_home.h"
#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "core/kernel.h"

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

static bool is_operator(uid_t uid)
{
	return uid == 0 || uid == geteuid();
}

bool peer_is_operator(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) && is_operator(peer.uid);
}

static enum wire_error user_find(struct kernel *kernel, int fd, const struct ucred *peer,
				 struct user **ret_user, struct fault *fault)
{
	gid_t groups[SPEC_GROUPS_MAX];
	socklen_t len = sizeof(groups);

	if (geteuid() != 0) {
		*ret_user = user_ref(kernel->user);
		return WIRE_OK;
	}
	/* With some left out it would be somebody else. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len))
		return fault_set_os(fault, errno, "your groups cannot be told (%d at most)",
				    SPEC_GROUPS_MAX);
	*ret_user = user_get(kernel->users, peer->uid, peer->gid, groups, len / sizeof(*groups));
	return *ret_user ? WIRE_OK : fault_set(fault, WIRE_BUSY, "no memory");
}

enum wire_error peer_admit(struct kernel *kernel, int fd, struct user **ret_user, uint32_t *ret_pid,
			   struct fault *fault)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	struct user *user = NULL;
	enum wire_error code;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		return fault_set_os(fault, errno, "who you are cannot be told");
	/* The socket's mode says the same; this holds even where a mode was changed behind our back. */
	if (geteuid() != 0 && !is_operator(peer.uid)) {
		log_warn("refused", "uid=%u pid=%d reason=\"not the kernel's user\"", peer.uid,
			 peer.pid);
		return fault_set(fault, WIRE_PERMISSION_DENIED,
				 "this kernel serves user %u and root only", geteuid());
	}
	/* An agent has its connection. By another it would be a user of this host, confined by nothing. */
	if (geteuid() == 0 && agent_home_is_uid(peer.uid)) {
		log_warn("refused", "uid=%u pid=%d reason=\"an agent in a sandbox\"", peer.uid,
			 peer.pid);
		return fault_set(
			fault, WIRE_PERMISSION_DENIED,
			"an agent in a sandbox has CLOVE_FD, and further connections by CLOVE_DOOR; this socket is not for it");
	}
	code = user_find(kernel, fd, &peer, &user, fault);
	if (!code)
		code = quota_take(kernel->config, user->owner, QUOTA_CONNECTIONS, fault);
	if (code) {
		(void)user_unref(user);
		return code;
	}
	*ret_user = user;
	*ret_pid = (uint32_t)peer.pid;
	return WIRE_OK;
}
