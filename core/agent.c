/* SPDX-License-Identifier: MIT */

/*
 *   STARTING --launched--> RUNNING <--> PAUSED
 *      |                      |           |
 *      | failed               | the init's pidfd polls readable: report read, reaped
 *      v                      v
 *   end of this life: STOPPED or CRASHED --policy, after a pause--> STARTING, next incarnation
 *      |
 *      | no restart
 *      v
 *   ended for good: the directory keeps how, waiters are answered
 *
 * What it started ends with each of its lives: the next one knows nothing of it.
 *
 * The init must not be reaped while a signal for it is on its way to the launcher, because its process id
 * could get a new meaning: signals_out counts those.
 */

#include "core/agent.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/agent_conn.h"
#include "core/agent_launch.h"
#include "core/agent_table.h"
#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/conn.h"
#include "core/kernel.h"
#include "core/removal.h"
#include "core/user.h"
#include "sandbox/cgroup.h"

enum {
	SIGNAL_RETRY_MS = 20,
	BACKOFF_FIRST_MS = 1000,
	BACKOFF_MAX_MS = 60000,
};

static void life_begin(struct agent *agent);
static void life_end(struct agent *agent);
static void on_timer(struct timer *timer);
static void on_retry(struct timer *timer);

/* ---- knowing ---- */

struct agent *agent_find(struct shard *shard, uint32_t id)
{
	list_for_each (it, &shard->agents) {
		struct agent *agent = container_of(it, struct agent, link);

		if (agent->id == id)
			return agent;
	}
	return NULL;
}

static struct directory *directory_of(const struct agent *agent)
{
	return agent->shard->kernel->directory;
}

static void state_set(struct agent *agent, enum agent_state state)
{
	agent->state = state;
	directory_update(directory_of(agent), agent->id, state, agent->incarnation,
			 agent->end.incarnation ? &agent->end : NULL);
}

/* ---- the end for good ---- */

static void descriptors_release(struct agent *agent, uint32_t keep)
{
	descriptors_keep(&agent->shard->kernel->descriptors, &agent->descriptors, keep);
}

static void agent_free(struct agent *agent)
{
	struct shard *shard = agent->shard;

	agent_conn_drop(agent);
	channel_remove(&agent->launch);
	child_deinit(&agent->child);
	for (unsigned i = 0; i < 3; i++)
		agent->child_fds[i] = fd_close(agent->child_fds[i]);
	timer_unset(&shard->timers, &agent->timer);
	timer_unset(&shard->timers, &agent->retry);
	agent_home_deinit(&agent->home);
	descriptors_release(agent, 0);
	spawn_options_deinit(&agent->options);
	strv_deinit(&agent->prefixes);
	quota_give(agent->user->owner, QUOTA_AGENTS);
	quota_uncharge_stdin(agent->user->owner, agent->stdin_bytes);
	(void)user_unref(agent->user);
	agent_table_give_back(shard->kernel->agents, agent->entry);
	list_unlink(&agent->link);
	free(agent);
}

static void waiter_answer(struct agent *agent, struct agent_errand *errand)
{
	msgpack_packer pk;

	list_unlink(&errand->waiting);
	msgpack_packer_init(&pk, &errand->reply, msgpack_sbuffer_write);
	agent_end_pack(agent->id, agent->options.name, &agent->end, &pk);
	errand_return(&errand->errand, agent->shard);
}

/* Children die with their parent; they may live in any core. */
struct parting {
	struct parcel parcel;
	uint32_t id, parent;
};

static void part(struct shard *shard, void *arg, uint64_t value)
{
	struct parting *parting = arg;
	struct agent *child = agent_find(shard, parting->id);

	(void)value;
	if (child)
		agent_kill(child, AGENT_KILLED, parting->parent, 0);
	free(parting);
}

static void part_never(void *arg, uint64_t value)
{
	(void)value;
	free(arg);
}

static void kill_each(struct shard *shard, const uint32_t *ids, unsigned count, uint32_t by)
{
	struct kernel *kernel = shard->kernel;

	for (unsigned i = 0; i < count; i++) {
		struct parting *parting = calloc(1, sizeof(*parting));
		struct agent_card card;

		if (!parting || directory_find(kernel->directory, ids[i], &card)) {
			free(parting);
			continue;
		}
		parting->id = ids[i];
		parting->parent = by;
		shard_send(shard, kernel->shards[card.core], &parting->parcel,
			   (struct lane_item){.deliver = part, .drop = part_never, .arg = parting});
	}
}

