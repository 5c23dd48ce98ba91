/* SPDX-License-Identifier: MIT */

/*
 * The entries lie in one mapping that is touched only as far as it is used, and never moves. Bits beside it
 * say which are in use, so that listing costs what there is, not what there was.
 *
 * Reading works like a sequence lock whose sequence is the id: the owner stores id 0, then the fields,
 * then the new id with release. A reader that finds the same id, not 0, before and after copying the fields has a
 * whole copy: the first load (acquire) sees the fields that belong to that id or later ones, and
 * later ones imply, by the fence, that the second load sees another id.
 */

#include "core/agent_table.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "core/base/check.h"
#include "core/base/err.h"
#include "core/limits.h"

enum {
	SLOT_BITS = 20,
	GENERATION_MAX = (1 << (32 - SLOT_BITS)) - 1,
};

_Static_assert(LIMIT_AGENTS <= 1 << SLOT_BITS, "a slot fits an id");

/* One core's free slots: a queue through next_free, then those never used yet. */
struct part {
	_Alignas(64) uint32_t free_first, free_last; /* 1 + slot; 0 when empty */
	uint32_t fresh;                              /* next slot never used */
};

struct agent_table {
	struct agent_entry *entries;
	unsigned cores;
	struct part parts[LIMIT_CORES];
	_Atomic uint64_t spawned[LIMIT_AGENTS / 64], external[LIMIT_AGENTS / 64];
};

/* Only a hint where to look, so it needs no order; cores share a word. */
static void mark(struct agent_table *table, struct agent_entry *entry, uint32_t slot, bool in_use)
{
	bool spawned = atomic_load_explicit(&entry->kind, memory_order_relaxed) == AGENT_SPAWNED;
	_Atomic uint64_t *word = &(spawned ? table->spawned : table->external)[slot / 64];

	if (in_use)
		(void)atomic_fetch_or_explicit(word, UINT64_C(1) << slot % 64,
					       memory_order_relaxed);
	else
		(void)atomic_fetch_and_explicit(word, ~(UINT64_C(1) << slot % 64),
						memory_order_relaxed);
}

int agent_table_new(unsigned cores, struct agent_table **ret_table)
{
	struct agent_table *table;
	void *entries;

	CHECK(cores >= 1 && cores <= LIMIT_CORES);
	table = aligned_alloc(64, sizeof(*table));
	if (!table)
		return err_raise(-ENOMEM);
	*table = (struct agent_table){.cores = cores};
	entries = mmap(NULL, LIMIT_AGENTS * sizeof(struct agent_entry), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (entries == MAP_FAILED) {
		free(table);
		return err_raise(-errno);
	}
	table->entries = entries;
	for (unsigned i = 0; i < cores; i++)
		table->parts[i].fresh = i;
	*ret_table = table;
	return 0;
}

struct agent_table *agent_table_free(struct agent_table *table)
{
	if (!table)
		return NULL;
	(void)munmap(table->entries, LIMIT_AGENTS * sizeof(struct agent_entry));
	free(table);
	return NULL;
}

static struct agent_entry *entry_take(struct agent_table *table, unsigned core)
{
	struct part *part = &table->parts[core];
	struct agent_entry *entry;
	uint32_t slot = part->fresh;

	/* Fresh slots first: an id is reused as late as can be. */
	if (slot < LIMIT_AGENTS) {
		part->fresh += table->cores;
		return &table->entries[slot];
	}
	if (!part->free_first)
		return NULL;
	entry = &table->entries[part->free_first - 1];
	part->free_first = entry->next_free;
	if (!part->free_first)
		part->free_last = 0;
	return entry;
}

struct agent_entry *agent_table_take(struct agent_table *table, const struct agent_view *view)
{
	struct agent_entry *entry = entry_take(table, view->core);
	uint32_t slot;

	if (!entry)
		return NULL;
	slot = (uint32_t)(entry - table->entries);
	entry->generation = entry->generation == GENERATION_MAX ? 1 : entry->generation + 1;
	atomic_store_explicit(&entry->pid, view->pid, memory_order_relaxed);
	atomic_store_explicit(&entry->uid, view->uid, memory_order_relaxed);
	atomic_store_explicit(&entry->core, view->core, memory_order_relaxed);
	atomic_store_explicit(&entry->kind, view->kind, memory_order_relaxed);
	atomic_store_explicit(&entry->since_ns, view->since_ns, memory_order_relaxed);
	atomic_store_explicit(&entry->calls, 0, memory_order_relaxed);
	/* Pairs with the acquire in agent_table_read(). */
	atomic_store_explicit(&entry->id, entry->generation << SLOT_BITS | slot,
			      memory_order_release);
	mark(table, entry, slot, true);
	return entry;
}

void agent_table_give_back(struct agent_table *table, struct agent_entry *entry)
{
	uint32_t slot = (uint32_t)(entry - table->entries);
	struct part *part = &table->parts[slot % table->cores];

	mark(table, entry, slot, false);
	atomic_store_explicit(&entry->id, 0, memory_order_relaxed);
	/* Keeps later stores to the fields behind the one above: whoever sees those sees id 0 or a new one. */
	atomic_thread_fence(memory_order_release);
	entry->next_free = 0;
	if (part->free_last)
		table->entries[part->free_last - 1].next_free = slot + 1;
	else
		part->free_first = slot + 1;
	part->free_last = slot + 1;
}

uint32_t agent_table_slot(uint32_t id)
{
	return id & ((1u << SLOT_BITS) - 1);
}

bool agent_table_read(struct agent_table *table, uint32_t slot, struct agent_view *ret_view)
{
	struct agent_entry *entry = &table->entries[slot];
	struct agent_view view;

	view.id = atomic_load_explicit(&entry->id, memory_order_acquire);
	if (!view.id)
		return false;
	/* Acquire on each: the second look at the id must not move up before them. */
	view.pid = atomic_load_explicit(&entry->pid, memory_order_acquire);
	view.uid = atomic_load_explicit(&entry->uid, memory_order_acquire);
	view.core = atomic_load_explicit(&entry->core, memory_order_acquire);
	view.kind = atomic_load_explicit(&entry->kind, memory_order_acquire);
	view.since_ns = atomic_load_explicit(&entry->since_ns, memory_order_acquire);
	view.calls = atomic_load_explicit(&entry->calls, memory_order_acquire);
	if (atomic_load_explicit(&entry->id, memory_order_relaxed) != view.id)
		return false;
	*ret_view = view;
	return true;
}

bool agent_table_holds(struct agent_table *table, uint32_t id)
{
	struct agent_view view;

	return agent_table_read(table, agent_table_slot(id), &view) && view.id == id;
}

uint32_t agent_table_next(struct agent_table *table, uint32_t slot, bool all)
{
	for (; slot < LIMIT_AGENTS; slot = (slot / 64 + 1) * 64) {
		uint64_t in_use =
			atomic_load_explicit(&table->spawned[slot / 64], memory_order_relaxed);

		if (all)
			in_use |= atomic_load_explicit(&table->external[slot / 64],
						       memory_order_relaxed);
		in_use >>= slot % 64;
		if (in_use)
			return slot + (uint32_t)__builtin_ctzll(in_use);
	}
	return LIMIT_AGENTS;
}
