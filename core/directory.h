/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Directory of spawned agents: who holds which name, on which core they live, how they ended
 *
 * Shared by all cores under one lock, held for a look-up at a time: it is used when agents start,
 * end, and are controlled or listed, not for each message. What ended stays known, the latest of each
 * owner's share of LIMIT_AGENTS_ENDED, until its name is used again.
 */

#include <stdbool.h>
#include <stdint.h>

#include "core/limits.h"
#include "core/spawn_options.h"

enum agent_state {
	AGENT_STARTING,
	AGENT_RUNNING,
	AGENT_PAUSED,
	AGENT_STOPPED, /* ended well */
	AGENT_CRASHED, /* ended otherwise; a restart may follow */
};

const char *agent_state_name(enum agent_state state);

enum agent_reason {
	AGENT_EXITED,
	AGENT_SIGNALLED,
	AGENT_OUT_OF_MEMORY,
	AGENT_TIMED_OUT,
	AGENT_KILLED,
	AGENT_START_FAILED,
	AGENT_LOST,           /* with the launcher */
	AGENT_WORKSPACE_FULL, /* it wrote more than limits: workspace */
};

const char *agent_reason_name(enum agent_reason reason);

/* How one life of an agent ended. */
struct agent_end {
	enum agent_reason reason;
	int exit_code; /* -1 unless EXITED */
	int signal;    /* 0 unless one ended it */
	uint32_t killed_by;
	uint32_t incarnation, restarts;
	uint64_t uptime_ms, log_bytes_lost;
	bool left_processes;
};

/* A copy of what the directory knows of one agent. */
struct agent_card {
	uint32_t id, parent, owner, incarnation;
	uint16_t core;
	bool live; /* false: ended for good */
	enum agent_state state;
	enum profile profile;
	bool ended_once;    /* end is valid */
	uint32_t layers;    /* bits 1 << LAUNCH_LAYER_x in force in its present life; 0 before */
	uint64_t life_ns;   /* clock_now_ns() when that began */
	uint64_t launch_id; /* of that life, for those who enter its box */
	uint64_t workspace_bytes; /* limit of one that has to be measured; 0: none */
	uint32_t tied;            /* id of the client that it ends with; 0: none */
	struct agent_end end;
	char name[LIMIT_AGENT_NAME_BYTES + 1];
	char home[LIMIT_AGENT_HOME_BYTES + 1]; /* of its directory, see agent_home.h */
};

enum {
	DIRECTORY_E_TAKEN = 1,
	DIRECTORY_E_UNKNOWN,
	DIRECTORY_E_SEVERAL, /* owners have an agent of the name */
	DIRECTORY_E_FULL,    /* the parent has as many children as it may */
	DIRECTORY_E_DEEP,    /* it is LIMIT_AGENT_DEPTH below a client */
};

struct directory;

int directory_new(struct directory **ret_directory); /* 0 or -ENOMEM */
struct directory *directory_free(struct directory *directory);

/* Holds @name of @owner for an agent to be. 0, DIRECTORY_E_x or -ENOMEM. */
int directory_reserve(struct directory *directory, uint32_t owner, const char *name,
		      const char *home, uint32_t parent, enum profile profile);
/* The start did not come about: the name is free again. */
void directory_cancel(struct directory *directory, uint32_t owner, const char *name);

/*
 * Gives a reserved name its id and core, and the client that it is @tied to, or 0. DIRECTORY_E_UNKNOWN:
 * the parent has ended meanwhile.
 */
int directory_bind(struct directory *directory, uint32_t owner, const char *name, uint32_t id,
		   uint16_t core, uint32_t tied);
void directory_update(struct directory *directory, uint32_t id, enum agent_state state,
		      uint32_t incarnation, const struct agent_end *end); /* end may be NULL */
/* Its program runs, confined by @layers. */
void directory_launched(struct directory *directory, uint32_t id, uint32_t layers,
			uint64_t launch_id, uint64_t workspace_bytes, uint64_t now_ns);
/* For good: the name is free, the card stays. */
void directory_end(struct directory *directory, uint32_t id, enum agent_state state,
		   const struct agent_end *end);

/* 0 or DIRECTORY_E_UNKNOWN. */
int directory_find(struct directory *directory, uint32_t id, struct agent_card *ret_card);
int directory_find_name(struct directory *directory, uint32_t owner, const char *name, size_t len,
			struct agent_card *ret_card);

/* Whether a live agent of @owner, or one to be, has the directory @home. */
bool directory_has_home(struct directory *directory, uint32_t owner, const char *home);

/*
 * The group of the agent's present life among those of sandbox/cgroup.h: <id>-<incarnation>, behind
 * that of its parent and a slash. LIMIT_AGENT_GROUP_BYTES are enough. 0 or DIRECTORY_E_UNKNOWN.
 */
int directory_group(struct directory *directory, uint32_t id, char *ret_group);

/*
 * Of whatever owner: the one live agent of that name, or the one that ended if none lives.
 * 0, DIRECTORY_E_UNKNOWN or DIRECTORY_E_SEVERAL.
 */
int directory_find_any(struct directory *directory, const char *name, size_t len,
		       struct agent_card *ret_card);

/* Whether @id is @ancestor or was started below it. */
bool directory_descends(struct directory *directory, uint32_t id, uint32_t ancestor);

/* Ids of the live children of @parent, at most @max of them; how many. */
unsigned directory_children(struct directory *directory, uint32_t parent, uint32_t *ids,
			    unsigned max);
/* The same of the live agents that are tied to @client. */
unsigned directory_tied(struct directory *directory, uint32_t client, uint32_t *ids, unsigned max);
/* Of those whose workspace has to be measured; with @max 0 only whether there is one. */
unsigned directory_capped(struct directory *directory, uint32_t *ids, unsigned max);
unsigned directory_live(struct directory *directory);
