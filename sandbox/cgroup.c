/* SPDX-License-Identifier: MIT */

/*
 * cgroup v2: the group of one agent, from mkdir to rmdir
 *
 *   made -> (frozen <-> running)* -> killed -> populated 0 -> removed
 *                                                  `-> retired -> removed by a later sweep
 *
 * Limits are written before anything runs in the group. memory.max alone would kill one process of an
 * agent and leave the rest in an unknown state, and would be no limit at all where there is swap: so
 * memory.oom.group and memory.swap.max go with it.
 *
 * rmdir fails with EBUSY until the last process is gone, which is after its parent has reaped it, or
 * shortly before, as the kernel's version has it. Nobody waits for that: the name is retired, and
 * cgroup_sweep() comes back to it.
 */

#include "sandbox/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "sandbox/cgroup_priv.h"

/* Forks that were under way when the group froze show at the latest in the second. */
#define KILL_PASSES 3

#define LEAF       "self"
#define FILES_LEAF "files"

struct retired {
	struct list in_root;
	char group[CGROUP_GROUP_MAX + 1];
};

const char *cgroup_feature_name(enum cgroup_feature feature)
{
	static const char *const names[CGROUP_N_FEATURES] = {
		[CGROUP_GROUPS] = "groups", [CGROUP_MEMORY] = "memory", [CGROUP_CPU] = "cpu",
		[CGROUP_PIDS] = "pids",     [CGROUP_IO] = "io",         [CGROUP_FREEZE] = "freeze",
		[CGROUP_KILL] = "kill",
	};

	return names[feature];
}

const struct cgroup_state *cgroup_state(const struct cgroup_root *root, enum cgroup_feature feature)
{
	return &root->states[feature];
}

bool cgroup_name_is_valid(const char *name)
{
	/* No dot: files of the group, and what Clove makes for itself, have one. */
	size_t len =
		strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");

	return len > 0 && len <= CGROUP_NAME_MAX && !name[len];
}

static bool group_is_valid(const char *group)
{
	char name[CGROUP_NAME_MAX + 2];

	if (strlen(group) > CGROUP_GROUP_MAX)
		return false;
	for (;;) {
		size_t len = strcspn(group, "/");

		(void)snprintf(name, sizeof(name), "%.*s", (int)len, group);
		if (!cgroup_name_is_valid(name) || !strcmp(name, LEAF) || !strcmp(name, FILES_LEAF))
			return false;
		if (!group[len])
			return true;
		group += len + 1;
	}
}

/* Names what comes of the group having been removed. */
static int gone_or(int r)
{
	return r == -ENOENT || r == -ENODEV ? CGROUP_E_GONE : err_trace(r);
}

uint32_t cgroup_asked(const struct cgroup_limits *limits)
{
	uint32_t asked = 0;

	if (limits->memory_bytes)
		asked |= CGROUP_BIT(CGROUP_MEMORY);
	if (limits->cpu_quota_us)
		asked |= CGROUP_BIT(CGROUP_CPU);
	if (limits->pids)
		asked |= CGROUP_BIT(CGROUP_PIDS);
	if (limits->io_read_bytes || limits->io_write_bytes)
		asked |= CGROUP_BIT(CGROUP_IO);
	return asked;
}

/* @after follows the number. */
static int write_number(int dirfd, const char *file, uint64_t value, const char *after)
{
	char text[64];

	if (value)
		(void)snprintf(text, sizeof(text), "%" PRIu64 "%s", value, after);
	else
		(void)snprintf(text, sizeof(text), "max%s", after);
	return cgroup_file_write(dirfd, file, text);
}

static int set_memory(int dirfd, const struct cgroup_limits *limits)
{
	const char *swap = limits->memory_bytes ? "0" : "max";
	/* Missing in a kernel without swap; where it was switched off, cgroup_open() remarks on it. */
	int r = cgroup_file_write(dirfd, "memory.swap.max", swap);
	if (r && r != -ENOENT)
		return r;
	return write_number(dirfd, "memory.max", limits->memory_bytes, "");
}

/* io.max takes whole disks, st_dev is that of a partition. */
static dev_t whole_disk(dev_t dev)
{
	CLEANUP(fd_closep) int fd = -1;
	unsigned major_no, minor_no;
	char text[64];

	(void)snprintf(text, sizeof(text), "/sys/dev/block/%u:%u", major(dev), minor(dev));
	fd = open(text, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && !faccessat(fd, "partition", F_OK, 0) &&
	    !cgroup_file_read(fd, "../dev", text, sizeof(text)) &&
	    sscanf(text, "%u:%u", &major_no, &minor_no) == 2)
		return makedev(major_no, minor_no);
	return dev;
}

