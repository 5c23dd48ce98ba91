/* SPDX-License-Identifier: MIT */

/*
 * Two processes: a waiter, child of the kernel, and the command, child of the waiter
 *
 * A process does not change its own pid namespace, only that of its children. So the waiter steps
 * into all namespaces of the box, forks the command there, and ends as the command ended, by exit
 * code or by the same signal. The kernel reaps the waiter and never notices. The waiter stays outside
 * the pid namespace, out of reach for whatever runs in it.
 *
 * Both are of one process group, that of the waiter: to signal it reaches the command and its
 * background children. The waiter itself blocks everything, and so ends only after the command.
 *
 * The command has the uid of the agent, which would like to look into a process that still has the
 * launcher's memory and descriptors. It cannot: all is closed before the namespaces are entered, and
 * the process is not dumpable until execve().
 */

#include "sandbox/enter.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const int namespaces = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC |
			      CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_NEWNET;

static _Noreturn void fail(const struct enter_job *job, enum launch_step step, int error)
{
	box_status_send(job->status, &(struct box_status){.step = step, .error = error});
	_exit(127);
}

static void close_all(const struct enter_job *job)
{
	int keep[] = {job->status, job->namespaces, job->fds[0], job->fds[1], job->fds[2]};
	int r = box_close_others(keep, sizeof(keep) / sizeof(keep[0]));

	if (r)
		fail(job, LAUNCH_STEP_DESCRIPTORS, -r);
}

/* Ends this process as @info says of the other. */
static _Noreturn void end_like(const siginfo_t *info)
{
	struct sigaction action = {.sa_handler = SIG_DFL};
	sigset_t set;

	if (info->si_code == CLD_EXITED)
		_exit(info->si_status);
	(void)sigaction(info->si_status, &action, NULL);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, info->si_status);
	(void)kill(getpid(), info->si_status);
	(void)sigprocmask(SIG_UNBLOCK, &set, NULL);
	_exit(128 + info->si_status);
}

static _Noreturn void wait_for(pid_t pid)
{
	siginfo_t info = {0};

	(void)close_range(0, ~0U, 0);
	while (waitid(P_PID, (id_t)pid, &info, WEXITED | __WALL) < 0)
		if (errno != EINTR)
			_exit(127);
	end_like(&info);
}

_Noreturn void enter_run(const struct enter_job *job)
{
	struct box_program program = {
		.spec = job->spec,
		.terms = job->terms,
		.host = job->host,
		.fds = {job->fds[0], job->fds[1], job->fds[2]},
		.socket = -1,
		.door = -1,
		.status = job->status,
		.layers = job->terms->layers,
		.nofile = job->nofile,
		.entered = true,
	};
	pid_t pid;

	close_all(job);
	if (setsid() < 0)
		fail(job, LAUNCH_STEP_SESSION, errno);
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		fail(job, LAUNCH_STEP_NAMESPACES, errno);
	if (job->terms->flags & LAUNCH_BOX_NAMESPACES) {
		int wanted = job->terms->net == LAUNCH_NET_HOST ? namespaces & ~CLONE_NEWNET
								: namespaces;

		if (setns(job->namespaces, wanted) < 0)
			fail(job, LAUNCH_STEP_NAMESPACES, errno);
	}
	pid = fork();
	if (pid == 0)
		box_program_run(&program);
	if (pid < 0)
		fail(job, LAUNCH_STEP_FORK, errno);
	wait_for(pid);
}
