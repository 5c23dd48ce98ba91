/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Messages on stderr: "clove run: what is wrong; what to do about it"
 *
 * Whatever the arguments are, nothing in a message can steer the terminal (printable.h).
 */

/* From here on messages name @command, and complain_failure() is @failure. */
void complain_as(const char *command, int failure);

/* The status of a command that failed: STATUS_FAILED, or STATUS_OURS. */
int complain_failure(void);

void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A program for one command has nothing to give back: it says so and exits. */
_Noreturn void complain_of_memory(void);
