/* SPDX-License-Identifier: MIT */

#include "core/agent_launch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/agent_conn.h"
#include "core/agent_table.h"
#include "core/base/cleanup.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/conn.h"
#include "core/kernel.h"
#include "core/protection.h"
#include "core/shard.h"
#include "core/stdin_file.h"
#include "core/user.h"
#include "ipc/pack.h"

/* Where things are inside a box. */
#define INSIDE_SCRIPT "/agent"
#define INSIDE_SDK    "/clove/sdk"
#define PYTHON        "/usr/bin/python3"

static const uint32_t nets[PROFILE_COUNT] = {
	[PROFILE_STRICT] = LAUNCH_NET_OWN,        [PROFILE_STANDARD] = LAUNCH_NET_EMPTY,
	[PROFILE_LOOPBACK] = LAUNCH_NET_LOOPBACK, [PROFILE_TRUSTED] = LAUNCH_NET_HOST,
	[PROFILE_NONE] = LAUNCH_NET_HOST,
};

static const uint32_t filters[PROFILE_COUNT] = {
	[PROFILE_STRICT] = LAUNCH_SECCOMP_STANDARD,   [PROFILE_STANDARD] = LAUNCH_SECCOMP_STANDARD,
	[PROFILE_LOOPBACK] = LAUNCH_SECCOMP_LOOPBACK, [PROFILE_TRUSTED] = LAUNCH_SECCOMP_TRUSTED,
	[PROFILE_NONE] = LAUNCH_SECCOMP_NONE,
};

/* ---- words ---- */

/* The command, whole. False without memory. */
static bool argv_make(const struct agent *agent, struct strv *argv)
{
	const struct spawn_options *o = &agent->options;
	const char *home = agent->user->owner->home;
	char *script;
	bool ok = true;
	int n;

	if (o->script) {
		if (o->sandboxed)
			n = asprintf(&script, INSIDE_SCRIPT "/%s", agent->home.script_name);
		else if (*o->script == '/')
			n = asprintf(&script, "%s", o->script);
		else
			n = asprintf(&script, "%s/%s", home, o->script);
		if (n < 0)
			return false;
		ok = strv_push(argv, strdup(o->interpreter ? o->interpreter : PYTHON));
		ok = strv_push(argv, script) && ok;
	}
	for (size_t i = 0; ok && i < o->argv.count; i++)
		ok = strv_push(argv, strdup(o->argv.items[i]));
	return ok;
}

static const char *env_value(const struct strv *env, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < env->count; i++)
		if (!strncmp(env->items[i], name, len) && env->items[i][len] == '=')
			return env->items[i] + len + 1;
	return NULL;
}

static bool env_set(struct strv *env, const char *name, const char *value)
{
	char *entry;

	if (asprintf(&entry, "%s=%s", name, value) < 0)
		return false;
	return strv_push(env, entry);
}

/*
 * The given environment, and what every agent has. The kernel's own entries come last of their
 * name; the given ones of that name are left out.
 */
static bool env_make(const struct agent *agent, struct strv *env)
{
	const struct spawn_options *o = &agent->options;
	const struct owner *owner = agent->user->owner;
	const char *sdk = o->sandboxed ? INSIDE_SDK : agent->shard->kernel->config->sdk_dir;
	const char *path = env_value(&o->env, "PYTHONPATH");
	CLEANUP(freep) char *pythonpath = NULL;
	struct fault fault;
	char id[16];
	bool ok = true;

	for (size_t i = 0; ok && i < o->env.count; i++)
		if (strncmp(o->env.items[i], "CLOVE_", 6) != 0 &&
		    strncmp(o->env.items[i], "PYTHONPATH=", 11) != 0)
			ok = strv_push(env, strdup(o->env.items[i]));
	if (asprintf(&pythonpath, "%s%s%s", path ? path : "", path && *sdk ? ":" : "", sdk) < 0)
		pythonpath = NULL;
	(void)snprintf(id, sizeof(id), "%u", agent->id);
	ok = ok && pythonpath && (!*pythonpath || env_set(env, "PYTHONPATH", pythonpath));
	/* Output goes to a log that somebody may be following. */
	ok = ok && (env_value(env, "PYTHONUNBUFFERED") || env_set(env, "PYTHONUNBUFFERED", "1"));
	/* And CLOVE_PID, in the box, once it is known. */
	ok = ok && env_set(env, "CLOVE_FD", "3") && env_set(env, "CLOVE_DOOR", "4") &&
	     env_set(env, "CLOVE_AGENT_ID", id) && env_set(env, "CLOVE_AGENT_NAME", o->name);
	return ok && !bag_env_complete(env, o->sandboxed ? AGENT_INSIDE_USER : owner->name,
				       o->sandboxed ? AGENT_INSIDE_HOME : owner->home, &fault);
}

