/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Every static limit of the kernel, with where it comes from
 */

#include "ipc/frame.h"

enum {
	/* Cores: one loop each; beyond 16 the lanes between all pairs outgrow their use. */
	LIMIT_CORES = 16,

	/* Agents and connections. An agent id keeps 20 bits for the slot. */
	LIMIT_AGENTS = 1 << 16,
	LIMIT_CONNECTIONS = 32768, /* also bounded by descriptors.h */
	/*
	 * Descriptors that are not counted: 20 of the process, 5 of a core (80), 4 of a file thread (8), 2 of the
	 * openers' thread and one of each opener of a user (66); the rest for connections that were accepted
	 * and are not placed or turned away yet.
	 */
	LIMIT_FDS_SPARE = 256,
	LIMIT_OPERATOR_CONNECTIONS = 16, /* for root alone: it must always get in */

	/*
	 * Owners: what each gets at most unless [core] says otherwise, operators excepted. A quarter or less of
	 * what there is, so that no one user keeps it from the others.
	 */
	LIMIT_OWNER_CONNECTIONS = 512,
	LIMIT_OWNER_AGENTS = 1000,
	LIMIT_OWNER_COMMANDS = 128, /* an eighth of those of one core */
	LIMIT_OWNER_FILES = 64,     /* an eighth of those of one core */
	LIMIT_OWNER_REQUESTS = 4096,
	LIMIT_OWNER_HOMES = 16384, /* directories of sandboxed agents; each has a uid of the host */
	LIMIT_OWNER_LAUNCH_RATE =
		100, /* a second, restarts included; the launcher manages several hundred */
	LIMIT_LAUNCH_BURST_S = 2,           /* seconds' worth at once */
	LIMIT_OWNER_BYTES = 64 << 20,       /* input, output and file contents held for it */
	LIMIT_OWNER_STDIN_BYTES = 64 << 20, /* of live agents; twice that of one that may restart */

	/* One pass: how much one connection may take before the others get their turn. */
	LIMIT_FRAMES_PER_PASS = 128,
	LIMIT_LANE_ITEMS_PER_PASS = 256,

	/*
	 * Input. A connection that may not be parsed further now (budget used up, output full) is read
	 * until this much waits. All unparsed input of one core together: partial frames of 128 clients
	 * at the largest size, a buffer being doubled as it grows. Above it the connection ends that has
	 * sent nothing for the longest time.
	 */
	LIMIT_IN_PAUSE_BYTES = 64 << 10,
	LIMIT_IN_CORE_BYTES = 256 << 20,

	/*
	 * Output. Above the soft mark no further request of the connection is parsed and finished work
	 * is held back, so what waits is at most the mark and one reply; pushes end at the hard one. What is
	 * held back, and so waits for clients that do not read, is shared by fair.h; above a connection's
	 * share contents are dropped: a READ answers BUSY, a command without its output.
	 */
	LIMIT_OUT_SOFT_BYTES = 256 << 10,
	LIMIT_OUT_HARD_BYTES = 4 << 20,
	LIMIT_OUT_SHARED_BYTES = 256 << 10, /* replies of one pass before they are sent early */
	LIMIT_HELD_CORE_BYTES = 256 << 20,

	LIMIT_IN_FLIGHT = 256, /* requests per connection that wait for something */

	/* EXEC */
	LIMIT_JOBS_PER_CORE = 1024,
	LIMIT_JOB_FDS = 3,       /* while it runs: two pipes, the pidfd */
	LIMIT_JOB_FDS_START = 6, /* until it was asked for: also its ends, and its input */
	LIMIT_JOB_OUTPUT_BYTES = 512 << 10, /* of stdout, of stderr; both fit one frame */
	LIMIT_JOBS_CORE_BYTES = 256 << 20,  /* output of commands that run, by fair.h */
	LIMIT_JOB_ARGS = 1024,
	LIMIT_JOB_ENV = 1024,
	LIMIT_JOB_READ_BYTES = 64 << 10, /* per pipe and readiness: the size of a pipe */
	LIMIT_JOB_TIMEOUT_MS_DEFAULT = 30000,

/* Of commands and agents. A year bounds the arithmetic; whoever wants longer wants none. */
#define LIMIT_TIMEOUT_MS_MAX UINT64_C(31536000000)

