/* SPDX-License-Identifier: MIT */

/*
 * Launched processes
 *
 *   STARTING --status pipe ends--> ANSWERED --pidfd readable--> EXITED --kernel reaps--> forgotten
 *
 * A child is cloned with CLONE_PARENT: the kernel is its parent and reaps it, the launcher only
 * holds a pidfd. It says on its status pipe how it fared: EOF at a successful execve(), a step and
 * an errno otherwise. Either becomes the one reply of the launch, which carries the pidfd, because
 * also a failed child must be reaped. It may exit before it is answered; the two do not wait for
 * each other.
 *
 * The entry outlives the exit, since the process group may: a shell ends and its background jobs
 * run on. As long as the kernel has not reaped the leader, its process id, hence the group's,
 * cannot mean something else, and the group can be signalled. Older systems
 * have no event for "reaped", so exited children are asked now and then: pidfd_send_signal(0) says
 * ESRCH.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/check.h"
#include "sandbox/box.h"
#include "sandbox/launcher_priv.h"
#include "sandbox/plain.h"

enum {
	SWEEP_PER_LAUNCH = 16, /* more leave than come, so the table cannot fill with the reaped */
};

pid_t launcher_clone(unsigned long flags, int cgroup, int *ret_pidfd)
{
	int pidfd = -1;
	struct clone_args args = {
		.flags = flags | CLONE_PIDFD | CLONE_INTO_CGROUP,
		.pidfd = (uintptr_t)&pidfd,
		.cgroup = (unsigned)cgroup,
	};
	long pid;

	/* Some hosts know only the older call. Its fourth and fifth argument change places; both are unused. */
	if (cgroup >= 0)
		pid = syscall(SYS_clone3, &args, sizeof(args));
	else
		pid = syscall(SYS_clone, flags | CLONE_PIDFD, NULL, &pidfd, NULL, NULL);
	if (pid < 0)
		return -errno;
	if (pid > 0)
		*ret_pidfd = pidfd;
	return (pid_t)pid;
}

static bool is_reaped(const struct child *child)
{
	return syscall(SYS_pidfd_send_signal, child->pidfd, 0, NULL, 0) < 0 && errno == ESRCH;
}

/* 0 when there is a group, and everything in it is as good as dead. */
static int group_kill(const struct server *server, const struct child *child)
{
	CLEANUP(fd_closep) int group = -1;

	if (!*child->group || cgroup_find(&server->cgroups, child->group, &group))
		return -1;
	return cgroup_kill(group) ? -1 : 0;
}

int launcher_child_signal(struct server *server, const struct child *child, int signo,
			  bool whole_tree)
{
	if (is_reaped(child))
		return -ESRCH;
	if (child->kind == LAUNCH_AGENT)
		return launcher_box_signal(server, child, signo, whole_tree);
	/* With all that has left its process group. */
	if (signo == SIGKILL && group_kill(server, child) == 0)
		return 0;
	if (kill(-child->pid, signo) == 0)
		return 0;
	if (errno != ESRCH)
		return -errno;
	/* Before its setsid() there is no group of that name. */
	return syscall(SYS_pidfd_send_signal, child->pidfd, signo, NULL, 0) < 0 ? -errno : 0;
}

void launcher_child_free(struct server *server, struct child *child)
{
	list_unlink(&child->in_peer);
	list_unlink(&child->in_bucket);
	list_unlink(&child->in_exited);
	list_unlink(&child->slot.in_outbox);
	if (child->status >= 0)
		launcher_unwatch(server, child->status);
	(void)fd_close(child->status);
	if (child->pidfd >= 0)
		launcher_unwatch(server, child->pidfd);
	(void)fd_close(child->pidfd);
	(void)fd_close(child->lifeline);
	if (*child->group)
		(void)cgroup_remove(&server->cgroups, child->group);
	if (child->terms && *child->terms->cgroup)
		(void)cgroup_remove(&server->cgroups, child->terms->cgroup);
	free(child->terms);
	server->n_children--;
	free(child);
}

static bool is_finished(const struct child *child)
{
	return child->status < 0 && list_empty(&child->slot.in_outbox) && is_reaped(child);
}

void launcher_child_sweep(struct server *server, unsigned budget)
{
	while (budget-- > 0 && !list_empty(&server->exited)) {
		struct child *child =
			container_of(list_shift(&server->exited), struct child, in_exited);

		if (is_finished(child))
			launcher_child_free(server, child);
		else
			list_append(&server->exited, &child->in_exited);
	}
}

/* Ids are the caller's, often counted up, and the high half may hold something else. */
static struct list *bucket(struct server *server, uint64_t id)
{
	return &server->by_id[(id ^ id >> 32) % LAUNCHER_BUCKETS];
}

