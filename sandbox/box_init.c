/* SPDX-License-Identifier: MIT */

/*
 * The init of a box: builds it, starts the program, stays with it to the end
 *
 * The order of the steps, and why:
 *
 *   close all      what the launcher holds is nobody's business; before anyone could look in
 *   session        no terminal
 *   ids            in the user namespace, before any file is made: one made by an id without a
 *                  name outside could not be stored
 *   no namespaces  none can be made inside any more, whatever the filter lets through; as long as
 *                  /proc/sys is in sight
 *   hostname, loopback
 *   logs           the directory is the host's, out of sight later, but by descriptor
 *   mounts, pivot  see box_root.c
 *   capabilities, no_new_privs   nothing after this needs any, so the init has none either
 *   program        vfork(): its memory is not worth a copy
 *
 * Then it waits for five things: orders or the end of the launcher on the lifeline, the death of
 * anything in the box, output on two pipes, a knock at the door (box_door.c). It is single-threaded,
 * keeps no other descriptor than these, the log files and the report socket, allocates nothing, and
 * cannot be looked into by the program, though it has its uid: it is not dumpable.
 *
 * The end: the program's death, an order, or the lifeline's EOF. All else in the box is killed and
 * reaped, the rest of the output is stored, the report is written, and PID 1 exits; the system
 * kills what got past that. Without namespaces the same is done by walking the tree below.
 */

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/base/cleanup.h"
#include "sandbox/box.h"
#include "sandbox/identity.h"
#include "sandbox/packet.h"

enum {
	STREAMS = 2,
	READ_BYTES = 64 << 10,
	READS_PER_PASS = 4,  /* then orders and deaths get their turn */
	DOOR_RETRY_MS = 100, /* after a fork that failed: the box has as many processes as it may */
};

struct init {
	const struct box_job *job;
	const struct launch_box *box;
	struct box_root root;
	struct box_program program;
	int lifeline, report, signals;
	int door;          /* -1: the program has no connection either */
	bool door_shut;    /* nobody is left who could knock */
	bool door_later;   /* for want of a process */
	pid_t keeper;      /* of the door; 0: none */
	int ends[STREAMS]; /* read ends of stdout and stderr, -1 after EOF */
	int write_ends[STREAMS];
	struct box_log logs[STREAMS];
	pid_t pid; /* of the program; 0 once it is reaped */
	bool ending;
	struct launch_report result;
};

static bool is_sandboxed(const struct init *init)
{
	return init->box->flags & LAUNCH_BOX_NAMESPACES;
}

static int pick(const struct init *init, uint32_t index)
{
	return index == SPEC_NO_FD ? -1 : init->job->fds[index];
}

static int close_all(struct init *init)
{
	int keep[SPEC_FDS_MAX + 2];
	size_t n = 0;

	keep[n++] = init->job->status;
	keep[n++] = init->job->lifeline;
	for (unsigned i = 0; i < spec_fds(init->job->spec); i++)
		keep[n++] = init->job->fds[i];
	return box_close_others(keep, n);
}

static int start_session(struct init *init)
{
	(void)init;
	return setsid() < 0 ? -errno : 0;
}

