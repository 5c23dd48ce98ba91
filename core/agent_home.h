/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * An agent's place on disk: DATA_DIR/agents/<owner>/<home>/{workspace,logs,script}
 *
 * The home is the agent's name, behind its parent's home and a colon when an agent started it: no agent gets at
 * the workspace of one that is not below it by taking its name.
 *
 * Made, and its files opened, by a file thread before each start. The workspace and the logs belong
 * to the agent's uid once it has one: the launcher hands them over, and who the logs belong to is where that uid
 * is remembered. The script is copied, as read by its owner: the box shows the copy, so no other file
 * of the owner needs to be visible, and a restart runs what was started.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/bag.h"
#include "core/fault.h"
#include "core/files.h"
#include "core/interpreter.h"
#include "core/limits.h"
#include "core/spawn_options.h"

struct kernel;
struct shard;
struct user;

struct agent_home {
	int workspace, logs, script; /* O_PATH directories; -1 none */
	int sdk;                     /* O_PATH, the kernel's SDK for Python; -1 none */
	struct strv prefixes;        /* directories that its interpreter needs */
	int binds[LIMIT_AGENT_PREFIXES +
		  LIMIT_AGENT_BINDS]; /* O_PATH; prefixes, options->ro, ->rw */
	unsigned bind_count;
	uid_t uid;         /* whom the agent runs as */
	char *script_name; /* last part of the script's path; NULL without a script */
};

void agent_home_init(struct agent_home *home);
void agent_home_deinit(struct agent_home *home);

/*
 * The work of opening one. What belongs to the user is opened and read with the rights of that user:
 * script, binds, interpreter. Set by the caller: task.done, task.drop, and the first group.
 */
struct home_task {
	struct file_task task;
	const struct spawn_options *options;
	struct agent_home *home;
	struct fault *fault; /* code 0: home is open; otherwise nothing of it is */
	bool copy_script;    /* of the first start */

	/* agent_home.c's */
	struct user *user; /* borrowed from the caller */
	int script;        /* a file in memory, -1 none */
	size_t charged;    /* bytes in it that are counted by files_charge() */
	bool script_asked, script_read, interpreter_begun;
	struct interpreter_search search;
};

/* From a core. WIRE_OK, or a code with @fault filled: then neither done() nor drop() will be called. */
enum wire_error agent_home_open(struct shard *shard, struct user *user, struct home_task *task,
				struct fault *fault);

/* Whether @uid is one of those that agents in sandboxes have. */
bool agent_home_is_uid(uid_t uid);

/* The path, outside as inside, of the bind with index @i of home->binds. */
const char *agent_home_bind(const struct strv *prefixes, const struct spawn_options *options,
			    size_t i, bool *ret_rw);

/* At the start of the kernel: finds the uids in use. 0 or -errno. */
int agent_homes_scan(struct kernel *kernel);
void agent_homes_forget(struct kernel *kernel); /* at its end */

/* The same: opens the trash and has it emptied of what a predecessor left there. 0 or -errno. */
int agent_trash_open(struct kernel *kernel);

/*
 * In a file thread: adds that agent's home and those of agents below it, as far as they exist. Those of live agents
 * are left out, and @ret_busy says so. 0 or -errno.
 */
int agent_home_family(struct kernel *kernel, uint32_t owner, const char *home,
		      struct strv *ret_homes, bool *ret_busy);
/*
 * In a file thread: takes homes out of sight at once, frees their uids, and has them deleted. What belongs to a live
 * agent stays, and is -EBUSY. 0 or -errno.
 */
int agent_home_remove(struct kernel *kernel, uint32_t owner, const struct strv *homes);

/* In a file thread: opens a log for reading, -1 when there is none. @file is as "stdout.log". */
int agent_home_log(struct kernel *kernel, uint32_t owner, const char *home, const char *file);
