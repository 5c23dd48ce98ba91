/* SPDX-License-Identifier: MIT */

/*
 * The last steps of a program in a box
 *
 *   session     its own, without a controlling terminal
 *   stdio       0, 1, 2, the connection and the door; all else vanishes at execve()
 *   rlimits     lowered for good
 *   nice
 *   groups gid uid   where there is no user namespace, in which the init has done it
 *   capabilities, no_new_privs   for what enters; the init has none to hand down
 *   cwd         as the user
 *   landlock    after everything that opens files of its own accord
 *   seccomp     last: the steps before it make calls that it refuses
 *   signals     what somebody sent meanwhile strikes here
 *   exec
 *
 * The init may have lent its memory (vfork): nothing of it is changed but *program and what is used here alone.
 */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/box.h"
#include "sandbox/identity.h"
#include "sandbox/landlock.h"
#include "sandbox/program.h"

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

enum {
	MEMLOCK_BYTES = 64 << 10,
	SIGPENDING_MAX = 256,
	NOFILE_SOFT = 1024,
};

static bool is_sandboxed(const struct box_program *program)
{
	return program->terms->flags & LAUNCH_BOX_NAMESPACES;
}

static bool has_layer(const struct box_program *program, enum launch_layer layer)
{
	return program->layers & 1u << layer;
}

static void add_layer(struct box_program *program, enum launch_layer layer)
{
	program->layers |= 1u << layer;
}