static int set_io(int dirfd, const struct cgroup_limits *limits)
{
	dev_t disk = whole_disk(limits->io_dev);
	char text[128];
	int len;

	len = snprintf(text, sizeof(text), "%u:%u", major(disk), minor(disk));
	if (limits->io_read_bytes)
		len += snprintf(text + len, sizeof(text) - (size_t)len, " rbps=%" PRIu64,
				limits->io_read_bytes);
	else
		len += snprintf(text + len, sizeof(text) - (size_t)len, " rbps=max");
	if (limits->io_write_bytes)
		(void)snprintf(text + len, sizeof(text) - (size_t)len, " wbps=%" PRIu64,
			       limits->io_write_bytes);
	else
		(void)snprintf(text + len, sizeof(text) - (size_t)len, " wbps=max");
	return cgroup_file_write(dirfd, "io.max", text);
}

/* Sets the limits in @which, and returns those of them that hold. */
static uint32_t set_limits(int dirfd, const struct cgroup_limits *limits, uint32_t which)
{
	uint32_t set = 0;

	if ((which & CGROUP_BIT(CGROUP_MEMORY)) && !set_memory(dirfd, limits))
		set |= CGROUP_BIT(CGROUP_MEMORY);
	if ((which & CGROUP_BIT(CGROUP_CPU)) &&
	    !write_number(dirfd, "cpu.max", limits->cpu_quota_us, " 100000"))
		set |= CGROUP_BIT(CGROUP_CPU);
	if ((which & CGROUP_BIT(CGROUP_PIDS)) && !write_number(dirfd, "pids.max", limits->pids, ""))
		set |= CGROUP_BIT(CGROUP_PIDS);
	if ((which & CGROUP_BIT(CGROUP_IO)) && limits->io_dev && !set_io(dirfd, limits))
		set |= CGROUP_BIT(CGROUP_IO);
	return set & cgroup_asked(limits);
}

_Static_assert(CGROUP_CPU_PERIOD_US == 100000, "set_limits() spells it");

static int usable(int agents, const char *group)
{
	if (agents < 0)
		return CGROUP_E_OFF;
	return group_is_valid(group) ? 0 : CGROUP_E_NAME;
}

static struct retired *find_retired(const struct cgroup_root *root, const char *group)
{
	list_for_each (it, &root->retired) {
		struct retired *retired = container_of(it, struct retired, in_root);

		if (!strcmp(retired->group, group))
			return retired;
	}
	return NULL;
}

static void forget(struct cgroup_root *root, struct retired *retired)
{
	list_unlink(&retired->in_root);
	root->n_retired--;
	free(retired);
}

int cgroup_retire(struct cgroup_root *root, const char *group)
{
	struct retired *retired = find_retired(root, group);

	if (retired)
		return 0;
	retired = calloc(1, sizeof(*retired));
	if (!retired)
		return -ENOMEM;
	(void)snprintf(retired->group, sizeof(retired->group), "%s", group);
	list_append(&root->retired, &retired->in_root);
	root->n_retired++;
	return 0;
}

/* A limit of a group below needs the controller handed down to it. What fails shows there. */
static int hand_down(const struct cgroup_root *root, const char *group)
{
	const char *slash = strrchr(group, '/');
	char above[CGROUP_GROUP_MAX + 1], text[16];
	CLEANUP(fd_closep) int dirfd = -1;

	if (!slash)
		return 0;
	(void)snprintf(above, sizeof(above), "%.*s", (int)(slash - group), group);
	dirfd = openat(root->agents, above, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dirfd < 0)
		return gone_or(-errno);
	for (unsigned i = CGROUP_MEMORY; i <= CGROUP_IO; i++) {
		if (!root->states[i].on)
			continue;
		(void)snprintf(text, sizeof(text), "+%s", cgroup_feature_name(i));
		(void)cgroup_file_write(dirfd, "cgroup.subtree_control", text);
	}
	return 0;
}

static int make_group(struct cgroup_root *root, const char *group, int *ret_dirfd)
{
	int r = mkdirat(root->agents, group, 0755) < 0 ? -errno : 0;

	if (r == -EEXIST && find_retired(root, group) && !cgroup_remove(root, group))
		r = mkdirat(root->agents, group, 0755) < 0 ? -errno : 0;
	if (r == -EEXIST)
		return CGROUP_E_EXISTS;
	if (r)
		return gone_or(r);
	*ret_dirfd = openat(root->agents, group, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*ret_dirfd < 0) {
		r = err_raise(-errno);
		(void)unlinkat(root->agents, group, AT_REMOVEDIR);
	}
	return r;
}