static void children_kill(struct shard *shard, uint32_t parent)
{
	uint32_t ids[LIMIT_AGENT_CHILDREN];

	kill_each(shard, ids,
		  directory_children(shard->kernel->directory, parent, ids, LIMIT_AGENT_CHILDREN),
		  parent);
}

void agent_end_tied(struct shard *shard, uint32_t client)
{
	uint32_t ids[LIMIT_AGENT_CHILDREN];

	kill_each(shard, ids,
		  directory_tied(shard->kernel->directory, client, ids, LIMIT_AGENT_CHILDREN),
		  client);
}

/* What a box leaves that was made for its client alone. */
static void leavings_free(struct removal *removal)
{
	free(removal);
}

/* Its parent's end removes what a child has left, but for children that end later than it. */
static bool leaves_nothing(const struct agent *agent)
{
	struct agent_card card;

	if (agent->options.tied && agent->options.workspace_in_memory)
		return true;
	return agent->options.goes_along &&
	       (directory_find(directory_of(agent), agent->parent, &card) || !card.live);
}

/* When it is not alive any more by the directory. */
static void leavings_remove(struct agent *agent)
{
	struct removal *removal;

	if (!leaves_nothing(agent))
		return;
	removal = calloc(1, sizeof(*removal));
	if (!removal)
		return;
	removal->owner = agent->owner;
	removal->shard = agent->shard;
	/* The kernel's own work: no limit of the owner keeps it from being done. */
	removal->user = agent->shard->kernel->user;
	removal->done = removal->drop = leavings_free;
	memcpy(removal->home, agent->options.home, strlen(agent->options.home));
	removal_start(removal);
}

static void agent_finish(struct agent *agent)
{
	uint32_t id = agent->id;
	bool well = agent->end.reason == AGENT_EXITED && !agent->end.exit_code;

	log_info("agent-ended", "id=%u name=%s reason=%s code=%d signal=%d restarts=%u", id,
		 agent->options.name, agent_reason_name(agent->end.reason), agent->end.exit_code,
		 agent->end.signal, agent->restarts);
	/* The name is free before anybody is told that it is. */
	directory_end(directory_of(agent), id, well ? AGENT_STOPPED : AGENT_CRASHED, &agent->end);
	leavings_remove(agent);
	while (!list_empty(&agent->waiters))
		waiter_answer(agent,
			      container_of(agent->waiters.next, struct agent_errand, waiting));
	agent_free(agent);
}

/* ---- restarts ---- */

static void home_done(struct file_task *task)
{
	struct agent *agent = container_of(task, struct agent, opening.task);

	agent->preparing = false;
	if (agent->fault.code || agent->kill_wanted)
		life_end(agent);
	else
		life_begin(agent);
}

static void home_drop(struct file_task *task)
{
	container_of(task, struct agent, opening.task)->preparing = false;
}

/* What its owner lacks for now is no failure of the agent: it is tried again. False without memory. */
static bool restart_later(struct agent *agent)
{
	struct shard *shard = agent->shard;

	return !timer_set(&shard->timers, &agent->timer,
			  shard->now_ns + BACKOFF_FIRST_MS * CLOCK_NS_PER_MS, on_timer);
}

/* All it takes but the home, which is on its way. WIRE_OK, or a code with @fault filled and nothing done. */
static enum wire_error restart_prepare(struct agent *agent, struct fault *fault)
{
	struct shard *shard = agent->shard;
	enum wire_error code =
		quota_launch(shard->kernel->config, agent->user->owner, shard->now_ns, fault);

	if (code)
		return code;
	if (!descriptors_take(&shard->kernel->descriptors, &agent->descriptors,
			      agent_descriptors(&agent->options)))
		return fault_set(fault, WIRE_BUSY, "no descriptors for another agent");
	agent->opening = (struct home_task){
		.task = {.done = home_done, .drop = home_drop},
		.options = &agent->options,
		.home = &agent->home,
		.fault = &agent->fault,
	};
	agent->fault.code = WIRE_OK;
	code = agent_home_open(shard, agent->user, &agent->opening, fault);
	if (code)
		descriptors_release(agent, 0);
	return code;
}

