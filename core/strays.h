/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Strays: processes that the launcher had made when it died, and that no core has heard of
 *
 * They are the kernel's children like all others, but their callers were told that nothing was started. So
 * they are killed and reaped by the main thread. It can tell them from those of the cores because with the
 * launcher dead no child is added: a child that no core called its own is nobody's.
 */

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

struct kernel;
struct shard;

struct strays {
	pthread_mutex_t lock;
	unsigned told; /* cores that have said which children are theirs */
	bool unknown;  /* one could not, for want of memory */
	pid_t *owned;
	size_t owned_count;
};

/* In a core that has heard the last of the launcher: it tells which children are its own. */
void strays_tell(struct shard *shard);

/*
 * In the main thread, when the dead launcher has been reaped: kills and reaps the strays it sees. False while
 * any child is left: to be called again. @cores_ended: what is there now is nobody's.
 */
bool strays_end(struct kernel *kernel, bool cores_ended);

void strays_deinit(struct strays *strays);
