/* SPDX-License-Identifier: MIT */

/*
 * The launcher: the one process that makes processes
 *
 *   kernel --control--> launcher        CHANNEL and OPENER requests, each with a socket
 *   core n --channel--> launcher        LAUNCH and KILL, answered on the same channel
 *                       launcher --clone(CLONE_PARENT)--> commands, children of the kernel
 *                       launcher --clone--> openers, children of the launcher
 *
 * It is exec'd before the kernel holds keys, with an empty environment, and stays small: a fork of
 * the kernel would copy page tables for milliseconds and hand every secret to the copy. It never
 * blocks: children report on pipes, replies that do not fit wait, and one slow command delays no
 * other.
 *
 * All signals are blocked, for good. A Ctrl-C or a service manager's SIGTERM is for the kernel to
 * act on; the launcher's end is the end of the control socket, however the kernel came to its own.
 * Then it kills every process group it started and exits.
 *
 * Events are taken one at a time. Their handlers free objects, and a batch could still hold an
 * event of one that is gone.
 */

#include "sandbox/launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/base/err.h"
#include "sandbox/launcher_priv.h"
#include "sandbox/measurer.h"
#include "sandbox/opener.h"
#include "sandbox/remover.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

enum {
	CONTROL_FD = 3,
	SWEEP_INTERVAL_MS = 1000, /* only while something has exited that is not reaped */
	/* Control, epoll, peers, and the descriptors of one hostile message. */
	RESERVED_FDS = 16 + LAUNCHER_PEERS_MAX + PACKET_FDS_MAX,
	FDS_PER_OPENER = 2, /* its pidfd, a copy of its socket */
	CHILDREN_MIN = 16,
	CGROUPS_PER_SWEEP = 256,
	SLICE_NS = 300000,
};

#define HELPER_UID \
	((uid_t)-1) /* nobody's, whose share of openers the kernel's helpers are counted against */

/*
 * The launcher keeps a copy of an opener's end of its socket, which says when the kernel has closed
 * the other: the opener itself may hang, or be stopped by its user.
 */
struct opener_process {
	struct list in_server;
	struct watch exit_watch, sock_watch;
	int pidfd, sock; /* sock -1: it goes on when the kernel has closed its end */
	uid_t uid;
};