static int write_proc(const char *path, const char *text)
{
	CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* A user without root may map one id, its own, and only with its groups frozen. */
static int map_own_ids(const struct launch_spec *spec)
{
	char uid_map[48], gid_map[48];
	int r;

	(void)snprintf(uid_map, sizeof(uid_map), "%d %u 1", BOX_UID, (unsigned)spec->uid);
	(void)snprintf(gid_map, sizeof(gid_map), "%d %u 1", BOX_UID, (unsigned)spec->gid);
	r = write_proc("/proc/self/setgroups", "deny");
	if (!r)
		r = write_proc("/proc/self/uid_map", uid_map);
	if (!r)
		r = write_proc("/proc/self/gid_map", gid_map);
	return r;
}

static int get_ids(struct init *init)
{
	struct box_order order;
	int r;

	if (!is_sandboxed(init))
		return 0;
	if (init->job->host->is_root) {
		ssize_t n = recv(init->lifeline, &order, sizeof(order), 0);

		return n == sizeof(order) && order.type == BOX_GO ? 0 : -ECANCELED;
	}
	/* Or its files in /proc would be root's. All that could be found in it is closed. */
	if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
		return -errno;
	r = map_own_ids(init->job->spec);
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -errno;
	return r;
}

static int set_gid(struct init *init)
{
	return is_sandboxed(init) ? identity_set_gid(BOX_UID) : 0;
}

static int set_uid(struct init *init)
{
	int r = is_sandboxed(init) ? identity_set_uid(BOX_UID) : 0;

	if (!r && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		r = -errno;
	return r;
}

/* With its own group as the top of what it sees of groups. */
static int finish_namespaces(struct init *init)
{
	if (is_sandboxed(init) && unshare(CLONE_NEWCGROUP) < 0)
		return -errno;
	/* From here on there are no more to be had. */
	return is_sandboxed(init) ? write_proc("/proc/sys/user/max_user_namespaces", "0") : 0;
}

static int set_hostname(struct init *init)
{
	const char *name = init->box->hostname;

	if (!is_sandboxed(init))
		return 0;
	return sethostname(name, strlen(name)) < 0 ? -errno : 0;
}

static int raise_loopback(struct init *init)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	CLEANUP(fd_closep) int sock = -1;

	if (init->box->net != LAUNCH_NET_LOOPBACK)
		return 0;
	sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return sock < 0 || ioctl(sock, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}

static int open_logs(struct init *init)
{
	int dir = pick(init, init->box->log_fd), r;

	r = box_log_open(&init->logs[0], dir, "stdout.log", "stdout.log.1",
			 init->box->log_bytes / 2);
	if (!r)
		r = box_log_open(&init->logs[1], dir, "stderr.log", "stderr.log.1",
				 init->box->log_bytes / 2);
	return r;
}

static int open_streams(struct init *init)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return -errno;
	init->program.fds[0] = pick(init, init->box->stdin_fd);
	if (init->program.fds[0] < 0)
		init->program.fds[0] = null;
	for (int i = 0; i < STREAMS; i++) {
		int ends[2] = {-1, null};

		if (init->logs[i].dir >= 0 && pipe2(ends, O_CLOEXEC) < 0)
			return -errno;
		if (ends[0] >= 0 && fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0)
			return -errno;
		/* The program of another user shall be able to open its own /dev/stdout. */
		if (ends[0] >= 0 && !is_sandboxed(init) && init->job->spec->uid != geteuid() &&
		    fchown(ends[1], init->job->spec->uid, init->job->spec->gid) < 0)
			return -errno;
		init->ends[i] = ends[0];
		init->write_ends[i] = ends[1];
		init->program.fds[1 + i] = ends[1];
	}
	return 0;
}

#define ROOT_STEP(name)                                                  \
	static int name(struct init *init)                               \
	{                                                                \
		return is_sandboxed(init) ? box_##name(&init->root) : 0; \
	}
ROOT_STEP(root_mount)
ROOT_STEP(root_usr)
ROOT_STEP(root_etc)
ROOT_STEP(root_dev)
ROOT_STEP(root_proc)
ROOT_STEP(root_tmp)
ROOT_STEP(root_workspace)
ROOT_STEP(root_binds)
ROOT_STEP(root_pivot)
#undef ROOT_STEP

static int drop_capabilities(struct init *init)
{
	if (!is_sandboxed(init))
		return 0;
	init->program.layers |= 1u << LAUNCH_LAYER_CAPABILITIES;
	return box_drop_capabilities();
}

static int no_new_privs(struct init *init)
{
	(void)init;
	return box_no_new_privs();
}

/* Everything is blocked already, as in the launcher. */
static int watch_children(struct init *init)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	init->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (init->signals < 0)
		return -errno;
	if (!is_sandboxed(init) && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

static int start_program(struct init *init)
{
	struct box_program *program = &init->program;
	pid_t pid;

	program->socket = pick(init, init->box->socket_fd);
	program->door = -1;
	if (program->socket >= 0) {
		int r = box_door_open(&init->door, &program->door);

		if (r)
			return r;
	}
	pid = vfork();
	if (pid == 0)
		box_program_run(program);
	if (pid < 0)
		return -errno;
	init->pid = pid;
	return 0;
}

/* Only the supervisor's own are left: the box must not hold its directories, nor the pipes. */
static void close_unneeded(struct init *init)
{
	int keep[9];
	size_t n = 0;

	keep[n++] = init->door;
	keep[n++] = init->lifeline;
	keep[n++] = init->report;
	keep[n++] = init->signals;
	for (int i = 0; i < STREAMS; i++) {
		if (init->ends[i] < 0)
			continue;
		keep[n++] = init->ends[i];
		keep[n++] = init->logs[i].file;
	}
	if (init->logs[0].dir >= 0)
		keep[n++] = init->logs[0].dir;
	(void)box_close_others(keep, n);
}

static void signal_all(struct init *init, int signo)
{
	if (is_sandboxed(init)) {
		CHECK(getpid() == 1); /* elsewhere this would be everybody */
		(void)kill(-1, signo);
	} else {
		(void)box_tree_signal(signo);
	}
}

static void read_stream(struct init *init, int i, unsigned budget)
{
	static char bytes[READ_BYTES];

	while (init->ends[i] >= 0 && budget-- > 0) {
		ssize_t n = read(init->ends[i], bytes, sizeof(bytes));

		if (n > 0)
			box_log_write(&init->logs[i], bytes, (size_t)n);
		else if (n == 0 || errno != EAGAIN)
			init->ends[i] = fd_close(init->ends[i]);
		else
			return;
	}
}

static void note_exit(struct init *init, const siginfo_t *info)
{
	if (info->si_pid == init->keeper) {
		init->keeper = 0;
		init->door_shut = info->si_code == CLD_EXITED && info->si_status == BOX_DOOR_ENDED;
	}
	if (info->si_pid != init->pid)
		return;
	init->pid = 0;
	init->ending = true;
	if (info->si_code == CLD_EXITED)
		init->result.code = info->si_status;
	else
		init->result.signal = info->si_status;
	if (info->si_code == CLD_DUMPED)
		init->result.flags |= LAUNCH_REPORT_CORE;
}

/* True if there is still a child; waits for one to die if @flags does not say WNOHANG. */
static bool reap(struct init *init, int flags)
{
	siginfo_t info = {0};

	if (waitid(P_ALL, 0, &info, WEXITED | __WALL | flags) < 0)
		return errno != ECHILD;
	if (info.si_pid)
		note_exit(init, &info);
	return info.si_pid != 0;
}

static void take_order(struct init *init)
{
	struct box_order order;
	ssize_t n = recv(init->lifeline, &order, sizeof(order), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n != sizeof(order) || order.signo == SIGKILL) {
		init->result.flags |= LAUNCH_REPORT_ENDED;
		init->ending = true;
	} else if (order.type == BOX_SIGNAL_ALL) {
		signal_all(init, order.signo);
	} else if (order.type == BOX_SIGNAL && init->pid) {
		(void)kill(init->pid, order.signo);
	}
}

static void open_door(struct init *init, short events)
{
	pid_t self = getpid(), pid;

	/* All have closed it. */
	if (events & POLLHUP) {
		init->door_shut = true;
		return;
	}
	pid = fork();
	if (pid == 0)
		box_door_keep(init->door, init->report, self);
	init->keeper = pid < 0 ? 0 : pid;
	init->door_later = pid < 0;
}

/* The door while it is the init's to watch, otherwise -1. */
static int watched_door(const struct init *init)
{
	return init->keeper || init->door_shut || init->door_later ? -1 : init->door;
}

static void supervise(struct init *init)
{
	while (!init->ending) {
		struct pollfd polls[3 + STREAMS] = {
			{.fd = init->lifeline, .events = POLLIN},
			{.fd = init->signals, .events = POLLIN},
			{.fd = init->ends[0], .events = POLLIN},
			{.fd = init->ends[1], .events = POLLIN},
			{.fd = watched_door(init), .events = POLLIN},
		};
		struct signalfd_siginfo ignored;

		if (poll(polls, 3 + STREAMS, init->door_later ? DOOR_RETRY_MS : -1) < 0)
			continue;
		init->door_later = false;
		for (int i = 0; i < STREAMS; i++)
			if (polls[2 + i].revents)
				read_stream(init, i, READS_PER_PASS);
		if (polls[1].revents) {
			(void)read(init->signals, &ignored, sizeof(ignored));
			while (reap(init, WNOHANG))
				;
		}
		if (polls[0].revents)
			take_order(init);
		if (polls[2 + STREAMS].revents && !init->ending)
			open_door(init, polls[2 + STREAMS].revents);
	}
}

/* A process that is killed may leave children to us: the tree is walked until none is left. */
static void end_all(struct init *init)
{
	while (reap(init, WNOHANG))
		;
	for (bool first = true;;) {
		siginfo_t info = {0};

		signal_all(init, SIGKILL);
		if (waitid(P_ALL, 0, &info, WEXITED | WNOWAIT | __WALL) < 0 && errno == ECHILD)
			return;
		/* The keeper of the door is no process of the program's. */
		if (info.si_pid != init->keeper) {
			if (first && !init->pid)
				init->result.flags |= LAUNCH_REPORT_LEFT;
			first = false;
		}
		(void)reap(init, 0);
	}
}

static _Noreturn void finish(struct init *init)
{
	end_all(init);
	for (int i = 0; i < STREAMS; i++) {
		/* Entered commands may hold a copy: what is in the pipe is all we wait for. */
		read_stream(init, i, 1u << 10);
		init->result.log_bytes_lost += init->logs[i].lost;
	}
	/* Behind connections that the kernel has still to take, which it does, or is gone itself. */
	(void)packet_send(init->report, &(struct packet_head){.op = PACKET_REPORT}, &init->result,
			  sizeof(init->result), NULL, 0, 0);
	_exit(0);
}

static const struct {
	enum launch_step step;
	int (*run)(struct init *init);
} steps[] = {
	{LAUNCH_STEP_DESCRIPTORS, close_all},
	{LAUNCH_STEP_SESSION, start_session},
	{LAUNCH_STEP_ID_MAP, get_ids},
	{LAUNCH_STEP_GID, set_gid},
	{LAUNCH_STEP_UID, set_uid},
	{LAUNCH_STEP_NAMESPACES, finish_namespaces},
	{LAUNCH_STEP_HOSTNAME, set_hostname},
	{LAUNCH_STEP_LOOPBACK, raise_loopback},
	{LAUNCH_STEP_LOGS, open_logs},
	{LAUNCH_STEP_STDIO, open_streams},
	{LAUNCH_STEP_MOUNT_ROOT, root_mount},
	{LAUNCH_STEP_MOUNT_USR, root_usr},
	{LAUNCH_STEP_MOUNT_ETC, root_etc},
	{LAUNCH_STEP_MOUNT_DEV, root_dev},
	{LAUNCH_STEP_MOUNT_PROC, root_proc},
	{LAUNCH_STEP_MOUNT_TMP, root_tmp},
	{LAUNCH_STEP_MOUNT_WORKSPACE, root_workspace},
	{LAUNCH_STEP_MOUNT_BINDS, root_binds},
	{LAUNCH_STEP_PIVOT_ROOT, root_pivot},
	{LAUNCH_STEP_CAPABILITIES, drop_capabilities},
	{LAUNCH_STEP_NO_NEW_PRIVS, no_new_privs},
	{LAUNCH_STEP_SIGNALS, watch_children},
	{LAUNCH_STEP_FORK, start_program},
};

_Noreturn void box_init(const struct box_job *job)
{
	static struct init init;

	init = (struct init){
		.job = job,
		.box = &job->spec->box,
		.root = {.job = job, .fd = -1},
		.program = {.spec = job->spec,
			    .terms = job->terms,
			    .host = job->host,
			    .status = job->status,
			    .layers = job->terms->layers,
			    .nofile = job->nofile},
		.lifeline = job->lifeline,
		.report = job->fds[job->spec->box.report_fd],
		.door = -1,
	};
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		int r = steps[i].run(&init);

		if (r) {
			box_status_send(job->status,
					&(struct box_status){.step = steps[i].step, .error = -r});
			_exit(127);
		}
	}
	close_unneeded(&init);
	supervise(&init);
	finish(&init);
}
