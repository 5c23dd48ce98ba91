/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Table of all agents: whoever is connected, and whoever was spawned
 *
 * An id is {generation:12, slot:20}, never 0. A slot belongs to one core for good (slot modulo cores),
 * which alone allocates, changes and frees it; every other thread may read. A reader takes a
 * copy by agent_table_read(), which tells a torn or recycled entry from a whole one. Freed slots wait in a
 * queue, so an id comes back only after all others of its core were used and 4,095 lives later.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum agent_kind {
	AGENT_EXTERNAL = 1, /* a client that connected by itself */
	AGENT_SPAWNED,
};

/* What a reader gets. */
struct agent_view {
	uint32_t id;
	uint32_t pid; /* as the peer's credentials say; 0 unknown */
	uint32_t uid; /* the owner */
	uint16_t core;
	uint8_t kind;
	uint64_t since_ns; /* clock_now_ns() of its connection */
	uint64_t calls;
};

struct agent_entry {
	_Atomic uint32_t id; /* 0 while free or being changed */
	uint32_t generation; /* owner core only */
	_Atomic uint32_t pid, uid;
	_Atomic uint16_t core;
	_Atomic uint8_t kind;
	uint32_t next_free; /* owner core only; 1 + slot */
	_Atomic uint64_t since_ns, calls;
};

struct agent_table;

/* @cores is 1 to LIMIT_CORES. 0 or -ENOMEM. */
int agent_table_new(unsigned cores, struct agent_table **ret_table);
struct agent_table *agent_table_free(struct agent_table *table);

/* Owner core. NULL when this core's part of the table is full. The id is in ->id. */
struct agent_entry *agent_table_take(struct agent_table *table, const struct agent_view *view);
void agent_table_give_back(struct agent_table *table, struct agent_entry *entry);

uint32_t agent_table_slot(uint32_t id);

/* Any thread. False when @slot holds nobody. */
bool agent_table_read(struct agent_table *table, uint32_t slot, struct agent_view *ret_view);
bool agent_table_holds(struct agent_table *table, uint32_t id); /* any thread */

/*
 * Any thread. The first slot from @slot on that is in use, by a spawned agent unless @all; LIMIT_AGENTS
 * without one. By the time it is read it may hold somebody else, or nobody.
 */
uint32_t agent_table_next(struct agent_table *table, uint32_t slot, bool all);
