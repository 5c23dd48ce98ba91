/* SPDX-License-Identifier: MIT */

/*
 * Every MessagePack value starts with a head: one byte of format, then 0 to 8 bytes that are the value
 * itself or a count. head_read() decodes any head into {type, count or bits}; all the readers, and
 * skipping, stand on it, so there is one place where a length is taken from hostile bytes.
 */

#include "ipc/cursor.h"

#include <string.h>

#include "ipc/frame.h"

struct head {
	enum cursor_type type;
	bool is_signed;    /* INT: @bits holds a negative or signed value */
	uint64_t bits;     /* value of INT, BOOL; raw bits of FLOAT; count of the rest */
	uint8_t float_len; /* 4 or 8 */
};

/* Formats 0xc0..0xdf: type, bytes of the number that follows, bytes beyond it (ext type, fixext data). */
static const struct format {
	uint8_t type, width, extra, fixed;
} formats[32] = {
	[0x00] = {CURSOR_NIL, 0, 0, 0},   [0x01] = {CURSOR_NONE, 0, 0, 0},
	[0x02] = {CURSOR_BOOL, 0, 0, 0},  [0x03] = {CURSOR_BOOL, 0, 0, 1},
	[0x04] = {CURSOR_BIN, 1, 0, 0},   [0x05] = {CURSOR_BIN, 2, 0, 0},
	[0x06] = {CURSOR_BIN, 4, 0, 0},   [0x07] = {CURSOR_EXT, 1, 1, 0},
	[0x08] = {CURSOR_EXT, 2, 1, 0},   [0x09] = {CURSOR_EXT, 4, 1, 0},
	[0x0a] = {CURSOR_FLOAT, 4, 0, 0}, [0x0b] = {CURSOR_FLOAT, 8, 0, 0},
	[0x0c] = {CURSOR_INT, 1, 0, 0},   [0x0d] = {CURSOR_INT, 2, 0, 0},
	[0x0e] = {CURSOR_INT, 4, 0, 0},   [0x0f] = {CURSOR_INT, 8, 0, 0},
	[0x10] = {CURSOR_INT, 1, 0, 1},   [0x11] = {CURSOR_INT, 2, 0, 1},
	[0x12] = {CURSOR_INT, 4, 0, 1},   [0x13] = {CURSOR_INT, 8, 0, 1},
	[0x14] = {CURSOR_EXT, 0, 1, 1},   [0x15] = {CURSOR_EXT, 0, 1, 2},
	[0x16] = {CURSOR_EXT, 0, 1, 4},   [0x17] = {CURSOR_EXT, 0, 1, 8},
	[0x18] = {CURSOR_EXT, 0, 1, 16},  [0x19] = {CURSOR_STR, 1, 0, 0},
	[0x1a] = {CURSOR_STR, 2, 0, 0},   [0x1b] = {CURSOR_STR, 4, 0, 0},
	[0x1c] = {CURSOR_ARRAY, 2, 0, 0}, [0x1d] = {CURSOR_ARRAY, 4, 0, 0},
	[0x1e] = {CURSOR_MAP, 2, 0, 0},   [0x1f] = {CURSOR_MAP, 4, 0, 0},
};

static uint64_t load_be(const uint8_t *p, unsigned width)
{
	uint16_t v16;
	uint32_t v32;
	uint64_t v64;

	switch (width) {
	case 1:
		return *p;
	case 2:
		memcpy(&v16, p, 2);
		return __builtin_bswap16(v16);
	case 4:
		memcpy(&v32, p, 4);
		return __builtin_bswap32(v32);
	default:
		memcpy(&v64, p, 8);
		return __builtin_bswap64(v64);
	}
}

static uint64_t sign_extend(uint64_t bits, unsigned width)
{
	unsigned shift = 64 - 8 * width;

	return (uint64_t)((int64_t)(bits << shift) >> shift);
}

