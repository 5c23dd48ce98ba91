/* SPDX-License-Identifier: MIT */

/*
 * SPAWN and the calls that concern one agent: who may, whom, and the errand to its core
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/agent.h"
#include "core/agent_launch.h"
#include "core/agent_log.h"
#include "core/agent_table.h"
#include "core/call.h"
#include "core/call_agent.h"
#include "core/kernel.h"
#include "core/user.h"
#include "ipc/pack.h"

/* ---- errands ---- */

static struct agent_errand *errand_of(struct errand *errand)
{
	return container_of(errand, struct agent_errand, errand);
}

static void on_answer(struct errand *errand)
{
	struct conn *conn = errand->request.conn;
	struct agent_errand *agent_errand = errand_of(errand);

	(void)conn_begin(conn);
	conn_splice(conn, (const uint8_t *)agent_errand->reply.data, agent_errand->reply.size);
	conn_end(conn, errand->request.op, WIRE_FLAG_REPLY, errand->request.id);
}

static void on_free(struct errand *errand)
{
	struct agent_errand *agent_errand = errand_of(errand);

	msgpack_sbuffer_destroy(&agent_errand->reply);
	free(agent_errand);
}

/* ---- whom ---- */

/* An agent reaches itself and what it started, a client all of its owner's, an operator all. */
static bool may_reach(const struct conn *conn, const struct agent_card *card)
{
	if (conn->spawned)
		return directory_descends(conn->shard->kernel->directory, card->id,
					  conn->spawned->id);
	return card->owner == conn->user->owner->uid || conn_is_operator(conn);
}

static int find_name(struct conn *conn, const char *name, size_t len, struct agent_card *ret_card)
{
	struct directory *directory = conn->shard->kernel->directory;
	int r = directory_find_name(directory, conn->user->owner->uid, name, len, ret_card);

	return r && conn_is_operator(conn) ? directory_find_any(directory, name, len, ret_card) : r;
}

enum wire_error agent_card_read(struct call *call, unsigned arg, struct agent_card *ret_card)
{
	struct conn *conn = call->conn;
	struct kernel *kernel = conn->shard->kernel;
	struct cursor at = call->args[arg];
	const uint8_t *name;
	uint32_t len;
	uint64_t id;
	int r = DIRECTORY_E_UNKNOWN;

	if (!cursor_read_uint(&at, &id)) {
		if (id <= UINT32_MAX)
			r = directory_find(kernel->directory, (uint32_t)id, ret_card);
		if (r || !may_reach(conn, ret_card))
			return fault_set(&call->fault, WIRE_AGENT_NOT_FOUND,
					 "there is no agent %llu", (unsigned long long)id);
		return WIRE_OK;
	}
	at = call->args[arg];
	if (cursor_read_bytes(&at, &name, &len))
		return fault_set(&call->fault, WIRE_INVALID_ARGUMENT,
				 "%s: agent must be an id or a name", call->def->name);
	r = find_name(conn, (const char *)name, len, ret_card);
	if (r == DIRECTORY_E_SEVERAL)
		return fault_set(&call->fault, WIRE_INVALID_ARGUMENT,
				 "several users have an agent \"%.*s\"; name it by its id",
				 (int)len, (const char *)name);
	if (r || !may_reach(conn, ret_card))
		return fault_set(&call->fault, WIRE_AGENT_NOT_FOUND, "there is no agent \"%.*s\"",
				 len > 63 ? 63 : (int)len, (const char *)name);
	return WIRE_OK;
}

enum wire_error call_box(struct call *call, unsigned arg, uint64_t *ret_box_id)
{
	const struct agent *self = call->conn->spawned;
	struct agent_card card;
	enum wire_error code;

	*ret_box_id = 0;
	if (!call_has(call, arg)) {
		if (self && self->options.sandboxed)
			*ret_box_id = self->launch.id;
		else if (!self && call->conn->shard->kernel->config->box_commands)
			return fault_set(
				&call->fault, WIRE_PERMISSION_DENIED,
				"%s: this kernel runs with --box-commands: name an agent whose box it shall be in",
				call->def->name);
		return WIRE_OK;
	}
	code = agent_card_read(call, arg, &card);
	if (code)
		return code;
	if (card.profile == PROFILE_NONE)
		return fault_set(&call->fault, WIRE_INVALID_ARGUMENT,
				 "%s: agent \"%s\" is not sandboxed: it has no box",
				 call->def->name, card.name);
	if (!card.live || (card.state != AGENT_RUNNING && card.state != AGENT_PAUSED))
		return fault_set(&call->fault, WIRE_AGENT_NOT_FOUND, "agent \"%s\" is not running",
				 card.name);
	*ret_box_id = card.launch_id;
	return WIRE_OK;
}

