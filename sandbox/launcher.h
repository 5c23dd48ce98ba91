/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The launcher process: main() of a program that was started as LAUNCHER_NAME is this and no
 * more.
 */

#define LAUNCHER_NAME "clove-launcher"

/* Serves the control socket on descriptor 3 until it ends. Returns the exit status. */
int launcher_main(void);
