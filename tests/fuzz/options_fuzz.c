/* SPDX-License-Identifier: MIT */

/*
 * EXEC's arguments: two values, command and options, as a frame's body would carry them
 */

#include <stdlib.h>
#include <string.h>

#include "core/exec_options.h"
#include "ipc/cursor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor body = cursor_make(data, size);
	struct cursor command = body, bag;
	struct exec_options options;
	struct fault fault = {0};

	/* What the dispatcher has checked before a handler runs. */
	if (cursor_skip(&body))
		return 0;
	command.end = body.pos;
	bag = body;
	if (cursor_peek(&bag) != CURSOR_MAP || cursor_skip(&body))
		bag.pos = NULL;
	else
		bag.end = body.pos;
	switch (cursor_peek(&command)) {
	case CURSOR_STR:
	case CURSOR_BIN:
	case CURSOR_ARRAY:
		break;
	default:
		return 0;
	}
	if (exec_options_init(&options, "user", "/home/user", command, bag, &fault)) {
		if (!fault.code || !*fault.message)
			abort();
		return 0;
	}
	if (!options.argv.count || options.argv.items[options.argv.count] ||
	    options.env.items[options.env.count] || *options.cwd != '/')
		abort();
	exec_options_deinit(&options);
	return 0;
}
