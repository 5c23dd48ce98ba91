/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The launcher process: all that its program does
 */

#define LAUNCHER_NAME "clove-launcher"

/* Serves the control socket on descriptor 3 until it ends, for a kernel of @version. Returns the exit status. */
int launcher_main(const char *version);