int cgroup_make(struct cgroup_root *root, const char *group, const struct cgroup_limits *limits,
		int *ret_dirfd, uint32_t *ret_enforced)
{
	uint32_t which = cgroup_asked(limits);
	int dirfd = -1, r;

	r = usable(root->agents, group);
	if (!r)
		r = hand_down(root, group);
	if (!r)
		r = make_group(root, group, &dirfd);
	if (r)
		return r;
	/*
	 * Also without a limit of its own: all agents together may have one, and then one agent is to
	 * go, as a whole. Not in cgroup_limit(): for agents/ it would mean that all go.
	 */
	if (cgroup_file_write(dirfd, "memory.oom.group", "1"))
		which &= ~CGROUP_BIT(CGROUP_MEMORY);
	*ret_enforced = set_limits(dirfd, limits, which);
	*ret_dirfd = dirfd;
	return 0;
}

int cgroup_leaf(int dirfd, enum cgroup_leaf which, int *ret_leaf)
{
	const char *name = which == CGROUP_SELF ? LEAF : FILES_LEAF;
	int leaf = openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (leaf < 0 && errno == ENOENT && !mkdirat(dirfd, name, 0755))
		leaf = openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (leaf < 0)
		return gone_or(-errno);
	*ret_leaf = leaf;
	return 0;
}

int cgroup_find_at(int agents, const char *group, int *ret_dirfd)
{
	int r = usable(agents, group), dirfd;

	if (r)
		return r;
	dirfd = openat(agents, group, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dirfd < 0)
		return gone_or(-errno);
	*ret_dirfd = dirfd;
	return 0;
}

int cgroup_find(const struct cgroup_root *root, const char *group, int *ret_dirfd)
{
	return cgroup_find_at(root->agents, group, ret_dirfd);
}

int cgroup_limit(int dirfd, const struct cgroup_limits *limits, uint32_t *ret_enforced)
{
	if (faccessat(dirfd, "cgroup.procs", F_OK, 0) < 0)
		return gone_or(-errno);
	*ret_enforced = set_limits(dirfd, limits, ~0U);
	return 0;
}

int cgroup_freeze(int dirfd, bool frozen)
{
	return gone_or(cgroup_file_write(dirfd, "cgroup.freeze", frozen ? "1" : "0"));
}

static int signal_one(pid_t pid, void *arg)
{
	(void)arg;
	(void)kill(pid, SIGKILL);
	return 0;
}

static int signal_group(int dirfd, unsigned depth);

static int signal_below(int dirfd, const char *name, void *arg)
{
	const unsigned *depth = arg;
	CLEANUP(fd_closep) int fd = -1;

	fd = openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && *depth < CGROUP_DEPTH_MAX)
		(void)signal_group(fd, *depth + 1);
	return 0; /* a group that has gone meanwhile holds nothing */
}

static int signal_group(int dirfd, unsigned depth)
{
	int r = cgroup_file_each_child(dirfd, signal_below, &depth);

	return r ? r : cgroup_file_each_pid(dirfd, signal_one, NULL);
}

int cgroup_kill_by_signal(int dirfd)
{
	int r = cgroup_file_write(dirfd, "cgroup.freeze", "1");

	/* A process told to freeze cannot fork, one that is frozen can still be killed. */
	for (unsigned pass = 0; !r && pass < KILL_PASSES; pass++)
		r = signal_group(dirfd, 0);
	(void)cgroup_file_write(dirfd, "cgroup.freeze", "0");
	return gone_or(r);
}

int cgroup_kill(int dirfd)
{
	int r = cgroup_file_write(dirfd, "cgroup.kill", "1");

	return r == -ENOENT ? cgroup_kill_by_signal(dirfd) : gone_or(r);
}

void cgroup_kill_leaves(int dirfd)
{
	static const char *const leaves[] = {LEAF, FILES_LEAF};

	for (size_t i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++) {
		CLEANUP(fd_closep) int leaf = -1;

		leaf = openat(dirfd, leaves[i], O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (leaf >= 0)
			(void)cgroup_kill(leaf);
	}
}

static int kill_numbered(int dirfd, const char *name, void *arg)
{
	CLEANUP(fd_closep) int fd = -1;

	(void)arg;
	if (*name >= '0' && *name <= '9')
		fd = openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0)
		(void)cgroup_kill(fd);
	return 0;
}

void cgroup_kill_numbered(int dirfd)
{
	(void)cgroup_file_each_child(dirfd, kill_numbered, NULL);
}