static int head_read_wide(struct cursor *c, uint8_t first, struct head *ret_head)
{
	const struct format *f = &formats[first - 0xc0];
	uint64_t bits = f->fixed;

	if (f->type == CURSOR_NONE)
		return CURSOR_E_INVALID;
	if ((size_t)(c->end - c->pos) < 1u + f->width)
		return CURSOR_E_END;
	if (f->width)
		bits = load_be(c->pos + 1, f->width);
	if (f->type == CURSOR_INT && f->fixed)
		bits = sign_extend(bits, f->width);
	if (f->type == CURSOR_EXT)
		bits += f->extra; /* the ext type is stepped over with the data */
	*ret_head = (struct head){
		.type = (enum cursor_type)f->type,
		.is_signed = f->type == CURSOR_INT && f->fixed,
		.bits = bits,
		.float_len = f->width,
	};
	c->pos += 1 + f->width;
	return 0;
}

/* Steps over the head only. 0, CURSOR_E_END or CURSOR_E_INVALID. */
static int head_read(struct cursor *c, struct head *ret_head)
{
	uint8_t first;

	if (c->pos == c->end)
		return CURSOR_E_END;
	first = *c->pos;
	if (first >= 0xc0 && first < 0xe0)
		return head_read_wide(c, first, ret_head);

	c->pos++;
	*ret_head = (struct head){.type = CURSOR_INT, .bits = first};
	if (first >= 0xe0)
		*ret_head = (struct head){CURSOR_INT, true, sign_extend(first, 1), 0};
	else if (first >= 0xa0)
		*ret_head = (struct head){.type = CURSOR_STR, .bits = first & 0x1f};
	else if (first >= 0x90)
		*ret_head = (struct head){.type = CURSOR_ARRAY, .bits = first & 0x0f};
	else if (first >= 0x80)
		*ret_head = (struct head){.type = CURSOR_MAP, .bits = first & 0x0f};
	return 0;
}

enum cursor_type cursor_peek(const struct cursor *c)
{
	struct cursor ahead = *c;
	struct head head;

	if (c->pos == c->end)
		return CURSOR_NONE;
	if (*c->pos >= 0xc0 && *c->pos < 0xe0)
		return (enum cursor_type)formats[*c->pos - 0xc0].type;
	return head_read(&ahead, &head) ? CURSOR_NONE : head.type;
}

/* Reads the head of a value that must be of @type; the cursor stays on any failure. */
static int head_expect(struct cursor *c, enum cursor_type type, struct head *ret_head)
{
	struct cursor ahead = *c;
	struct head head;
	int r = head_read(&ahead, &head);

	if (r)
		return r;
	if (head.type != type)
		return CURSOR_E_TYPE;
	*c = ahead;
	*ret_head = head;
	return 0;
}

int cursor_read_nil(struct cursor *c)
{
	struct head head;

	return head_expect(c, CURSOR_NIL, &head);
}

int cursor_read_bool(struct cursor *c, bool *ret_value)
{
	struct head head;
	int r = head_expect(c, CURSOR_BOOL, &head);

	if (!r)
		*ret_value = head.bits;
	return r;
}

int cursor_read_uint(struct cursor *c, uint64_t *ret_value)
{
	struct cursor ahead = *c;
	struct head head;
	int r = head_expect(&ahead, CURSOR_INT, &head);

	if (r)
		return r;
	if (head.is_signed && (int64_t)head.bits < 0)
		return CURSOR_E_TYPE;
	*c = ahead;
	*ret_value = head.bits;
	return 0;
}

int cursor_read_int(struct cursor *c, int64_t *ret_value)
{
	struct cursor ahead = *c;
	struct head head;
	int r = head_expect(&ahead, CURSOR_INT, &head);

	if (r)
		return r;
	if (!head.is_signed && head.bits > INT64_MAX)
		return CURSOR_E_TYPE;
	*c = ahead;
	*ret_value = (int64_t)head.bits;
	return 0;
}

int cursor_read_float(struct cursor *c, double *ret_value)
{
	struct cursor ahead = *c;
	struct head head;
	uint32_t bits32;
	float value32;
	int r = head_read(&ahead, &head);

	if (r)
		return r;
	if (head.type == CURSOR_INT) {
		*ret_value = head.is_signed ? (double)(int64_t)head.bits : (double)head.bits;
	} else if (head.type == CURSOR_FLOAT && head.float_len == 4) {
		bits32 = (uint32_t)head.bits;
		memcpy(&value32, &bits32, sizeof(value32));
		*ret_value = (double)value32;
	} else if (head.type == CURSOR_FLOAT) {
		memcpy(ret_value, &head.bits, sizeof(*ret_value));
	} else {
		return CURSOR_E_TYPE;
	}
	*c = ahead;
	return 0;
}

