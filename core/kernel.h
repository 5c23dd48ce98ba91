/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What all cores share: configuration, the table of agents, the launcher, the file threads
 *
 * Built by main() before any core runs, taken apart after the last has ended. Fields without a
 * remark are constant in between.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/config.h"
#include "core/descriptors.h"
#include "core/lane.h"
#include "core/limits.h"
#include "core/listener.h"
#include "core/loop.h"
#include "core/strays.h"
#include "core/user.h"
#include "sandbox/launch.h"

struct agent_table;
struct agent_uid;
struct directory;
struct files;
struct launcher;
struct openers;
struct shard;
struct store;

struct kernel {
	const struct config *config;
	struct loop_features io;
	struct users *users;
	struct user *user; /* whom the kernel runs as; of users */
	struct agent_table *agents;
	struct directory *directory; /* of those that were spawned */
	struct launch_probe probe;   /* what this host can confine by */
	struct files *files;
	struct openers *openers;
	struct launcher *launcher;

	unsigned core_count;
	struct shard *shards[LIMIT_CORES];
	/* lanes[from][to]; from the cores, the file threads, the threads of users and of openers */
	struct lane *lanes[LIMIT_CORES + LIMIT_SIDE_THREADS][LIMIT_CORES];

	int data_fd, agents_fd;   /* DATA_DIR, and agents/ in it */
	int trash_fd;             /* agents/.trash, emptied by the launcher's remover */
	_Atomic uint64_t trashed; /* names in it */
	int groups_fd; /* O_PATH, the cgroup of all agents, for cgroup_find_at(); -1: none */
	pthread_mutex_t homes_lock; /* of what is in agents/, and of: */
	struct agent_uid *uids;     /* agents' uids on the host; see agent_home.c */
	uint32_t uids_end;          /* behind the last that was ever taken */

	int listen_fd; /* core 0 accepts */
	struct listener_file socket_file;
	uint64_t start_ns; /* clock_now_ns() */
	uint64_t epoch;    /* random; differs between any two starts */

	struct descriptors descriptors;
	struct strays strays;
	_Atomic uint32_t box_openers; /* of all cores */
	struct store *store;
	_Atomic uint64_t sessions;   /* numbers given */
	_Atomic size_t state_bytes;  /* what requests to the store have in memory */
	_Atomic bool draining;       /* set once, by main */
	_Atomic bool launcher_alive; /* cleared once, by main */
};
