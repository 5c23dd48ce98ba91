/* SPDX-License-Identifier: MIT */

#include "perf/tally.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/base/clock.h"

static uint64_t process_cpu_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * CLOCK_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void open_window(struct tally *tally, uint64_t now_ns)
{
	uint64_t window_ns = tally->end_ns - tally->start_ns;

	(void)puts("start");
	(void)fflush(stdout);
	/* The first reply after the warm-up may be late: the window keeps its length. */
	tally->start_ns = now_ns;
	tally->end_ns = now_ns + window_ns;
	tally->last_ns = now_ns;
	tally->cpu_start_ns = process_cpu_ns();
	tally->counting = true;
}

void tally_start(struct tally *tally, uint32_t warmup_ms, uint32_t window_ms)
{
	memset(tally, 0, sizeof(*tally));
	tally->start_ns = clock_now_ns() + warmup_ms * CLOCK_NS_PER_MS;
	tally->end_ns = window_ms ? tally->start_ns + window_ms * CLOCK_NS_PER_MS : UINT64_MAX;
	if (!warmup_ms)
		open_window(tally, tally->start_ns);
}

bool tally_add(struct tally *tally, uint64_t sent_ns, uint64_t now_ns, uint32_t done,
	       uint32_t refused)
{
	if (!tally->counting) {
		if (now_ns >= tally->start_ns)
			open_window(tally, now_ns);
		return true;
	}
	if (now_ns >= tally->end_ns)
		return false;
	tally->refused += refused;
	if (!done)
		return true;
	histogram_add(&tally->latencies, now_ns - sent_ns, done);
	tally->ops += done;
	tally->last_ns = now_ns;
	return true;
}

void tally_print(const struct tally *tally, const char *io)
{
	const struct histogram *h = &tally->latencies;
	uint64_t end_ns = tally->end_ns == UINT64_MAX ? tally->last_ns : tally->end_ns;
	double seconds = (double)(end_ns - tally->start_ns) / (double)CLOCK_NS_PER_S;
	double cpu_us = (double)(process_cpu_ns() - tally->cpu_start_ns) / 1000;

	(void)printf("{\"ops\": %llu, \"refused\": %llu, \"seconds\": %.6f, \"ops_per_s\": %.1f, "
		     "\"p50_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f, "
		     "\"client_cpu_us_per_op\": %.3f, \"io\": \"%s\"}\n",
		     (unsigned long long)tally->ops, (unsigned long long)tally->refused, seconds,
		     (double)tally->ops / seconds, histogram_quantile_ns(h, 0.5) / 1000,
		     histogram_quantile_ns(h, 0.99) / 1000, histogram_quantile_ns(h, 0.999) / 1000,
		     tally->ops ? cpu_us / (double)tally->ops : 0, io);
	(void)fflush(stdout);
}