int cgroup_watch(int dirfd, int *ret_watch)
{
	int fd = openat(dirfd, "cgroup.events", O_RDONLY | O_CLOEXEC);
	char byte;

	/* Only one who has read is told of changes. */
	if (fd < 0 || pread(fd, &byte, 1, 0) < 0) {
		int r = -errno;

		(void)fd_close(fd);
		return gone_or(r);
	}
	*ret_watch = fd;
	return 0;
}

int cgroup_watch_read(int watch, bool *ret_populated, bool *ret_frozen)
{
	uint64_t populated, frozen = 0; /* Linux 5.2 brought the latter */
	char text[CGROUP_TEXT_MAX];
	ssize_t n = pread(watch, text, sizeof(text) - 1, 0);

	if (n < 0)
		return gone_or(-errno);
	text[n] = '\0';
	(void)cgroup_file_field(text, "frozen", &frozen);
	if (!cgroup_file_field(text, "populated", &populated))
		return err_raise(-EPROTO);
	*ret_populated = populated;
	*ret_frozen = frozen;
	return 0;
}

/*
 * Linux counts a kill where the victim was charged: in the leaf once controllers are handed down to
 * it. It may be reached before the kill shows in the totals of the groups above.
 */
int cgroup_oom_kills(int dirfd, uint64_t *ret_kills)
{
	static const char *const files[] = {"memory.events.local", LEAF "/memory.events.local",
					    FILES_LEAF "/memory.events.local"};
	uint64_t kills = 0, n;
	char text[CGROUP_TEXT_MAX];

	if (faccessat(dirfd, "cgroup.procs", F_OK, 0) < 0)
		return gone_or(-errno);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (!cgroup_file_read(dirfd, files[i], text, sizeof(text)) &&
		    cgroup_file_field(text, "oom_kill", &n))
			kills += n;
	*ret_kills = kills;
	return 0;
}

int cgroup_events(int dirfd, struct cgroup_events *ret_events)
{
	struct cgroup_events events = {0};
	CLEANUP(fd_closep) int watch = -1;
	char text[CGROUP_TEXT_MAX];
	int r;

	r = cgroup_watch(dirfd, &watch);
	if (!r)
		r = cgroup_watch_read(watch, &events.populated, &events.frozen);
	if (r)
		return r;
	if (!cgroup_file_read(dirfd, "memory.events", text, sizeof(text)))
		(void)cgroup_file_field(text, "oom_kill", &events.oom_kill);
	if (!cgroup_file_read(dirfd, "pids.events", text, sizeof(text)))
		(void)cgroup_file_field(text, "max", &events.pids_max);
	*ret_events = events;
	return 0;
}

static uint64_t read_number(int dirfd, const char *file)
{
	uint64_t value;
	char text[64];

	if (cgroup_file_read(dirfd, file, text, sizeof(text)) ||
	    sscanf(text, "%" SCNu64, &value) != 1)
		return CGROUP_UNKNOWN;
	return value;
}

int cgroup_stats(int dirfd, struct cgroup_stats *ret_stats)
{
	struct cgroup_stats stats = {.cpu_us = CGROUP_UNKNOWN};
	char text[CGROUP_TEXT_MAX];

	if (faccessat(dirfd, "cgroup.procs", F_OK, 0) < 0)
		return gone_or(-errno);
	stats.memory_bytes = read_number(dirfd, "memory.current");
	stats.pids = read_number(dirfd, "pids.current");
	if (!cgroup_file_read(dirfd, "cpu.stat", text, sizeof(text)))
		(void)cgroup_file_field(text, "usage_usec", &stats.cpu_us);
	*ret_stats = stats;
	return 0;
}

int cgroup_remove(struct cgroup_root *root, const char *group)
{
	int r = usable(root->agents, group);

	if (r)
		return r;
	r = cgroup_file_remove_tree(root->agents, group);
	if (r == -EBUSY) {
		r = cgroup_retire(root, group);
		return r ? err_raise(r) : CGROUP_E_BUSY;
	}
	if (!r && root->n_retired) {
		struct retired *retired = find_retired(root, group);

		if (retired)
			forget(root, retired);
	}
	return r ? err_raise(r) : 0;
}

unsigned cgroup_sweep(struct cgroup_root *root, unsigned budget)
{
	for (unsigned n = root->n_retired; n > 0 && budget > 0; n--, budget--) {
		struct list *first = list_shift(&root->retired);
		struct retired *retired = container_of(first, struct retired, in_root);

		list_append(&root->retired, first);
		if (root->agents < 0 || !cgroup_file_remove_tree(root->agents, retired->group))
			forget(root, retired);
	}
	return root->n_retired;
}
