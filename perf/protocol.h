/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A protocol the load generator speaks
 *
 * The event loops know bytes only; a protocol turns "one more request" into bytes and bytes into a
 * number of verified replies. So every system is measured by the same loop, sockets and clock. To add
 * one: write protocol_<system>.c and name it in load.c.
 */

#include <stddef.h>
#include <stdint.h>

#include "perf/work.h"

enum {
	PROTOCOL_E_WRONG = 1, /* a reply is not the one due; it has been reported on stderr */
};

enum {
	PROTOCOL_PIPELINE_MAX = 256, /* requests in flight on a connection: Clove's own limit */
	PROTOCOL_IO_BYTES = 16,
};

struct heard {
	uint32_t replies; /* whole ones, each verified */
	uint32_t refused; /* of these: the server had no room just now; went back to the work */
};

struct dialogue; /* one connection's state; each protocol has its own */

struct protocol {
	const char *name;

	/* What the server multiplexes its input with. Takes over @fd, a connection for this alone. */
	int (*ask_io)(int fd, char ret_io[PROTOCOL_IO_BYTES]);

	/* What is asked in it is drawn from @work, which outlives it. @fd is the dialogue's on success. */
	int (*dialogue_new)(int fd, struct work *work, struct dialogue **ret_dialogue);
	struct dialogue *(*dialogue_free)(struct dialogue *dialogue);

	/* Encodes requests. To be called when all earlier ones are answered. */
	int (*put)(struct dialogue *dialogue, const struct ask *asks, uint32_t count);
	const uint8_t *(*output)(const struct dialogue *dialogue, size_t *ret_len);
	void (*output_sent)(struct dialogue *dialogue, size_t len);

	/* Takes bytes that came. */
	int (*input)(struct dialogue *dialogue, const uint8_t *bytes, size_t len,
		     struct heard *ret_heard);
};

extern const struct protocol protocol_clove;
extern const struct protocol protocol_redis;
