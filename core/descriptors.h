/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Budget of descriptors: what may be open at a time, so that RLIMIT_NOFILE is met by a refusal that says so
 *
 * Counted are connections, and the work that takes descriptors for longer than one call of a function:
 * commands, agents, files in boxes. Neither may take more than three quarters, so that each leaves
 * something to the other, and both leave some connections to operators. What is not counted fits
 * LIMIT_FDS_SPARE. Any thread.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct descriptors {
	uint32_t max;             /* of both together */
	uint32_t connections_max; /* of each alone */
	uint32_t work_max;
	_Atomic uint32_t connections, work;
};

/* Raises the limit of this process to what it may be, and divides it. */
void descriptors_init(struct descriptors *descriptors);

/* @operators: it may be one of those that are kept for operators. */
bool descriptors_take_connection(struct descriptors *descriptors, bool operators);
void descriptors_give_connection(struct descriptors *descriptors);

/* Before they are opened; @held counts what its owner has. False: too few are left, and nothing is taken. */
bool descriptors_take(struct descriptors *descriptors, uint32_t *held, uint32_t count);
/* Gives back all of @held but @count, when the others are closed; nothing when it has no more. */
void descriptors_keep(struct descriptors *descriptors, uint32_t *held, uint32_t count);
