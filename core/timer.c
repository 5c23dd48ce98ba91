/* SPDX-License-Identifier: MIT */

#include "core/timer.h"

#include <stdlib.h>

#include "core/base/check.h"
#include "core/base/err.h"

void timers_deinit(struct timers *timers)
{
	free(timers->heap);
	*timers = (struct timers){0};
}

static void put(struct timers *timers, uint32_t place, struct timer *timer)
{
	timers->heap[place - 1] = timer;
	timer->place = place;
}

static void rise(struct timers *timers, struct timer *timer)
{
	uint32_t place = timer->place;

	for (; place > 1; place /= 2) {
		struct timer *parent = timers->heap[place / 2 - 1];

		if (parent->deadline_ns <= timer->deadline_ns)
			break;
		put(timers, place, parent);
	}
	put(timers, place, timer);
}

static void sink(struct timers *timers, struct timer *timer)
{
	uint32_t place = timer->place;

	for (uint32_t child = 2 * place; child <= timers->count; child = 2 * place) {
		if (child < timers->count &&
		    timers->heap[child]->deadline_ns < timers->heap[child - 1]->deadline_ns)
			child++;
		if (timers->heap[child - 1]->deadline_ns >= timer->deadline_ns)
			break;
		put(timers, place, timers->heap[child - 1]);
		place = child;
	}
	put(timers, place, timer);
}

int timer_set(struct timers *timers, struct timer *timer, uint64_t deadline_ns,
	      void (*fire)(struct timer *timer))
{
	timer_unset(timers, timer);
	if (timers->count == timers->cap) {
		uint32_t cap = timers->cap ? timers->cap * 2 : 64;
		struct timer **heap = realloc(timers->heap, cap * sizeof(struct timer *));

		if (!heap)
			return err_raise(-ENOMEM);
		timers->heap = heap;
		timers->cap = cap;
	}
	timer->deadline_ns = deadline_ns;
	timer->fire = fire;
	put(timers, ++timers->count, timer);
	rise(timers, timer);
	return 0;
}

void timer_unset(struct timers *timers, struct timer *timer)
{
	struct timer *last;

	if (!timer->place)
		return;
	CHECK(timers->heap[timer->place - 1] == timer);
	last = timers->heap[--timers->count];
	if (last != timer) {
		put(timers, timer->place, last);
		rise(timers, last);
		sink(timers, last);
	}
	timer->place = 0;
}

void timers_run(struct timers *timers, uint64_t now_ns)
{
	for (uint32_t budget = timers->count; budget && timers->count; budget--) {
		struct timer *timer = timers->heap[0];

		if (timer->deadline_ns > now_ns)
			return;
		timer_unset(timers, timer);
		timer->fire(timer);
	}
}

uint64_t timers_next(const struct timers *timers, uint64_t now_ns)
{
	if (!timers->count || timers->heap[0]->deadline_ns == TIMER_NEVER)
		return UINT64_MAX;
	if (timers->heap[0]->deadline_ns <= now_ns)
		return 0;
	return timers->heap[0]->deadline_ns - now_ns;
}
