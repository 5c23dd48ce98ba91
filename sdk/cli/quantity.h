/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Numbers as people write them: 256M, 1.5G, 500ms, 2m, 0.5
 *
 * Strict: the whole text is digits, at most one point with digits on both sides, and a unit; no sign, no
 * space, no exponent. Arithmetic is exact, and what is finer than the result's unit is cut off.
 */

#include <stdint.h>

enum {
	QUANTITY_E_FORM = 1, /* written another way */
	QUANTITY_E_RANGE, /* well written, but too large, or not 0 and yet less than one of the result's unit */
};

/* Bytes: 4096, or with K, M, G or T (1024 each, either case). 0 or QUANTITY_E_x, as all of them. */
int quantity_size(const char *text, uint64_t *ret_bytes);

/* Milliseconds, a year at most: a number with ms, s, m, h or d; 0 needs no unit. */
int quantity_duration(const char *text, uint64_t *ret_ms);

/* Processors, as microseconds of every 100,000: 0.5 is 50000. */
int quantity_cpus(const char *text, uint64_t *ret_quota_us);

int quantity_count(const char *text, uint64_t *ret_count);
