/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Spawned agent: its lives, from start to end for good
 *
 * Belongs to one core, which holds its connections, watches its init and reaps it. Others reach it by
 * errands. Three descriptors while it runs, and one for each further connection: the first connection, the
 * init's pidfd, the socket on which the init reports.
 */

#include <msgpack.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/agent_home.h"
#include "core/base/list.h"
#include "core/channel.h"
#include "core/child.h"
#include "core/directory.h"
#include "core/errand.h"
#include "core/files.h"
#include "core/spawn_options.h"
#include "core/timer.h"

/* An agent in its box, and what it starts there. */
#define AGENT_INSIDE_USER "agent"
#define AGENT_INSIDE_HOME "/workspace"

struct agent {
	struct shard *shard;
	struct list link; /* in shard->agents */
	struct agent_entry *entry;
	struct user *user; /* whom it acts as, or was started by: a reference */
	uint32_t id, parent, owner, rights;
	struct spawn_options options;
	struct strv prefixes;   /* of its interpreter, shown in its box */
	struct agent_home home; /* its descriptors only while it starts */

	struct launch launch;
	struct child child;      /* the init */
	uint32_t descriptors;    /* of the kernel's budget */
	int child_fds[3];        /* until sent: stdin, socket, report; -1 none */
	struct list conns;       /* struct conn, by of_agent: those its processes have not closed */
	struct loop_source news; /* from its init */
	struct launch_report report;
	bool reported; /* it is there */
	pid_t program;
	char group[LIMIT_AGENT_GROUP_BYTES]; /* of this life, among those of the launcher */
	uint64_t unmapped; /* bits of binds that could only be shown as they are; see launch.h */
	uint32_t layers;
	uint32_t landlock_abi;

	enum agent_state state;
	uint32_t incarnation, restarts;
	uint64_t born_ns, start_ns;     /* of the first life, of this one */
	uint64_t window_ns, backoff_ms; /* restarts are counted since; next pause */
	uint32_t window_restarts;
	struct timer timer;        /* wall clock, then grace, then pause before a restart */
	struct timer retry;        /* of a signal that found the channel full */
	size_t stdin_bytes;        /* charged to its owner */
	bool kill_wanted;          /* no restart */
	unsigned signals_out;      /* on their way to the launcher: no reaping */
	bool launching, lost;      /* asked for; the launcher has died */
	enum agent_reason because; /* of kill_wanted: KILLED or TIMED_OUT */
	uint32_t killed_by;
	struct agent_end end; /* of the latest life */
	struct fault fault;   /* why a start failed */

	struct agent_errand *starter; /* SPAWN, until the first start has come about or failed */
	struct list waiters;          /* struct agent_errand: WAIT and KILL */
	struct home_task opening;     /* of the home, for a restart; not while it runs */
	bool preparing;               /* it is out */
};

/* An errand that concerns one agent. */
struct agent_errand {
	struct errand errand;
	struct list waiting; /* in agent->waiters */
	uint32_t agent_id, caller;
	uint64_t grace_ms;
	msgpack_sbuffer reply; /* one value, made by the agent's core */
};

/* SPAWN: first to a file thread, then to the core where the agent will live. */
struct agent_spawn {
	struct agent_errand errand;
	struct home_task opening;
	struct user *user; /* a reference */
	uint32_t owner, parent, rights;
	uint32_t tied;      /* id of the client it shall end with; 0: none */
	bool counted;       /* one of its owner's live agents; then the agent's own */
	size_t stdin_bytes; /* charged; likewise */
	struct shard *place;
	struct spawn_options options;
	struct agent_home home;
	uint32_t descriptors;    /* of the kernel's budget */
	const char *warnings[4]; /* static texts */
	unsigned warning_count;
};

/* How many descriptors it takes to start one. */
uint32_t agent_descriptors(const struct spawn_options *options);

/*
 * In the core @spawn->place: starts the agent, whose name is reserved and whose home is open. Takes
 * over the options, the home and the descriptors; the errand returns when the agent runs or has failed.
 */
void agent_start(struct shard *shard, struct agent_spawn *spawn);

/* NULL when it is not here. */
struct agent *agent_find(struct shard *shard, uint32_t id);

/* Ends all that were tied to a client which is leaving. */
void agent_end_tied(struct shard *shard, uint32_t client);

/* Ends it for good: at once, or with SIGTERM first. */
void agent_kill(struct agent *agent, enum agent_reason because, uint32_t by, uint64_t grace_ms);

/* SIGSTOP or SIGCONT to all of it. False when the launcher cannot be told now. */
bool agent_pause(struct agent *agent, bool paused);

/* Keeps @errand until the agent has ended for good. */
void agent_await(struct agent *agent, struct agent_errand *errand);
/* The caller of @errand, which may have left already, waits no more. */
void agent_await_no_more(struct shard *shard, uint32_t id, const struct agent_errand *errand);

/* Everything known of it, as INSPECT answers. */
void agent_pack(const struct agent *agent, msgpack_packer *pk);

/* Its limits and by what they hold, two pairs: also part of that. */
void agent_pack_limits(const struct agent *agent, msgpack_packer *pk);

/* The core drains: all are killed; and at its end: all are freed. */
void agent_kill_all(struct shard *shard);
void agent_free_all(struct shard *shard);