static void restart(struct agent *agent)
{
	enum wire_error code;
	struct fault fault;

	code = restart_prepare(agent, &fault);
	if (code == WIRE_BUSY && restart_later(agent))
		return;
	/* Those that were on their way when the others were ended. */
	children_kill(agent->shard, agent->id);
	agent->incarnation++;
	agent->restarts++;
	agent->lost = false;
	state_set(agent, AGENT_STARTING);
	agent->preparing = !code;
	if (!code)
		return;
	agent->fault = fault;
	life_end(agent);
}

static bool wants_restart(const struct agent *agent)
{
	bool well = agent->end.reason == AGENT_EXITED && !agent->end.exit_code;

	if (agent->kill_wanted || agent->shard->draining || !channel_is_open(agent->shard))
		return false;
	/* One that never ran would not run the next time. */
	if (agent->end.reason == AGENT_START_FAILED && agent->incarnation == 1)
		return false;
	return agent->options.restart == RESTART_ALWAYS ||
	       (agent->options.restart == RESTART_ON_FAILURE && !well);
}

/* False when it restarted too often. */
static bool restart_plan(struct agent *agent)
{
	struct shard *shard = agent->shard;
	uint64_t now_ns = clock_now_ns();

	if (now_ns - agent->window_ns > agent->options.restart_window_ms * CLOCK_NS_PER_MS) {
		agent->window_ns = now_ns;
		agent->window_restarts = 0;
		agent->backoff_ms = 0;
	}
	if (agent->window_restarts >= agent->options.restarts_max) {
		log_warn("agent-escalated", "id=%u name=%s restarts=%u window_ms=%llu", agent->id,
			 agent->options.name, agent->window_restarts,
			 (unsigned long long)agent->options.restart_window_ms);
		return false;
	}
	agent->window_restarts++;
	agent->backoff_ms = agent->backoff_ms ? agent->backoff_ms * 2 : BACKOFF_FIRST_MS;
	if (agent->backoff_ms > BACKOFF_MAX_MS)
		agent->backoff_ms = BACKOFF_MAX_MS;
	log_info("agent-restarts", "id=%u name=%s reason=%s in_ms=%llu", agent->id,
		 agent->options.name, agent_reason_name(agent->end.reason),
		 (unsigned long long)agent->backoff_ms);
	return !timer_set(&shard->timers, &agent->timer,
			  now_ns + agent->backoff_ms * CLOCK_NS_PER_MS, on_timer);
}

/* ---- one life ---- */

static void starter_return(struct agent *agent)
{
	struct agent_errand *starter = agent->starter;
	msgpack_packer pk;

	if (!starter)
		return;
	agent->starter = NULL;
	starter->errand.fault = agent->fault;
	if (!agent->fault.code) {
		msgpack_packer_init(&pk, &starter->reply, msgpack_sbuffer_write);
		agent_pack(agent, &pk);
	}
	errand_return(&starter->errand, agent->shard);
}

/* No process is left of this life; agent->end and ->fault say how it was. */
static void life_end(struct agent *agent)
{
	bool first = agent->starter;

	timer_unset(&agent->shard->timers, &agent->timer);
	timer_unset(&agent->shard->timers, &agent->retry);
	channel_remove(&agent->launch);
	agent_conn_drop(agent);
	agent_home_deinit(&agent->home);
	for (unsigned i = 0; i < 3; i++)
		agent->child_fds[i] = fd_close(agent->child_fds[i]);
	agent->launching = false;
	agent->program = 0;
	child_deinit(&agent->child);
	descriptors_release(agent, 0);
	if (agent->fault.code)
		agent->end = (struct agent_end){
			.reason = agent->kill_wanted ? agent->because : AGENT_START_FAILED,
			.exit_code = -1,
			.killed_by = agent->killed_by,
		};
	agent->end.incarnation = agent->incarnation;
	agent->end.restarts = agent->restarts;
	starter_return(agent);
	if (first && agent->fault.code) {
		/* It never was: nothing to remember. */
		directory_cancel(directory_of(agent), agent->owner, agent->options.name);
		leavings_remove(agent);
		agent_free(agent);
		return;
	}
	children_kill(agent->shard, agent->id);
	atomic_store_explicit(&agent->entry->pid, 0, memory_order_relaxed);
	state_set(agent, agent->end.reason == AGENT_EXITED && !agent->end.exit_code
				 ? AGENT_STOPPED
				 : AGENT_CRASHED);
	if (!wants_restart(agent) || !restart_plan(agent))
		agent_finish(agent);
}

