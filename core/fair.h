/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Fair share: how much one connection may have of a memory that all share
 *
 * As much as is free, and no more. So whoever takes all it can get leaves as much to the others: n of them hold
 * 1/(n+1) of the whole each, and the last part stays free for who has little. No quota to set, none
 * wasted, and nobody has to be found and evicted.
 */

#include <stdbool.h>
#include <stddef.h>

/* Whether who holds @own of the @total in use may have @more, where all together may have @max. */
static inline bool fair_share(size_t own, size_t more, size_t total, size_t max)
{
	return total <= max && more <= max && own + more <= max - total;
}
