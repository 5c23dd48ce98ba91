/* SPDX-License-Identifier: MIT */

#include "sdk/cli/tail.h"

#include <string.h>

#include "sdk/cli/put.h"

void tail_deinit(struct tail *tail)
{
	buf_deinit(&tail->kept);
}

/* How many bytes before the last @lines of @bytes. */
static size_t before_lines(const uint8_t *bytes, size_t len, uint64_t lines)
{
	const uint8_t *at;
	size_t end = len;

	if (!lines)
		return len;
	/* The new line that ends the last line begins none. */
	if (end && bytes[end - 1] == '\n')
		end--;
	for (; lines; lines--) {
		at = memrchr(bytes, '\n', end);
		if (!at)
			return 0;
		end = (size_t)(at - bytes);
	}
	return end + 1;
}

void tail_put(struct tail *tail, const void *bytes, size_t len)
{
	struct buf *kept = &tail->kept;
	size_t drop = 0, unread;

	put_bytes(kept, bytes, len);
	unread = buf_unread(kept);
	if (tail->lines != TAIL_UNBOUNDED && unread)
		drop = before_lines(buf_head(kept), unread, tail->lines);
	if (unread > tail->bytes && drop < unread - tail->bytes)
		drop = unread - (size_t)tail->bytes;
	buf_consume(kept, drop);
}
