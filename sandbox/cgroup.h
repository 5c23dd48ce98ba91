/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * cgroup v2: one group per agent, made by the launcher
 *
 *   <base>/                     the group Clove was started in
 *     clove-<id>/               one kernel's subtree, taken over from a predecessor that was killed
 *       supervisor/             kernel and launcher, where they may not stay in <base>
 *       agents/                 limits here hold for all agents together
 *         <name>/               one agent: its limits, for itself and all it started
 *           self/               its own processes
 *           files/              openers that work on files in its box, for it or for others
 *           <name>/             an agent it started, and so on
 *
 * A group below agents/ goes by its path, the names with a slash between them. Processes are in leaves
 * only, as cgroup v2 wants it where controllers are handed down.
 *
 * A caller: cgroup_open() once at start; per agent cgroup_make(), cgroup_leaf(), clone3() with
 * CLONE_INTO_CGROUP and the leaf's descriptor, at its end cgroup_kill(), cgroup_remove(); now and then
 * cgroup_sweep(), in the end cgroup_close(). A machine without cgroup2, without permission or without controllers is no failure:
 * cgroup_open() succeeds and says in words what is off and why, and each limit that is asked for but
 * cannot be had is missing in @ret_enforced. Whether that is acceptable is the caller's to decide.
 *
 * For one thread of one process, the launcher. Only cgroup_open() and cgroup_close() wait, and no
 * longer than CGROUP_WAIT_MS each, for killed processes to be gone. A directory descriptor from here
 * works in any process; functions that take just one may be called wherever it was sent.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/base/list.h"

enum {
	CGROUP_CPU_PERIOD_US = 100000,
	CGROUP_NAME_MAX = 64,   /* bytes of an id or a name */
	CGROUP_GROUP_MAX = 255, /* bytes of the path of a group below agents/ */
	CGROUP_WHY_MAX = 256,   /* bytes, with the final NUL */
	CGROUP_PATH_MAX = 512,  /* bytes, with the final NUL */
	CGROUP_WAIT_MS = 2000,
};

enum {
	CGROUP_E_OFF = 1, /* no groups here; cgroup_state() of CGROUP_GROUPS says why */
	CGROUP_E_EXISTS,  /* a group of this name has not been removed */
	CGROUP_E_NAME, /* a name is not 1 to CGROUP_NAME_MAX of A-Z a-z 0-9 - _, or that of a leaf */
	CGROUP_E_BUSY, /* processes are left in it; cgroup_sweep() will try again */
	CGROUP_E_GONE, /* no such group, or it has been removed */
};

enum cgroup_feature {
	CGROUP_GROUPS, /* groups can be made, and children cloned into them: tried, not assumed */
	CGROUP_MEMORY, /* this and the next three: limits, each a controller */
	CGROUP_CPU,
	CGROUP_PIDS,
	CGROUP_IO,
	CGROUP_FREEZE,
	CGROUP_KILL, /* atomically; without it (before Linux 5.14) cgroup_kill() freezes and signals */
	CGROUP_N_FEATURES,
};

#define CGROUP_BIT(feature) (1u << (feature))

struct cgroup_state {
	bool on;
	char why[CGROUP_WHY_MAX]; /* why it is off, for people; may hold a remark when it is on */
};

/* 0 stands for no limit. */
struct cgroup_limits {
	uint64_t memory_bytes; /* without swap; beyond it the whole group is killed */
	uint32_t
		cpu_quota_us; /* of CPU time per CGROUP_CPU_PERIOD_US; 200000 is two CPUs; >= 1000 */
	uint32_t pids;        /* processes and threads */
	uint64_t io_read_bytes,
		io_write_bytes; /* per second, from and to the disk that holds @io_dev */
	dev_t io_dev;           /* st_dev of a file there */
};

struct cgroup_config {
	const char *id; /* of this kernel, the same after a restart: from its data directory */
	const char *
		parent; /* group to use as <base>, from the top of the hierarchy; NULL: own group */
	const pid_t *pids; /* the supervisor processes, to be moved; 0 is the caller */
	unsigned n_pids;
};

struct cgroup_root { /* private, but for agents, n_retired and path */
	int base;    /* O_PATH of <base> */
	int dir;     /* of clove-<id> */
	int agents;  /* of agents/; -1: no groups here */
	int origin;  /* O_PATH of the group the supervisor processes came from */
	int lock;
	uint32_t base_on; /* controllers that were switched on in <base> for this */
	uint32_t n_retired;
	struct list retired; /* groups that are to be removed once they are empty */
	struct cgroup_state states[CGROUP_N_FEATURES];
	char name[CGROUP_NAME_MAX + 8]; /* clove-<id> */
	char path[CGROUP_PATH_MAX + CGROUP_NAME_MAX +
		  8]; /* of clove-<id> in the file system, for people */
};

struct cgroup_events {
	bool populated;    /* a process is left, in it or below */
	bool frozen;       /* every process has stopped */
	uint64_t oom_kill; /* more than 0: memory_bytes; Linux counts the first victim twice */
	uint64_t pids_max; /* forks refused because of pids */
};

#define CGROUP_UNKNOWN UINT64_MAX

