/* SPDX-License-Identifier: MIT */

#include "sdk/cli/printable.h"

#include <stdio.h>
#include <string.h>

#include "sdk/cli/put.h"
#include "sdk/cli/utf8.h"

enum {
	ESCAPE = 0x1b,
};

static bool is_control(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code < 0xa0);
}

/* Marks, embeddings, overrides and isolates of direction; separators that some take for a new line. */
static bool is_disguise(uint32_t code)
{
	return code == 0x061c || code == 0x200e || code == 0x200f ||
	       (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

bool printable_is_plain(uint32_t code)
{
	return !is_control(code) && !is_disguise(code);
}

static bool is_among(uint32_t code, const char *controls)
{
	return code && code < 0x80 && strchr(controls, (int)code);
}

static void escape_put(struct buf *out, const uint8_t *bytes, size_t len)
{
	char text[8];

	for (size_t i = 0; i < len; i++) {
		(void)snprintf(text, sizeof(text), "\\x%02x", bytes[i]);
		put_text(out, text);
	}
}

/* Puts the character at @bytes, or what stands for it; its length. @pass: controls that may stay. */
static size_t character_put(struct buf *out, const uint8_t *bytes, size_t len, const char *pass)
{
	uint32_t code;
	char text[8];
	size_t n;

	if (utf8_read(bytes, len, &code, &n) || (is_control(code) && !is_among(code, pass))) {
		escape_put(out, bytes, n);
	} else if (is_disguise(code)) {
		(void)snprintf(text, sizeof(text), "\\u%04x", (unsigned)code & 0xffff);
		put_text(out, text);
	} else {
		put_bytes(out, bytes, n);
	}
	return n;
}

void printable_put(struct buf *out, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	size_t n;

	for (; len; at += n, len -= n)
		n = character_put(out, at, len, "");
}

size_t printable_width(const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	size_t width = 0, n;
	uint32_t code;

	for (; len; at += n, len -= n, width++)
		(void)utf8_read(at, len, &code, &n);
	return width;
}

/* ---- in pieces ---- */

/*
 * Length of the sequence for colours that @bytes begin with: ESC [ digits, ; and : m. 0 when it is
 * another; -1 when more must come to tell.
 */
static int colour_length(const uint8_t *bytes, size_t len)
{
	size_t i = 2;

	if (len > 1 && bytes[1] != '[')
		return 0;
	while (i < len &&
	       ((bytes[i] >= '0' && bytes[i] <= '9') || bytes[i] == ';' || bytes[i] == ':'))
		i++;
	if (i >= SCREEN_HELD_MAX)
		return 0;
	if (i >= len)
		return -1;
	return bytes[i] == 'm' ? (int)i + 1 : 0;
}

/* Puts what @bytes begin with; its length, which is 0 when @more must come to tell. */
static size_t unit_put(struct screen *screen, struct buf *out, const uint8_t *bytes, size_t len,
		       bool more)
{
	int colour = *bytes == ESCAPE ? colour_length(bytes, len) : 0;
	uint32_t code;
	size_t n;

	if (more && (colour < 0 || utf8_read(bytes, len, &code, &n) == UTF8_E_CUT))
		return 0;
	if (colour <= 0)
		return character_put(out, bytes, len, "\n\t\r");
	screen->coloured = true;
	put_bytes(out, bytes, (size_t)colour);
	return (size_t)colour;
}

/* Puts all of @bytes that can be told; how much that was. */
static size_t units_put(struct screen *screen, struct buf *out, const uint8_t *bytes, size_t len,
			bool more)
{
	size_t done = 0, n;

	while (done < len) {
		n = unit_put(screen, out, bytes + done, len - done, more);
		if (!n)
			break;
		done += n;
	}
	return done;
}

void screen_put(struct screen *screen, struct buf *out, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	size_t done;

	/* What is held grows byte by byte until it can be told; then the rest is read where it lies. */
	while (screen->held_len && len) {
		screen->held[screen->held_len++] = *at++;
		len--;
		done = units_put(screen, out, screen->held, screen->held_len, true);
		screen->held_len -= done;
		memmove(screen->held, screen->held + done, screen->held_len);
	}
	if (screen->held_len)
		return;
	done = units_put(screen, out, at, len, true);
	screen->held_len = len - done;
	memcpy(screen->held, at + done, screen->held_len);
}

void screen_finish(struct screen *screen, struct buf *out)
{
	(void)units_put(screen, out, screen->held, screen->held_len, false);
	if (screen->coloured)
		put_text(out, "\x1b[0m");
	*screen = (struct screen){0};
}