int launcher_watch(struct server *server, int fd, uint32_t events, struct watch *watch)
{
	struct epoll_event event = {.events = events, .data.ptr = watch};

	return epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

void launcher_unwatch(struct server *server, int fd)
{
	(void)epoll_ctl(server->epoll, EPOLL_CTL_DEL, fd, NULL);
}

static void opener_free(struct server *server, struct opener_process *opener)
{
	launcher_unwatch(server, opener->pidfd);
	if (opener->sock >= 0) {
		launcher_unwatch(server, opener->sock);
		/* Somebody just forked may have a copy for a moment; the kernel is to know at once. */
		(void)shutdown(opener->sock, SHUT_RDWR);
		(void)close(opener->sock);
	}
	(void)fd_close(opener->pidfd);
	list_unlink(&opener->in_server);
	server->n_openers--;
	free(opener);
}

static void opener_kill(const struct opener_process *opener)
{
	(void)syscall(SYS_pidfd_send_signal, opener->pidfd, SIGKILL, NULL, 0);
}

static void opener_on_exit(struct server *server, struct watch *watch, uint32_t events)
{
	struct opener_process *opener = container_of(watch, struct opener_process, exit_watch);
	siginfo_t info;

	(void)events;
	(void)waitid(P_PIDFD, (id_t)opener->pidfd, &info, WEXITED | WNOHANG | __WALL);
	opener_free(server, opener);
}

static void opener_on_hangup(struct server *server, struct watch *watch, uint32_t events)
{
	struct opener_process *opener = container_of(watch, struct opener_process, sock_watch);

	(void)events;
	launcher_unwatch(server, opener->sock);
	opener_kill(opener);
}

static bool opener_fits(const struct server *server, uid_t uid)
{
	unsigned n_of_uid = 0;

	list_for_each (it, &server->openers)
		n_of_uid += container_of(it, struct opener_process, in_server)->uid == uid;
	return n_of_uid < LAUNCHER_OPENERS_PER_UID && server->n_openers < server->openers_max;
}

int launcher_opener_add(struct server *server, uid_t uid, int sock, int group,
			void (*run)(void *arg), void *arg)
{
	struct opener_process *opener;
	pid_t pid;
	int r;

	if (!opener_fits(server, uid))
		return -EAGAIN;
	opener = calloc(1, sizeof(*opener));
	if (!opener)
		return -ENOMEM;
	opener->sock = sock < 0 ? -1 : fcntl(sock, F_DUPFD_CLOEXEC, 0);
	if (sock >= 0 && opener->sock < 0) {
		free(opener);
		return -EMFILE;
	}

	pid = launcher_clone(0, group, &opener->pidfd);
	if (pid == 0)
		run(arg);
	if (pid < 0) {
		(void)fd_close(opener->sock);
		free(opener);
		return pid;
	}
	opener->uid = uid;
	opener->exit_watch.fn = opener_on_exit;
	opener->sock_watch.fn = opener_on_hangup;
	list_append(&server->openers, &opener->in_server);
	server->n_openers++;
	r = launcher_watch(server, opener->pidfd, EPOLLIN, &opener->exit_watch);
	if (!r && opener->sock >= 0) /* EPOLLHUP comes unasked */
		r = launcher_watch(server, opener->sock, 0, &opener->sock_watch);
	if (r) {
		siginfo_t info;

		opener_kill(opener);
		(void)waitid(P_PIDFD, (id_t)opener->pidfd, &info, WEXITED | __WALL);
		opener_free(server, opener);
	}
	return r;
}

struct host_opener {
	int sock;
	const uint32_t *ids; /* uid, gid, groups */
	size_t n_ids;
};

static void host_opener_run(void *arg)
{
	const struct host_opener *o = arg;

	opener_run(o->sock, o->ids[0], o->ids[1], o->ids + 2, o->n_ids - 2);
}

/* 0 or -errno. */
static int opener_add(struct server *server, struct host_opener *opener)
{
	if (opener->n_ids < 2 || opener->n_ids > 2 + SPEC_GROUPS_MAX)
		return -EBADMSG;
	for (size_t i = 0; i < opener->n_ids; i++)
		if (opener->ids[i] == UINT32_MAX) /* "leave as it is", which would be root */
			return -EINVAL;
	return launcher_opener_add(server, opener->ids[0], opener->sock, -1, host_opener_run,
				   opener);
}

static bool is_seqpacket(int fd)
{
	int domain = 0, type = 0;
	socklen_t len = sizeof(int);

	return !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) && domain == AF_UNIX &&
	       !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) && type == SOCK_SEQPACKET;
}

/* What the host can do about limits. */
static void note_cgroups(struct server *server)
{
	static const enum launch_layer layers[CGROUP_N_FEATURES] = {
		[CGROUP_GROUPS] = LAUNCH_LAYER_COUNT,
		[CGROUP_MEMORY] = LAUNCH_LAYER_CGROUP_MEMORY,
		[CGROUP_CPU] = LAUNCH_LAYER_CGROUP_CPU,
		[CGROUP_PIDS] = LAUNCH_LAYER_CGROUP_PIDS,
		[CGROUP_IO] = LAUNCH_LAYER_CGROUP_IO,
		[CGROUP_FREEZE] = LAUNCH_LAYER_CGROUP_FREEZE,
		[CGROUP_KILL] = LAUNCH_LAYER_CGROUP_KILL,
	};

	for (unsigned i = CGROUP_GROUPS + 1; i < CGROUP_N_FEATURES; i++) {
		const struct cgroup_state *state =
			cgroup_state(&server->cgroups, (enum cgroup_feature)i);

		host_note(&server->host, layers[i], state->on, state->why);
	}
}

/* @body: id, NUL, parent, NUL. 0 or -errno. */
static int open_cgroups(struct server *server, const char *body, size_t len)
{
	const char *parent = len ? memchr(body, '\0', len) : NULL;
	const pid_t supervisors[] = {getppid(), getpid()};
	struct cgroup_config config = {
		.id = body,
		.pids = supervisors,
		.n_pids = 2,
	};
	int r;

	if (!parent || body[len - 1] || parent + 1 == body + len || server->cgroups.dir >= 0)
		return -EBADMSG;
	parent++;
	config.parent = *parent ? parent : NULL;
	if (!cgroup_name_is_valid(config.id))
		return -EINVAL;
	r = cgroup_open(&server->cgroups, &config);
	if (r)
		cgroup_init(&server->cgroups);
	note_cgroups(server);
	return r;
}