/* ---- the spec ---- */

struct parcel_of_fds {
	int fds[SPEC_FDS_MAX];
	unsigned count;
};

static uint32_t fd_add(struct parcel_of_fds *fds, int fd)
{
	if (fd < 0)
		return SPEC_NO_FD;
	fds->fds[fds->count] = fd;
	return fds->count++;
}

static size_t binds_make(const struct agent *agent, struct parcel_of_fds *fds,
			 struct launch_bind *binds)
{
	const struct spawn_options *o = &agent->options;
	size_t count = 0;

	if (o->script)
		binds[count++] = (struct launch_bind){
			.fd = fd_add(fds, agent->home.script),
			.target = INSIDE_SCRIPT,
		};
	if (agent->home.sdk >= 0)
		binds[count++] = (struct launch_bind){
			.fd = fd_add(fds, agent->home.sdk),
			.target = INSIDE_SDK,
		};
	for (unsigned i = 0; i < agent->home.bind_count; i++) {
		bool rw;
		const char *target = agent_home_bind(&agent->home.prefixes, o, i, &rw);

		binds[count++] = (struct launch_bind){
			.fd = fd_add(fds, agent->home.binds[i]),
			.flags = LAUNCH_BIND_OWNER | (rw ? LAUNCH_BIND_RW : 0),
			.target = target,
		};
	}
	return count;
}

static int on_send(struct launch *launch, int channel)
{
	struct agent *agent = container_of(launch, struct agent, launch);
	const struct spawn_options *o = &agent->options;
	const struct user *user = agent->user;
	CLEANUP(strv_deinit) struct strv argv = {0}, env = {0};
	struct launch_bind binds[LIMIT_AGENT_PREFIXES + LIMIT_AGENT_BINDS + 2];
	struct parcel_of_fds fds = {.count = 0};
	struct launch_spec spec = {
		.kind = LAUNCH_AGENT,
		.cwd = o->cwd         ? o->cwd
		       : o->sandboxed ? AGENT_INSIDE_HOME
				      : user->owner->home,
		.cwd_or_root = !o->cwd && !o->sandboxed,
		.umask = 022,
		.uid = o->sandboxed ? agent->home.uid : user->uid,
		.gid = o->sandboxed && agent->home.uid != user->uid ? agent->home.uid : user->gid,
		.box =
			{
				.net = nets[o->profile],
				.seccomp = filters[o->profile],
				.hostname = o->sandboxed ? o->name : "",
				.log_bytes = LIMIT_AGENT_LOG_BYTES,
				.cgroup = agent->group,
				.rlimits = {.nofile = LIMIT_AGENT_NOFILE},
				.limits = o->limits,
			},
	};
	int r;

	if (!argv_make(agent, &argv) || !env_make(agent, &env))
		return -ENOMEM;
	spec.argv = (const char *const *)argv.items;
	spec.env = (const char *const *)env.items;
	spec.box.stdin_fd = fd_add(&fds, agent->child_fds[0]);
	spec.box.socket_fd = fd_add(&fds, agent->child_fds[1]);
	spec.box.report_fd = fd_add(&fds, agent->child_fds[2]);
	spec.box.log_fd = fd_add(&fds, agent->home.logs);
	spec.box.workspace_fd = SPEC_NO_FD;
	if (o->require_limits)
		spec.box.flags |= LAUNCH_BOX_LIMITS;
	if (o->sandboxed) {
		spec.box.flags |= LAUNCH_BOX_NAMESPACES | LAUNCH_BOX_LANDLOCK;
		spec.box.tmp_bytes = o->tmp_bytes;
		if (o->workspace_in_memory) {
			spec.box.workspace_bytes = o->workspace_bytes;
		} else {
			spec.box.workspace_fd = fd_add(&fds, agent->home.workspace);
			spec.box.workspace_quota = o->workspace_bytes;
			/* At once, and also of a file that has no name any more; but not of shared ones. */
			if (!o->rw.count)
				spec.box.rlimits.fsize_bytes = o->workspace_bytes;
		}
		spec.box.n_binds = binds_make(agent, &fds, binds);
		spec.box.binds = binds;
		spec.box.bind_uid = user->uid;
		spec.box.bind_gid = user->gid;
	}
	/* In a box they matter for nothing but the binds. */
	if (!o->sandboxed || agent->home.bind_count) {
		spec.groups = user->groups;
		spec.n_groups = user->group_count;
	}
	r = launch_send(channel, launch->id, &spec, fds.fds, fds.count);
	if (!r)
		for (unsigned i = 0; i < 3; i++)
			agent->child_fds[i] = fd_close(agent->child_fds[i]);
	return r;
}

