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
		uint32_t slots = agent_table_slots(*state);

		for (uint32_t slot = 0; slot < slots && slot < 64; slot++) {
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
		TABLE_TEST(reader_never_sees_a_torn_entry),
	};

	return cmocka_run_group_tests_name("core/agent_table", tests, NULL, NULL);
}
