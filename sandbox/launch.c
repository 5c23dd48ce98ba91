/* SPDX-License-Identifier: MIT */

/*
 * The kernel's side of the launcher
 *
 * Nothing here keeps state: who asked for what is the caller's business, found again by the id in a
 * reply. Only the two calls made at start, launcher_start() and launcher_channel(), wait for an
 * answer; a launcher never makes anyone wait long, since it does not block itself.
 */

#include "sandbox/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/base/err.h"
#include "sandbox/launcher.h"
#include "sandbox/packet.h"

enum {
	CONTROL_FD = 3, /* where launcher_main() looks for it */
	/* Of an init's news: the system doubles it, and counts some 800 for each. */
	REPORT_BYTES = 8 << 10,
};

const char *launch_step_name(enum launch_step step)
{
#define LAUNCH_STEP_TEXT(name, text) text,
	static const char *const names[] = {LAUNCH_STEPS(LAUNCH_STEP_TEXT)};
#undef LAUNCH_STEP_TEXT

	return (size_t)step < sizeof(names) / sizeof(names[0]) ? names[step] : "unknown";
}

const char *launch_layer_name(enum launch_layer layer)
{
#define LAUNCH_LAYER_TEXT(name, text) text,
	static const char *const names[] = {LAUNCH_LAYERS(LAUNCH_LAYER_TEXT)};
#undef LAUNCH_LAYER_TEXT

	return layer < LAUNCH_LAYER_COUNT ? names[layer] : "unknown";
}

/* The launcher that was built with this program. 0 or -errno. */
static int find_launcher(char *ret_path, size_t size)
{
	ssize_t len = readlink("/proc/self/exe", ret_path, size);
	char *name;

	if (len < 0)
		return err_raise(-errno);
	if ((size_t)len >= size)
		return err_raise(-ENAMETOOLONG);
	ret_path[len] = '\0';
	name = strrchr(ret_path, '/') + 1;
	if ((size_t)snprintf(name, size - (size_t)(name - ret_path), LAUNCHER_NAME) >=
	    size - (size_t)(name - ret_path))
		return err_raise(-ENAMETOOLONG);
	return 0;
}

/* In the child. The launcher's own close_range() takes care of all other descriptors. */
static _Noreturn void exec_launcher(const char *path, int control)
{
	static char name[] = LAUNCHER_NAME, version[] = CLOVE_VERSION;
	char *argv[] = {name, version, NULL}, *env[] = {NULL};
	int moved = control;

	if (control == CONTROL_FD)
		(void)fcntl(control, F_SETFD, 0);
	else
		moved = dup2(control, CONTROL_FD);
	if (moved >= 0)
		(void)execve(path, argv, env);
	packet_send_ready(control, errno);
	_exit(127);
}

static void reap(pid_t pid)
{
	while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
		;
}

int launcher_start(const char *path, struct launcher *ret_launcher)
{
	CLEANUP(fd_closep) int control = -1, theirs = -1, pidfd = -1;
	char beside[PATH_MAX];
	int pair[2], r;
	pid_t pid;

	if (!path) {
		r = find_launcher(beside, sizeof(beside));
		if (r)
			return err_trace(r);
		path = beside;
	}

	/* Inherited as ignored, it would have the kernel's children reaped before it sees them. */
	if (signal(SIGCHLD, SIG_DFL) == SIG_ERR)
		return err_raise(-errno);
	r = packet_pair(pair);
	if (r)
		return err_trace(r);
	control = pair[0];
	theirs = pair[1];

	pid = fork();
	if (pid < 0)
		return err_raise(-errno);
	if (pid == 0)
		exec_launcher(path, theirs);
	theirs = fd_close(theirs);

	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	r = pidfd < 0 ? err_raise(-errno) : packet_await_ready(control);
	if (r) {
		control = fd_close(control);
		reap(pid);
		return r == PACKET_E_GONE ? err_raise(-ECHILD) : err_trace(r);
	}
	ret_launcher->pid = pid;
	ret_launcher->pidfd = TAKE_FD(pidfd);
	ret_launcher->control = TAKE_FD(control);
	return 0;
}

void launcher_reap(struct launcher *launcher)
{
	if (launcher->pid)
		reap(launcher->pid);
	launcher->pid = 0;
}