enum wire_error agent_gone(struct errand *errand, uint32_t id)
{
	return fault_set(&errand->fault, WIRE_AGENT_NOT_FOUND, "agent %u has ended", id);
}

enum wire_error agent_errand_init(struct agent_errand *errand, struct call *call,
				  const struct agent_card *card,
				  void (*run)(struct errand *errand, struct shard *at),
				  void (*free)(struct errand *errand))
{
	enum wire_error code;

	errand->errand.run = run;
	errand->errand.answer = on_answer;
	errand->errand.free = free;
	errand->agent_id = card->id;
	errand->caller = atomic_load_explicit(&call->conn->agent->id, memory_order_relaxed);
	msgpack_sbuffer_init(&errand->reply);
	list_init(&errand->waiting);
	code = errand_start(&errand->errand, call);
	if (code)
		free(&errand->errand);
	return code;
}

/* NULL with call->fault filled. */
static struct agent_errand *errand_new(struct call *call, const struct agent_card *card,
				       void (*run)(struct errand *errand, struct shard *at))
{
	struct agent_errand *errand = calloc(1, sizeof(*errand));

	if (!errand)
		(void)bag_no_memory(&call->fault);
	return errand && !agent_errand_init(errand, call, card, run, on_free) ? errand : NULL;
}

void agent_errand_go(struct call *call, const struct agent_card *card, struct agent_errand *errand)
{
	errand_send(&errand->errand, call->conn->shard->kernel->shards[card->core]);
}

/* ---- SPAWN ---- */

static struct agent_spawn *spawn_of(struct errand *errand)
{
	return container_of(errand_of(errand), struct agent_spawn, errand);
}

static void spawn_free(struct errand *errand)
{
	struct agent_spawn *spawn = spawn_of(errand);

	descriptors_keep(&spawn->place->kernel->descriptors, &spawn->descriptors, 0);
	(void)atomic_fetch_sub_explicit(&spawn->place->load, 1, memory_order_relaxed);
	msgpack_sbuffer_destroy(&spawn->errand.reply);
	spawn_options_deinit(&spawn->options);
	agent_home_deinit(&spawn->home);
	if (spawn->counted)
		quota_give(spawn->user->owner, QUOTA_AGENTS);
	quota_uncharge_stdin(spawn->user->owner, spawn->stdin_bytes);
	(void)user_unref(spawn->user);
	free(spawn);
}

static void spawn_run(struct errand *errand, struct shard *at)
{
	agent_start(at, spawn_of(errand));
}

static void home_done(struct file_task *task)
{
	struct agent_spawn *spawn = container_of(task, struct agent_spawn, opening.task);
	struct errand *errand = &spawn->errand.errand;

	if (!errand->fault.code) {
		errand_send(errand, spawn->place);
		return;
	}
	directory_cancel(task->shard->kernel->directory, spawn->owner, spawn->options.name);
	request_finish(&errand->request);
}

static void home_drop(struct file_task *task)
{
	spawn_free(&container_of(task, struct agent_spawn, opening.task)->errand.errand);
}

/* The core with the fewest connections. It counts as one from here on, for those that come right behind. */
static struct shard *place(struct kernel *kernel)
{
	struct shard *best = kernel->shards[0];

	for (unsigned i = 1; i < kernel->core_count; i++)
		if (atomic_load_explicit(&kernel->shards[i]->load, memory_order_relaxed) <
		    atomic_load_explicit(&best->load, memory_order_relaxed))
			best = kernel->shards[i];
	(void)atomic_fetch_add_explicit(&best->load, 1, memory_order_relaxed);
	return best;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* What an agent starts is confined at least as it is itself, whatever it asked for. */
static enum wire_error confine(struct call *call, struct spawn_options *options)
{
	const struct agent *parent = call->conn->spawned;

