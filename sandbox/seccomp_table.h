/* SPDX-License-Identifier: MIT */
#pragma once

/* System calls by name; see seccomp_filter.c, which decides about those in neither list. */

extern const char *const seccomp_allowed[]; /* in every filter */
extern const char
	*const seccomp_refused[]; /* with EPERM: programs ask for them and can do without */
extern const char *const seccomp_network[]; /* where there is socket() */
