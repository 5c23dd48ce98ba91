/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Assertions that stay on in production
 *
 * CHECK() states what this program promises itself. A false one ends the process at once with the
 * place and the text: carrying on would harm every agent instead of one. Never use it on input.
 */

_Noreturn void check_failed(const char *cond, const char *func, const char *file, int line);

#define CHECK(cond)                                                        \
	do {                                                               \
		if (__builtin_expect(!(cond), 0))                          \
			check_failed(#cond, __func__, __FILE__, __LINE__); \
	} while (0)

#define UNREACHABLE() check_failed("unreachable", __func__, __FILE__, __LINE__)
