/* SPDX-License-Identifier: MIT */

/*
 * Probes by attempt
 *
 * Version numbers lie: distributions backport and disable, containers filter. So a forked child
 * tries each thing the way a box does, and leaves what it found in a shared page. What a layer needs
 * that failed is not tried; its reason names the other.
 */

#include "sandbox/host.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "sandbox/box.h"
#include "sandbox/landlock.h"

static void say(struct launch_probe *probe, enum launch_layer layer, bool on, const char *format,
		...) __attribute__((format(printf, 4, 5)));

static void say(struct launch_probe *probe, enum launch_layer layer, bool on, const char *format,
		...)
{
	va_list ap;

	probe->layers[layer].on = on;
	va_start(ap, format);
	(void)vsnprintf(probe->layers[layer].reason, sizeof(probe->layers[layer].reason), format,
			ap);
	va_end(ap);
}

/* @r is 0 or -errno of the attempt. */
static bool judge(struct launch_probe *probe, enum launch_layer layer, int r, const char *hint)
{
	if (r == 0)
		say(probe, layer, true, "%s", "");
	else
		say(probe, layer, false, "%s%s%s", strerror(-r), *hint ? ": " : "", hint);
	return r == 0;
}

static bool holds(const char *path, char value)
{
	CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	char c = '\0';

	return fd >= 0 && read(fd, &c, 1) == 1 && c == value;
}

/* Where a user namespace was refused, or came without capabilities: the usual culprits. */
static const char *userns_hint(void)
{
	if (holds("/proc/sys/kernel/unprivileged_userns_clone", '0'))
		return "sysctl kernel.unprivileged_userns_clone is 0";
	if (holds("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", '1'))
		return "sysctl kernel.apparmor_restrict_unprivileged_userns is 1";
	if (holds("/proc/sys/user/max_user_namespaces", '0'))
		return "sysctl user.max_user_namespaces is 0";
	return "a seccomp filter or security module of this system, perhaps a container's";
}

static int write_map(const char *path, unsigned id)
{
	CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CLOEXEC);
	char map[48];
	int n = snprintf(map, sizeof(map), "%d %u 1", BOX_UID, id);

	return fd < 0 || write(fd, map, (size_t)n) != n ? -errno : 0;
}

static int enter_userns(void)
{
	CLEANUP(fd_closep) int fd = -1;
	unsigned uid = geteuid(), gid = getegid();
	int r;

	if (unshare(CLONE_NEWUSER) < 0 || prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
		return -errno;
	fd = open("/proc/self/setgroups", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "deny", 4) != 4)
		return -errno;
	r = write_map("/proc/self/uid_map", uid);
	return r ? r : write_map("/proc/self/gid_map", gid);
}

static int wait_code(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
}

/* In the new pid namespace: the mounts as a box makes them. */
static _Noreturn void try_mounts(struct launch_probe *probe, const struct host *host)
{
	struct launch_spec spec = {.kind = LAUNCH_AGENT, .box = {.net = LAUNCH_NET_EMPTY}};
	struct box_job job = {.spec = &spec, .host = host};
	struct box_root root = {.job = &job, .fd = -1};
	/* In a copy: pivot_root() moves every process of its mount namespace. */
	int r = unshare(CLONE_NEWNS) < 0 ? -errno : box_root_mount(&root);

	if (!r)
		r = box_root_usr(&root);
	judge(probe, LAUNCH_LAYER_PROC_SUBSET, r ? r : box_root_proc(&root),
	      "no /proc to be had in a namespace: are parts of the host's covered?");
	judge(probe, LAUNCH_LAYER_ROOT, r ? r : box_root_pivot(&root), userns_hint());
	_exit(0);
}

static void try_namespaces(struct launch_probe *probe, const struct host *host)
{
	static const struct {
		enum launch_layer layer;
		int flag;
	} others[] = {
		{LAUNCH_LAYER_MOUNT_NS, CLONE_NEWNS}, {LAUNCH_LAYER_PID_NS, CLONE_NEWPID},
		{LAUNCH_LAYER_IPC_NS, CLONE_NEWIPC},  {LAUNCH_LAYER_UTS_NS, CLONE_NEWUTS},
		{LAUNCH_LAYER_NET_OWN, CLONE_NEWNET}, {LAUNCH_LAYER_CGROUP_NS, CLONE_NEWCGROUP}};
	pid_t pid;

	if (!judge(probe, LAUNCH_LAYER_USER_NS, enter_userns(), userns_hint()))
		return;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		judge(probe, others[i].layer, unshare(others[i].flag) < 0 ? -errno : 0,
		      userns_hint());
	if (!probe->layers[LAUNCH_LAYER_MOUNT_NS].on || !probe->layers[LAUNCH_LAYER_PID_NS].on)
		return;
	pid = fork();
	if (pid == 0)
		try_mounts(probe, host);
	(void)wait_code(pid);
}

