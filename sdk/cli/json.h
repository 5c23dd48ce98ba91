/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * MessagePack as JSON
 *
 * Always well-formed JSON in UTF-8, whatever the bytes: each mistake in a string's UTF-8 becomes one
 * U+FFFD (utf8.h), control characters are escaped. A bin is written as a string is, numbers that JSON lacks
 * (not a number, infinity) and extensions as null, a key that is a number or a word as a string of it.
 */

#include <stddef.h>

#include "core/base/buf.h"
#include "ipc/cursor.h"

/* Puts @value, on several lines, each but the first indented by @level. 0 or CLOVE_E_BROKEN. */
int json_put(struct buf *out, struct cursor value, unsigned level);

void json_put_string(struct buf *out, const void *bytes, size_t len);
