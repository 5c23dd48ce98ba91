/* SPDX-License-Identifier: MIT */

#include "sdk/cli/quantity.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum {
	DIGITS_MAX = 18, /* before the point; what fits an int64_t whatever they are */
	DECIMALS_MAX = 9,
	CPU_PERIOD_US = 100000,
};

#define YEAR_MS UINT64_C(31536000000) /* the longest time that the kernel takes */

struct unit {
	const char *name;
	uint64_t worth;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Digits at @text, at most @max of them: how many, and the number they are; 0 for none or too many. */
static size_t digits_read(const char *text, size_t max, uint64_t *ret_value)
{
	uint64_t value = 0;
	size_t n = 0;

	while (is_digit(text[n])) {
		if (n == max)
			return 0;
		value = value * 10 + (uint64_t)(text[n++] - '0');
	}
	*ret_value = value;
	return n;
}

static const struct unit *unit_find(const char *name, const struct unit *units, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(name, units[i].name))
			return &units[i];
	return NULL;
}

static int quantity_read(const char *text, const struct unit *units, size_t count, uint64_t max,
			 uint64_t *ret_value)
{
	uint64_t whole, decimals = 0, scale = 1;
	const struct unit *unit;
	unsigned __int128 value;
	size_t n, zeros = strspn(text, "0");

	/* Leading zeros do not make a number long. */
	if (zeros && is_digit(text[zeros]))
		text += zeros;
	n = digits_read(text, DIGITS_MAX, &whole);
	if (!n)
		return is_digit(*text) && !text[strspn(text, "0123456789")] ? QUANTITY_E_RANGE
									    : QUANTITY_E_FORM;
	text += n;
	if (*text == '.') {
		n = digits_read(++text, DECIMALS_MAX, &decimals);
		if (!n)
			return QUANTITY_E_FORM;
		text += n;
		while (n--)
			scale *= 10;
	}
	unit = unit_find(text, units, count);
	if (!unit && !(whole == 0 && decimals == 0 && !*text))
		return QUANTITY_E_FORM;
	value = unit ? (unsigned __int128)whole * unit->worth : 0;
	value += unit ? (unsigned __int128)decimals * unit->worth / scale : 0;
	if (value > max || (!value && (whole || decimals)))
		return QUANTITY_E_RANGE;
	*ret_value = (uint64_t)value;
	return 0;
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

int quantity_size(const char *text, uint64_t *ret_bytes)
{
	static const struct unit units[] = {
		{"", 1},
		{"K", UINT64_C(1) << 10},
		{"k", UINT64_C(1) << 10},
		{"M", UINT64_C(1) << 20},
		{"m", UINT64_C(1) << 20},
		{"G", UINT64_C(1) << 30},
		{"g", UINT64_C(1) << 30},
		{"T", UINT64_C(1) << 40},
		{"t", UINT64_C(1) << 40},
	};

	return quantity_read(text, units, COUNT(units), INT64_MAX, ret_bytes);
}

int quantity_duration(const char *text, uint64_t *ret_ms)
{
	static const struct unit units[] = {
		{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000},
	};

	return quantity_read(text, units, COUNT(units), YEAR_MS, ret_ms);
}

int quantity_cpus(const char *text, uint64_t *ret_quota_us)
{
	static const struct unit units[] = {{"", CPU_PERIOD_US}};

	return quantity_read(text, units, COUNT(units), INT64_MAX, ret_quota_us);
}

int quantity_count(const char *text, uint64_t *ret_count)
{
	size_t digits = strspn(text, "0123456789");
	static const struct unit units[] = {{"", 1}};

	if (text[digits])
		return QUANTITY_E_FORM;
	return quantity_read(text, units, COUNT(units), INT64_MAX, ret_count);
}
