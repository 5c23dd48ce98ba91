/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Timers of one core: a binary heap by deadline
 *
 * A struct timer is embedded in what it serves. Setting it again moves it; the callback runs once, with the
 * timer unset, and may set it again or free what it is embedded in. Time is clock_now_ns().
 */

#include <stdint.h>

/* A deadline that does not come; the timer has its place all the same. */
#define TIMER_NEVER UINT64_MAX

struct timer {
	uint64_t deadline_ns;
	void (*fire)(struct timer *timer);
	uint32_t place; /* 1 + index in the heap; 0 while unset */
};

struct timers {
	struct timer **heap;
	uint32_t count, cap;
};

void timers_deinit(struct timers *timers);

/* 0 or -ENOMEM, which cannot be when @timer is set, or fires. */
int timer_set(struct timers *timers, struct timer *timer, uint64_t deadline_ns,
	      void (*fire)(struct timer *timer));
void timer_unset(struct timers *timers, struct timer *timer); /* of an unset one: nothing */

/* Runs what is due at @now_ns, at most as many as were set when called. */
void timers_run(struct timers *timers, uint64_t now_ns);

/* Nanoseconds from @now_ns to the earliest; UINT64_MAX without one that comes. */
uint64_t timers_next(const struct timers *timers, uint64_t now_ns);
