/* SPDX-License-Identifier: MIT */

/*
 * The two counts are in two variables, and what is taken is added before the sum is judged: of two threads
 * that take the last ones, at least one sees the other's, and gives its own back.
 */

#include "core/descriptors.h"

#include <errno.h>
#include <sys/resource.h>

#include "core/base/log.h"
#include "core/limits.h"

void descriptors_init(struct descriptors *descriptors)
{
	struct rlimit limit = {.rlim_cur = 2 * LIMIT_FDS_SPARE, .rlim_max = 2 * LIMIT_FDS_SPARE};
	rlim_t max;

	(void)getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		log_warn("descriptors-not-raised", "errno=%d", errno);
	(void)getrlimit(RLIMIT_NOFILE, &limit);
	max = limit.rlim_cur > 2 * LIMIT_FDS_SPARE ? limit.rlim_cur - LIMIT_FDS_SPARE
						   : limit.rlim_cur / 2;
	*descriptors = (struct descriptors){.max = max < INT32_MAX ? (uint32_t)max : INT32_MAX};
	descriptors->work_max = descriptors->max - descriptors->max / 4;
	descriptors->connections_max = descriptors->work_max < LIMIT_CONNECTIONS
					       ? descriptors->work_max
					       : LIMIT_CONNECTIONS;
}

/* So that @left remain of what @counter may have, and of both together. */
static bool take(struct descriptors *descriptors, _Atomic uint32_t *counter, uint32_t counter_max,
		 uint32_t count, uint32_t left)
{
	/* Sequentially consistent: see the head. */
	if (atomic_fetch_add(counter, count) + count + left <= counter_max &&
	    atomic_load(&descriptors->connections) + atomic_load(&descriptors->work) + left <=
		    descriptors->max)
		return true;
	(void)atomic_fetch_sub(counter, count);
	return false;
}

bool descriptors_take_connection(struct descriptors *descriptors, bool operators)
{
	return take(descriptors, &descriptors->connections, descriptors->connections_max, 1,
		    operators ? 0 : LIMIT_OPERATOR_CONNECTIONS);
}

void descriptors_give_connection(struct descriptors *descriptors)
{
	(void)atomic_fetch_sub(&descriptors->connections, 1);
}

bool descriptors_take(struct descriptors *descriptors, uint32_t *held, uint32_t count)
{
	if (!take(descriptors, &descriptors->work, descriptors->work_max, count,
		  LIMIT_OPERATOR_CONNECTIONS))
		return false;
	*held += count;
	return true;
}

void descriptors_keep(struct descriptors *descriptors, uint32_t *held, uint32_t count)
{
	if (*held <= count)
		return;
	(void)atomic_fetch_sub(&descriptors->work, *held - count);
	*held = count;
}
