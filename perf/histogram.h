/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Latency histogram: log-linear buckets, so the error is below 1 % at any magnitude
 *
 * Below 2^7 ns every value has its bucket; above, each power of two is cut into 128. Values beyond
 * 2^40 ns (18 minutes) go into the last bucket.
 */

#include <stdint.h>

enum {
	HISTOGRAM_SUB_BITS = 7,
	HISTOGRAM_MAX_BITS = 40,
	HISTOGRAM_BUCKETS = (HISTOGRAM_MAX_BITS - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS,
};

struct histogram {
	uint64_t total;
	uint64_t counts[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t value_ns, uint64_t times);

/* The value that a share of @quantile (0..1) of all values does not exceed; 0 when there are none. */
double histogram_quantile_ns(const struct histogram *h, double quantile);
