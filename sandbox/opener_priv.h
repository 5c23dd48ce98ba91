/* SPDX-License-Identifier: MIT */
#pragma once

/* What both ends of an opener's socket know. */

#include "sandbox/packet.h"

struct request_body {
	struct packet_open open;
	char bytes[2 * (SPEC_PATH_MAX + 1)]; /* base, NUL, path, NUL */
};
