/* SPDX-License-Identifier: MIT */

#include "sdk/cli/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "sdk/c/clove.h"
#include "sdk/cli/printable.h"
#include "sdk/cli/put.h"
#include "sdk/cli/utf8.h"

enum {
	NUMBER_CHARS = 32, /* the longest double has 24 */
};

static void line_put(struct buf *out, unsigned level)
{
	put_text(out, "\n");
	while (level--)
		put_text(out, "  ");
}

/* ---- strings ---- */

/* A character that JSON does not take as it is, or a terminal would act on. */
static void special_put(struct buf *out, uint32_t code)
{
	static const char letters[] = "\bb\ff\nn\rr\tt\"\"\\\\";
	char text[8];

	(void)snprintf(text, sizeof(text), "\\u%04x", (unsigned)code & 0xffff);
	for (size_t i = 0; letters[i]; i += 2)
		if ((uint32_t)letters[i] == code)
			(void)snprintf(text, sizeof(text), "\\%c", letters[i + 1]);
	put_text(out, text);
}

void json_put_string(struct buf *out, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	uint32_t code;
	size_t n;

	put_text(out, "\"");
	for (; len; at += n, len -= n) {
		if (utf8_read(at, len, &code, &n))
			put_text(out, "\xef\xbf\xbd");
		else if (code == '"' || code == '\\' || !printable_is_plain(code))
			special_put(out, code);
		else
			put_bytes(out, at, n);
	}
	put_text(out, "\"");
}

/* ---- values ---- */

static int number_put(struct buf *out, struct cursor *value)
{
	char text[NUMBER_CHARS] = "null";
	uint64_t natural;
	int64_t integer;
	double real = 0;

	if (!cursor_read_uint(value, &natural))
		(void)snprintf(text, sizeof(text), "%" PRIu64, natural);
	else if (!cursor_read_int(value, &integer))
		(void)snprintf(text, sizeof(text), "%" PRId64, integer);
	else if (cursor_read_float(value, &real))
		return CLOVE_E_BROKEN;
	else if (isfinite(real))
		(void)snprintf(text, sizeof(text), "%.17g", real);
	put_text(out, text);
	return 0;
}

/* Anything but an array or a map. */
static int scalar_put(struct buf *out, struct cursor *value)
{
	const uint8_t *bytes;
	uint32_t len;
	bool truth;

	switch (cursor_peek(value)) {
	case CURSOR_STR:
	case CURSOR_BIN:
		if (cursor_read_bytes(value, &bytes, &len))
			return CLOVE_E_BROKEN;
		json_put_string(out, bytes, len);
		return 0;
	case CURSOR_INT:
	case CURSOR_FLOAT:
		return number_put(out, value);
	case CURSOR_BOOL:
		if (cursor_read_bool(value, &truth))
			return CLOVE_E_BROKEN;
		put_text(out, truth ? "true" : "false");
		return 0;
	case CURSOR_NIL:
	case CURSOR_EXT:
		if (cursor_skip(value))
			return CLOVE_E_BROKEN;
		put_text(out, "null");
		return 0;
	default:
		return CLOVE_E_BROKEN;
	}
}

static int key_put(struct buf *out, struct cursor *key)
{
	enum cursor_type type = cursor_peek(key);
	const char *quote = type == CURSOR_STR || type == CURSOR_BIN ? "" : "\"";
	int r;

	put_text(out, quote);
	r = scalar_put(out, key);
	put_text(out, quote);
	put_text(out, ": ");
	return r;
}

/* What cursor_skip() has passed is nested FRAME_DEPTH_MAX deep at most, and so is this. */
static int value_put(struct buf *out, struct cursor *value, unsigned level)
{
	bool is_map = cursor_peek(value) == CURSOR_MAP;
	uint32_t count;
	int r = 0;

	if (!is_map && cursor_peek(value) != CURSOR_ARRAY)
		return scalar_put(out, value);
	if (is_map ? cursor_read_map(value, &count) : cursor_read_array(value, &count))
		return CLOVE_E_BROKEN;
	put_text(out, is_map ? "{" : "[");
	for (uint32_t i = 0; !r && i < count; i++) {
		put_text(out, i ? "," : "");
		line_put(out, level + 1);
		r = is_map ? key_put(out, value) : 0;
		if (!r)
			r = value_put(out, value, level + 1);
	}
	if (count)
		line_put(out, level);
	put_text(out, is_map ? "}" : "]");
	return r;
}

int json_put(struct buf *out, struct cursor value, unsigned level)
{
	struct cursor whole = value;

	if (cursor_skip(&whole))
		return CLOVE_E_BROKEN;
	return value_put(out, &value, level);
}