	if (!parent || !parent->options.sandboxed)
		return WIRE_OK;
	if (options->script)
		return fault_set(
			&call->fault, WIRE_PERMISSION_DENIED,
			"a sandboxed agent starts others by argv, not by a path outside its box");
	if (options->ro.count || options->rw.count)
		return fault_set(&call->fault, WIRE_PERMISSION_DENIED,
				 "ro, rw: a sandboxed agent has no paths outside to share");
	if (options->profile > parent->options.profile)
		options->profile = parent->options.profile;
	options->sandboxed = true;
	options->goes_along = parent->options.goes_along ||
			      (parent->options.tied && parent->options.workspace_in_memory);
	options->limits.memory_bytes =
		smaller(options->limits.memory_bytes, parent->options.limits.memory_bytes);
	options->limits.cpu_quota_us =
		smaller(options->limits.cpu_quota_us, parent->options.limits.cpu_quota_us);
	options->limits.pids = smaller(options->limits.pids, parent->options.limits.pids);
	options->tmp_bytes = smaller(options->tmp_bytes, parent->options.tmp_bytes);
	/* What lies in memory is bounded by the parent's memory: on a disk it would have no bound. */
	if (parent->options.workspace_in_memory) {
		options->workspace_in_memory = true;
		options->workspace_bytes =
			options->workspace_bytes ? options->workspace_bytes : UINT64_MAX;
	}
	if (!options->workspace_in_memory)
		options->workspace_bytes =
			smaller(options->workspace_bytes, parent->options.workspace_bytes);
	if (options->workspace_in_memory)
		options->workspace_bytes = smaller(options->workspace_bytes,
						   parent->options.workspace_in_memory
							   ? parent->options.workspace_bytes
							   : (uint64_t)LIMIT_AGENT_TMP_BYTES);
	return WIRE_OK;
}

static enum wire_error home_name(struct call *call, struct spawn_options *options)
{
	const struct agent *parent = call->conn->spawned;
	int n = asprintf(&options->home, "%s%s%s", parent ? parent->options.home : "",
			 parent ? ":" : "", options->name);

	if (n < 0) {
		options->home = NULL;
		return bag_no_memory(&call->fault);
	}
	if (n > LIMIT_AGENT_HOME_BYTES)
		return fault_set(&call->fault, WIRE_TOO_LARGE,
				 "agents that start agents: their names together, %d bytes at most",
				 LIMIT_AGENT_HOME_BYTES);
	return WIRE_OK;
}

/* What the launcher would refuse as well, in better words. */
static enum wire_error limits_check(struct call *call, struct spawn_options *options)
{
	const struct kernel *kernel = call->conn->shard->kernel;
	const struct launch_probe *probe = &kernel->probe;
	const bool asked[] = {true, true, true,
			      options->limits.io_read_bytes || options->limits.io_write_bytes};
	static const enum launch_layer layers[] = {
		LAUNCH_LAYER_CGROUP_MEMORY, LAUNCH_LAYER_CGROUP_CPU, LAUNCH_LAYER_CGROUP_PIDS,
		LAUNCH_LAYER_CGROUP_IO};

	options->require_limits |= kernel->config->require_limits;
	for (size_t i = 0; options->require_limits && i < sizeof(layers) / sizeof(layers[0]); i++)
		if (asked[i] && !probe->layers[layers[i]].on)
			return fault_set(&call->fault, WIRE_LIMITS_UNAVAILABLE,
					 "require_limits: %s: %s", launch_layer_name(layers[i]),
					 probe->layers[layers[i]].reason);
	return WIRE_OK;
}

static enum wire_error reserve(struct call *call, const struct agent_spawn *spawn)
{
	int r = directory_reserve(call->conn->shard->kernel->directory, spawn->owner,
				  spawn->options.name, spawn->options.home, spawn->parent,
				  spawn->options.profile);

	if (r == DIRECTORY_E_TAKEN)
		return fault_set(&call->fault, WIRE_NAME_TAKEN,
				 "an agent named \"%s\" is alive; kill it or choose another name",
				 spawn->options.name);
	if (r == DIRECTORY_E_DEEP)
		return fault_set(&call->fault, WIRE_TOO_LARGE,
				 "agents that start agents: at most %d, one below the other",
				 LIMIT_AGENT_DEPTH);
	if (r == DIRECTORY_E_FULL)
		return fault_set(&call->fault, WIRE_BUSY, "an agent may have %d live children",
				 LIMIT_AGENT_CHILDREN);
	return r ? bag_no_memory(&call->fault) : WIRE_OK;
}

static enum wire_error spawn_go(struct call *call, struct agent_spawn *spawn)
{
	struct shard *shard = call->conn->shard;
	struct errand *errand = &spawn->errand.errand;
	enum wire_error code = reserve(call, spawn);

