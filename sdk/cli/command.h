/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A command: what its help says, and what it does
 */

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "sdk/cli/flags.h"

#define TIMEOUT_UNSET UINT64_MAX

/* What may be given with every command, before or behind its name. */
struct settings {
	const char *socket;  /* NULL: as libclove chooses */
	uint64_t timeout_ms; /* that an answer may take; 0: without end */
	bool help, version;
};

enum {
	OPERANDS_ANY = INT_MAX,
};

struct command {
	const char *name;
	const char *operands; /* "AGENT..."; NULL none */
	const char *summary;  /* its line in clove help */
	const char *text;     /* of its own help, ends with a new line */
	const char *examples; /* lines */
	const struct flag *flags;
	void *options; /* what @flags fill, with the defaults in it */
	int operands_min, operands_max;
	bool passes_on; /* the operands are a command line of their own */
	bool stands_in; /* its exit status is an agent's, see status.h */

	/* The exit status. What is wrong has been said. */
	int (*run)(const struct settings *settings, char **operands, int count);
};

extern const struct command command_inspect, command_kill, command_logs, command_pause,
	command_ping, command_ps, command_resume, command_rm, command_run, command_wait;
