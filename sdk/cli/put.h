/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Putting bytes behind others in memory; complain_of_memory() when there is none
 */

#include "core/base/buf.h"

void put_bytes(struct buf *to, const void *bytes, size_t len);
void put_text(struct buf *to, const char *text);

/* Where a msgpack_packer writes to: msgpack_packer_init(&packer, &buf, put_packed). */
int put_packed(void *buf, const char *bytes, size_t len);