struct child *launcher_child_find(struct server *server, struct peer *peer, uint64_t id)
{
	list_for_each (it, bucket(server, id)) {
		struct child *child = container_of(it, struct child, in_bucket);

		if (child->id != id || (peer && child->peer != peer))
			continue;
		if (!is_finished(child))
			return child;
		launcher_child_free(server, child);
		return NULL;
	}
	return NULL;
}

static void answer(struct server *server, struct child *child, uint32_t type,
		   const struct plain_failure *failure)
{
	launcher_unwatch(server, child->status);
	child->status = fd_close(child->status);
	child->slot.id = child->id;
	child->slot.pidfd = child->pidfd;
	child->slot.reply = (struct packet_reply){
		.type = type,
		.step = failure->step,
		.pid = child->pid,
		.error = failure->error,
		.program = type == LAUNCH_LAUNCHED ? child->program : 0,
		.layers = child->layers,
		.landlock_abi = child->landlock_abi,
		.unmapped = child->terms ? child->terms->unmapped : 0,
	};
	launcher_peer_reply(server, child->peer, &child->slot);
}

/* One message of a box, whose sender's credentials tell its pid as this process sees it. */
static ssize_t receive(int sock, struct box_status *ret_status, pid_t *ret_pid)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec iov = {.iov_base = ret_status, .iov_len = sizeof(*ret_status)};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t n = recvmsg(sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *cmsg = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
	struct ucred credentials;

	*ret_pid = 0;
	if (cmsg && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_CREDENTIALS) {
		memcpy(&credentials, CMSG_DATA(cmsg), sizeof(credentials));
		*ret_pid = credentials.pid;
	}
	return n;
}

/* A box says that its program is about to run, or what failed; EOF follows the execve(). */
static void on_box_status(struct server *server, struct watch *watch, uint32_t events)
{
	struct child *child = container_of(watch, struct child, status_watch);
	struct box_status status;
	pid_t pid;
	ssize_t n = receive(child->status, &status, &pid);

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == sizeof(status) && status.step == LAUNCH_STEP_NONE) {
		child->program = pid;
		child->layers = status.layers;
		child->landlock_abi = status.landlock_abi;
	} else if (n == sizeof(status)) {
		answer(server, child, LAUNCH_FAILED,
		       &(struct plain_failure){.step = status.step, .error = status.error});
	} else if (child->program) {
		answer(server, child, LAUNCH_LAUNCHED, &(struct plain_failure){0});
	} else { /* killed on its way */
		answer(server, child, LAUNCH_FAILED,
		       &(struct plain_failure){.step = LAUNCH_STEP_BOX, .error = ECANCELED});
	}
}

static void on_status(struct server *server, struct watch *watch, uint32_t events)
{
	struct child *child = container_of(watch, struct child, status_watch);
	struct plain_failure failure = {0};
	ssize_t n;

	(void)events;
	n = read(child->status, &failure, sizeof(failure));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* Less than a pipe's atomic size: it comes whole or not at all. */
	CHECK(n == 0 || n == sizeof(failure));
	child->program = child->pid;
	answer(server, child, n ? LAUNCH_FAILED : LAUNCH_LAUNCHED, &failure);
}

static void kill_entered(struct server *server, struct peer *peer, uint64_t box_id)
{
	list_for_each (it, &peer->children) {
		struct child *other = container_of(it, struct child, in_peer);

		if (other->kind == LAUNCH_ENTER && other->box_id == box_id)
			(void)launcher_child_signal(server, other, SIGKILL, true);
	}
}

static void on_death(struct server *server, struct watch *watch, uint32_t events)
{
	struct child *child = container_of(watch, struct child, exit_watch);

	(void)events;
	launcher_unwatch(server, child->pidfd);
	list_append(&server->exited, &child->in_exited);
	/* What entered a box with namespaces is gone with them; what entered another goes now. */
	if (child->kind == LAUNCH_AGENT) {
		child->lifeline = fd_close(child->lifeline);
		launcher_box_ended(server, child);
		if (child->terms->flags & LAUNCH_BOX_NAMESPACES)
			return;
		list_for_each (peer, &server->peers)
			kill_entered(server, container_of(peer, struct peer, in_server), child->id);
	}
}

static struct child *child_new(struct server *server, struct peer *peer, uint64_t id)
{
	struct child *child = calloc(1, sizeof(*child));

	if (!child)
		return NULL;
	list_init(&child->in_exited);
	list_init(&child->slot.in_outbox);
	list_append(&peer->children, &child->in_peer);
	list_append(bucket(server, id), &child->in_bucket);
	child->peer = peer;
	child->id = id;
	child->pidfd = -1;
	child->status = -1;
	child->lifeline = -1;
	child->exit_watch.fn = on_death;
	server->n_children++;
	return child;
}

