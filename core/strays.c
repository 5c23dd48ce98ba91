/* SPDX-License-Identifier: MIT */

#include "core/strays.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "core/base/log.h"
#include "core/child.h"
#include "core/kernel.h"
#include "core/shard.h"

#ifndef __WALL
#define __WALL 0x40000000
#endif

static int owned_add(struct strays *strays, struct shard *shard)
{
	size_t count = 0;
	pid_t *owned;

	list_for_each (it, &shard->children)
		count++;
	if (!count)
		return 0;
	owned = realloc(strays->owned, (strays->owned_count + count) * sizeof(*owned));
	if (!owned)
		return -ENOMEM;
	strays->owned = owned;
	list_for_each (it, &shard->children)
		owned[strays->owned_count++] = container_of(it, struct child, link)->pid;
	return 0;
}

void strays_tell(struct shard *shard)
{
	struct strays *strays = &shard->kernel->strays;

	(void)pthread_mutex_lock(&strays->lock);
	if (owned_add(strays, shard)) {
		strays->unknown = true;
		log_error("strays-unknown", "core=%u effect=\"processes may be left\"",
			  shard->index);
	}
	strays->told++;
	(void)pthread_mutex_unlock(&strays->lock);
}

static bool is_owned(const struct strays *strays, pid_t pid)
{
	for (size_t i = 0; i < strays->owned_count; i++)
		if (strays->owned[i] == pid)
			return true;
	return false;
}

/* One of another user cannot be killed from here: it ends because its lifeline has. */
static void stray_end(pid_t pid)
{
	siginfo_t status;

	(void)kill(-pid, SIGKILL); /* what it started, if it leads a group already */
	(void)kill(pid, SIGKILL);
	(void)waitid(P_PID, (id_t)pid, &status, WEXITED | WNOHANG | __WALL);
}

/* Those owned included: a list of children leaves out some when others end while it is read. */
static bool any_child(void)
{
	siginfo_t status;

	return !waitid(P_ALL, 0, &status, WEXITED | WNOHANG | WNOWAIT | __WALL);
}

bool strays_end(struct kernel *kernel, bool cores_ended)
{
	struct strays *strays = &kernel->strays;
	bool all_told;
	FILE *children;
	pid_t pid;

	(void)pthread_mutex_lock(&strays->lock);
	all_told = strays->told == kernel->core_count;
	(void)pthread_mutex_unlock(&strays->lock);
	if (!cores_ended && !all_told)
		return false;
	if (!cores_ended && strays->unknown)
		return true;
	/* All were made as children of the thread that started the launcher: this one. */
	children = fopen("/proc/thread-self/children", "re");
	if (!children)
		return false;
	while (fscanf(children, "%d", &pid) == 1)
		if (cores_ended || !is_owned(strays, pid))
			stray_end(pid);
	(void)fclose(children);
	return !any_child();
}

void strays_deinit(struct strays *strays)
{
	free(strays->owned);
	strays->owned = NULL;
	strays->owned_count = 0;
}
