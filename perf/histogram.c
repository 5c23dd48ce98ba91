/* SPDX-License-Identifier: MIT */

/*
 * Bucket of a value v >= 2^7 whose highest set bit is k: octave o = k - 6, and within the octave the
 * seven bits below the highest. Octave 0 holds the values below 2^7, one bucket each:
 *
 *   index = o << 7 | (v >> (o - 1)) & 127         width of a bucket: 2^(o - 1) ns
 */

#include "perf/histogram.h"

enum {
	SUB_COUNT = 1 << HISTOGRAM_SUB_BITS,
};

static uint32_t bucket_of(uint64_t value_ns)
{
	uint32_t octave;

	if (value_ns < SUB_COUNT)
		return (uint32_t)value_ns;
	if (value_ns >> HISTOGRAM_MAX_BITS)
		return HISTOGRAM_BUCKETS - 1;
	octave = (uint32_t)(63 - __builtin_clzll(value_ns)) - HISTOGRAM_SUB_BITS + 1;
	return octave << HISTOGRAM_SUB_BITS | ((value_ns >> (octave - 1)) & (SUB_COUNT - 1));
}

static double bucket_middle_ns(uint32_t bucket)
{
	uint32_t octave = bucket >> HISTOGRAM_SUB_BITS;
	uint64_t width, start;

	if (!octave)
		return bucket;
	width = 1ull << (octave - 1);
	start = (SUB_COUNT | (bucket & (SUB_COUNT - 1))) * width;
	return (double)start + (double)(width - 1) / 2;
}

void histogram_add(struct histogram *h, uint64_t value_ns, uint64_t times)
{
	h->counts[bucket_of(value_ns)] += times;
	h->total += times;
}

double histogram_quantile_ns(const struct histogram *h, double quantile)
{
	double wanted = quantile * (double)h->total;
	uint64_t seen = 0;

	if (!h->total)
		return 0;
	for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->counts[i];
		if (seen && (double)seen >= wanted)
			return bucket_middle_ns(i);
	}
	return bucket_middle_ns(HISTOGRAM_BUCKETS - 1);
}
