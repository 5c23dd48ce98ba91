/* SPDX-License-Identifier: MIT */

/*
 * clove: the operators' command line
 *
 *   main.c     which command, and the options of all
 *   cmd_x.c    a command each: its table of options, its help, what it does
 *   session    the connection, and words for what goes wrong on it
 *
 * One thread, one connection, one command. Data goes to stdout, everything else to stderr.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/log.h"
#include "sdk/cli/complain.h"
#include "sdk/cli/help.h"
#include "sdk/cli/status.h"

static const struct command *const commands[] = {
	&command_run,   &command_ps,     &command_logs, &command_kill,    &command_rm,
	&command_pause, &command_resume, &command_wait, &command_inspect, &command_ping,
	NULL,
};

static const struct flag globals[] = {
	{"socket", 0, FLAG_TEXT, offsetof(struct settings, socket), "PATH",
	 "the kernel's; else CLOVE_SOCKET, else /tmp/clove.sock"},
	{"timeout", 0, FLAG_DURATION, offsetof(struct settings, timeout_ms), "TIME",
	 "how long an answer may take; 0 without end (30s)"},
	{"help", 'h', FLAG_SWITCH, offsetof(struct settings, help), NULL, "this"},
	{"version", 0, FLAG_SWITCH, offsetof(struct settings, version), NULL,
	 "the version, and nothing else"},
	{0},
};

static const struct command *command_find(const char *name)
{
	for (const struct command *const *c = commands; *c; c++)
		if (!strcmp((*c)->name, name))
			return *c;
	complain("there is no command \"%s\"; clove help lists them", name);
	return NULL;
}

/* ---- the process ---- */

/*
 * A descriptor below 3 that is closed would be taken by the connection, and what is printed would go to
 * the kernel. In its place stands one that fails, so that it is noticed.
 */
static void descriptors_fill(void)
{
	static const int modes[] = {O_WRONLY, O_RDONLY, O_RDONLY};

	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", modes[fd]) != fd)
			_exit(STATUS_FAILED);
}

/* Whether what was printed has arrived. A reader who has gone away has ended this process already. */
static int output_close(int status)
{
	if (!fflush(stdout) && !ferror(stdout))
		return status;
	complain("the output cannot be written: %s", strerror(errno));
	return complain_failure();
}

/* ---- commands ---- */

static int usage(const struct command *command, const char *what)
{
	complain("%s; usage: clove %s [OPTIONS]%s%s, and --help says more", what, command->name,
		 command->operands ? " " : "", command->operands ? command->operands : "");
	return command->stands_in ? STATUS_OURS : STATUS_USAGE;
}

static int print_version(void)
{
	(void)puts("clove " CLOVE_VERSION);
	return STATUS_OK;
}

static int command_start(const struct command *command, struct settings *settings, int argc,
			 char **argv)
{
	const struct flag_set sets[] = {
		{command->flags ? command->flags
				: &globals[sizeof(globals) / sizeof(globals[0]) - 1],
		 command->options},
		{globals, settings},
	};
	int count;

	complain_as(command->name, command->stands_in ? STATUS_OURS : STATUS_FAILED);
	if (flags_read(sets, 2, !command->passes_on, argc, argv, &count))
		return command->stands_in ? STATUS_OURS : STATUS_USAGE;
	if (settings->help) {
		help_command(command, globals);
		return STATUS_OK;
	}
	if (settings->version)
		return print_version();
	if (settings->timeout_ms != TIMEOUT_UNSET && settings->timeout_ms > INT_MAX)
		return usage(command, "--timeout is out of range: at most 24d");
	if (count < command->operands_min)
		return usage(command, "something is missing");
	if (count > command->operands_max)
		return usage(command, "that is one argument too many");
	return command->run(settings, argv, count);
}

static int help(int argc, char **argv)
{
	const struct command *command;

	complain_as("help", STATUS_FAILED);
	if (argc == 0) {
		help_program(commands, globals);
		return STATUS_OK;
	}
	command = argc == 1 ? command_find(argv[0]) : NULL;
	if (argc > 1)
		complain("one command at a time: clove help %s", argv[0]);
	if (!command)
		return STATUS_USAGE;
	help_command(command, globals);
	return STATUS_OK;
}

static int start(int argc, char **argv)
{
	struct settings settings = {.timeout_ms = TIMEOUT_UNSET};
	const struct flag_set sets[] = {{globals, &settings}};
	const struct command *command;
	int count;

	/* Up to the command: what follows it is read with its own options. */
	if (flags_read(sets, 1, false, argc, argv, &count))
		return STATUS_USAGE;
	if (settings.version)
		return print_version();
	if (settings.help || (count && !strcmp(argv[0], "help")))
		return help(settings.help ? 0 : count - 1, argv + 1);
	if (!count) {
		complain("which command? clove help lists them");
		return STATUS_USAGE;
	}
	command = command_find(argv[0]);
	if (!command)
		return STATUS_USAGE;
	return command_start(command, &settings, count - 1, argv + 1);
}

int main(int argc, char **argv)
{
	descriptors_fill();
	/* As every filter: who stops reading ends it. Some parents leave this ignored. */
	(void)signal(SIGPIPE, SIG_DFL);
	log_init("clove", LOG_ERROR);
	return output_close(start(argc - 1, argv + 1));
}
