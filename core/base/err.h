/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The one error idiom
 *
 * A function that can fail returns int. 0 is success. A negative number is an errno value: something
 * unexpected, passed on unchanged with err_trace() and born with err_raise(-errno). A positive number
 * is a condition named in an enum of that function's header, for its direct caller; what the caller
 * does not name it folds with err_fold() into -ENOTRECOVERABLE. Out parameters, called ret_x, are
 * left alone on failure.
 *
 * Every step of a trace is one line of the log at level debug. Nothing here allocates; any thread.
 */

#include <errno.h>

int err_slow(int r, const char *func, const char *file, int line);

static inline int err_trace_at(int r, const char *func, const char *file, int line)
{
	return __builtin_expect(r >= 0, 1) ? r : err_slow(r, func, file, line);
}

static inline int err_fold_at(int r, const char *func, const char *file, int line)
{
	if (__builtin_expect(r == 0, 1))
		return 0;
	return err_slow(r > 0 ? -ENOTRECOVERABLE : r, func, file, line);
}

#define err_raise(r) err_slow((r), __func__, __FILE__, __LINE__)
#define err_trace(r) err_trace_at((r), __func__, __FILE__, __LINE__)
#define err_fold(r)  err_fold_at((r), __func__, __FILE__, __LINE__)
