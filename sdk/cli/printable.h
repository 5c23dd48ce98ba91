/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Bytes of anybody, for a terminal
 *
 * Control characters can move the cursor, change the title, even make some terminals answer as if
 * somebody had typed; characters that turn the direction of writing make text look like another. Both are shown as
 * what they are, \x1b or \u202e, and so are bytes that are no UTF-8. For people: a backslash stands as it is,
 * so this cannot be read back; machines get JSON.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"

/* Appends what may be shown of a name or message: no control character at all. */
void printable_put(struct buf *out, const void *bytes, size_t len);

/* Whether the character may be shown as it is. */
bool printable_is_plain(uint32_t code);

/* Characters of what printable_put() made. */
size_t printable_width(const void *bytes, size_t len);

enum {
	SCREEN_HELD_MAX = 32, /* longer than any sequence for colours that makes sense */
};

/*
 * The same for output that comes in pieces, cut anywhere: new lines, tabs, carriage returns and
 * sequences for colours (ESC [ ... m) pass too. Zero is a screen where nothing has come yet.
 */
struct screen {
	uint8_t held[SCREEN_HELD_MAX]; /* the beginning of something whose end has not come */
	size_t held_len;
	bool coloured; /* a sequence for colours has passed */
};

void screen_put(struct screen *screen, struct buf *out, const void *bytes, size_t len);
/* Nothing more comes: shows what is held, and sets the colours back. */
void screen_finish(struct screen *screen, struct buf *out);
