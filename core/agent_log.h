/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Reading what an agent wrote: STREAM.log and its predecessor STREAM.log.1, rotated by the agent's init
 *
 * A cursor names a byte of the stream by its file and its place there, so that it stays good when
 * the file is rotated while somebody follows.
 */

#include <stdbool.h>
#include <stdint.h>

#include "core/directory.h"
#include "core/fault.h"

struct kernel;

struct agent_log {
	uint8_t *data; /* owned by the caller */
	uint32_t len;
	uint64_t next; /* cursor behind it */
	bool lost;     /* what the cursor named was rotated away */
};

/* In a file thread. @cursor NULL: from the oldest byte. WIRE_OK, or a code with @fault filled. */
enum wire_error agent_log_read(struct kernel *kernel, const struct agent_card *card,
			       const char *stream, const uint64_t *cursor, uint32_t length,
			       struct agent_log *ret_log, struct fault *fault);
