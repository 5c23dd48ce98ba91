/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The end of a stream: its last lines or its last bytes
 */

#include <stdint.h>

#include "core/base/buf.h"

#define TAIL_UNBOUNDED UINT64_MAX

/* Both limits hold. A line without its new line, at the end, counts as one. */
struct tail {
	uint64_t lines, bytes; /* TAIL_UNBOUNDED: no limit */
	struct buf kept;
};

void tail_deinit(struct tail *tail);
void tail_put(struct tail *tail, const void *bytes, size_t len);
