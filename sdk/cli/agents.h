/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * AGENT on the command line, and one call for each of several
 *
 * An AGENT of digits only is an id, everything else a name; name:7 is the agent named 7 (names have no
 * colon).
 */

#include <msgpack.h>

#include "sdk/cli/session.h"

void agents_pack(msgpack_packer *pk, const char *operand);

/* What to ask of each agent, and what becomes of its answer. */
struct agents_call {
	uint16_t op;
	const uint64_t *value; /* second argument; NULL none */
	int timeout_ms;        /* of all answers to what is asked at once; -1 none */
	int timeout_status;    /* when that is up for an agent; 0: as for another error */
	void *arg;
	/* In the order of the operands. The exit status that comes of it. */
	int (*show)(void *arg, const char *operand, struct cursor result);
};

/*
 * Asks for all at once, as far as the kernel allows, and goes on after an error reply, which it says.
 * 0 or SESSION_E_FAILED when the connection is lost; @ret_status: the first status that is not 0, but
 * complain_failure() when any answer was an error.
 */
int agents_each(const struct settings *settings, const struct agents_call *call, char **operands,
		int count, int *ret_status);
