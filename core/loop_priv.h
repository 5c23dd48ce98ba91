/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Shared by loop.c and the two back ends only
 *
 * An event carries a token {slot, generation} instead of a pointer. Removing a source bumps its slot's
 * generation, so an event that was already on its way for a source that is gone finds nobody.
 */

#include <stddef.h>

#include "core/loop.h"

struct loop_slot {
	struct loop_source *source; /* NULL while free */
	uint32_t next_free;
	uint16_t generation;
};

struct loop_ops {
	size_t size; /* of the back end's struct, which begins with struct loop */
	int (*open)(struct loop *loop, const struct loop_features *features);
	void (*close)(struct loop *loop);
	void (*forget)(struct loop *loop, struct loop_source *source);
	void (*listen)(struct loop *loop, struct loop_source *source, bool on);
	void (*read)(struct loop *loop, struct loop_source *source);
	ssize_t (*send)(struct loop *loop, struct loop_source *source, const void *bytes,
			size_t len);
	void (*want_write)(struct loop *loop, struct loop_source *source);
	void (*want_ready)(struct loop *loop, struct loop_source *source);
	void (*want_gone)(struct loop *loop, struct loop_source *source);
	int (*wait)(struct loop *loop, uint64_t timeout_ns);
	bool (*wake)(struct loop *from, struct loop *to); /* false: use the eventfd */
};

struct loop {
	const struct loop_ops *ops;
	struct loop_slot *slots; /* [0] is never used */
	uint32_t slot_count, slot_free;
	struct loop_source waker; /* on wake_fd */
	int wake_fd;              /* eventfd; written by any thread */
};

extern const struct loop_ops loop_uring_ops;
extern const struct loop_ops loop_epoll_ops;

/* io_uring only: 0 when every feature that the back end needs works here, else -errno; fills @ret. */
int loop_uring_probe(struct loop_features *ret);

/* The source a token names; NULL when it has been removed since. */
static inline struct loop_source *loop_find(struct loop *loop, uint32_t slot, uint16_t generation)
{
	struct loop_slot *s = &loop->slots[slot];

	return s->generation == generation ? s->source : NULL;
}