	if (code)
		return code;
	code = errand_start(errand, call);
	if (code) {
		directory_cancel(shard->kernel->directory, spawn->owner, spawn->options.name);
		return code;
	}
	spawn->opening = (struct home_task){
		.task = {.done = home_done, .drop = home_drop},
		.options = &spawn->options,
		.home = &spawn->home,
		.fault = &errand->fault,
		.copy_script = true,
	};
	if (agent_home_open(shard, spawn->user, &spawn->opening, &errand->fault)) {
		directory_cancel(shard->kernel->directory, spawn->owner, spawn->options.name);
		request_finish(&errand->request);
	}
	return WIRE_OK;
}

/* One that may restart needs it again: a copy of what it has is kept. */
static enum wire_error stdin_charge(struct agent_spawn *spawn, struct fault *fault)
{
	const struct spawn_options *o = &spawn->options;
	size_t bytes = (size_t)o->input_len * (o->restart == RESTART_NEVER ? 1 : 2);

	if (!quota_charge_stdin(spawn->user->owner, bytes))
		return fault_set(
			fault, WIRE_BUSY,
			"user %u has %d MiB of stdin in live agents, which is all it may; use a file",
			spawn->owner, LIMIT_OWNER_STDIN_BYTES >> 20);
	spawn->stdin_bytes = bytes;
	return WIRE_OK;
}

enum wire_error call_spawn(struct call *call)
{
	struct conn *conn = call->conn;
	struct kernel *kernel = conn->shard->kernel;
	struct agent_spawn *spawn;
	const uint8_t *name;
	enum wire_error code;
	uint32_t len;

	if (directory_live(kernel->directory) >= LIMIT_AGENTS_LIVE)
		return fault_set(&call->fault, WIRE_BUSY, "%d agents are alive: no more",
				 LIMIT_AGENTS_LIVE);
	spawn = calloc(1, sizeof(*spawn));
	if (!spawn)
		return bag_no_memory(&call->fault);
	spawn->user = user_ref(conn->user);
	agent_home_init(&spawn->home);
	msgpack_sbuffer_init(&spawn->errand.reply);
	spawn->errand.errand.run = spawn_run;
	spawn->errand.errand.answer = on_answer;
	spawn->errand.errand.free = spawn_free;
	spawn->errand.errand.binding = true;
	name = call_bytes(call, 0, &len);
	code = spawn_options_init(&spawn->options, name, len, call->args[1], call->args[2],
				  &call->fault);
	if (!code)
		code = home_name(call, &spawn->options);
	if (!code)
		code = confine(call, &spawn->options);
	if (!code && !kernel->config->sandbox) {
		spawn->options.sandboxed = false;
		spawn->options.profile = PROFILE_NONE;
	}
	if (!code)
		code = limits_check(call, &spawn->options);
	spawn->owner = spawn->user->owner->uid;
	spawn->parent = conn->spawned ? conn->spawned->id : 0;
	spawn->rights = spawn->options.rights & conn->rights;
	if (spawn->options.tied && !conn->spawned) {
		spawn->tied = atomic_load_explicit(&conn->agent->id, memory_order_relaxed);
		conn->ties = true;
	}
	spawn->place = place(kernel);
	if (!code && !descriptors_take(&kernel->descriptors, &spawn->descriptors,
				       agent_descriptors(&spawn->options)))
		code = fault_set(&call->fault, WIRE_BUSY,
				 "no descriptors left for another agent; try again");
	if (!code)
		code = quota_launch(kernel->config, spawn->user->owner, conn->shard->now_ns,
				    &call->fault);
	if (!code) {
		code = quota_take(kernel->config, spawn->user->owner, QUOTA_AGENTS, &call->fault);
		spawn->counted = !code;
	}
	if (!code)
		code = stdin_charge(spawn, &call->fault);
	if (!code)
		code = spawn_go(call, spawn);
	if (code)
		spawn_free(&spawn->errand.errand);
	return code;
}

/* ---- KILL, WAIT ---- */

static void withdraw(struct shard *shard, void *arg, uint64_t value)
{
	agent_await_no_more(shard, (uint32_t)value, arg);
}

/* Nobody waits for the end any more: the agent need not keep the errand. */
static void await_abandon(struct errand *errand)
{
	struct agent_errand *waiter = errand_of(errand);
	struct shard *home = errand->request.shard;
	struct agent_card card;

	if (directory_find(home->kernel->directory, waiter->agent_id, &card) || !card.live)
		return;
	shard_send(
		home, home->kernel->shards[card.core], &errand->recall,
		(struct lane_item){.deliver = withdraw, .arg = waiter, .value = waiter->agent_id});
}

static enum wire_error ended_reply(struct call *call, const struct agent_card *card)
{
	agent_end_pack(card->id, card->name, &card->end, conn_begin(call->conn));
	conn_end(call->conn, call->def->op, WIRE_FLAG_REPLY, call->id);
	return WIRE_OK;
}

static void kill_run(struct errand *errand, struct shard *at)
{
	struct agent_errand *kill = errand_of(errand);
	struct agent *agent = agent_find(at, kill->agent_id);

	if (!agent) {
		(void)agent_gone(errand, kill->agent_id);
		errand_return(errand, at);
		return;
	}
	agent_await(agent, kill);
	agent_kill(agent, AGENT_KILLED, kill->caller, kill->grace_ms);
}

enum wire_error call_kill(struct call *call)
{
	struct agent_errand *errand;
	struct agent_card card;
	enum wire_error code = agent_card_read(call, 0, &card);