void launcher_stop(struct launcher *launcher)
{
	launcher->control = fd_close(launcher->control);
	launcher_reap(launcher);
	launcher->pidfd = fd_close(launcher->pidfd);
}

int launcher_probe(const struct launcher *launcher, struct launch_probe *ret_probe)
{
	struct packet_head head = {.op = PACKET_PROBE};
	struct launch_probe probe;
	struct packet packet = {.body = &probe, .body_max = sizeof(probe)};
	CLEANUP(fd_closep) int ours = -1, theirs = -1;
	int pair[2], r;

	r = packet_pair(pair);
	if (r)
		return err_trace(r);
	ours = pair[0];
	theirs = pair[1];
	r = packet_send(launcher->control, &head, NULL, 0, &theirs, 1, 0);
	theirs = fd_close(theirs);
	if (r == 0)
		r = packet_recv(ours, &packet, 0);
	if (r == PACKET_E_GONE)
		return LAUNCH_E_GONE;
	if (r)
		return err_fold(r);
	packet_close_fds(&packet);
	if (packet.head.op != PACKET_PROBED || packet.body_len != sizeof(probe))
		return err_raise(-EBADMSG);
	*ret_probe = probe;
	return 0;
}

int launcher_cgroups(const struct launcher *launcher, const char *id, const char *parent,
		     int *ret_agents)
{
	struct packet_head head = {.op = PACKET_CGROUPS};
	struct packet packet = {.body = NULL};
	CLEANUP(fd_closep) int ours = -1, theirs = -1;
	char names[2 * PATH_MAX];
	int pair[2], len, r;

	len = snprintf(names, sizeof(names), "%s%c%s", id, '\0', parent ? parent : "") + 1;
	if (len > (int)sizeof(names))
		return err_raise(-ENAMETOOLONG);
	r = packet_pair(pair);
	if (r)
		return err_trace(r);
	ours = pair[0];
	theirs = pair[1];
	r = packet_send(launcher->control, &head, names, (size_t)len, &theirs, 1, 0);
	theirs = fd_close(theirs);
	if (r == 0)
		r = packet_recv(ours, &packet, 0);
	if (r == PACKET_E_GONE)
		return LAUNCH_E_GONE;
	if (r)
		return err_fold(r);
	*ret_agents = packet.n_fds ? packet.fds[0] : -1;
	packet.n_fds -= packet.n_fds > 0;
	packet_close_fds(&packet);
	if (packet.head.op != PACKET_CGROUPED)
		return err_raise(-EBADMSG);
	return packet.head.arg ? err_raise(-packet.head.arg) : 0;
}

int launcher_remove(const struct launcher *launcher, int dir, int *ret_done)
{
	struct packet_head head = {.op = PACKET_REMOVE};
	int pair[2], r = packet_pair(pair);

	if (r)
		return err_trace(r);
	r = packet_send(launcher->control, &head, NULL, 0, (const int[]){pair[1], dir}, 2, 0);
	(void)fd_close(pair[1]);
	if (r) {
		(void)fd_close(pair[0]);
		return r == PACKET_E_GONE ? LAUNCH_E_GONE : err_fold(r);
	}
	*ret_done = pair[0];
	return 0;
}