/* The status pipe or socket, our end watched. 0 or -errno. */
static int status_open(struct server *server, struct child *child, int *ret_write_end)
{
	int ends[2], r, yes = 1;

	child->status_watch.fn = child->kind == LAUNCH_PLAIN ? on_status : on_box_status;
	if (child->kind == LAUNCH_PLAIN)
		r = pipe2(ends, O_CLOEXEC | O_NONBLOCK);
	else
		r = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
	if (r < 0)
		return -errno;
	r = 0;
	if (child->kind != LAUNCH_PLAIN &&
	    setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &yes, sizeof(yes)) < 0)
		r = -errno;
	if (!r)
		r = launcher_watch(server, ends[0], EPOLLIN, &child->status_watch);
	if (r) {
		(void)fd_close(ends[0]);
		(void)fd_close(ends[1]);
		return r;
	}
	child->status = ends[0];
	*ret_write_end = ends[1];
	return 0;
}

static int start_plain(struct server *server, struct child *child, const struct launch_spec *spec,
		       const int *fds, int status, struct refusal *reterr_refusal)
{
	static const struct cgroup_limits none;
	CLEANUP(fd_closep) int group = -1;
	uint32_t enforced;
	int r = CGROUP_E_OFF;

	(void)snprintf(child->group, sizeof(child->group), "c%llx", (unsigned long long)child->id);
	if (server->cgroups.agents >= 0)
		r = cgroup_make(&server->cgroups, child->group, &none, &group, &enforced);
	if (r)
		*child->group = '\0'; /* it can only be killed by its process group */
	child->pid = launcher_clone(CLONE_PARENT, group, &child->pidfd);
	if (child->pid == 0)
		plain_run(&(struct plain_job){
			.spec = spec,
			.fds = fds,
			.status = status,
			.core = server->core,
			.nofile = server->nofile,
		});
	return child->pid < 0 ? launcher_refuse(reterr_refusal, LAUNCH_STEP_CLONE, -child->pid) : 0;
}

static int start_enter(struct server *server, struct child *child, const struct launch_spec *spec,
		       const int *fds, int status, struct refusal *reterr_refusal)
{
	const struct child *box = launcher_child_find(server, NULL, spec->box_id);

	if (!box || box->kind != LAUNCH_AGENT || box->lifeline < 0 || box->status >= 0)
		return launcher_refuse(reterr_refusal, LAUNCH_STEP_BOX, ESRCH);
	child->box_id = spec->box_id;
	return launcher_enter_start(server, child, box, spec, fds, status, reterr_refusal);
}

static int start(struct server *server, struct child *child, const struct launch_spec *spec,
		 int *fds, struct refusal *reterr_refusal)
{
	CLEANUP(fd_closep) int status = -1;
	int r;

	r = status_open(server, child, &status);
	if (r)
		return launcher_refuse(reterr_refusal, LAUNCH_STEP_PREPARE, -r);
	switch (spec->kind) {
	case LAUNCH_PLAIN:
		return start_plain(server, child, spec, fds, status, reterr_refusal);
	case LAUNCH_AGENT:
		return launcher_box_start(server, child, spec, fds, status, reterr_refusal);
	case LAUNCH_ENTER:
		return start_enter(server, child, spec, fds, status, reterr_refusal);
	}
	UNREACHABLE();
}

int launcher_child_start(struct server *server, struct peer *peer, uint64_t id,
			 const struct launch_spec *spec, int *fds, struct refusal *reterr_refusal)
{
	struct child *child;
	int r;

	launcher_child_sweep(server, SWEEP_PER_LAUNCH);
	if (launcher_child_find(server, peer, id))
		return launcher_refuse(reterr_refusal, LAUNCH_STEP_MESSAGE, EEXIST);
	if (server->n_children >= server->children_max)
		return launcher_refuse(reterr_refusal, LAUNCH_STEP_LIMIT, EAGAIN);
	child = child_new(server, peer, id);
	if (!child)
		return launcher_refuse(reterr_refusal, LAUNCH_STEP_PREPARE, ENOMEM);
	child->kind = spec->kind;
	if (start(server, child, spec, fds, reterr_refusal) < 0) {
		launcher_child_free(server, child);
		return -1;
	}

	r = launcher_watch(server, child->pidfd, EPOLLIN, &child->exit_watch);
	if (r) {
		/* Nobody would see it end. The kernel gets it as a failed one, to reap. */
		(void)launcher_child_signal(server, child, SIGKILL, true);
		list_append(&server->exited, &child->in_exited);
		answer(server, child, LAUNCH_FAILED,
		       &(struct plain_failure){.step = LAUNCH_STEP_PREPARE, .error = -r});
	}
	return 0;
}