/* CGROUP_UNKNOWN where the controller is off. */
struct cgroup_stats {
	uint64_t memory_bytes;
	uint64_t cpu_us;
	uint64_t pids;
};

/* "memory", "cpu", ... */
const char *cgroup_feature_name(enum cgroup_feature feature);

/* All off: as it is before cgroup_open(). */
void cgroup_init(struct cgroup_root *root);

bool cgroup_name_is_valid(const char *name);

/*
 * Finds the hierarchy, makes the subtree, moves the supervisor processes if they are in the way,
 * switches on what controllers there are, one by one, kills and removes what a predecessor of the
 * same id left. A subtree of that id whose owner lives, or which is not ours, is left alone: off.
 * 0 or -errno: out of memory or descriptors. cgroup_close() is due only after 0.
 */
int cgroup_open(struct cgroup_root *root, const struct cgroup_config *config);

/*
 * Ends everything in agents/, moves the supervisor processes back and removes the subtree. What
 * cannot be removed in time is left to the next cgroup_open(). May be called twice.
 */
void cgroup_close(struct cgroup_root *root);

const struct cgroup_state *cgroup_state(const struct cgroup_root *root,
					enum cgroup_feature feature);

/* The limits that are asked for: bits of CGROUP_MEMORY to CGROUP_IO. */
uint32_t cgroup_asked(const struct cgroup_limits *limits);

/*
 * Makes the group of an agent; that of who started it must be there, and is told to hand its
 * controllers down. @ret_dirfd is the caller's. @ret_enforced: the bits of cgroup_asked() that hold.
 * 0, CGROUP_E_OFF, CGROUP_E_NAME, CGROUP_E_EXISTS, CGROUP_E_GONE (the one above) or -errno.
 */
int cgroup_make(struct cgroup_root *root, const char *group, const struct cgroup_limits *limits,
		int *ret_dirfd, uint32_t *ret_enforced);

enum cgroup_leaf {
	CGROUP_SELF,
	CGROUP_FILES, /* goes on while the other is frozen */
};

/*
 * The group's leaf, made if it is not there. @ret_leaf is the caller's: for
 * clone3(CLONE_INTO_CGROUP), with which the limits hold from the first instruction, and to freeze or
 * kill the agent without those it started. 0, CGROUP_E_GONE or -errno.
 */
int cgroup_leaf(int dirfd, enum cgroup_leaf which, int *ret_leaf);
void cgroup_kill_leaves(int dirfd); /* what is in them, not what is in groups below */

/*
 * The group again, for a caller that did not keep its descriptor. 0, CGROUP_E_OFF, CGROUP_E_NAME,
 * CGROUP_E_GONE or -errno.
 */
int cgroup_find(const struct cgroup_root *root, const char *group, int *ret_dirfd);

/* The same for who has just a descriptor of agents/. */
int cgroup_find_at(int agents, const char *group, int *ret_dirfd);

/*
 * Sets all limits of a live group anew, or of root->agents for all agents together; 0 lifts one. A
 * limit below what is in use holds from the next allocation or fork. 0, CGROUP_E_GONE or -errno; what
 * did not go through is missing in @ret_enforced.
 */
int cgroup_limit(int dirfd, const struct cgroup_limits *limits, uint32_t *ret_enforced);

/*
 * Asks the kernel to stop or continue every process. They stop a little later: cgroup_watch().
 * 0, CGROUP_E_GONE or -errno.
 */
int cgroup_freeze(int dirfd, bool frozen);

/* SIGKILL to everything in it and below, frozen or not. 0, CGROUP_E_GONE or -errno. */
int cgroup_kill(int dirfd);

/* Of the groups right below @dirfd those whose names begin with a digit, as agents' do. */
void cgroup_kill_numbered(int dirfd);

/* What cgroup_kill() does before Linux 5.14; apart, so that it is tested on any kernel. */
int cgroup_kill_by_signal(int dirfd);

/*
 * A descriptor to poll for POLLPRI, never for POLLIN: "populated" or "frozen" has changed. Each time,
 * cgroup_watch_read() says what they are and arms it again. To miss no change: watch, then freeze or
 * kill, then poll. 0, CGROUP_E_GONE or -errno.
 */
int cgroup_watch(int dirfd, int *ret_watch);
int cgroup_watch_read(int watch, bool *ret_populated, bool *ret_frozen);

/*
 * How many of the agent's own processes were killed for want of memory, not those of agents it
 * started. 0, CGROUP_E_GONE or -errno; without the controller *ret_kills is 0.
 */
int cgroup_oom_kills(int dirfd, uint64_t *ret_kills);

/* 0, CGROUP_E_GONE or -errno. */
int cgroup_events(int dirfd, struct cgroup_events *ret_events);
int cgroup_stats(int dirfd, struct cgroup_stats *ret_stats);

/*
 * Removes the group of an agent. Its last process may not be gone yet: then it is kept in a list, and
 * the name stays taken. 0 (also when there is none), CGROUP_E_OFF, CGROUP_E_NAME, CGROUP_E_BUSY or
 * -errno.
 */
int cgroup_remove(struct cgroup_root *root, const char *group);

/* Tries the next @budget of those again. Returns how many are left. */
unsigned cgroup_sweep(struct cgroup_root *root, unsigned budget);