static void serve_cgroups(struct server *server, int sock)
{
	struct packet_head head = {.op = PACKET_CGROUPED};
	struct packet *packet = &server->packet;

	head.arg = -open_cgroups(server, packet->body, packet->body_len);
	(void)packet_send(sock, &head, NULL, 0, &server->cgroups.agents,
			  server->cgroups.agents >= 0, MSG_DONTWAIT);
}

static void measurer_begin(void *arg)
{
	measurer_run(*(const int *)arg);
}

struct remover_job {
	int sock, dir;
};

static void remover_start(void *arg)
{
	const struct remover_job *job = arg;

	remover_run(job->sock, job->dir);
}

/* The caller waits at the other end of the first descriptor for READY, or for its end. */
static void serve_control(struct server *server)
{
	struct packet *packet = &server->packet;
	CLEANUP(fd_closep) int sock = -1;
	int r = -EBADMSG;

	if (packet->n_fds != 1u + (packet->head.op == PACKET_REMOVE) ||
	    !is_seqpacket(packet->fds[0]))
		return;
	sock = packet->fds[0];
	packet->fds[0] = -1; /* closed by us, or kept */

	if (packet->head.op == PACKET_CHANNEL && !packet->body_len) {
		r = server->n_peers < LAUNCHER_PEERS_MAX ? launcher_peer_add(server, sock)
							 : -EAGAIN;
		if (r == 0)
			packet_send_ready(TAKE_FD(sock), 0);
	} else if (packet->head.op == PACKET_OPENER && packet->body_len % sizeof(uint32_t) == 0) {
		r = opener_add(server, &(struct host_opener){
					       .sock = sock,
					       .ids = packet->body,
					       .n_ids = packet->body_len / sizeof(uint32_t),
				       });
	} else if (packet->head.op == PACKET_PROBE && !packet->body_len) {
		struct packet_head head = {.op = PACKET_PROBED};

		r = packet_send(sock, &head, &server->host.probe, sizeof(server->host.probe), NULL,
				0, MSG_DONTWAIT);
	} else if (packet->head.op == PACKET_REMOVE && !packet->body_len) {
		/* Nobody has to wait for it: it ends by itself. */
		r = launcher_opener_add(server, HELPER_UID, -1, -1, remover_start,
					&(struct remover_job){sock, packet->fds[1]});
	} else if (packet->head.op == PACKET_MEASURER && !packet->body_len) {
		r = launcher_opener_add(server, HELPER_UID, sock, -1, measurer_begin, &sock);
	} else if (packet->head.op == PACKET_CGROUPS) {
		serve_cgroups(server, sock);
		r = 0;
	}
	if (r)
		packet_send_ready(sock, -r);
}

static void on_control(struct server *server, struct watch *watch, uint32_t events)
{
	int r;

	(void)watch;
	(void)events;
	r = packet_recv(server->control, &server->packet, MSG_DONTWAIT);
	if (r < 0 || r == PACKET_E_GONE)
		server->done = true;
	if (r == 0)
		serve_control(server);
	packet_close_fds(&server->packet);
}

/* 0 or -errno. */
static int set_rlimits(struct server *server)
{
	struct rlimit limit;
	unsigned fds, reserved;

	if (getrlimit(RLIMIT_CORE, &server->core) < 0 ||
	    getrlimit(RLIMIT_NOFILE, &server->nofile) < 0)
		return err_raise(-errno);
	limit = (struct rlimit){0, server->core.rlim_max};
	if (setrlimit(RLIMIT_CORE, &limit) < 0)
		return err_raise(-errno);
	limit = (struct rlimit){server->nofile.rlim_max, server->nofile.rlim_max};
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		return err_raise(-errno);

	fds = limit.rlim_cur < UINT32_MAX ? (unsigned)limit.rlim_cur : UINT32_MAX;
	/* A quarter for openers, if that is not more than they may be. */
	server->openers_max = fds / 4 / FDS_PER_OPENER;
	if (server->openers_max > LAUNCHER_OPENERS_MAX)
		server->openers_max = LAUNCHER_OPENERS_MAX;
	reserved = RESERVED_FDS + server->openers_max * FDS_PER_OPENER;
	server->children_max = fds > reserved ? (fds - reserved) / LAUNCHER_FDS_PER_CHILD : 0;
	if (server->children_max > LAUNCHER_CHILDREN_MAX)
		server->children_max = LAUNCHER_CHILDREN_MAX;
	if (server->children_max < CHILDREN_MIN)
		server->children_max = CHILDREN_MIN;
	return 0;
}

