/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Reading UTF-8 that may not be UTF-8
 */

#include <stddef.h>
#include <stdint.h>

enum {
	UTF8_E_INVALID = 1, /* these bytes begin no character: they count as one mistake */
	UTF8_E_CUT,         /* the beginning of a character, at the end of @bytes */
};

/*
 * The character at @bytes, @len > 0. In any case @ret_len is how many bytes that is: a mistake is as long
 * as it could have become a character (Unicode 3.9, "maximal subpart"), which is how Python, browsers
 * and others count what they replace. 0, UTF8_E_INVALID or UTF8_E_CUT.
 */
int utf8_read(const uint8_t *bytes, size_t len, uint32_t *ret_code, size_t *ret_len);
