/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What clove help and --help print, on stdout
 */

#include "sdk/cli/command.h"

/* @commands ends with NULL; @globals are the flags of every command. */
void help_program(const struct command *const *commands, const struct flag *globals);
void help_command(const struct command *command, const struct flag *globals);