static void set_signals(void)
{
	struct sigaction action = {.sa_handler = SIG_DFL};
	sigset_t all;

	/* An inherited SIG_IGN for SIGCHLD would reap the openers behind our back. */
	for (int signo = 1; signo < NSIG; signo++)
		(void)sigaction(signo, &action, NULL);
	(void)sigfillset(&all);
	CHECK(sigprocmask(SIG_SETMASK, &all, NULL) == 0);
}

/*
 * What is started runs for shorter times in a row: it takes its share of the processor all the same, and who wakes up
 * waits less for it. Linux 6.12 on; before, it is ignored.
 */
static void shorten_slice(void)
{
	/* struct sched_attr of sched_setattr(2), which the C library does not have everywhere. */
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attr = {.size = sizeof(attr), .runtime = SLICE_NS};

	attr.nice = getpriority(PRIO_PROCESS, 0);
	(void)syscall(SYS_sched_setattr, 0, &attr, 0);
}

/* 0 or -errno. */
static int server_init(struct server *server)
{
	int r;

	/* A descriptor below 3 that is free would be taken by the next one received. */
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return err_raise(-errno);
	if (close_range(CONTROL_FD + 1, ~0U, 0) < 0 || fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC) < 0)
		return err_raise(-errno);
	if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NAME, LAUNCHER_NAME) < 0 ||
	    chdir("/") < 0)
		return err_raise(-errno);
	(void)setsid(); /* fails only when already done */
	(void)umask(022);
	shorten_slice();
	set_signals();
	r = set_rlimits(server);
	if (r)
		return err_trace(r);

	r = host_init(&server->host);
	if (r)
		return err_trace(r);

	cgroup_init(&server->cgroups);
	server->control = CONTROL_FD;
	server->control_watch.fn = on_control;
	server->packet.body = server->body;
	server->packet.body_max = sizeof(server->body);
	list_init(&server->peers);
	list_init(&server->openers);
	list_init(&server->exited);
	for (size_t i = 0; i < LAUNCHER_BUCKETS; i++)
		list_init(&server->by_id[i]);
	server->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (server->epoll < 0)
		return err_raise(-errno);
	return err_trace(launcher_watch(server, CONTROL_FD, EPOLLIN, &server->control_watch));
}

static void server_deinit(struct server *server)
{
	list_for_each_safe (it, &server->peers)
		launcher_peer_free(server, container_of(it, struct peer, in_server));
	list_for_each_safe (it, &server->openers) {
		struct opener_process *opener = container_of(it, struct opener_process, in_server);

		opener_kill(opener);
		opener_free(server, opener);
	}
	CHECK(server->n_children == 0);
	cgroup_close(&server->cgroups);
	server->epoll = fd_close(server->epoll);
	server->control = fd_close(server->control);
}

int launcher_main(const char *version)
{
	static struct server server = {.epoll = -1};
	int r;

	if (!is_seqpacket(CONTROL_FD))
		return EXIT_FAILURE;
	r = strcmp(version, CLOVE_VERSION) ? err_raise(-ESTALE) : server_init(&server);
	packet_send_ready(CONTROL_FD, -r);
	while (!r && !server.done) {
		struct epoll_event event;
		bool idle = list_empty(&server.exited) && !server.cgroups.n_retired;
		int timeout_ms = idle ? -1 : SWEEP_INTERVAL_MS;
		int n = epoll_wait(server.epoll, &event, 1, timeout_ms);

		CHECK(n >= 0 || errno == EINTR);
		if (n == 0) {
			launcher_child_sweep(&server, server.children_max);
			(void)cgroup_sweep(&server.cgroups, CGROUPS_PER_SWEEP);
		}
		if (n > 0) {
			struct watch *watch = event.data.ptr;

			watch->fn(&server, watch, event.events);
		}
	}
	if (r)
		return EXIT_FAILURE;
	server_deinit(&server);
	return EXIT_SUCCESS;
}
