/* SPDX-License-Identifier: MIT */

/*
 * SET_LIMITS: to the agent's core, from there to a file thread, as a write may wait, and back both ways
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/call_agent.h"
#include "core/kernel.h"
#include "ipc/pack.h"
#include "sandbox/limits.h"

struct limit_change {
	struct agent_errand errand;
	struct file_task task;
	struct shard *at; /* the agent's core */
	struct launch_limits given, all;
	char group[LIMIT_AGENT_GROUP_BYTES];
	uint32_t layers;
	int result;
};

static struct limit_change *change_of(struct errand *errand)
{
	return container_of(errand, struct limit_change, errand.errand);
}

static void change_free(struct errand *errand)
{
	struct limit_change *change = change_of(errand);

	msgpack_sbuffer_destroy(&change->errand.reply);
	free(change);
}

static void change_write(struct file_task *task)
{
	struct limit_change *change = container_of(task, struct limit_change, task);
	const struct kernel *kernel = change->at->kernel;
	struct stat st = {0};

	(void)fstat(kernel->agents_fd, &st);
	change->result = limits_set(kernel->groups_fd, change->group, &change->all, st.st_dev,
				    &change->layers);
}

static uint32_t layers_of(const struct launch_limits *limits)
{
	struct cgroup_limits wanted;

	limits_to_cgroup(limits, 0, &wanted);
	return limits_layers(cgroup_asked(&wanted));
}

static void change_done(struct file_task *task)
{
	struct limit_change *change = container_of(task, struct limit_change, task);
	struct errand *errand = &change->errand.errand;
	struct agent *agent = agent_find(change->at, change->errand.agent_id);
	uint32_t missing = layers_of(&change->given) & ~change->layers;
	msgpack_packer pk;

	if (!agent || change->result > 0) {
		(void)agent_gone(errand, change->errand.agent_id);
	} else if (change->result || missing) {
		(void)fault_set_os(&errand->fault, change->result ? -change->result : EINVAL,
				   "not every limit could be changed");
	} else {
		agent->options.limits = change->all;
		agent->layers |= change->layers;
		msgpack_packer_init(&pk, &change->errand.reply, msgpack_sbuffer_write);
		pack_map(&pk, 3);
		pack_key_uint(&pk, "agent_id", agent->id);
		agent_pack_limits(agent, &pk);
	}
	errand_return(errand, change->at);
}

static void change_drop(struct file_task *task)
{
	change_free(&container_of(task, struct limit_change, task)->errand.errand);
}

/* What is not given stays as it is. */
static void merge(struct launch_limits *limits, const struct launch_limits *given)
{
	uint64_t *to[] = {&limits->memory_bytes, &limits->cpu_quota_us, &limits->pids,
			  &limits->io_read_bytes, &limits->io_write_bytes};
	const uint64_t from[] = {given->memory_bytes, given->cpu_quota_us, given->pids,
				 given->io_read_bytes, given->io_write_bytes};

	for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); i++)
		*to[i] = from[i] ? from[i] : *to[i];
}

static void change_run(struct errand *errand, struct shard *at)
{
	struct limit_change *change = change_of(errand);
	struct agent *agent = agent_find(at, change->errand.agent_id);

	if (!agent) {
		(void)agent_gone(errand, change->errand.agent_id);
	} else if (agent->state != AGENT_RUNNING && agent->state != AGENT_PAUSED) {
		(void)fault_set(&errand->fault, WIRE_BUSY, "agent %u is %s; try again later",
				agent->id, agent_state_name(agent->state));
	} else {
		change->at = at;
		change->all = agent->options.limits;
		merge(&change->all, &change->given);
		memcpy(change->group, agent->group, sizeof(change->group));
		change->task = (struct file_task){
			.run = change_write, .done = change_done, .drop = change_drop};
		if (!files_submit(at, agent->user, &change->task, &errand->fault))
			return;
	}
	errand_return(errand, at);
}

enum wire_error call_set_limits(struct call *call)
{
	const struct kernel *kernel = call->conn->shard->kernel;
	struct limit_change *change;
	struct agent_card card;
	struct launch_limits given;
	enum wire_error code = agent_card_read(call, 0, &card);

	if (!code)
		code = spawn_limits_read(&given, call->args[1], &call->fault);
	if (code)
		return code;
	if (call->conn->spawned && card.id == call->conn->spawned->id)
		return fault_set(&call->fault, WIRE_PERMISSION_DENIED,
				 "SET_LIMITS: its own limits are not an agent's to change");
	if (!card.live)
		return fault_set(&call->fault, WIRE_AGENT_NOT_FOUND, "agent \"%s\" has ended",
				 card.name);
	for (unsigned i = 0; i < LAUNCH_LAYER_COUNT; i++)
		if (layers_of(&given) & 1u << i && !kernel->probe.layers[i].on)
			return fault_set(&call->fault, WIRE_LIMITS_UNAVAILABLE,
					 "SET_LIMITS: %s: %s",
					 launch_layer_name((enum launch_layer)i),
					 kernel->probe.layers[i].reason);
	change = calloc(1, sizeof(*change));
	if (!change)
		return bag_no_memory(&call->fault);
	change->given = given;
	code = agent_errand_init(&change->errand, call, &card, change_run, change_free);
	if (!code)
		agent_errand_go(call, &card, &change->errand);
	return code;
}