/* Its group is there until the init has been reaped. */
static bool ran_out_of_memory(const struct agent *agent)
{
	CLEANUP(fd_closep) int group = -1;
	uint64_t kills = 0;

	return agent->layers & 1u << LAUNCH_LAYER_CGROUP_MEMORY &&
	       !cgroup_find_at(agent->shard->kernel->groups_fd, agent->group, &group) &&
	       !cgroup_oom_kills(group, &kills) && kills;
}

static void end_judge(struct agent *agent, const struct launch_report *report,
		      const siginfo_t *status, bool oom)
{
	struct agent_end *end = &agent->end;

	*end = (struct agent_end){
		.exit_code = -1,
		.uptime_ms = (clock_now_ns() - agent->start_ns) / CLOCK_NS_PER_MS,
	};
	if (report) {
		end->signal = report->signal;
		end->log_bytes_lost = report->log_bytes_lost;
		end->left_processes = report->flags & LAUNCH_REPORT_LEFT;
	} else {
		end->signal = status->si_code == CLD_EXITED ? 0 : status->si_status;
	}
	if (agent->kill_wanted) {
		end->reason = agent->because;
		end->killed_by = agent->killed_by;
	} else if (agent->lost) {
		end->reason = AGENT_LOST;
	} else if (oom) {
		end->reason = AGENT_OUT_OF_MEMORY;
	} else if (end->signal || !report) {
		end->reason = AGENT_SIGNALLED;
	} else {
		end->reason = AGENT_EXITED;
		end->exit_code = report->code;
	}
}

static void reap(struct agent *agent)
{
	const struct launch_report *report;
	siginfo_t status;
	bool oom;

	if (agent->signals_out)
		return;
	/* The init sent it before it ended, or never will. */
	report = agent_conn_report(agent);
	oom = ran_out_of_memory(agent);
	child_reap(&agent->child, &status);
	if (!agent->fault.code)
		end_judge(agent, report, &status, oom);
	life_end(agent);
}

static void on_init_end(struct child *child)
{
	reap(container_of(child, struct agent, child));
}

static void launched(struct agent *agent, const struct launch_reply *reply)
{
	struct shard *shard = agent->shard;
	bool watched;

	agent->layers = reply->layers;
	agent->unmapped = reply->unmapped;
	agent->landlock_abi = reply->landlock_abi;
	agent->start_ns = shard->now_ns;
	atomic_store_explicit(&agent->entry->pid, (uint32_t)agent->program, memory_order_relaxed);
	watched = agent->options.sandboxed && !agent->options.workspace_in_memory &&
		  !(agent->layers & 1u << LAUNCH_LAYER_WORKSPACE_QUOTA);
	directory_launched(directory_of(agent), agent->id, agent->layers, agent->launch.id,
			   watched ? agent->options.workspace_bytes : 0, agent->start_ns);
	if (watched)
		workspace_watch_begin(shard);
	state_set(agent, AGENT_RUNNING);
	/* It has it now, in a file of its own. */
	if (agent->options.restart == RESTART_NEVER) {
		free(agent->options.input);
		agent->options.input = NULL;
	}
	log_info("agent-started", "id=%u name=%s pid=%d profile=%s incarnation=%u", agent->id,
		 agent->options.name, agent->program, profile_name(agent->options.profile),
		 agent->incarnation);
	starter_return(agent);
	if (agent->kill_wanted)
		agent_kill(agent, agent->because, agent->killed_by, 0);
	else if (agent->options.timeout_ms &&
		 timer_set(&shard->timers, &agent->timer,
			   agent->start_ns + agent->options.timeout_ms * CLOCK_NS_PER_MS, on_timer))
		agent_kill(agent, AGENT_TIMED_OUT, 0, 0);
}

