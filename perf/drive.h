/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The three ways of putting load on a server
 *
 * Each connects, runs, fills and prints @tally, and returns 0, DRIVE_E_FAILED, or -errno.
 */

#include <stdbool.h>
#include <stdint.h>

#include "perf/protocol.h"
#include "perf/tally.h"

enum {
	DRIVE_E_FAILED = 1, /* the reason has been reported on stderr */
};

struct drive {
	const struct protocol *protocol;
	const char *path;           /* of the server's Unix socket */
	char io[PROTOCOL_IO_BYTES]; /* the server's, as it says */
	struct work *work;          /* what is asked */
	uint32_t clients, pipeline;
	uint32_t warmup_ms, window_ms;
};

/* A connection whose reads and writes give up after some seconds, so that no run hangs. */
int drive_connect(const struct drive *drive, int *ret_fd);

/*
 * One client, one request at a time, blocking: what a round trip costs when nothing else goes on. Not for a work that
 * ends.
 */
int drive_lone(const struct drive *drive, struct tally *tally);

/* Many clients in one epoll loop, each with a batch of requests in flight; until the work or the window ends. */
int drive_fleet(const struct drive *drive, struct tally *tally);

/* Many clients that are connected, answered once, and then silent until standard input ends. */
int drive_crowd(const struct drive *drive, struct tally *tally);

/* How long whoever was refused rests before it asks again: as long as Clove says (STORE_RETRY_MS). */
enum {
	DRIVE_REST_MS = 50,
};

/* One request and its answer on a blocking socket; a step of lone and crowd. */
int drive_exchange(const struct drive *drive, int fd, struct dialogue *dialogue, bool *ret_refused);
