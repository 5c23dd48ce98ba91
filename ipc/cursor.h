/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Bounds-checked reading of MessagePack, in place
 *
 * A cursor walks over bytes it does not own and never allocates: no object tree. Every read checks
 * the end first; a failed read leaves the cursor where it was. Strings and values come out as pointers into the bytes.
 * Input is hostile: lengths are compared with what is left before they are used, and nesting is
 * bounded by FRAME_DEPTH_MAX. A str is not checked for UTF-8: whoever shows one decodes it
 * leniently. Integers are accepted in every encoding that MessagePack allows.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	CURSOR_E_END = 1, /* the value needs more bytes than there are */
	CURSOR_E_TYPE,    /* another type, or out of the type's range */
	CURSOR_E_DEPTH,   /* nested deeper than FRAME_DEPTH_MAX */
	CURSOR_E_INVALID, /* 0xc1, which is no MessagePack */
};

enum cursor_type {
	CURSOR_NONE, /* at the end, or 0xc1 */
	CURSOR_NIL,
	CURSOR_BOOL,
	CURSOR_INT, /* also unsigned */
	CURSOR_FLOAT,
	CURSOR_STR,
	CURSOR_BIN,
	CURSOR_ARRAY,
	CURSOR_MAP,
	CURSOR_EXT,
};

struct cursor {
	const uint8_t *pos;
	const uint8_t *end;
};

static inline struct cursor cursor_make(const void *bytes, size_t len)
{
	const uint8_t *p = bytes;

	return (struct cursor){.pos = p, .end = p + len};
}

/* Type of the next value, by its first byte alone. */
enum cursor_type cursor_peek(const struct cursor *c);

/* Each returns 0 or CURSOR_E_x. */
int cursor_read_nil(struct cursor *c);
int cursor_read_bool(struct cursor *c, bool *ret_value);
int cursor_read_uint(struct cursor *c, uint64_t *ret_value);
int cursor_read_int(struct cursor *c, int64_t *ret_value);
int cursor_read_float(struct cursor *c, double *ret_value); /* floats and integers */
int cursor_read_str(struct cursor *c, const char **ret_bytes, uint32_t *ret_len);
int cursor_read_bytes(struct cursor *c, const uint8_t **ret_bytes,
		      uint32_t *ret_len); /* str or bin */
int cursor_read_array(struct cursor *c, uint32_t *ret_count);
int cursor_read_map(struct cursor *c, uint32_t *ret_pairs);

/* Validates one whole value and steps over it. The only check that a forwarded payload gets. */
int cursor_skip(struct cursor *c);

const char *cursor_error_text(int cursor_e);