void agent_answered(struct agent *agent, struct launch_reply *reply)
{
	agent->launching = false;
	strv_deinit(&agent->prefixes);
	agent->prefixes = agent->home.prefixes;
	agent->home.prefixes = (struct strv){0};
	agent_home_deinit(&agent->home);
	descriptors_release(agent, LIMIT_AGENT_FDS);
	if (reply->type == LAUNCH_FAILED)
		agent_launch_fault(agent, reply);
	agent->program = reply->program;
	/* The init is there, whether it does well or not: from here on it is ours to reap. */
	if (reply->pid)
		child_adopt(&agent->child, reply);
	if (reply->type == LAUNCH_LAUNCHED)
		launched(agent, reply);
	else if (!reply->pid)
		life_end(agent);
	/* Otherwise the failed init ends by itself, and is answered for when it has been reaped. */
}

void agent_unsent(struct agent *agent)
{
	life_end(agent);
}

void agent_signalled(struct agent *agent, int error)
{
	struct shard *shard = agent->shard;

	if (agent->signals_out)
		agent->signals_out--;
	if (agent->child.exited)
		reap(agent);
	else if (error && error != ESRCH && agent->kill_wanted)
		(void)timer_set(&shard->timers, &agent->retry,
				shard->now_ns + SIGNAL_RETRY_MS * CLOCK_NS_PER_MS, on_retry);
}

/* The launcher died; the init sees its lifeline end, and ends. */
void agent_lost(struct agent *agent)
{
	agent->lost = true;
	agent->signals_out = 0;
	if (agent->child.exited)
		reap(agent);
}

static void life_begin(struct agent *agent)
{
	if (child_reserve(&agent->child, agent->shard, on_init_end)) {
		(void)fault_set(&agent->fault, WIRE_BUSY, "no memory for another agent");
		life_end(agent);
	} else if (agent_launch(agent)) {
		life_end(agent);
	}
}

uint32_t agent_descriptors(const struct spawn_options *options)
{
	size_t binds = options->ro.count + options->rw.count;

	if (options->script && options->interpreter && options->sandboxed)
		binds += LIMIT_AGENT_PREFIXES;
	return LIMIT_AGENT_FDS_START + (uint32_t)binds;
}

void agent_start(struct shard *shard, struct agent_spawn *spawn)
{
	struct agent *agent = calloc(1, sizeof(*agent));
	struct agent_entry *entry = NULL;

	if (agent)
		entry = agent_table_take(shard->kernel->agents,
					 &(struct agent_view){
						 .uid = spawn->owner,
						 .core = (uint16_t)shard->index,
						 .kind = AGENT_SPAWNED,
						 .since_ns = shard->now_ns,
					 });
	if (!entry) {
		free(agent);
		(void)fault_set(&spawn->errand.errand.fault, WIRE_BUSY,
				"the kernel has as many agents as it may");
		directory_cancel(shard->kernel->directory, spawn->owner, spawn->options.name);
		errand_return(&spawn->errand.errand, shard);
		return;
	}
	agent->shard = shard;
	agent->entry = entry;
	agent->id = atomic_load_explicit(&entry->id, memory_order_relaxed);
	agent->user = user_ref(spawn->user);
	agent->owner = spawn->owner;
	agent->parent = spawn->parent;
	agent->rights = spawn->rights;
	agent->options = spawn->options;
	agent->home = spawn->home;
	agent->descriptors = spawn->descriptors;
	spawn->descriptors = 0;
	spawn->options = (struct spawn_options){0};
	spawn->counted = false;
	agent->stdin_bytes = spawn->stdin_bytes;
	spawn->stdin_bytes = 0;
	agent_home_init(&spawn->home);
	agent->news.fd = -1;
	agent->child_fds[0] = agent->child_fds[1] = agent->child_fds[2] = -1;
	agent->incarnation = 1;
	agent->born_ns = agent->start_ns = agent->window_ns = shard->now_ns;
	agent->starter = &spawn->errand;
	list_init(&agent->waiters);
	list_init(&agent->conns);
	list_append(&shard->agents, &agent->link);
	/* A client that leaves later finds this among those tied to it; one that has left looked too early. */
	if (directory_bind(shard->kernel->directory, agent->owner, agent->options.name, agent->id,
			   (uint16_t)shard->index, spawn->tied) ||
	    (spawn->tied && !agent_table_holds(shard->kernel->agents, spawn->tied))) {
		(void)fault_set(&agent->fault, WIRE_CANCELLED, "who started it has ended");
		life_end(agent);
		return;
	}
	life_begin(agent);
}

