/* SPDX-License-Identifier: MIT */

#include "sdk/cli/put.h"

#include <string.h>

#include "sdk/cli/complain.h"

void put_bytes(struct buf *to, const void *bytes, size_t len)
{
	if (buf_append(to, bytes, len))
		complain_of_memory();
}

void put_text(struct buf *to, const char *text)
{
	put_bytes(to, text, strlen(text));
}

int put_packed(void *buf, const char *bytes, size_t len)
{
	put_bytes(buf, bytes, len);
	return 0;
}