static void on_unsent(struct launch *launch, int result)
{
	struct agent *agent = container_of(launch, struct agent, launch);

	agent->launching = false;
	if (result == LAUNCH_E_TOO_BIG)
		(void)fault_set(&agent->fault, WIRE_TOO_LARGE,
				"command, env and paths together: 64 KiB at most");
	else if (result == LAUNCH_E_GONE)
		(void)fault_set(&agent->fault, WIRE_UNAVAILABLE,
				"the launcher is not running; restart the kernel");
	else
		(void)fault_set(&agent->fault, WIRE_BUSY,
				"the agent cannot be handed to the launcher; try again");
	agent_unsent(agent);
}

static void on_answered(struct launch *launch, struct launch_reply *reply)
{
	agent_answered(container_of(launch, struct agent, launch), reply);
}

static void on_signalled(struct launch *launch, int error)
{
	agent_signalled(container_of(launch, struct agent, launch), error);
}

static void on_lost(struct launch *launch)
{
	agent_lost(container_of(launch, struct agent, launch));
}

static const struct launch_type launch_type = {
	.send = on_send,
	.unsent = on_unsent,
	.answered = on_answered,
	.signalled = on_signalled,
	.lost = on_lost,
};

/* ---- the start ---- */

static int connect_both(struct agent *agent)
{
	int r = agent_conn_open(agent);

	if (r)
		return err_trace(r);
	return agent->options.input
		       ? err_trace(stdin_file_open(agent->options.input, agent->options.input_len,
						   &agent->child_fds[0]))
		       : 0;
}

int agent_launch(struct agent *agent)
{
	int r = connect_both(agent);

	if (r) {
		(void)fault_set_os(&agent->fault, -r, "no descriptors for another agent");
		return -1;
	}
	if (directory_group(agent->shard->kernel->directory, agent->id, agent->group)) {
		(void)fault_set(&agent->fault, WIRE_CANCELLED,
				"the agent that started it has ended");
		return -1;
	}
	agent->launching = true;
	channel_add(agent->shard, &agent->launch, &launch_type);
	channel_launch(agent->shard, &agent->launch);
	return 0;
}

