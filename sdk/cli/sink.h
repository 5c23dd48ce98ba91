/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Where an agent's output goes: a descriptor, and what waits to be written to it
 *
 * Nothing here blocks on a pipe, so a reader that stands still does not keep anybody from Ctrl-C. On a
 * terminal control characters are shown instead of sent (struct screen), unless asked for raw bytes.
 */

#include <stdbool.h>

#include "core/base/buf.h"
#include "sdk/cli/printable.h"

struct sink {
	int fd; /* borrowed */
	bool filtered;
	struct screen screen;
	struct buf waiting;
};

enum {
	SINK_E_CLOSED = 1, /* nobody reads what is written there */
};

/* @raw: bytes as they are, also on a terminal. */
void sink_init(struct sink *sink, int fd, bool raw);
void sink_deinit(struct sink *sink);

void sink_put(struct sink *sink, const void *bytes, size_t len);
void sink_finish(struct sink *sink); /* nothing more will be put */

static inline bool sink_is_full(const struct sink *sink)
{
	return buf_unread(&sink->waiting);
}

/* Writes some of what waits, after poll() said that the descriptor takes it. 0, SINK_E_CLOSED or -errno. */
int sink_write(struct sink *sink);
