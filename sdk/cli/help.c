/* SPDX-License-Identifier: MIT */

#include "sdk/cli/help.h"

#include <stdio.h>
#include <string.h>

enum {
	NAME_WIDTH = 26, /* column where explanations begin */
};

static void flag_print(const struct flag *flag)
{
	char name[64], letter[8] = "    ";

	if (flag->letter)
		(void)snprintf(letter, sizeof(letter), "-%c, ", flag->letter);
	(void)snprintf(name, sizeof(name), "%s--%s%s%s", letter, flag->name, flag->value ? " " : "",
		       flag->value ? flag->value : "");
	if (strlen(name) < NAME_WIDTH)
		(void)printf("  %-*s%s\n", NAME_WIDTH, name, flag->doc);
	else
		(void)printf("  %s\n  %*s%s\n", name, NAME_WIDTH, "", flag->doc);
}

/* Those that @hidden, a command's own of the same name, does not replace. */
static void flags_print(const char *title, const struct flag *flags, const struct flag *hidden)
{
	(void)printf("\n%s:\n", title);
	for (const struct flag *f = flags; f->name; f++) {
		const struct flag *own = hidden;

		while (own && own->name && strcmp(own->name, f->name) != 0)
			own++;
		if (!own || !own->name)
			flag_print(f);
	}
}

void help_program(const struct command *const *commands, const struct flag *globals)
{
	(void)puts("Usage: clove [OPTIONS] COMMAND ...\n\n"
		   "Starts, watches and ends the agents of a Clove kernel.\n\n"
		   "Commands:");
	for (const struct command *const *c = commands; *c; c++)
		(void)printf("  %-*s%s\n", NAME_WIDTH, (*c)->name, (*c)->summary);
	(void)printf("  %-*s%s\n", NAME_WIDTH, "help", "This, or the help of a command");
	flags_print("Options, before or behind the command", globals, NULL);
	(void)puts(
		"\n"
		"Exit status: 0 done, 1 failed, 2 misused. run and wait: the agent's own, or 124 its time\n"
		"is up, 125 clove failed, 126 cannot be run, 127 no such command, 128+N ended by signal N.\n\n"
		"Examples:\n"
		"  clove ping\n"
		"  clove run --memory 256M worker.py\n"
		"  clove help run");
}

void help_command(const struct command *command, const struct flag *globals)
{
	(void)printf("Usage: clove %s [OPTIONS]%s%s\n\n%s.\n", command->name,
		     command->operands ? " " : "", command->operands ? command->operands : "",
		     command->summary);
	if (command->text)
		(void)printf("\n%s", command->text);
	if (command->flags && command->flags->name)
		flags_print("Options", command->flags, NULL);
	flags_print("Options of every command", globals, command->flags);
	(void)printf("\nExamples:\n%s", command->examples);
}