void agent_launch_fault(struct agent *agent, const struct launch_reply *reply)
{
	struct fault *fault = &agent->fault;
	bool unmapped = reply->step == LAUNCH_STEP_MOUNT_BINDS && *reply->reason;

	if (reply->step == LAUNCH_STEP_SPEC)
		(void)fault_set(fault, WIRE_INVALID_ARGUMENT, "SPAWN: %s", reply->reason);
	else if (reply->step == LAUNCH_STEP_LIMITS)
		(void)fault_set(fault, WIRE_LIMITS_UNAVAILABLE, "require_limits: %s",
				reply->reason);
	else if (reply->step == LAUNCH_STEP_LAYER)
		(void)fault_set(
			fault, WIRE_SANDBOX_UNAVAILABLE,
			"this host cannot sandbox as asked: %s; ask for less, or for sandboxed=False",
			reply->reason);
	else if (unmapped)
		(void)fault_set(fault, WIRE_SANDBOX_UNAVAILABLE, "rw %s", reply->reason);
	else
		(void)fault_set_os(fault, reply->error, "the agent could not be started (%s)",
				   launch_step_name(reply->step));
	if (reply->step != LAUNCH_STEP_SPEC && reply->step != LAUNCH_STEP_LAYER &&
	    reply->step != LAUNCH_STEP_LIMIT && reply->step != LAUNCH_STEP_LIMITS && !unmapped)
		fault->code = WIRE_EXEC_FAILED;
	fault->step = launch_step_name(reply->step);
}

/* ---- answers ---- */

void agent_end_pack(uint32_t id, const char *name, const struct agent_end *end, msgpack_packer *pk)
{
	pack_map(pk, 11);
	pack_key_uint(pk, "agent_id", id);
	pack_key_text(pk, "name", name);
	pack_key_text(pk, "reason", agent_reason_name(end->reason));
	pack_text(pk, "exit_code");
	(void)msgpack_pack_int(pk, end->exit_code);
	pack_key_uint(pk, "signal", (uint64_t)end->signal);
	pack_key_uint(pk, "killed_by", end->killed_by);
	pack_key_uint(pk, "incarnation", end->incarnation);
	pack_key_uint(pk, "restarts", end->restarts);
	pack_key_uint(pk, "uptime_ms", end->uptime_ms);
	pack_key_uint(pk, "log_bytes_lost", end->log_bytes_lost);
	pack_key_bool(pk, "left_processes", end->left_processes);
}

static bool has(const struct agent *agent, enum launch_layer layer)
{
	return agent->layers & 1u << layer;
}

static void protections_pack(const struct agent *agent, msgpack_packer *pk)
{
	size_t count = 0;

	pack_map(pk, PROTECTION_LIMITS + 2);
	protection_pack_limits(agent->layers, pk);
	pack_key_text(pk, "workspace",
		      !agent->options.sandboxed                  ? "none"
		      : agent->options.workspace_in_memory       ? "memory"
		      : has(agent, LAUNCH_LAYER_WORKSPACE_QUOTA) ? "quota"
								 : "polled");
	pack_text(pk, "layers");
	for (unsigned i = 0; i < LAUNCH_LAYER_COUNT; i++)
		count += has(agent, (enum launch_layer)i);
	pack_array(pk, count);
	for (unsigned i = 0; i < LAUNCH_LAYER_COUNT; i++)
		if (has(agent, (enum launch_layer)i))
			pack_text(pk, launch_layer_name((enum launch_layer)i));
}

/* Binds that show what everybody may read, not what the user may. */
static void unmapped_pack(const struct agent *agent, msgpack_packer *pk)
{
	size_t first = agent->options.script ? 1 : 0;

	if (*agent->shard->kernel->config->sdk_dir)
		first++;
	for (size_t i = first; i < 64; i++) {
		char text[512];
		bool rw;

		if (!(agent->unmapped & UINT64_C(1) << i))
			continue;
		(void)snprintf(
			text, sizeof(text),
			"ro %.300s: only what all may read is readable; its file system has no id-mapped mounts",
			agent_home_bind(&agent->prefixes, &agent->options, i - first, &rw));
		pack_text(pk, text);
	}
}

