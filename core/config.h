/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Settings, from the command line, the environment, a file, and defaults: the first that says it wins
 */

#include <stdbool.h>
#include <stdint.h>

#include "core/base/log.h"
#include "core/loop.h"
#include "core/quota.h"

enum {
	CONFIG_E_EXIT = 1, /* --help or --version was answered: end with success */
	CONFIG_E_BAD,      /* a message was printed: end with failure */
};

struct config {
	char *socket_path; /* owned */
	char *data_dir;    /* owned */
	char *file;        /* owned; NULL without one */
	char *sdk_dir;     /* owned; "": none */
	enum log_level log_level;
	enum loop_backend io;
	unsigned cores;              /* 1 to LIMIT_CORES */
	unsigned socket_mode;        /* permission bits */
	uint32_t quota[QUOTA_KINDS]; /* of an owner */
	uint32_t launch_rate;        /* of an owner; a second, at least 1 */
	bool sandbox;
	char *cgroup;         /* owned; NULL: the group the kernel is started in */
	bool require_limits;  /* of every agent */
	bool ephemeral;       /* the data directory is a new one, and deleted in the end */
	bool salvage;         /* of a damaged log of the store, take what precedes the damage */
	uint64_t store_cache; /* bytes, of all cores together */
	uint64_t owner_state_bytes, owner_state_keys; /* of an owner */
	uint64_t agent_state_bytes, agent_state_keys; /* of an agent, also an operator's */
	bool box_commands; /* clients' EXEC, READ and WRITE act in boxes only */
};

/* Reads all sources; prints help, version and complaints itself. 0 or CONFIG_E_x. */
int config_read(struct config *config, int argc, char **argv);
void config_deinit(struct config *config);
