/* SPDX-License-Identifier: MIT */

/*
 * Agents and what enters their boxes: from the request to the clone
 *
 * The launcher does here what an init cannot do itself. Under root these are: mounts of directories
 * from outside, made in the mount namespace where their descriptors come from; the step into the
 * shared empty network, whose owner is no namespace of the box; and the ids of the user namespace.
 * A child inherits the network and the supplementary groups of the moment of its clone, so the
 * launcher puts them on beforehand. Groups stay until the next child wants others: the launcher
 * itself has no use for any.
 */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/check.h"
#include "sandbox/box.h"
#include "sandbox/enter.h"
#include "sandbox/identity.h"
#include "sandbox/idmap.h"
#include "sandbox/launcher_priv.h"
#include "sandbox/limits.h"
#include "sandbox/mount_api.h"
#include "sandbox/quota.h"

enum {
	/* Not CLONE_NEWCGROUP: it would show our own group. The init does it, from within its own. */
	NAMESPACES = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS,
};

static bool is_sandboxed(const struct launch_spec *spec)
{
	return spec->box.flags & LAUNCH_BOX_NAMESPACES;
}

/* True if the box gets a network namespace of its own. */
static bool needs_own_net(const struct server *server, const struct launch_spec *spec)
{
	return spec->box.net > LAUNCH_NET_EMPTY ||
	       (spec->box.net == LAUNCH_NET_EMPTY && server->host.empty_net < 0);
}

static uint32_t first_layers(const struct server *server, const struct launch_spec *spec)
{
	uint32_t layers = 0;

	if (spec->uid != geteuid())
		layers |= 1u << LAUNCH_LAYER_OWN_UID;
	if (spec->box.net != LAUNCH_NET_HOST)
		layers |= 1u << (needs_own_net(server, spec) ? LAUNCH_LAYER_NET_OWN
							     : LAUNCH_LAYER_NET_SHARED);
	return layers;
}

/* What is kept of a spec. One block: terms, paths that can be written, groups, all text. */
static struct box_terms *terms_new(const struct server *server, const struct launch_spec *spec)
{
	static const char *const always[] = {"/workspace", "/tmp", "/dev/shm"};
	const struct launch_box *box = &spec->box;
	size_t n_paths = 0, text_bytes = strlen(box->cgroup) + 1;
	struct box_terms *terms;
	const char **paths;
	gid_t *groups;
	char *text;

	for (size_t i = 0; i < box->n_binds; i++)
		text_bytes += strlen(box->binds[i].target) + 1;
	terms = calloc(1, sizeof(*terms) + (BOX_RW_PATHS_MAX + 1) * sizeof(*paths) +
				  spec->n_groups * sizeof(*groups) + text_bytes);
	if (!terms)
		return NULL;
	paths = (const char **)(terms + 1);
	groups = (gid_t *)(paths + BOX_RW_PATHS_MAX + 1);
	text = (char *)(groups + spec->n_groups);

	for (; n_paths < sizeof(always) / sizeof(always[0]); n_paths++)
		paths[n_paths] = always[n_paths];
	for (size_t i = 0; i < box->n_binds; i++) {
		if (!(box->binds[i].flags & LAUNCH_BIND_RW))
			continue;
		paths[n_paths++] = text;
		text = stpcpy(text, box->binds[i].target) + 1;
	}
	terms->cgroup = strcpy(text, server->cgroups.agents >= 0 ? box->cgroup : "");
	if (spec->n_groups)
		memcpy(groups, spec->groups, spec->n_groups * sizeof(*groups));
	terms->flags = box->flags;
	terms->seccomp = box->seccomp;
	terms->net = box->net;
	terms->nice = box->nice;
	terms->uid = spec->uid;
	terms->gid = spec->gid;
	terms->groups = groups;
	terms->n_groups = spec->n_groups;
	terms->rlimits = box->rlimits;
	terms->limits = box->limits;
	terms->layers = first_layers(server, spec);
	terms->rw_paths = paths;
	return terms;
}

