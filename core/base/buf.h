/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Growable byte buffer with a read position: bytes [pos, len) are unread
 */

#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t *data; /* malloc'ed; NULL while cap is 0 */
	size_t pos, len, cap;
};

static inline size_t buf_unread(const struct buf *b)
{
	return b->len - b->pos;
}

static inline const uint8_t *buf_head(const struct buf *b)
{
	return b->data + b->pos;
}

void buf_deinit(struct buf *b); /* frees; @b is empty and usable after it */

/* Makes room for @n bytes at @data + @len. 0 or -ENOMEM. */
int buf_reserve(struct buf *b, size_t n);
int buf_append(struct buf *b, const void *bytes, size_t n);

/* Marks @n unread bytes as read; gives the memory back when none is left. */
void buf_consume(struct buf *b, size_t n);