/* Takes the @head.bits bytes behind a head already read from @ahead. */
static int body_take(struct cursor *c, struct cursor ahead, const struct head *head,
		     const uint8_t **ret_bytes, uint32_t *ret_len)
{
	if (head->bits > (uint64_t)(ahead.end - ahead.pos))
		return CURSOR_E_END;
	*ret_bytes = ahead.pos;
	*ret_len = (uint32_t)head->bits;
	c->pos = ahead.pos + head->bits;
	return 0;
}

int cursor_read_str(struct cursor *c, const char **ret_bytes, uint32_t *ret_len)
{
	struct cursor ahead = *c;
	const uint8_t *bytes;
	struct head head;
	int r = head_expect(&ahead, CURSOR_STR, &head);

	if (!r)
		r = body_take(c, ahead, &head, &bytes, ret_len);
	if (!r)
		*ret_bytes = (const char *)bytes;
	return r;
}

int cursor_read_bytes(struct cursor *c, const uint8_t **ret_bytes, uint32_t *ret_len)
{
	struct cursor ahead = *c;
	struct head head;
	int r = head_read(&ahead, &head);

	if (r)
		return r;
	if (head.type != CURSOR_STR && head.type != CURSOR_BIN)
		return CURSOR_E_TYPE;
	return body_take(c, ahead, &head, ret_bytes, ret_len);
}

/* Elements of a container: each takes a byte at least, so a count above that is a lie. */
static int count_read(struct cursor *c, enum cursor_type type, uint32_t per, uint32_t *ret_count)
{
	struct cursor ahead = *c;
	struct head head;
	int r = head_expect(&ahead, type, &head);

	if (r)
		return r;
	if (head.bits * per > (uint64_t)(ahead.end - ahead.pos))
		return CURSOR_E_END;
	*c = ahead;
	*ret_count = (uint32_t)head.bits;
	return 0;
}

int cursor_read_array(struct cursor *c, uint32_t *ret_count)
{
	return count_read(c, CURSOR_ARRAY, 1, ret_count);
}

int cursor_read_map(struct cursor *c, uint32_t *ret_pairs)
{
	return count_read(c, CURSOR_MAP, 2, ret_pairs);
}

int cursor_skip(struct cursor *c)
{
	struct cursor ahead = *c;
	uint64_t left[FRAME_DEPTH_MAX + 1]; /* values still to come, by level */
	unsigned depth = 0;
	struct head head;
	int r;

	left[0] = 1;
	for (;;) {
		r = head_read(&ahead, &head);
		if (r)
			return r;
		left[depth]--;
		switch (head.type) {
		case CURSOR_STR:
		case CURSOR_BIN:
		case CURSOR_EXT:
			if (head.bits > (uint64_t)(ahead.end - ahead.pos))
				return CURSOR_E_END;
			ahead.pos += head.bits;
			break;
		case CURSOR_MAP:
			head.bits *= 2;
			__attribute__((fallthrough));
		case CURSOR_ARRAY:
			if (head.bits > (uint64_t)(ahead.end - ahead.pos))
				return CURSOR_E_END;
			if (depth == FRAME_DEPTH_MAX)
				return CURSOR_E_DEPTH;
			left[++depth] = head.bits;
			break;
		default:
			break;
		}
		while (!left[depth]) {
			if (!depth) {
				*c = ahead;
				return 0;
			}
			depth--;
		}
	}
}

const char *cursor_error_text(int cursor_e)
{
	switch (cursor_e) {
	case CURSOR_E_END:
		return "a value is cut off";
	case CURSOR_E_TYPE:
		return "a value has another type";
	case CURSOR_E_DEPTH:
		return "a value is nested too deeply";
	case CURSOR_E_INVALID:
		return "0xc1 is not MessagePack";
	default:
		return "no error";
	}
}
