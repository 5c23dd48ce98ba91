/* SPDX-License-Identifier: MIT */

/*
 * The steps of a plain command, in their order
 *
 *   signals   handlers and mask as a fresh program expects them; a signal that the kernel sent
 *             meanwhile waited behind the launcher's full mask and strikes here
 *   session   an own session, so an own process group to kill, and no controlling terminal
 *   rlimits   the soft limits that the launcher found and changed for itself
 *   pipes     given to the user
 *   groups gid uid
 *   stdio     the three descriptors; all others vanish at execve()
 *   cwd       as the user: what the user may not enter, the command does not see
 *   exec
 *
 * All are fatal. The launcher is not dumpable, and a child inherits that: until execve() no process
 * of the same user can look into it, although it already has its uid.
 */

#include "sandbox/plain.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/identity.h"
#include "sandbox/launch.h"
#include "sandbox/program.h"

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

static int reset_signals(const struct plain_job *job)
{
	(void)job;
	return program_reset_signals();
}

static int start_session(const struct plain_job *job)
{
	(void)job;
	return setsid() < 0 ? -errno : 0;
}

static int restore_rlimits(const struct plain_job *job)
{
	if (setrlimit(RLIMIT_CORE, &job->core) < 0 || setrlimit(RLIMIT_NOFILE, &job->nofile) < 0)
		return -errno;
	return 0;
}

/* Or they could not open their own /dev/stdout. */
static int give_pipes(const struct plain_job *job)
{
	struct stat st;

	if (job->spec->uid == geteuid())
		return 0;
	for (int fd = 0; fd < 3; fd++)
		if (!fstat(job->fds[fd], &st) && S_ISFIFO(st.st_mode) &&
		    fchown(job->fds[fd], job->spec->uid, job->spec->gid) < 0)
			return -errno;
	return 0;
}

static int set_groups(const struct plain_job *job)
{
	int r = identity_leave_keys(job->spec->uid);

	return r ? r : identity_set_groups(job->spec->groups, job->spec->n_groups);
}

static int set_gid(const struct plain_job *job)
{
	return identity_set_gid(job->spec->gid);
}

static int set_uid(const struct plain_job *job)
{
	return identity_set_uid(job->spec->uid);
}

static int set_stdio(const struct plain_job *job)
{
	for (int fd = 0; fd < 3; fd++)
		if (dup2(job->fds[fd], fd) < 0)
			return -errno;
	return close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0 ? -errno : 0;
}

static int enter_cwd(const struct plain_job *job)
{
	(void)umask(job->spec->umask);
	return program_enter_cwd(job->spec);
}

static int exec_program(const struct plain_job *job)
{
	return program_exec(job->spec);
}

_Noreturn void plain_run(const struct plain_job *job)
{
	static const struct {
		enum launch_step step;
		int (*run)(const struct plain_job *job);
	} steps[] = {
		{LAUNCH_STEP_SIGNALS, reset_signals},
		{LAUNCH_STEP_SESSION, start_session},
		{LAUNCH_STEP_RLIMITS, restore_rlimits},
		{LAUNCH_STEP_STDIO, give_pipes},
		{LAUNCH_STEP_GROUPS, set_groups},
		{LAUNCH_STEP_GID, set_gid},
		{LAUNCH_STEP_UID, set_uid},
		{LAUNCH_STEP_STDIO, set_stdio},
		{LAUNCH_STEP_CWD, enter_cwd},
		{LAUNCH_STEP_EXEC, exec_program},
	};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct plain_failure failure = {.step = steps[i].step};

		failure.error = -steps[i].run(job);
		if (failure.error) {
			/* Without this line the launcher would call the command launched. */
			while (write(job->status, &failure, sizeof(failure)) < 0 && errno == EINTR)
				;
			break;
		}
	}
	_exit(127);
}