static int write_map(pid_t pid, const char *name, unsigned id)
{
	char path[64], map[48];
	CLEANUP(fd_closep) int fd = -1;
	int n = snprintf(map, sizeof(map), "%d %u 1", BOX_UID, id);

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 || write(fd, map, (size_t)n) != n ? -errno : 0;
}

static int send_order(int lifeline, enum box_order_type type, int signo)
{
	struct box_order order = {.type = type, .signo = signo};

	if (send(lifeline, &order, sizeof(order), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(order))
		return 0;
	return errno == EPIPE || errno == ECONNRESET ? -ESRCH : -errno;
}

/* A descriptor of what holds processes of the box, the caller's; -1 without a group. 0 or -errno. */
static int open_leaf(const struct server *server, const struct box_terms *terms,
		     enum cgroup_leaf which, int *ret_leaf)
{
	CLEANUP(fd_closep) int group = -1;
	int r = 0;

	*ret_leaf = -1;
	if (*terms->cgroup)
		r = cgroup_find(&server->cgroups, terms->cgroup, &group);
	if (!r && group >= 0)
		r = cgroup_leaf(group, which, ret_leaf);
	return r > 0 ? -ESRCH : r;
}

void launcher_box_ended(struct server *server, const struct child *child)
{
	CLEANUP(fd_closep) int group = -1;

	if (*child->terms->cgroup && !cgroup_find(&server->cgroups, child->terms->cgroup, &group))
		cgroup_kill_leaves(group);
}

/* Stops or continues all of it at once, which it cannot notice. 0 or -errno. */
static int freeze(const struct server *server, const struct child *child, bool frozen)
{
	CLEANUP(fd_closep) int leaf = -1;
	int r = open_leaf(server, child->terms, CGROUP_SELF, &leaf);

	if (!r)
		r = cgroup_freeze(leaf, frozen);
	return r > 0 ? -ESRCH : r;
}

int launcher_box_signal(struct server *server, const struct child *child, int signo,
			bool whole_tree)
{
	int r;

	if (whole_tree && (signo == SIGSTOP || signo == SIGCONT) &&
	    child->terms->layers & 1u << LAUNCH_LAYER_CGROUP_FREEZE)
		return freeze(server, child, signo == SIGSTOP);
	if (signo == SIGKILL && child->terms->flags & LAUNCH_BOX_NAMESPACES)
		return syscall(SYS_pidfd_send_signal, child->pidfd, SIGKILL, NULL, 0) < 0 ? -errno
											  : 0;
	r = send_order(child->lifeline, whole_tree ? BOX_SIGNAL_ALL : BOX_SIGNAL, signo);
	/* The init that is to carry it out stands still with the others. */
	if (!r && signo == SIGKILL && child->terms->layers & 1u << LAUNCH_LAYER_CGROUP_FREEZE)
		r = freeze(server, child, false);
	return r;
}

/*
 * A new workspace and log directory are the launcher's own, as the kernel that made them has no
 * rights to give them away. Others are left alone. 0 or -errno.
 */
static int hand_over(const struct launch_spec *spec, const int *fds)
{
	const uint32_t indices[] = {spec->box.workspace_fd, spec->box.log_fd};
	struct stat st;

	if (spec->uid == geteuid())
		return 0;
	for (size_t i = 0; i < sizeof(indices) / sizeof(indices[0]); i++) {
		if (indices[i] == SPEC_NO_FD)
			continue;
		if (fstat(fds[indices[i]], &st) < 0)
			return -errno;
		if (st.st_uid == geteuid() &&
		    fchownat(fds[indices[i]], "", spec->uid, spec->gid, AT_EMPTY_PATH) < 0)
			return -errno;
	}
	return 0;
}

/*
 * The mount of a bind, with its user's rights where that can be. Without, an agent gets by a bind for
 * reading what everybody may read; for writing there would be next to nothing, and what it made
 * would be nobody's: that is refused. A descriptor or -errno, with words where they help.
 */
static int open_bind(const struct launch_spec *spec, size_t i, int fd, int ids,
		     struct box_terms *terms, struct spec_reason *reterr_reason)
{
	const struct launch_bind *bind = &spec->box.binds[i];
	uint64_t attributes = box_bind_attributes(bind);
	int tree;

	if (ids < 0 || !(bind->flags & LAUNCH_BIND_OWNER))
		return box_bind_open(fd, attributes);
	tree = box_bind_open_mapped(fd, attributes, ids);
	if (tree != -EINVAL)
		return tree;
	if (bind->flags & LAUNCH_BIND_RW) {
		(void)snprintf(reterr_reason->text, sizeof(reterr_reason->text),
			       "%.40s: its file system has no id-mapped mounts", bind->target);
		return -ENOTSUP;
	}
	terms->unmapped |= UINT64_C(1) << i;
	return box_bind_open(fd, attributes);
}

static bool has_owners_binds(const struct launch_box *box)
{
	for (size_t i = 0; i < box->n_binds; i++)
		if (box->binds[i].flags & LAUNCH_BIND_OWNER)
			return true;
	return false;
}

/* Replaces what is to be mounted by its mount. 0 or -errno. */
static int open_mounts(const struct launch_spec *spec, int *fds, struct box_terms *terms,
		       struct refusal *reterr_refusal)
{
	const struct launch_box *box = &spec->box;
	CLEANUP(fd_closep) int ids = -1;

	reterr_refusal->step = LAUNCH_STEP_MOUNT_BINDS;
	if (has_owners_binds(box)) {
		ids = idmap_open(box->bind_uid, spec->uid, box->bind_gid, spec->gid);
		if (ids < 0)
			return ids;
	}
	reterr_refusal->step = LAUNCH_STEP_MOUNT_WORKSPACE;
	for (size_t i = 0; i <= box->n_binds; i++) {
		uint32_t index = i ? box->binds[i - 1].fd : box->workspace_fd;
		int tree;

		if (index == SPEC_NO_FD)
			continue;
		tree = i ? open_bind(spec, i - 1, fds[index], ids, terms, &reterr_refusal->reason)
			 : box_bind_open(fds[index], MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
		if (tree < 0)
			return tree;
		(void)close(fds[index]);
		fds[index] = tree;
		reterr_refusal->step = LAUNCH_STEP_MOUNT_BINDS;
	}
	return 0;
}

/* Makes the group with its limits. 0, or turned down. */
static int make_group(struct server *server, struct child *child, const struct launch_spec *spec,
		      const int *fds, struct refusal *reterr_refusal)
{
	struct cgroup_limits limits;
	CLEANUP(fd_closep) int group = -1;
	uint32_t asked, enforced = 0;
	struct stat st = {0};
	int r = 0;

	if (spec->box.workspace_fd != SPEC_NO_FD)
		(void)fstat(fds[spec->box.workspace_fd], &st);
	limits_to_cgroup(&spec->box.limits, st.st_dev, &limits);
	asked = cgroup_asked(&limits);
	if (*child->terms->cgroup)
		r = cgroup_make(&server->cgroups, child->terms->cgroup, &limits, &group, &enforced);
	if (!r && *child->terms->cgroup) {
		for (unsigned i = CGROUP_FREEZE; i <= CGROUP_KILL; i++)
			enforced |= cgroup_state(&server->cgroups, i)->on ? CGROUP_BIT(i) : 0;
		child->terms->layers |= limits_layers(enforced);
		enforced &= asked;
	}
	if (r) /* nothing of that name is ours to remove */
		child->terms->cgroup = "";
	if (r)
		return launcher_refuse(reterr_refusal, LAUNCH_STEP_CGROUP,
				       r < 0                  ? -r
				       : r == CGROUP_E_EXISTS ? EEXIST
				       : r == CGROUP_E_GONE   ? ESRCH
							      : EINVAL);
	if (!(spec->box.flags & LAUNCH_BOX_LIMITS) || enforced == asked)
		return 0;
	(void)snprintf(reterr_refusal->reason.text, sizeof(reterr_refusal->reason.text),
		       "no cgroup limit of %s%s%s%s",
		       asked & ~enforced & CGROUP_BIT(CGROUP_MEMORY) ? "memory " : "",
		       asked & ~enforced & CGROUP_BIT(CGROUP_CPU) ? "cpu " : "",
		       asked & ~enforced & CGROUP_BIT(CGROUP_PIDS) ? "pids " : "",
		       asked & ~enforced & CGROUP_BIT(CGROUP_IO) ? "io " : "");
	return launcher_refuse(reterr_refusal, LAUNCH_STEP_LIMITS, ENOTSUP);
}

/* The clone, in the network and with the groups that the child shall have. A pid or -errno. */
static pid_t clone_into(struct server *server, const struct box_terms *terms, unsigned long flags,
			int *ret_pidfd)
{
	bool moved =
		!(flags & CLONE_NEWNET) && flags & CLONE_NEWUSER && terms->net == LAUNCH_NET_EMPTY;
	CLEANUP(fd_closep) int leaf = -1;
	pid_t pid;
	int r = open_leaf(server, terms, CGROUP_SELF, &leaf);

	if (!r && terms->flags & LAUNCH_BOX_NAMESPACES)
		r = identity_set_groups(terms->groups, terms->n_groups);
	if (r)
		return r;
	if (moved && setns(server->host.empty_net, CLONE_NEWNET) < 0)
		return -errno;
	pid = launcher_clone(flags | CLONE_PARENT, leaf, ret_pidfd);
	/* A launcher that cannot leave it would start commands without network. */
	if (moved && pid != 0)
		CHECK(setns(server->host.own_net, CLONE_NEWNET) == 0);
	return pid;
}

/* What the new init waits for, under root. */
static int give_ids(const struct child *child)
{
	int r = write_map(child->pid, "uid_map", child->terms->uid);

	if (!r)
		r = write_map(child->pid, "gid_map", child->terms->gid);
	return r ? r : send_order(child->lifeline, BOX_GO, 0);
}

int launcher_box_start(struct server *server, struct child *child, const struct launch_spec *spec,
		       int *fds, int status, struct refusal *reterr_refusal)
{
	CLEANUP(fd_closep) int lifeline = -1;
	unsigned long flags = 0;
	enum launch_layer missing = host_missing(&server->host, spec);
	int ends[2], r;

	if (missing != LAUNCH_LAYER_COUNT) {
		(void)snprintf(reterr_refusal->reason.text, sizeof(reterr_refusal->reason.text),
			       "%s: %.64s", launch_layer_name(missing),
			       server->host.probe.layers[missing].reason);
		return launcher_refuse(reterr_refusal, LAUNCH_STEP_LAYER, ENOTSUP);
	}
	child->terms = terms_new(server, spec);
	if (!child->terms)
		return launcher_refuse(reterr_refusal, LAUNCH_STEP_PREPARE, ENOMEM);
	if (make_group(server, child, spec, fds, reterr_refusal))
		return -1;
	if (is_sandboxed(spec)) {
		flags = NAMESPACES | (needs_own_net(server, spec) ? CLONE_NEWNET : 0);
		reterr_refusal->step = LAUNCH_STEP_MOUNT_WORKSPACE;
		r = server->host.is_root ? hand_over(spec, fds) : 0;
		/* Its uid is unique, and so is a project of that number. */
		if (!r && server->host.is_root && spec->box.workspace_quota &&
		    quota_set(fds[spec->box.workspace_fd], spec->uid, spec->box.workspace_quota))
			child->terms->layers |= 1u << LAUNCH_LAYER_WORKSPACE_QUOTA;
		if (!r && server->host.is_root)
			r = open_mounts(spec, fds, child->terms, reterr_refusal);
		if (r)
			return launcher_refuse(reterr_refusal, reterr_refusal->step, -r);
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return launcher_refuse(reterr_refusal, LAUNCH_STEP_PREPARE, errno);
	child->lifeline = ends[0];
	lifeline = ends[1];

	child->pid = clone_into(server, child->terms, flags, &child->pidfd);
	if (child->pid == 0)
		box_init(&(struct box_job){
			.spec = spec,
			.terms = child->terms,
			.host = &server->host,
			.fds = fds,
			.status = status,
			.lifeline = lifeline,
			.nofile = server->nofile,
		});
	if (child->pid < 0)
		return launcher_refuse(reterr_refusal, LAUNCH_STEP_CLONE, -child->pid);
	/* A failure ends the box: its init sees the lifeline's EOF, and says at which step it was. */
	if (is_sandboxed(spec) && server->host.is_root && give_ids(child))
		child->lifeline = fd_close(child->lifeline);
	return 0;
}

/*
 * A pidfd of the process whose namespaces are the box's. Under root the init. Without, the init is
 * closed to us, as its memory still belongs to our own user namespace and it is not dumpable; the
 * program was exec'd in the box's, which we own. That it is the program still, and not another with
 * its number, is so if a child of the init had that number while the pidfd pointed to somebody.
 */
static int open_namespaces(const struct server *server, const struct child *box)
{
	CLEANUP(fd_closep) int fd = -1;

	if (server->host.is_root)
		fd = fcntl(box->pidfd, F_DUPFD_CLOEXEC, 0);
	else
		fd = (int)syscall(SYS_pidfd_open, box->program, 0);
	if (fd < 0)
		return -errno;
	if (!server->host.is_root && (!box_is_child(box->program, box->pid) ||
				      syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0) < 0))
		return -ESRCH;
	return TAKE_FD(fd);
}

struct box_opener {
	int sock, namespaces;
};

static void opener_run_in_box(void *arg)
{
	const struct box_opener *o = arg;

	box_opener_run(o->sock, o->namespaces);
}

int launcher_box_opener(struct server *server, const struct child *box, int sock)
{
	CLEANUP(fd_closep) int namespaces = -1;
	CLEANUP(fd_closep) int leaf = -1;
	int r;

	/* Without namespaces there is no box to be in, and no program yet means none to find it by. */
	if (!(box->terms->flags & LAUNCH_BOX_NAMESPACES) || !box->program)
		return -ESRCH;
	namespaces = open_namespaces(server, box);
	if (namespaces < 0)
		return namespaces;
	/* It inherits the groups of this moment, which may be somebody else's. */
	r = identity_set_groups(box->terms->groups, box->terms->n_groups);
	/* What it writes into memory is the agent's, who may have asked for it. */
	if (!r)
		r = open_leaf(server, box->terms, CGROUP_FILES, &leaf);
	if (r)
		return r;
	return launcher_opener_add(server, box->terms->uid, sock, leaf, opener_run_in_box,
				   &(struct box_opener){sock, namespaces});
}

int launcher_enter_start(struct server *server, struct child *child, const struct child *box,
			 const struct launch_spec *spec, const int *fds, int status,
			 struct refusal *reterr_refusal)
{
	const struct box_terms *terms = box->terms;
	struct launch_spec command = *spec;
	CLEANUP(fd_closep) int namespaces = open_namespaces(server, box);

	if (namespaces < 0)
		return launcher_refuse(reterr_refusal, LAUNCH_STEP_BOX, -namespaces);
	command.uid = terms->uid;
	command.gid = terms->gid;
	command.groups = terms->groups;
	command.n_groups = terms->n_groups;
	child->pid = clone_into(server, terms, 0, &child->pidfd);
	if (child->pid == 0)
		enter_run(&(struct enter_job){
			.spec = &command,
			.terms = terms,
			.host = &server->host,
			.fds = fds,
			.status = status,
			.namespaces = namespaces,
			.nofile = server->nofile,
		});
	if (child->pid < 0)
		return launcher_refuse(reterr_refusal, LAUNCH_STEP_CLONE, -child->pid);
	return 0;
}
