/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Removal of what an agent has left: its state, then its directory, and those of the agents it started
 *
 * In this order, so that what is called REMOVE and fails can be called again, and so that no later agent of the name
 * finds state of the former. None of them may be alive.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/bag.h"
#include "core/fault.h"
#include "core/files.h"
#include "core/limits.h"
#include "store/store.h"

struct shard;
struct user;

/* Embedded in what it serves, which lives until @done. */
struct removal {
	/* by the caller */
	void (*done)(struct removal *removal); /* in the core @shard, unless that ends first: */
	void (*drop)(struct removal *removal); /* the kernel stops; only free it */
	struct shard *shard;
	struct user *user; /* whose limits on work count; borrowed until then */
	bool whole; /* if one of them is alive, nothing is removed; otherwise all but the live ones */
	uint32_t owner;
	char home[LIMIT_AGENT_HOME_BYTES + 1];

	struct fault fault; /* result: code 0, or why it failed */
	size_t count;       /* result: homes that were there */

	struct file_task task;
	struct store_drop state;
	struct strv homes;
	size_t next;
};

/* May call done() before it returns. */
void removal_start(struct removal *removal);
