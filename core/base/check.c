/* SPDX-License-Identifier: MIT */

#include "core/base/check.h"

#include <stdlib.h>

#include "core/base/log.h"

_Noreturn void check_failed(const char *cond, const char *func, const char *file, int line)
{
	log_error("check-failed", "cond=\"%s\" at=%s:%d func=%s", cond, file, line, func);
	abort();
}