/* ---- control ---- */

static bool is_alive(const struct agent *agent)
{
	return agent->child.pid && !agent->child.exited;
}

/* True when it is on its way, or there is nobody to signal. */
static bool signal_send(struct agent *agent, int signo, bool whole_tree)
{
	int r;

	if (!is_alive(agent))
		return true;
	r = channel_signal(agent->shard, &agent->launch, signo, whole_tree);
	if (!r)
		agent->signals_out++;
	/* Want of memory passes; without a launcher the box ends by itself. */
	return !r || r == LAUNCH_E_GONE;
}

static void kill_now(struct agent *agent)
{
	struct shard *shard = agent->shard;

	timer_unset(&shard->timers, &agent->timer);
	if (!signal_send(agent, SIGKILL, true))
		(void)timer_set(&shard->timers, &agent->retry,
				shard->now_ns + SIGNAL_RETRY_MS * CLOCK_NS_PER_MS, on_retry);
}

static void on_retry(struct timer *timer)
{
	kill_now(container_of(timer, struct agent, retry));
}

static void on_timer(struct timer *timer)
{
	struct agent *agent = container_of(timer, struct agent, timer);

	if (is_alive(agent) && !agent->kill_wanted)
		agent_kill(agent, AGENT_TIMED_OUT, 0, 0);
	else if (is_alive(agent))
		kill_now(agent);
	else
		restart(agent);
}

void agent_kill(struct agent *agent, enum agent_reason because, uint32_t by, uint64_t grace_ms)
{
	struct shard *shard = agent->shard;

	if (!agent->kill_wanted) {
		agent->kill_wanted = true;
		agent->because = because;
		agent->killed_by = by;
	}
	/* While it starts the answer will come, and the kill with it. */
	if (agent->launching || agent->preparing || agent->child.exited)
		return;
	if (!is_alive(agent)) {
		timer_unset(&shard->timers, &agent->timer);
		agent_finish(agent);
		return;
	}
	/* A paused one could not act on it. */
	if (grace_ms && agent->state == AGENT_RUNNING && signal_send(agent, SIGTERM, false) &&
	    !timer_set(&shard->timers, &agent->timer, shard->now_ns + grace_ms * CLOCK_NS_PER_MS,
		       on_timer))
		return;
	kill_now(agent);
}

bool agent_pause(struct agent *agent, bool paused)
{
	if (!signal_send(agent, paused ? SIGSTOP : SIGCONT, true))
		return false;
	state_set(agent, paused ? AGENT_PAUSED : AGENT_RUNNING);
	return true;
}

void agent_await(struct agent *agent, struct agent_errand *errand)
{
	list_append(&agent->waiters, &errand->waiting);
}

void agent_await_no_more(struct shard *shard, uint32_t id, const struct agent_errand *errand)
{
	struct agent *agent = agent_find(shard, id);

	if (!agent)
		return;
	list_for_each (it, &agent->waiters) {
		struct agent_errand *waiter = container_of(it, struct agent_errand, waiting);

		if (waiter != errand)
			continue;
		list_unlink(&waiter->waiting);
		errand_return(&waiter->errand, shard);
		return;
	}
}

void agent_kill_all(struct shard *shard)
{
	list_for_each_safe (it, &shard->agents)
		agent_kill(container_of(it, struct agent, link), AGENT_KILLED, 0, 0);
}

void agent_free_all(struct shard *shard)
{
	while (!list_empty(&shard->agents)) {
		struct agent *agent = container_of(shard->agents.next, struct agent, link);

		while (!list_empty(&agent->waiters)) {
			struct agent_errand *errand = container_of(list_shift(&agent->waiters),
								   struct agent_errand, waiting);

			errand->errand.free(&errand->errand);
		}
		if (agent->starter)
			agent->starter->errand.free(&agent->starter->errand);
		agent_free(agent);
	}
}