	if (code)
		return code;
	if (!card.live)
		return fault_set(&call->fault, WIRE_AGENT_NOT_FOUND, "agent \"%s\" has ended",
				 card.name);
	errand = errand_new(call, &card, kill_run);
	if (!errand)
		return call->fault.code;
	errand->errand.abandon = await_abandon;
	errand->errand.binding = true;
	errand->grace_ms = smaller(call_uint(call, 1, 0), LIMIT_TIMEOUT_MS_MAX);
	agent_errand_go(call, &card, errand);
	return WIRE_OK;
}

static void wait_run(struct errand *errand, struct shard *at)
{
	struct agent_errand *wait = errand_of(errand);
	struct agent *agent = agent_find(at, wait->agent_id);
	struct agent_card card;
	msgpack_packer pk;

	if (agent) {
		agent_await(agent, wait);
		return;
	}
	/* It ended while the errand was on its way. */
	msgpack_packer_init(&pk, &wait->reply, msgpack_sbuffer_write);
	if (directory_find(at->kernel->directory, wait->agent_id, &card))
		(void)agent_gone(errand, wait->agent_id);
	else
		agent_end_pack(card.id, card.name, &card.end, &pk);
	errand_return(errand, at);
}

enum wire_error call_wait(struct call *call)
{
	struct agent_errand *errand;
	struct agent_card card;
	enum wire_error code = agent_card_read(call, 0, &card);

