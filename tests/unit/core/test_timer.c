/* SPDX-License-Identifier: MIT */

/*
 * Tests of core/timer.c, among them a random walk against a plain array
 */

#include "tests/unit/testing.h"

#include <stdlib.h>

#include "core/base/list.h"
#include "core/timer.h"

enum {
	COUNT = 64,
};

struct item {
	struct timer timer;
	struct timers *timers;
	uint64_t wanted; /* the model: 0 while unset */
	int fired;
};

static uint64_t last_fired_ns;

static void on_fire(struct timer *timer)
{
	struct item *item = container_of(timer, struct item, timer);

	assert_true(timer->deadline_ns >= last_fired_ns);
	assert_true(timer->deadline_ns == item->wanted);
	last_fired_ns = timer->deadline_ns;
	item->wanted = 0;
	item->fired++;
}

static void timers_fire_in_order_and_once(void **state)
{
	struct timers timers = {0};
	struct item items[3] = {0};

	(void)state;
	last_fired_ns = 0;
	for (unsigned i = 0; i < 3; i++) {
		items[i].wanted = 30 - 10 * i;
		assert_int_equal(timer_set(&timers, &items[i].timer, items[i].wanted, on_fire), 0);
	}
	assert_true(timers_next(&timers, 4) == 6);
	timers_run(&timers, 20);
	assert_int_equal(items[2].fired, 1);
	assert_int_equal(items[1].fired, 1);
	assert_int_equal(items[0].fired, 0);
	timers_run(&timers, 20);
	assert_int_equal(items[1].fired, 1);
	timer_unset(&timers, &items[0].timer);
	assert_true(timers_next(&timers, 0) == UINT64_MAX);
	timers_deinit(&timers);
}

static void on_fire_again(struct timer *timer)
{
	struct item *item = container_of(timer, struct item, timer);

	item->fired++;
	assert_int_equal(timer_set(item->timers, timer, timer->deadline_ns, on_fire_again), 0);
}

/* A callback that sets its timer in the past must not keep the core in timers_run() for ever. */
static void timer_set_by_its_callback_waits_for_the_next_run(void **state)
{
	struct timers timers = {0};
	struct item item = {.timers = &timers};

	(void)state;
	assert_int_equal(timer_set(&timers, &item.timer, 1, on_fire_again), 0);
	timers_run(&timers, 10);
	assert_int_equal(item.fired, 1);
	timers_run(&timers, 10);
	assert_int_equal(item.fired, 2);
	timers_deinit(&timers);
}

static uint64_t model_next(const struct item *items)
{
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; i < COUNT; i++)
		if (items[i].wanted && items[i].wanted < next)
			next = items[i].wanted;
	return next;
}

static void timer_that_never_comes_waits_for_nothing(void **state)
{
	struct timers timers = {0};
	struct item never = {0}, soon = {.wanted = 3000};

	(void)state;
	assert_int_equal(timer_set(&timers, &never.timer, TIMER_NEVER, on_fire), 0);
	assert_true(timers_next(&timers, 1000) == UINT64_MAX);
	assert_int_equal(timer_set(&timers, &soon.timer, 3000, on_fire), 0);
	assert_true(timers_next(&timers, 1000) == 2000);
	last_fired_ns = 0;
	timers_run(&timers, 4000);
	assert_int_equal(soon.timer.place, 0);
	assert_int_not_equal(never.timer.place, 0);
	timers_deinit(&timers);
}

static void random_walk_agrees_with_a_plain_array(void **state)
{
	unsigned seed = 7;
	static struct item items[COUNT];
	struct timers timers = {0};
	uint64_t now = 1;

	(void)state;
	print_message("seed %u\n", seed);
	for (int round = 0; round < 100000; round++) {
		struct item *item = &items[rand_r(&seed) % COUNT];
		uint64_t next;

		switch (rand_r(&seed) % 4) {
		case 0:
			timer_unset(&timers, &item->timer);
			item->wanted = 0;
			break;
		case 1:
			now += (uint64_t)(rand_r(&seed) % 50);
			last_fired_ns = 0;
			timers_run(&timers, now);
			for (unsigned i = 0; i < COUNT; i++)
				assert_true(!items[i].wanted || items[i].wanted > now);
			break;
		default:
			item->wanted = now + 1 + (uint64_t)(rand_r(&seed) % 1000);
			assert_int_equal(timer_set(&timers, &item->timer, item->wanted, on_fire),
					 0);
		}
		next = model_next(items);
		assert_true(timers_next(&timers, now) == (next == UINT64_MAX ? next : next - now));
	}
	timers_deinit(&timers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(timers_fire_in_order_and_once),
		cmocka_unit_test(timer_set_by_its_callback_waits_for_the_next_run),
		cmocka_unit_test(timer_that_never_comes_waits_for_nothing),
		cmocka_unit_test(random_walk_agrees_with_a_plain_array),
	};

	return cmocka_run_group_tests_name("core/timer", tests, NULL, NULL);
}
