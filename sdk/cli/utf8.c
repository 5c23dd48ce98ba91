/* SPDX-License-Identifier: MIT */

#include "sdk/cli/utf8.h"

/* What may follow a first byte: how many bytes, and between what the second lies (table 3-7 of Unicode). */
static const struct lead {
	uint8_t first, last, more, second_min, second_max;
} leads[] = {
	{0xc2, 0xdf, 1, 0x80, 0xbf}, {0xe0, 0xe0, 2, 0xa0, 0xbf}, {0xe1, 0xec, 2, 0x80, 0xbf},
	{0xed, 0xed, 2, 0x80, 0x9f}, {0xee, 0xef, 2, 0x80, 0xbf}, {0xf0, 0xf0, 3, 0x90, 0xbf},
	{0xf1, 0xf3, 3, 0x80, 0xbf}, {0xf4, 0xf4, 3, 0x80, 0x8f},
};

int utf8_read(const uint8_t *bytes, size_t len, uint32_t *ret_code, size_t *ret_len)
{
	const struct lead *lead = NULL;
	uint32_t code;

	*ret_len = 1;
	*ret_code = *bytes;
	if (*bytes < 0x80)
		return 0;
	for (size_t i = 0; i < sizeof(leads) / sizeof(leads[0]); i++)
		if (*bytes >= leads[i].first && *bytes <= leads[i].last)
			lead = &leads[i];
	if (!lead)
		return UTF8_E_INVALID;
	code = *bytes & (0x3fu >> lead->more);
	for (size_t i = 1; i <= lead->more; i++) {
		uint8_t min = i == 1 ? lead->second_min : 0x80;
		uint8_t max = i == 1 ? lead->second_max : 0xbf;

		*ret_len = i;
		if (i == len)
			return UTF8_E_CUT;
		if (bytes[i] < min || bytes[i] > max)
			return UTF8_E_INVALID;
		code = code << 6 | (bytes[i] & 0x3f);
	}
	*ret_len = lead->more + 1u;
	*ret_code = code;
	return 0;
}