void box_status_send(int status, const struct box_status *message)
{
	/* Room for it there is: nothing else was sent. */
	while (send(status, message, sizeof(*message), MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}

static int start_session(struct box_program *program)
{
	if (program->entered)
		return 0;
	return setsid() < 0 ? -errno : 0;
}

static int set_stdio(struct box_program *program)
{
	int first_closed = BOX_SOCKET_FD;

	for (int fd = 0; fd < 3; fd++)
		if (dup2(program->fds[fd], fd) < 0)
			return -errno;
	if (program->socket >= 0) {
		if (dup2(program->socket, BOX_SOCKET_FD) < 0)
			return -errno;
		first_closed++;
	}
	if (program->door >= 0) {
		if (dup2(program->door, BOX_DOOR_FD) < 0)
			return -errno;
		first_closed++;
	}
	return close_range((unsigned)first_closed, ~0U, CLOSE_RANGE_CLOEXEC) < 0 ? -errno : 0;
}

static int set_limit(int resource, uint64_t value)
{
	struct rlimit limit;

	if (getrlimit((__rlimit_resource_t)resource, &limit) < 0)
		return -errno;
	if (value < limit.rlim_max)
		limit.rlim_max = value;
	limit.rlim_cur = limit.rlim_max;
	return setrlimit((__rlimit_resource_t)resource, &limit) < 0 ? -errno : 0;
}

/* The soft limit stays what programs expect, of whom some walk through all below it, or use select(). */
static int set_nofile(uint64_t value)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return -errno;
	if (value < limit.rlim_max)
		limit.rlim_max = value;
	if (limit.rlim_cur > NOFILE_SOFT)
		limit.rlim_cur = NOFILE_SOFT;
	if (limit.rlim_cur > limit.rlim_max)
		limit.rlim_cur = limit.rlim_max;
	return setrlimit(RLIMIT_NOFILE, &limit) < 0 ? -errno : 0;
}

/* What stands in where no cgroup holds the limit; it is of each process, or of the uid in the box. */
static int set_stand_ins(struct box_program *program)
{
	const struct launch_limits *limits = &program->terms->limits;
	int r = 0;

	if (limits->memory_bytes && !has_layer(program, LAUNCH_LAYER_CGROUP_MEMORY)) {
		r = set_limit(RLIMIT_DATA, limits->memory_bytes);
		add_layer(program, LAUNCH_LAYER_RLIMIT_MEMORY);
	}
	/* The init counts as well. Outside a namespace it would count all that its user runs. */
	if (!r && limits->pids && is_sandboxed(program) &&
	    !has_layer(program, LAUNCH_LAYER_CGROUP_PIDS)) {
		r = set_limit(RLIMIT_NPROC, limits->pids + 1);
		add_layer(program, LAUNCH_LAYER_RLIMIT_PIDS);
	}
	return r;
}

static int set_rlimits(struct box_program *program)
{
	const struct launch_rlimits *rlimits = &program->terms->rlimits;
	int r;

	if (setrlimit(RLIMIT_NOFILE, &program->nofile) < 0)
		return -errno;
	r = set_limit(RLIMIT_CORE, 0);
	if (!r && rlimits->nofile)
		r = set_nofile(rlimits->nofile);
	if (!r && rlimits->nproc)
		r = set_limit(RLIMIT_NPROC, rlimits->nproc);
	if (!r && rlimits->fsize_bytes)
		r = set_limit(RLIMIT_FSIZE, rlimits->fsize_bytes);
	if (!r && rlimits->as_bytes)
		r = set_limit(RLIMIT_AS, rlimits->as_bytes);
	if (!r && is_sandboxed(program))
		r = set_limit(RLIMIT_MEMLOCK, MEMLOCK_BYTES);
	/* Timers and queued signals count for the user outside as well, who has but so many. */
	if (!r && is_sandboxed(program))
		r = set_limit(RLIMIT_SIGPENDING, SIGPENDING_MAX);
	return r ? r : set_stand_ins(program);
}

static int set_nice(struct box_program *program)
{
	errno = 0;
	if (program->terms->nice && nice((int)program->terms->nice) == -1 && errno)
		return -errno;
	return 0;
}

static int set_groups(struct box_program *program)
{
	const struct launch_spec *spec = program->spec;
	int r = is_sandboxed(program) ? 0 : identity_leave_keys(spec->uid);

	return r || is_sandboxed(program) ? r : identity_set_groups(spec->groups, spec->n_groups);
}

static int set_gid(struct box_program *program)
{
	return identity_set_gid(is_sandboxed(program) ? BOX_UID : program->spec->gid);
}

static int set_uid(struct box_program *program)
{
	return identity_set_uid(is_sandboxed(program) ? BOX_UID : program->spec->uid);
}

static int drop_capabilities(struct box_program *program)
{
	int r;

	if (!is_sandboxed(program))
		return 0;
	/* An init has none any more, and may not be asked for the bounding set. */
	r = program->layers & 1u << LAUNCH_LAYER_CAPABILITIES ? 0 : box_drop_capabilities();
	add_layer(program, LAUNCH_LAYER_CAPABILITIES);
	return r;
}

static int no_new_privs(struct box_program *program)
{
	add_layer(program, LAUNCH_LAYER_NO_NEW_PRIVS);
	return box_no_new_privs();
}

static int enter_cwd(struct box_program *program)
{
	(void)umask(program->spec->umask);
	return program_enter_cwd(program->spec);
}

static int restrict_files(struct box_program *program)
{
	const struct box_terms *terms = program->terms;

	if (!(terms->flags & LAUNCH_BOX_LANDLOCK) || !program->host->landlock_abi)
		return 0;
	add_layer(program, LAUNCH_LAYER_LANDLOCK);
	return landlock_apply(&(struct landlock_rules){
		.abi = program->host->landlock_abi,
		.tcp = terms->seccomp != LAUNCH_SECCOMP_STANDARD,
		.abstract = terms->net == LAUNCH_NET_HOST,
		.rw_paths = terms->rw_paths,
	});
}

static void add_box_layers(struct box_program *program)
{
	static const enum launch_layer own[] = {
		LAUNCH_LAYER_USER_NS, LAUNCH_LAYER_MOUNT_NS,    LAUNCH_LAYER_PID_NS,
		LAUNCH_LAYER_IPC_NS,  LAUNCH_LAYER_UTS_NS,      LAUNCH_LAYER_CGROUP_NS,
		LAUNCH_LAYER_ROOT,    LAUNCH_LAYER_PROC_SUBSET,
	};

	if (!is_sandboxed(program))
		return;
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		add_layer(program, own[i]);
}

static int filter_calls(struct box_program *program)
{
	struct box_status running = {.step = LAUNCH_STEP_NONE};

	add_box_layers(program);
	if (program->terms->seccomp)
		add_layer(program, LAUNCH_LAYER_SECCOMP);
	running.layers = program->layers;
	running.landlock_abi =
		has_layer(program, LAUNCH_LAYER_LANDLOCK) ? program->host->landlock_abi : 0;
	box_status_send(program->status, &running);
	return program->terms->seccomp
		       ? seccomp_filter_install(&program->host->filters[program->terms->seccomp])
		       : 0;
}

/*
 * The connection is one stream, so it is the program's alone, not its children's, who inherit the same
 * descriptors and variables. They tell by this whom it belongs to.
 */
static void name_owner(struct launch_spec *spec)
{
	static const char *env[SPEC_ARGS_MAX + 2];
	static char pid[32];
	size_t n = 0;

	for (; spec->env[n]; n++)
		env[n] = spec->env[n];
	(void)snprintf(pid, sizeof(pid), "CLOVE_PID=%d", (int)getpid());
	env[n++] = pid;
	env[n] = NULL;
	spec->env = env;
}

static int run(struct box_program *program)
{
	struct launch_spec spec = *program->spec;
	int r = program_reset_signals();

	if (program->socket >= 0)
		name_owner(&spec);
	return r ? r : program_exec(&spec);
}

_Noreturn void box_program_run(struct box_program *program)
{
	static const struct {
		enum launch_step step;
		int (*run)(struct box_program *program);
	} steps[] = {
		{LAUNCH_STEP_SESSION, start_session},
		{LAUNCH_STEP_STDIO, set_stdio},
		{LAUNCH_STEP_NICE, set_nice},
		{LAUNCH_STEP_GROUPS, set_groups},
		{LAUNCH_STEP_GID, set_gid},
		{LAUNCH_STEP_UID, set_uid},
		{LAUNCH_STEP_CAPABILITIES, drop_capabilities},
		{LAUNCH_STEP_RLIMITS, set_rlimits},
		{LAUNCH_STEP_NO_NEW_PRIVS, no_new_privs},
		{LAUNCH_STEP_CWD, enter_cwd},
		{LAUNCH_STEP_LANDLOCK, restrict_files},
		{LAUNCH_STEP_SECCOMP, filter_calls},
		{LAUNCH_STEP_EXEC, run},
	};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		int r = steps[i].run(program);

		if (r) {
			box_status_send(program->status,
					&(struct box_status){.step = steps[i].step, .error = -r});
			break;
		}
	}
	_exit(127);
}
