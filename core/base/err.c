/* SPDX-License-Identifier: MIT */

#include "core/base/err.h"

#include <string.h>

#include "core/base/log.h"

int err_slow(int r, const char *func, const char *file, int line)
{
	log_debug("error", "errno=%d text=\"%s\" at=%s:%d func=%s", -r, strerrordesc_np(-r), file,
		  line, func);
	return r;
}
