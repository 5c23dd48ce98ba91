/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Fault: why a call failed, in the form its caller will read
 */

#include <stdbool.h>

#include "ipc/wire.h"

struct fault {
	enum wire_error code;
	int os_error;           /* errno behind it; 0 for none */
	const char *step;       /* static text or NULL */
	uint32_t bytes_written; /* before the fault; 0: none, or not a matter of writing */
	uint32_t retry_ms;      /* when to try again; 0: not said */
	bool has_version;       /* of a key, that is not what was asked for: */
	uint64_t version;       /* 0: it does not exist */
	bool outcome_unknown;   /* the call goes on, and nobody will hear how it ends */
	char message[192];
};

/* Fills @fault; returns @code, so that handlers can end with it. */
enum wire_error fault_set(struct fault *fault, enum wire_error code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* As fault_set(), with the code that fits @os_error and its text after the message. */
enum wire_error fault_set_os(struct fault *fault, int os_error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
