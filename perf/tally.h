/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What one run counts: replies and their latencies, within a window that follows a warm-up
 */

#include <stdbool.h>
#include <stdint.h>

#include "perf/histogram.h"

struct tally {
	uint64_t start_ns, end_ns; /* of the window */
	bool counting;
	uint64_t ops, refused, last_ns;
	uint64_t cpu_start_ns; /* of this process */
	struct histogram latencies;
};

/* The window starts @warmup_ms from now and lasts @window_ms; with a window of 0, until told. */
void tally_start(struct tally *tally, uint32_t warmup_ms, uint32_t window_ms);

/*
 * Notes @done requests written at @sent_ns whose answers were read at @now_ns, and @refused ones, which the server had no
 * room for: they count apart and have no latency. False: the window is over.
 * When the window opens, the line "start" goes to stdout: whoever observes the server begins then.
 */
bool tally_add(struct tally *tally, uint64_t sent_ns, uint64_t now_ns, uint32_t done,
	       uint32_t refused);

/* The result on stdout, one line of JSON; @io is what the server says about itself. */
void tally_print(const struct tally *tally, const char *io);
