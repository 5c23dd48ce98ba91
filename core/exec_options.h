/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * EXEC's arguments, interpreted: what to run and how
 *
 * Input is hostile. Everything here owns its memory.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/bag.h"
#include "core/base/cleanup.h"
#include "core/fault.h"
#include "ipc/cursor.h"

struct exec_options {
	struct strv argv;
	struct strv env; /* "NAME=value" */
	char *cwd;
	bool cwd_is_home; /* not asked for: a home that is not there does for nobody */
	uint8_t *input;   /* for stdin; NULL without any */
	uint32_t input_len;
	uint64_t timeout_ms; /* 0: none */
	uint32_t output_max; /* bytes kept of stdout and of stderr each */
};

/*
 * @command is str, bin or array, valid MessagePack; @options a map, or pos NULL when absent. @user and @home give
 * the base environment, and @home the working directory. WIRE_OK, or a code with @fault filled and
 * nothing owned.
 */
enum wire_error exec_options_init(struct exec_options *options, const char *user, const char *home,
				  struct cursor command, struct cursor bag, struct fault *fault);
void exec_options_deinit(struct exec_options *options);
