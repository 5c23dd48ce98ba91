/* SPDX-License-Identifier: MIT */

#include "store/value.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

__extension__ typedef __int128 wide; /* holds every sum of two 64-bit integers */

struct number {
	bool is_float;
	wide integer;
	double real;
};

static uint64_t big_endian(const uint8_t *from, uint32_t bytes)
{
	uint64_t value = 0;

	for (uint32_t i = 0; i < bytes; i++)
		value = value << 8 | from[i];
	return value;
}

static void big_endian_write(uint8_t *to, uint64_t value, uint32_t bytes)
{
	for (uint32_t i = bytes; i-- > 0; value >>= 8)
		to[i] = (uint8_t)value;
}

static int number_read(const uint8_t *from, uint32_t len, struct number *ret)
{
	uint32_t bytes;
	uint64_t raw;

	*ret = (struct number){0};
	if (!len)
		return 0;
	if (len == 1 && (from[0] < 0x80 || from[0] >= 0xe0)) {
		ret->integer = (int8_t)from[0];
		return 0;
	}
	if (from[0] == 0xca && len == 5) {
		uint32_t word = (uint32_t)big_endian(from + 1, 4);
		float narrow;

		memcpy(&narrow, &word, sizeof(narrow));
		*ret = (struct number){.is_float = true, .real = (double)narrow};
		return 0;
	}
	if (from[0] == 0xcb && len == 9) {
		raw = big_endian(from + 1, 8);
		ret->is_float = true;
		memcpy(&ret->real, &raw, sizeof(raw));
		return 0;
	}
	if (from[0] < 0xcc || from[0] > 0xd3)
		return VALUE_E_TYPE;
	bytes = 1u << ((from[0] - 0xcc) & 3);
	if (len != 1 + bytes)
		return VALUE_E_TYPE;
	raw = big_endian(from + 1, bytes);
	if (from[0] < 0xd0)
		ret->integer = raw;
	else /* sign-extended */
		ret->integer = (int64_t)(raw << (64 - 8 * bytes)) >> (64 - 8 * bytes);
	return 0;
}

static uint32_t head_write(uint8_t *to, uint8_t code, uint64_t value, uint32_t bytes)
{
	to[0] = code;
	big_endian_write(to + 1, value, bytes);
	return 1 + bytes;
}

static uint32_t integer_write(wide value, uint8_t *to)
{
	if (value >= 0) {
		if (value < 0x80)
			return head_write(to, (uint8_t)value, 0, 0);
		if (value <= UINT8_MAX)
			return head_write(to, 0xcc, (uint64_t)value, 1);
		if (value <= UINT16_MAX)
			return head_write(to, 0xcd, (uint64_t)value, 2);
		if (value <= UINT32_MAX)
			return head_write(to, 0xce, (uint64_t)value, 4);
		return head_write(to, 0xcf, (uint64_t)value, 8);
	}
	if (value >= -32)
		return head_write(to, (uint8_t)value, 0, 0);
	if (value >= INT8_MIN)
		return head_write(to, 0xd0, (uint64_t)value, 1);
	if (value >= INT16_MIN)
		return head_write(to, 0xd1, (uint64_t)value, 2);
	if (value >= INT32_MIN)
		return head_write(to, 0xd2, (uint64_t)value, 4);
	return head_write(to, 0xd3, (uint64_t)value, 8);
}

static double number_real(const struct number *number)
{
	return number->is_float ? number->real : (double)number->integer;
}

int value_add(const uint8_t *a, uint32_t a_len, const uint8_t *b, uint32_t b_len,
	      uint8_t ret_bytes[VALUE_NUMBER_MAX], uint32_t *ret_len)
{
	struct number left, right;
	uint64_t raw;
	double sum;

	if (!b_len || number_read(a, a_len, &left) || number_read(b, b_len, &right))
		return VALUE_E_TYPE;
	if (!left.is_float && !right.is_float) {
		left.integer += right.integer;
		if (left.integer < INT64_MIN || left.integer > UINT64_MAX)
			return VALUE_E_RANGE;
		*ret_len = integer_write(left.integer, ret_bytes);
		return 0;
	}
	sum = number_real(&left) + number_real(&right);
	if (!isfinite(sum))
		return VALUE_E_RANGE;
	memcpy(&raw, &sum, sizeof(raw));
	*ret_len = head_write(ret_bytes, 0xcb, raw, 8);
	return 0;
}

enum kind {
	KIND_NONE,
	KIND_STR,
	KIND_BIN,
	KIND_ARRAY,
};

/* Head of a str, bin or array: its kind, its count of bytes or elements, its own length. */
static enum kind head_read(const uint8_t *from, uint32_t len, uint64_t *ret_count,
			   uint32_t *ret_head)
{
	static const struct {
		uint8_t code, bytes;
		enum kind kind;
	} heads[] = {
		{0xc4, 1, KIND_BIN},   {0xc5, 2, KIND_BIN},   {0xc6, 4, KIND_BIN},
		{0xd9, 1, KIND_STR},   {0xda, 2, KIND_STR},   {0xdb, 4, KIND_STR},
		{0xdc, 2, KIND_ARRAY}, {0xdd, 4, KIND_ARRAY},
	};

	if (!len)
		return KIND_NONE;
	*ret_head = 1;
	if (from[0] >= 0xa0 && from[0] <= 0xbf) {
		*ret_count = from[0] & 0x1f;
		return KIND_STR;
	}
	if (from[0] >= 0x90 && from[0] <= 0x9f) {
		*ret_count = from[0] & 0x0f;
		return KIND_ARRAY;
	}
	for (uint32_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
		if (heads[i].code == from[0] && len >= 1u + heads[i].bytes) {
			*ret_count = big_endian(from + 1, heads[i].bytes);
			*ret_head = 1u + heads[i].bytes;
			return heads[i].kind;
		}
	return KIND_NONE;
}

static uint32_t join_head(enum kind kind, uint64_t count, uint8_t *to)
{
	if (kind == KIND_ARRAY) {
		if (count < 16)
			return head_write(to, (uint8_t)(0x90 | count), 0, 0);
		return count <= UINT16_MAX ? head_write(to, 0xdc, count, 2)
					   : head_write(to, 0xdd, count, 4);
	}
	if (kind == KIND_STR && count < 32)
		return head_write(to, (uint8_t)(0xa0 | count), 0, 0);
	if (count <= UINT8_MAX)
		return head_write(to, kind == KIND_STR ? 0xd9 : 0xc4, count, 1);
	if (count <= UINT16_MAX)
		return head_write(to, kind == KIND_STR ? 0xda : 0xc5, count, 2);
	return head_write(to, kind == KIND_STR ? 0xdb : 0xc6, count, 4);
}

int value_join(const uint8_t *a, uint32_t a_len, const uint8_t *b, uint32_t b_len,
	       struct value_join *ret_join)
{
	uint64_t count_a, count_b;
	struct value_join join;
	enum kind kind = head_read(a, a_len, &count_a, &join.skip_a);

	if (kind == KIND_NONE || head_read(b, b_len, &count_b, &join.skip_b) != kind)
		return VALUE_E_TYPE;
	if (count_a + count_b > UINT32_MAX)
		return VALUE_E_TYPE;
	/* What the head promises must be there: otherwise the sum would swallow what follows. */
	if (kind != KIND_ARRAY &&
	    (a_len - join.skip_a != count_a || b_len - join.skip_b != count_b))
		return VALUE_E_TYPE;
	join.head_len = join_head(kind, count_a + count_b, join.head);
	*ret_join = join;
	return 0;
}
