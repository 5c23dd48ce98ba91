/* SPDX-License-Identifier: MIT */

#include "core/removal.h"

#include <errno.h>
#include <string.h>

#include "core/agent_home.h"
#include "core/shard.h"
#include "core/state.h"

static void end(struct removal *removal)
{
	strv_deinit(&removal->homes);
	removal->done(removal);
}

static void on_task_dropped(struct file_task *task)
{
	struct removal *removal = container_of(task, struct removal, task);

	strv_deinit(&removal->homes);
	removal->drop(removal);
}

/* Hands @run to a file thread, and what it found to @done. */
static void go(struct removal *removal, void (*run)(struct file_task *task),
	       void (*done)(struct file_task *task))
{
	removal->task = (struct file_task){.run = run, .done = done, .drop = on_task_dropped};
	if (files_submit(removal->shard, removal->user, &removal->task, &removal->fault))
		end(removal);
}

/* ---- the directories ---- */

static void home_fault(struct removal *removal, int r)
{
	if (r == -EBUSY)
		(void)fault_set(&removal->fault, WIRE_BUSY,
				"agent \"%.63s\", or one below it, is alive: kill it first",
				removal->home);
	else if (r)
		(void)fault_set_os(&removal->fault, -r, "the directory of agent %.63s",
				   removal->home);
}

static void remove_run(struct file_task *task)
{
	struct removal *removal = container_of(task, struct removal, task);

	home_fault(removal,
		   agent_home_remove(task->shard->kernel, removal->owner, &removal->homes));
}

static void remove_done(struct file_task *task)
{
	end(container_of(task, struct removal, task));
}

/* ---- the state ---- */

static void next_state(struct removal *removal);

static void on_state(struct store_drop *drop)
{
	struct removal *removal = container_of(drop, struct removal, state);

	if (drop->result) {
		(void)state_fault(removal->shard, drop->result, NULL, &removal->fault);
		end(removal);
		return;
	}
	removal->next++;
	next_state(removal);
}

static void next_state(struct removal *removal)
{
	struct store_space space = {.owner = removal->owner, .scope = STORE_AGENT};
	int r;

	if (removal->next == removal->homes.count) {
		go(removal, remove_run, remove_done);
		return;
	}
	space.name = removal->homes.items[removal->next];
	space.name_len = (uint32_t)strlen(space.name);
	removal->state = (struct store_drop){.done = on_state};
	r = store_drop_submit(removal->shard->state.client, &removal->state, &space);
	if (r == STORE_E_PENDING)
		return;
	(void)state_fault(removal->shard, r, NULL, &removal->fault);
	end(removal);
}

/* ---- who there is ---- */

static void list_run(struct file_task *task)
{
	struct removal *removal = container_of(task, struct removal, task);
	bool busy;
	int r = agent_home_family(task->shard->kernel, removal->owner, removal->home,
				  &removal->homes, &busy);

	home_fault(removal, !r && busy && removal->whole ? -EBUSY : r);
}

static void list_done(struct file_task *task)
{
	struct removal *removal = container_of(task, struct removal, task);

	removal->count = removal->homes.count;
	if (removal->fault.code || !removal->count)
		end(removal);
	else
		next_state(removal);
}

void removal_start(struct removal *removal)
{
	removal->fault.code = WIRE_OK;
	removal->count = removal->next = 0;
	removal->homes = (struct strv){0};
	go(removal, list_run, list_done);
}
