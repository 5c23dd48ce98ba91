/* SPDX-License-Identifier: MIT */

/*
 * Tests of core/agent_table.c
 */

#include "tests/unit/testing.h"

#include <pthread.h>

#include "core/agent_table.h"
#include "core/limits.h"

enum {
	ROUNDS = 200000,
};

static int setup(void **state)
{
	struct agent_table *table;

	assert_int_equal(agent_table_new(2, &table), 0);
	*state = table;
	return 0;
}

static int teardown(void **state)
{
	(void)agent_table_free(*state);
	return 0;
}

static struct agent_entry *take(struct agent_table *table, uint16_t core, uint32_t pid)
{
	return agent_table_take(table, &(struct agent_view){.pid = pid,
							    .uid = pid,
							    .core = core,
							    .kind = AGENT_EXTERNAL,
							    .since_ns = pid});
}

static void cores_get_slots_of_their_own(void **state)
{
	struct agent_entry *a = take(*state, 0, 1);
	struct agent_entry *b = take(*state, 1, 2);

	assert_int_not_equal(a->id, 0);
	assert_int_not_equal(a->id, b->id);
	assert_int_equal(a->id % 2, 0);
	assert_int_equal(b->id % 2, 1);
}

static void id_of_one_who_left_names_nobody(void **state)
{
	struct agent_entry *entry = take(*state, 0, 1);
	uint32_t slot = entry->id & 0xfffff;
	struct agent_view view;

	assert_true(agent_table_read(*state, slot, &view));
	assert_int_equal(view.pid, 1);
	agent_table_give_back(*state, entry);
	assert_false(agent_table_read(*state, slot, &view));
}

static void full_table_refuses_and_reuse_changes_the_id(void **state)
{
	struct agent_entry *first = NULL;
	uint32_t first_id = 0;

	for (int i = 0; i < LIMIT_AGENTS / 2; i++) {
		struct agent_entry *entry = take(*state, 0, 1);

		assert_non_null(entry);
		if (!first) {
			first = entry;
			first_id = entry->id;
		}
	}
	assert_null(take(*state, 0, 1));
	assert_non_null(take(*state, 1, 1));
	agent_table_give_back(*state, first);
	assert_ptr_equal(take(*state, 0, 1), first);
	assert_int_not_equal(first->id, first_id);
}

static uint32_t next(struct agent_table *table, uint32_t slot, bool all)
{
	return agent_table_next(table, slot, all);
}

static void looking_finds_those_in_use_and_no_others(void **state)
{
	static const uint32_t kept[] = {0, 1, 62, 63, 64, 65, 127, 1000, 1001, LIMIT_AGENTS - 1};
	const size_t count = sizeof(kept) / sizeof(kept[0]);
	struct agent_entry *entries[LIMIT_AGENTS] = {0};

	assert_int_equal(next(*state, 0, true), LIMIT_AGENTS);
	for (uint32_t i = 0; i < LIMIT_AGENTS; i++) {
		struct agent_view view = {.core = i % 2, .kind = AGENT_EXTERNAL};
		struct agent_entry *entry;

		if (i % 1000 == 1)
			view.kind = AGENT_SPAWNED;
		entry = agent_table_take(*state, &view);
		assert_non_null(entry);
		entries[agent_table_slot(entry->id)] = entry;
	}
	for (uint32_t slot = 0; slot < LIMIT_AGENTS; slot++)
		assert_int_equal(next(*state, slot, true), slot);
	for (uint32_t slot = 0, i = 0; slot < LIMIT_AGENTS; slot++) {
		if (kept[i] == slot)
			i++;
		else
			agent_table_give_back(*state, entries[slot]);
	}
	for (size_t i = 0, slot = 0; i < count; i++, slot++) {
		slot = next(*state, (uint32_t)slot, true);
		assert_int_equal(slot, kept[i]);
	}
	assert_int_equal(next(*state, LIMIT_AGENTS, true), LIMIT_AGENTS);
	assert_int_equal(next(*state, UINT32_MAX, true), LIMIT_AGENTS);
	/* Of those kept, 1 and 1001 are spawned. */
	assert_int_equal(next(*state, 0, false), 1);
	assert_int_equal(next(*state, 2, false), 1001);
	assert_int_equal(next(*state, 1002, false), LIMIT_AGENTS);
	agent_table_give_back(*state, entries[1001]);
	assert_int_equal(next(*state, 2, false), LIMIT_AGENTS);
}

static _Atomic bool stop;

/* Every field of an entry carries the same number, so a torn copy shows. */
static void *churn(void *arg)
{
	struct agent_table *table = arg;

	for (uint32_t i = 1; i <= ROUNDS; i++)
		agent_table_give_back(table, take(table, 0, i));
	stop = true;
	return NULL;
}

static void reader_never_sees_a_torn_entry(void **state)
{
	struct agent_view view;
	pthread_t owner;
	uint64_t seen = 0;

	stop = false;
	assert_int_equal(pthread_create(&owner, NULL, churn, *state), 0);
	while (!stop) {
		for (uint32_t slot = 0; slot < 64; slot++) {
			if (!agent_table_read(*state, slot, &view))
				continue;
			assert_int_equal(view.pid, view.uid);
			assert_int_equal(view.pid, view.since_ns);
			seen++;
		}
	}
	assert_int_equal(pthread_join(owner, NULL), 0);
	print_message("%llu whole entries seen\n", (unsigned long long)seen);
}

#define TABLE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TABLE_TEST(cores_get_slots_of_their_own),
		TABLE_TEST(id_of_one_who_left_names_nobody),
		TABLE_TEST(full_table_refuses_and_reuse_changes_the_id),
		TABLE_TEST(looking_finds_those_in_use_and_no_others),
		TABLE_TEST(reader_never_sees_a_torn_entry),
	};

	return cmocka_run_group_tests_name("core/agent_table", tests, NULL, NULL);
}