	/* Agents: what SPAWN gives unless it is asked for something else */
	LIMIT_AGENT_NAME_BYTES = 63,
	LIMIT_AGENT_HOME_BYTES = 255, /* a directory's name */
	LIMIT_AGENT_DEPTH = 8,        /* of agents that start agents; a group within a group each */
	LIMIT_AGENT_GROUP_BYTES = LIMIT_AGENT_DEPTH * 22, /* two numbers, - and / */
	LIMIT_AGENT_BINDS = 32,
	LIMIT_AGENT_PREFIXES = 8, /* of its interpreter */
	LIMIT_AGENT_NOFILE =
		4096, /* descriptors of a process, at most; 1024 unless it asks for more */
	LIMIT_AGENT_CHILDREN = 64, /* live, of one agent */
	LIMIT_AGENT_MEMORY_BYTES = 512 << 20,
	LIMIT_AGENT_MEMORY_MIN = 4 << 20,  /* below it, an interpreter cannot say why it fails */
	LIMIT_AGENT_CPU_QUOTA_US = 100000, /* of every 100,000: one core */
	LIMIT_AGENT_PIDS = 256,
	LIMIT_AGENT_TMP_BYTES = 64 << 20,
	LIMIT_AGENT_WORKSPACE_BYTES = 1 << 30, /* of one on disk */
	LIMIT_AGENT_LOG_BYTES = 1 << 20,       /* of stdout, of stderr */
	LIMIT_AGENT_FDS = 2, /* while it runs: pidfd, report; the connection is counted as one */
	LIMIT_AGENT_FDS_START = 9, /* until it was asked for: also three ends, four of its home */
	LIMIT_AGENT_CONNECTIONS = 16, /* for a pool of workers; also how many are taken in a pass */
	LIMIT_AGENTS_LIVE = 10000,
	LIMIT_AGENTS_ENDED = 4096, /* remembered after their end */
	LIMIT_SCRIPT_BYTES = 16 << 20,

	/* READ and WRITE */
	LIMIT_FILE_THREADS = 2,
	LIMIT_SIDE_THREADS =
		LIMIT_FILE_THREADS + 2, /* and those of users and openers; each has lanes */
	LIMIT_OPENERS = 64,             /* processes, of all users; boxes have theirs besides */
	LIMIT_OPENERS_PER_USER = 2,  /* so one file that hangs does not hold up the user's others */
	LIMIT_OPENERS_PER_OWNER = 4, /* with whatever groups */
	LIMIT_BOX_OPENERS = 128,     /* of all agents; the launcher has 256 in all */
	LIMIT_OPENER_ANSWER_MS = 10000,
	LIMIT_OPENER_IDLE_MS = 30000,
	LIMIT_OPENER_RETRY_MS = 1000, /* after a refusal, of whom has another */
	LIMIT_OPENER_RETRY_NONE_MS =
		20, /* ... and of whom has none: those that end may count still */
	LIMIT_OPENER_REFUSED_MS = 2000, /* so long */
	LIMIT_FILES_QUEUED = 512,       /* per core; a lane from a file thread holds more */
	LIMIT_FILES_CONN = 16,          /* of a connection at work or unread; the others wait */
	LIMIT_FILES_BYTES =
		256 << 20, /* contents at work, of all cores; to be written, by fair.h */
	LIMIT_PATH_BYTES = 4095,

	/*
	 * State. What requests have in memory until they are done, of all users, by fair.h; a queue of the
	 * store that holds all of it; and what readers have answered that no client has taken yet.
	 */
	LIMIT_STATE_BYTES = 64 << 20,
	LIMIT_STATE_QUEUE_OPS = 1 << 16,
	LIMIT_STATE_READS = 16384,
	LIMIT_STATE_READ_BYTES = 512 << 20,
	LIMIT_STATE_OPS = 1024, /* of one call */
	LIMIT_STATE_KEY_BYTES = 1024,
	/* Keys and values of one call, or of one answer: fits a frame with what is around each. */
	LIMIT_STATE_REQUEST_BYTES = FRAME_PAYLOAD_MAX + (16 << 10),
	LIMIT_STATE_REAPED_PER_PASS = 512,
	/* Unless [store] says otherwise. */
	LIMIT_STATE_CACHE_BYTES = 128 << 20,
	LIMIT_OWNER_STATE_BYTES = 1 << 30,
	LIMIT_OWNER_STATE_KEYS = 1000000,
	LIMIT_AGENT_STATE_BYTES = 256 << 20,
	LIMIT_AGENT_STATE_KEYS = 250000,

	LIMIT_LANE_ITEMS = 1024,
	LIMIT_CLIENT_NAME_BYTES = 64,

	LIMIT_DRAIN_MS = 1500, /* SIGTERM answers within 2 s */
	LIMIT_ACCEPT_RETRY_MS = 100,
};

_Static_assert(2 * LIMIT_JOB_OUTPUT_BYTES <= FRAME_PAYLOAD_MAX, "both outputs fit one reply");
_Static_assert(LIMIT_FILES_QUEUED < LIMIT_LANE_ITEMS, "an answer always finds room in its lane");