	if (code)
		return code;
	if (!card.live)
		return ended_reply(call, &card);
	errand = errand_new(call, &card, wait_run);
	if (!errand)
		return call->fault.code;
	errand->errand.abandon = await_abandon;
	agent_errand_go(call, &card, errand);
	return WIRE_OK;
}

/* ---- PAUSE, RESUME, INSPECT ---- */

static void pause_run(struct errand *errand, struct shard *at)
{
	struct agent_errand *pause = errand_of(errand);
	struct agent *agent = agent_find(at, pause->agent_id);
	bool wanted = errand->request.op == WIRE_OP_PAUSE;
	msgpack_packer pk;

	if (!agent) {
		(void)agent_gone(errand, pause->agent_id);
	} else if (agent->state != AGENT_RUNNING && agent->state != AGENT_PAUSED) {
		(void)fault_set(&errand->fault, WIRE_BUSY, "agent %u is %s; try again later",
				agent->id, agent_state_name(agent->state));
	} else if (!agent_pause(agent, wanted)) {
		(void)fault_set(&errand->fault, WIRE_BUSY, "the launcher lags behind; try again");
	} else {
		msgpack_packer_init(&pk, &pause->reply, msgpack_sbuffer_write);
		pack_map(&pk, 2);
		pack_key_uint(&pk, "agent_id", agent->id);
		pack_key_text(&pk, "state", agent_state_name(agent->state));
	}
	errand_return(errand, at);
}

static void inspect_run(struct errand *errand, struct shard *at)
{
	struct agent_errand *inspect = errand_of(errand);
	struct agent *agent = agent_find(at, inspect->agent_id);
	msgpack_packer pk;

	msgpack_packer_init(&pk, &inspect->reply, msgpack_sbuffer_write);
	if (agent)
		agent_pack(agent, &pk);
	else
		(void)agent_gone(errand, inspect->agent_id);
	errand_return(errand, at);
}

static enum wire_error live_call(struct call *call,
				 void (*run)(struct errand *errand, struct shard *at), bool binding)
{
	struct agent_errand *errand;
	struct agent_card card;
	enum wire_error code = agent_card_read(call, 0, &card);

	if (code)
		return code;
	if (!card.live)
		return fault_set(&call->fault, WIRE_AGENT_NOT_FOUND, "agent \"%s\" has ended",
				 card.name);
	errand = errand_new(call, &card, run);
	if (!errand)
		return call->fault.code;
	errand->errand.binding = binding;
	agent_errand_go(call, &card, errand);
	return WIRE_OK;
}

enum wire_error call_pause(struct call *call)
{
	return live_call(call, pause_run, true);
}

enum wire_error call_resume(struct call *call)
{
	return live_call(call, pause_run, true);
}

enum wire_error call_inspect(struct call *call)
{
	return live_call(call, inspect_run, false);
}

/* ---- LOGS ---- */

struct log_read {
	struct request request;
	struct file_task task;
	struct fault fault;
	struct agent_card card;
	bool from_start, is_stderr;
	uint64_t cursor;
	uint32_t length;
	struct agent_log log;
};

static void log_answer(struct request *request)
{
	struct log_read *read = container_of(request, struct log_read, request);
	struct conn *conn = request->conn;
	msgpack_packer *pk;

	if (read->fault.code) {
		conn_reply_error(conn, request->op, request->id, &read->fault);
		return;
	}
	pk = conn_begin(conn);
	pack_map(pk, 4);
	pack_text(pk, "data");
	pack_bin(pk, read->log.data, read->log.len);
	pack_key_uint(pk, "next", read->log.next);
	pack_key_bool(pk, "lost", read->log.lost);
	pack_key_bool(pk, "running", read->card.live);
	conn_end(conn, request->op, WIRE_FLAG_REPLY, request->id);
}

static void log_abandon(struct request *request)
{
	(void)request; /* a thread may be in the middle of it */
}

static void log_free(struct request *request)
{
	struct log_read *read = container_of(request, struct log_read, request);

	free(read->log.data);
	free(read);
}

static size_t log_weight(struct request *request)
{
	return container_of(request, struct log_read, request)->log.len;
}

static void log_shed(struct request *request)
{
	struct log_read *read = container_of(request, struct log_read, request);

	free(read->log.data);
	read->log.data = NULL;
	read->log.len = 0;
	(void)fault_set(&read->fault, WIRE_BUSY,
			"too many answers wait to be read; read them, then ask again");
}

static const struct request_type log_type = {
	.abandon = log_abandon,
	.answer = log_answer,
	.free = log_free,
	.weight = log_weight,
	.shed = log_shed,
};

static void log_run(struct file_task *task)
{
	struct log_read *read = container_of(task, struct log_read, task);

	(void)agent_log_read(
		task->shard->kernel, &read->card, read->is_stderr ? "stderr" : "stdout",
		read->from_start ? NULL : &read->cursor, read->length, &read->log, &read->fault);
}

static void log_done(struct file_task *task)
{
	request_finish(&container_of(task, struct log_read, task)->request);
}

static void log_drop(struct file_task *task)
{
	log_free(&container_of(task, struct log_read, task)->request);
}

enum wire_error call_logs(struct call *call)
{
	struct shard *shard = call->conn->shard;
	struct log_read *read = calloc(1, sizeof(*read));
	const uint8_t *stream;
	enum wire_error code;
	uint32_t len = 0;

	if (!read)
		return bag_no_memory(&call->fault);
	stream = call_bytes(call, 1, &len);
	read->is_stderr = stream && len == 6 && !memcmp(stream, "stderr", 6);
	read->from_start = !call_has(call, 2);
	read->cursor = call_uint(call, 2, 0);
	read->length = (uint32_t)smaller(call_uint(call, 3, FRAME_PAYLOAD_MAX), FRAME_PAYLOAD_MAX);
	if (stream && !read->is_stderr && (len != 6 || memcmp(stream, "stdout", 6) != 0))
		code = fault_set(&call->fault, WIRE_INVALID_ARGUMENT,
				 "LOGS: stream must be stdout or stderr");
	else
		code = agent_card_read(call, 0, &read->card);
	if (!code)
		code = request_start(&read->request, call, &log_type);
	if (code) {
		free(read);
		return code;
	}
	read->task = (struct file_task){.run = log_run, .done = log_done, .drop = log_drop};
	if (files_submit(shard, call->conn->user, &read->task, &read->fault))
		request_finish(&read->request);
	return WIRE_OK;
}
