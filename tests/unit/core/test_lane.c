/* SPDX-License-Identifier: MIT */

/*
 * Tests of core/lane.h: bounds on one thread, order and completeness on two (for TSan as well)
 */

#include "tests/unit/testing.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "core/lane.h"

enum {
	STRESS_ITEMS = 500000,
};

static int setup(void **state)
{
	struct lane *lane = aligned_alloc(64, sizeof(*lane));

	memset(lane, 0, sizeof(*lane));
	*state = lane;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static void full_lane_refuses_and_takes_again_after_a_pop(void **state)
{
	struct lane *lane = *state;
	struct lane_item item;

	for (uint64_t i = 0; i < LIMIT_LANE_ITEMS; i++)
		assert_true(lane_push(lane, (struct lane_item){.value = i}));
	assert_false(lane_push(lane, (struct lane_item){.value = 0}));
	assert_true(lane_pop(lane, &item));
	assert_int_equal(item.value, 0);
	assert_true(lane_push(lane, (struct lane_item){.value = LIMIT_LANE_ITEMS}));
	assert_false(lane_push(lane, (struct lane_item){.value = 0}));
	for (uint64_t i = 1; i <= LIMIT_LANE_ITEMS; i++) {
		assert_true(lane_pending(lane));
		assert_true(lane_pop(lane, &item));
		assert_int_equal(item.value, i);
	}
	assert_false(lane_pop(lane, &item));
	assert_false(lane_pending(lane));
}

static void positions_survive_the_wrap_of_their_counter(void **state)
{
	struct lane *lane = *state;
	struct lane_item item;

	lane->tail = lane->head = lane->head_seen = lane->tail_seen = UINT32_MAX - 10;
	for (uint64_t i = 0; i < 100; i++) {
		assert_true(lane_push(lane, (struct lane_item){.value = i}));
		assert_true(lane_push(lane, (struct lane_item){.value = i + 1000}));
		assert_true(lane_pop(lane, &item));
		assert_true(lane_pop(lane, &item));
		assert_int_equal(item.value, i + 1000);
	}
	assert_false(lane_pop(lane, &item));
}

static void *produce(void *arg)
{
	struct lane *lane = arg;

	for (uint64_t i = 0; i < STRESS_ITEMS; i++)
		while (!lane_push(lane, (struct lane_item){.arg = lane, .value = i}))
			sched_yield();
	return NULL;
}

static void two_threads_lose_and_reorder_nothing(void **state)
{
	struct lane *lane = *state;
	struct lane_item item;
	pthread_t producer;

	assert_int_equal(pthread_create(&producer, NULL, produce, lane), 0);
	for (uint64_t i = 0; i < STRESS_ITEMS; i++) {
		while (!lane_pop(lane, &item))
			sched_yield();
		assert_int_equal(item.value, i);
		assert_ptr_equal(item.arg, lane);
	}
	assert_int_equal(pthread_join(producer, NULL), 0);
	assert_false(lane_pop(lane, &item));
}

#define LANE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LANE_TEST(full_lane_refuses_and_takes_again_after_a_pop),
		LANE_TEST(positions_survive_the_wrap_of_their_counter),
		LANE_TEST(two_threads_lose_and_reorder_nothing),
	};

	return cmocka_run_group_tests_name("core/lane", tests, NULL, NULL);
}
