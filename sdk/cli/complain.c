/* SPDX-License-Identifier: MIT */

#include "sdk/cli/complain.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "sdk/cli/printable.h"
#include "sdk/cli/put.h"
#include "sdk/cli/status.h"

/* One program, one command, one thread. */
static const char *command_name;
static int failure = STATUS_FAILED;

void complain_as(const char *command, int status)
{
	command_name = command;
	failure = status;
}

int complain_failure(void)
{
	return failure;
}

void complain(const char *format, ...)
{
	CLEANUP(buf_deinit) struct buf line = {0};
	CLEANUP(freep) char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, format);
	n = vasprintf(&text, format, ap);
	va_end(ap);
	if (n < 0) {
		text = NULL;
		complain_of_memory();
	}
	put_text(&line, "clove");
	if (command_name) {
		put_text(&line, " ");
		put_text(&line, command_name);
	}
	put_text(&line, ": ");
	printable_put(&line, text, (size_t)n);
	put_text(&line, "\n");
	/* What was printed before it comes first, also when both go to one place. */
	(void)fflush(stdout);
	(void)fwrite(line.data, 1, line.len, stderr);
}

_Noreturn void complain_of_memory(void)
{
	static const char text[] = "clove: no memory is left\n";
	ssize_t n = write(STDERR_FILENO, text, sizeof(text) - 1);

	(void)n;
	_exit(failure);
}
