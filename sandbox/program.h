/* SPDX-License-Identifier: MIT */
#pragma once

/* What every kind of launch does last. */

#include "sandbox/spec.h"

/* Handlers and mask as a fresh program expects them; what was pending strikes here. 0 or -errno. */
int program_reset_signals(void);

/* The spec's cwd, or what stands in for it. 0 or -errno. */
int program_enter_cwd(const struct launch_spec *spec);

/* execve() of argv[0], looked up like execvp() does, but in env's PATH. Returns only as -errno. */
int program_exec(const struct launch_spec *spec);
