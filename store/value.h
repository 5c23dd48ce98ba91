/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The little of MessagePack that the store itself understands: adding numbers, joining strings and arrays
 */

#include <stdint.h>

enum {
	VALUE_E_TYPE = 1,
	VALUE_E_RANGE,
	VALUE_NUMBER_MAX = 9, /* bytes */
};

/*
 * @ret_bytes: the sum of @a and @b in the shortest form; an absent @a (a_len 0) is integer 0.
 * 0, VALUE_E_TYPE or VALUE_E_RANGE.
 */
int value_add(const uint8_t *a, uint32_t a_len, const uint8_t *b, uint32_t b_len,
	      uint8_t ret_bytes[VALUE_NUMBER_MAX], uint32_t *ret_len);

/* How two values join: the head of the result, and how much head each of them loses. */
struct value_join {
	uint32_t head_len, skip_a, skip_b;
	uint8_t head[5];
};

/* Both str, both bin or both array; whoever handed them in checked that they are MessagePack. 0 or VALUE_E_TYPE. */
int value_join(const uint8_t *a, uint32_t a_len, const uint8_t *b, uint32_t b_len,
	       struct value_join *ret_join);
