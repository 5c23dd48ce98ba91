/* SPDX-License-Identifier: MIT */

#include "core/child.h"

#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/shard.h"
#include "sandbox/launch.h"

#ifndef __WALL
#define __WALL 0x40000000
#endif

enum {
	WATCH_MS = 50, /* how often one without a pidfd is asked for */
};

static void on_watch(struct timer *timer);

static void exited(struct child *child)
{
	timer_unset(&child->shard->timers, &child->watch);
	child->exited = true;
	child->on_end(child);
}

static void on_ready(struct loop_source *source)
{
	exited(container_of(source, struct child, pidfd));
}

static const struct loop_handler pidfd_handler = {.ready = on_ready};

/* Takes @pidfd, if there is one. False: it has to be asked for. */
static bool watch_pidfd(struct child *child, int pidfd)
{
	struct loop *loop = child->shard->loop;

	if (pidfd < 0)
		return false;
	if (loop_add(loop, &child->pidfd, pidfd, &pidfd_handler)) {
		(void)close(pidfd);
		return false;
	}
	timer_unset(&child->shard->timers, &child->watch);
	loop_want_ready(loop, &child->pidfd);
	return true;
}

static void watch_timer(struct child *child, uint64_t deadline_ns)
{
	/* Its place among the timers is reserved: it was set until now, or is the one that fires. */
	CHECK(!timer_set(&child->shard->timers, &child->watch, deadline_ns, on_watch));
}

static void on_watch(struct timer *timer)
{
	struct child *child = container_of(timer, struct child, watch);
	siginfo_t status = {0};

	/* It must stay reapable: its owner may have to keep its process id for a while. */
	if (waitid(P_PID, (id_t)child->pid, &status, WEXITED | WNOHANG | WNOWAIT | __WALL) ||
	    status.si_pid)
		exited(child);
	else if (!watch_pidfd(child, (int)syscall(SYS_pidfd_open, child->pid, 0)))
		watch_timer(child, child->shard->now_ns + WATCH_MS * CLOCK_NS_PER_MS);
}

int child_reserve(struct child *child, struct shard *shard, void (*on_end)(struct child *child))
{
	*child = (struct child){.shard = shard, .on_end = on_end};
	child->pidfd.fd = -1;
	list_init(&child->link);
	return err_trace(timer_set(&shard->timers, &child->watch, TIMER_NEVER, on_watch));
}

void child_adopt(struct child *child, struct launch_reply *reply)
{
	child->pid = reply->pid;
	list_append(&child->shard->children, &child->link);
	if (!watch_pidfd(child, TAKE_FD(reply->pidfd)))
		watch_timer(child, child->shard->now_ns);
}

void child_reap(struct child *child, siginfo_t *ret_status)
{
	*ret_status = (siginfo_t){0};
	(void)waitid(P_PID, (id_t)child->pid, ret_status, WEXITED | WNOHANG | __WALL);
	child_deinit(child);
}

void child_deinit(struct child *child)
{
	struct shard *shard = child->shard;
	int fd = child->pidfd.fd;

	if (!shard)
		return;
	timer_unset(&shard->timers, &child->watch);
	if (fd >= 0) {
		loop_remove(shard->loop, &child->pidfd);
		child->pidfd.fd = fd_close(fd);
	}
	list_unlink(&child->link);
	child->pid = 0;
	child->exited = false;
}
