/* SPDX-License-Identifier: MIT */

#include "core/base/buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"

void buf_deinit(struct buf *b)
{
	free(b->data);
	*b = (struct buf){0};
}

int buf_reserve(struct buf *b, size_t n)
{
	size_t cap = b->cap ? b->cap : 512;
	uint8_t *data;

	if (b->cap - b->len >= n)
		return 0;
	/* Reading has left a gap at the front: close it before asking for more memory. */
	if (b->pos && b->cap - buf_unread(b) >= n && b->pos >= buf_unread(b)) {
		memmove(b->data, b->data + b->pos, buf_unread(b));
		b->len -= b->pos;
		b->pos = 0;
		return 0;
	}
	if (n > SIZE_MAX / 2 - b->len)
		return -ENOMEM;
	while (cap < b->len + n)
		cap *= 2;
	data = realloc(b->data, cap);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->cap = cap;
	return 0;
}

int buf_append(struct buf *b, const void *bytes, size_t n)
{
	int r = buf_reserve(b, n);

	if (r)
		return r;
	if (n)
		memcpy(b->data + b->len, bytes, n);
	b->len += n;
	return 0;
}

void buf_consume(struct buf *b, size_t n)
{
	CHECK(n <= buf_unread(b));
	b->pos += n;
	if (b->pos == b->len)
		buf_deinit(b);
}
