/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Points in time up to which something is waited for, in nanoseconds of clock_now_ns()
 */

#include <limits.h>
#include <stdint.h>

#include "core/base/clock.h"

#define DEADLINE_NEVER UINT64_MAX

/* @timeout_ms from now on, and @more_ms; a negative timeout is none. */
static inline uint64_t deadline_in(int timeout_ms, unsigned more_ms)
{
	if (timeout_ms < 0)
		return DEADLINE_NEVER;
	return clock_now_ns() + ((uint64_t)more_ms + (unsigned)timeout_ms) * CLOCK_NS_PER_MS;
}

/* For poll() and clove_recv(): -1 never, 0 it has passed. Rounded up, so that it has passed then. */
static inline int deadline_left_ms(uint64_t deadline_ns)
{
	uint64_t now_ns = clock_now_ns(), ms;

	if (deadline_ns == DEADLINE_NEVER)
		return -1;
	if (now_ns >= deadline_ns)
		return 0;
	ms = (deadline_ns - now_ns - 1) / CLOCK_NS_PER_MS + 1;
	return ms < INT_MAX ? (int)ms : INT_MAX;
}