int launcher_channel(const struct launcher *launcher, int *ret_channel)
{
	struct packet_head head = {.op = PACKET_CHANNEL};
	CLEANUP(fd_closep) int ours = -1, theirs = -1;
	int pair[2], r;

	r = packet_pair(pair);
	if (r)
		return err_trace(r);
	ours = pair[0];
	theirs = pair[1];
	r = packet_send(launcher->control, &head, NULL, 0, &theirs, 1, 0);
	theirs = fd_close(theirs);
	if (r == 0)
		r = packet_await_ready(ours);
	if (r == PACKET_E_GONE)
		return LAUNCH_E_GONE;
	if (r)
		return err_fold(r);
	if (fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
		return err_raise(-errno);
	*ret_channel = TAKE_FD(ours);
	return 0;
}

static int request(int channel, const struct packet_head *head, const struct buf *body,
		   const int *fds, unsigned n_fds)
{
	int r;

	r = packet_send(channel, head, body->data, body->len, fds, n_fds, MSG_DONTWAIT);
	switch (r) {
	case PACKET_E_AGAIN:
		return LAUNCH_E_BUSY;
	case PACKET_E_GONE:
		return LAUNCH_E_GONE;
	case PACKET_E_TOO_BIG:
		return LAUNCH_E_TOO_BIG;
	default:
		return err_fold(r);
	}
}

int launch_send(int channel, uint64_t id, const struct launch_spec *spec, const int *fds,
		unsigned n_fds)
{
	struct packet_head head = {.op = PACKET_LAUNCH, .id = id};
	CLEANUP(buf_deinit) struct buf body = {0};
	int r;

	r = spec_pack(spec, &body);
	if (r)
		return r == SPEC_E_TOO_BIG ? LAUNCH_E_TOO_BIG : err_fold(r);
	return request(channel, &head, &body, fds, n_fds);
}

int launch_signal(int channel, uint64_t id, int signo, bool whole_tree)
{
	struct packet_head head = {.op = PACKET_SIGNAL, .id = id, .arg = signo};
	int r;

	if (whole_tree && signo > 0 && signo < PACKET_WHOLE_TREE)
		head.arg |= PACKET_WHOLE_TREE;
	r = request(channel, &head, &(struct buf){0}, NULL, 0);
	return r == LAUNCH_E_TOO_BIG ? err_fold(r) : r;
}

int launch_kill(int channel, uint64_t id, int signo)
{
	return launch_signal(channel, id, signo, true);
}

int launch_recv(int channel, struct launch_reply *ret_reply)
{
	struct packet_reply body = {0};
	struct packet packet = {.body = &body, .body_max = sizeof(body)};
	int r;

	r = packet_recv(channel, &packet, MSG_DONTWAIT);
	if (r == PACKET_E_AGAIN)
		return LAUNCH_E_EMPTY;
	if (r == PACKET_E_GONE)
		return LAUNCH_E_GONE;
	/* A reply without its pidfd still names the process. */
	if (r && r != PACKET_E_NO_FDS)
		return err_fold(r);
	if (packet.head.op != PACKET_REPLY || packet.body_len != sizeof(body) || packet.n_fds > 1) {
		packet_close_fds(&packet);
		return err_raise(-EBADMSG);
	}

	ret_reply->type = (enum launch_reply_type)body.type;
	ret_reply->step = (enum launch_step)body.step;
	ret_reply->id = packet.head.id;
	ret_reply->pid = body.pid;
	ret_reply->pidfd = packet.n_fds ? packet.fds[0] : -1;
	ret_reply->error = body.error;
	ret_reply->program = body.program;
	ret_reply->layers = body.layers;
	ret_reply->landlock_abi = body.landlock_abi;
	ret_reply->unmapped = body.unmapped;
	memcpy(ret_reply->reason, body.reason, sizeof(ret_reply->reason));
	return 0;
}

int launch_report_open(int *ret_ours, int *ret_inits)
{
	CLEANUP(fd_closep) int ours = -1, inits = -1;
	int pair[2], bytes = REPORT_BYTES, r = packet_pair(pair);

	if (r)
		return err_trace(r);
	ours = pair[0];
	inits = pair[1];
	if (setsockopt(inits, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)) < 0)
		return err_raise(-errno);
	*ret_ours = TAKE_FD(ours);
	*ret_inits = TAKE_FD(inits);
	return 0;
}

int launch_report_recv(int report, struct launch_news *ret_news)
{
	struct launch_news news = {.connection = -1};
	struct packet packet = {.body = &news.report, .body_max = sizeof(news.report)};
	int r;

	r = packet_recv(report, &packet, MSG_DONTWAIT);
	if (r == PACKET_E_AGAIN)
		return LAUNCH_E_EMPTY;
	if (r == PACKET_E_GONE)
		return LAUNCH_E_GONE;
	if (r)
		return err_fold(r);
	if (packet.head.op == PACKET_CONNECTION && packet.n_fds == 1 && !packet.body_len) {
		news.connection = packet.fds[0];
	} else if (packet.head.op != PACKET_REPORT || packet.n_fds ||
		   packet.body_len != sizeof(news.report)) {
		packet_close_fds(&packet);
		return err_raise(-EBADMSG);
	}
	*ret_news = news;
	return 0;
}