/* What was asked for, or is the default, and is not enforced. */
static void warnings_pack(const struct agent *agent, msgpack_packer *pk)
{
	const struct {
		bool on;
		const char *text;
	} all[] = {
		{!agent->options.sandboxed, "not sandboxed: it may do what its owner may do"},
		{!has(agent, LAUNCH_LAYER_CGROUP_MEMORY) && has(agent, LAUNCH_LAYER_RLIMIT_MEMORY),
		 "memory: limited for each process by rlimit, not for the agent; no cgroup v2 controller"},
		{!has(agent, LAUNCH_LAYER_CGROUP_MEMORY) && !has(agent, LAUNCH_LAYER_RLIMIT_MEMORY),
		 "memory: not limited; no cgroup v2 controller"},
		{!has(agent, LAUNCH_LAYER_CGROUP_CPU), "cpu: not limited; no cgroup v2 controller"},
		{!has(agent, LAUNCH_LAYER_CGROUP_PIDS) && !has(agent, LAUNCH_LAYER_RLIMIT_PIDS),
		 "pids: not limited; no cgroup v2 controller"},
		{!has(agent, LAUNCH_LAYER_CGROUP_IO) && (agent->options.limits.io_read_bytes ||
							 agent->options.limits.io_write_bytes),
		 "io: not limited; no cgroup v2 controller, or none for the disk of the workspace"},
	};
	size_t count = 0;

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		count += all[i].on;
	pack_text(pk, "warnings");
	pack_array(pk, count + (size_t)__builtin_popcountll(agent->unmapped));
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i].on)
			pack_text(pk, all[i].text);
	unmapped_pack(agent, pk);
}

void agent_pack_limits(const struct agent *agent, msgpack_packer *pk)
{
	const struct spawn_options *o = &agent->options;

	pack_text(pk, "limits");
	pack_map(pk, 5);
	pack_key_uint(pk, "memory", o->limits.memory_bytes);
	pack_key_uint(pk, "cpu_quota", o->limits.cpu_quota_us);
	pack_key_uint(pk, "max_pids", o->limits.pids);
	pack_key_uint(pk, "io_read", o->limits.io_read_bytes);
	pack_key_uint(pk, "io_write", o->limits.io_write_bytes);
	pack_text(pk, "protections");
	protections_pack(agent, pk);
}

void agent_pack(const struct agent *agent, msgpack_packer *pk)
{
	const struct spawn_options *o = &agent->options;
	uint64_t now_ns = agent->shard->now_ns;

	struct agent_card card = {.id = agent->id, .layers = agent->layers};

	card.life_ns = agent->start_ns;
	pack_map(pk, 22 + PROTECTION_USAGE);
	protection_pack_usage(agent->shard->kernel, &card, now_ns, pk);
	pack_key_uint(pk, "agent_id", agent->id);
	pack_key_uint(pk, "id", agent->id);
	pack_key_text(pk, "name", o->name);
	pack_key_text(pk, "kind", "spawned");
	pack_key_uint(pk, "pid", (uint64_t)agent->program);
	pack_key_text(pk, "status", agent_state_name(agent->state));
	pack_key_text(pk, "state", agent_state_name(agent->state));
	pack_key_uint(pk, "uid", agent->owner);
	pack_key_uint(pk, "core", agent->shard->index);
	pack_key_uint(pk, "parent", agent->parent);
	pack_key_uint(pk, "uptime_ms",
		      now_ns < agent->born_ns ? 0 : (now_ns - agent->born_ns) / CLOCK_NS_PER_MS);
	pack_key_uint(pk, "calls",
		      atomic_load_explicit(&agent->entry->calls, memory_order_relaxed));
	pack_key_uint(pk, "connections", agent_conn_count(agent));
	pack_key_text(pk, "profile", profile_name(o->profile));
	pack_key_bool(pk, "sandboxed", o->sandboxed);
	pack_key_text(pk, "start", "cold");
	pack_key_text(pk, "restart_policy", restart_policy_name(o->restart));
	pack_key_uint(pk, "incarnation", agent->incarnation);
	pack_key_uint(pk, "restarts", agent->restarts);
	agent_pack_limits(agent, pk);
	warnings_pack(agent, pk);
}