static void try_lockdown(struct launch_probe *probe, const struct host *host)
{
	static const char *const no_paths[] = {NULL};
	struct landlock_rules rules = {.abi = host->landlock_abi, .rw_paths = no_paths};
	int r = 0;

	judge(probe, LAUNCH_LAYER_CAPABILITIES,
	      probe->layers[LAUNCH_LAYER_USER_NS].on ? box_drop_capabilities() : -EPERM,
	      "needs a user namespace");
	judge(probe, LAUNCH_LAYER_NO_NEW_PRIVS, box_no_new_privs(), "");
	if (host->landlock_abi) {
		if (judge(probe, LAUNCH_LAYER_LANDLOCK, landlock_apply(&rules), ""))
			say(probe, LAUNCH_LAYER_LANDLOCK, true, "ABI %u", host->landlock_abi);
	}
	for (int i = LAUNCH_SECCOMP_STANDARD; !r && i <= LAUNCH_SECCOMP_TRUSTED; i++)
		r = host->filters[i].n ? seccomp_filter_install(&host->filters[i]) : -ENOSYS;
	judge(probe, LAUNCH_LAYER_SECCOMP, r, "");
}

static void begin(struct launch_probe *probe, struct host *host)
{
	const char *reason;

	for (unsigned layer = 0; layer < LAUNCH_LAYER_COUNT; layer++)
		say(probe, layer, false, "not tried: a user or mount namespace is needed first");
	host->landlock_abi = landlock_abi(&reason);
	say(probe, LAUNCH_LAYER_LANDLOCK, false, "%s", reason);
	say(probe, LAUNCH_LAYER_RLIMIT_MEMORY, true, "%s", "");
	say(probe, LAUNCH_LAYER_RLIMIT_PIDS, true, "%s", "");
	say(probe, LAUNCH_LAYER_OWN_UID, host->is_root, "%s",
	    host->is_root ? "" : "the kernel does not run as root");
	say(probe, LAUNCH_LAYER_WORKSPACE_QUOTA, false, "%s",
	    host->is_root ? "tried with each workspace" : "the kernel does not run as root");
	for (unsigned i = LAUNCH_LAYER_CGROUP_MEMORY; i <= LAUNCH_LAYER_CGROUP_FREEZE; i++)
		say(probe, i, false, "no cgroup is used");
}

/* The namespace without network for all boxes, and the way back. */
static int make_empty_net(struct host *host)
{
	CLEANUP(fd_closep) int own = -1, empty = -1;

	if (!host->is_root)
		return -EPERM;
	own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (own < 0 || unshare(CLONE_NEWNET) < 0)
		return -errno;
	empty = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (setns(own, CLONE_NEWNET) < 0)
		return err_raise(-errno);
	if (empty < 0)
		return -EMFILE;
	host->own_net = TAKE_FD(own);
	host->empty_net = TAKE_FD(empty);
	return 0;
}

int host_init(struct host *host)
{
	struct launch_probe *shared;
	pid_t pid;
	int r;

	host->is_root = geteuid() == 0;
	host->own_net = host->empty_net = -1;
	for (int i = LAUNCH_SECCOMP_STANDARD; i <= LAUNCH_SECCOMP_TRUSTED; i++) {
		r = seccomp_filter_build((enum launch_seccomp)i, &host->filters[i]);
		if (r)
			return err_trace(r);
	}
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		return err_raise(-errno);
	begin(shared, host);
	judge(shared, LAUNCH_LAYER_NET_SHARED, make_empty_net(host),
	      host->is_root ? "" : "without root each box gets its own");
	pid = fork();
	if (pid == 0) {
		try_namespaces(shared, host);
		try_lockdown(shared, host);
		_exit(0);
	}
	r = pid < 0 ? -errno : 0;
	if (!r)
		(void)wait_code(pid);
	host->probe = *shared;
	(void)munmap(shared, sizeof(*shared));
	return err_trace(r);
}

void host_note(struct host *host, enum launch_layer layer, bool on, const char *why)
{
	say(&host->probe, layer, on, "%s", why);
}

enum launch_layer host_missing(const struct host *host, const struct launch_spec *spec)
{
	static const enum launch_layer needed[] = {
		LAUNCH_LAYER_USER_NS, LAUNCH_LAYER_MOUNT_NS,    LAUNCH_LAYER_PID_NS,
		LAUNCH_LAYER_IPC_NS,  LAUNCH_LAYER_UTS_NS,      LAUNCH_LAYER_CGROUP_NS,
		LAUNCH_LAYER_ROOT,    LAUNCH_LAYER_PROC_SUBSET, LAUNCH_LAYER_CAPABILITIES,
	};

	if (spec->kind != LAUNCH_AGENT)
		return LAUNCH_LAYER_COUNT;
	if (!host->probe.layers[LAUNCH_LAYER_NO_NEW_PRIVS].on)
		return LAUNCH_LAYER_NO_NEW_PRIVS;
	if (!(spec->box.flags & LAUNCH_BOX_NAMESPACES))
		return LAUNCH_LAYER_COUNT;
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (!host->probe.layers[needed[i]].on)
			return needed[i];
	if (spec->box.seccomp && !host->probe.layers[LAUNCH_LAYER_SECCOMP].on)
		return LAUNCH_LAYER_SECCOMP;
	if (spec->box.net != LAUNCH_NET_HOST && !host->probe.layers[LAUNCH_LAYER_NET_OWN].on &&
	    (spec->box.net != LAUNCH_NET_EMPTY || host->empty_net < 0))
		return LAUNCH_LAYER_NET_OWN;
	return LAUNCH_LAYER_COUNT;
}
