/* SPDX-License-Identifier: MIT */

#include "sdk/cli/status.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "sdk/c/clove.h"

enum {
	SIGNALS = 128,
};

/* What WAIT's reason means here. @status 0: the exit code or the signal says it. */
static const struct reason {
	const char *name;
	int status;
	const char *words;
} reasons[] = {
	{"exited", 0, NULL},
	{"signal", 0, NULL},
	{"out-of-memory", STATUS_SIGNAL + SIGKILL, "out of memory; --memory gives it more"},
	{"timeout", STATUS_TIMEOUT, "its time was up; run --timeout sets another"},
	{"killed", STATUS_SIGNAL + SIGKILL, "killed by clove kill or another client"},
	{"start-failed", STATUS_CANNOT_RUN,
	 "it could not be started again; the kernel's log says why"},
	{"lost", STATUS_OURS, "lost with the kernel's launcher; restart the kernel"},
};

static const struct reason *reason_of(struct cursor end)
{
	const uint8_t *name;
	uint32_t len;

	if (clove_map_bytes(end, "reason", &name, &len))
		return NULL;
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (strlen(reasons[i].name) == len && !memcmp(reasons[i].name, name, len))
			return &reasons[i];
	return NULL;
}

int status_of_end(struct cursor end, int *ret_status)
{
	const struct reason *reason = reason_of(end);
	uint64_t signo;
	int64_t code;

	if (!reason || clove_map_int(end, "exit_code", &code) ||
	    clove_map_uint(end, "signal", &signo) || signo >= SIGNALS)
		return CLOVE_E_BROKEN;
	if (reason->status)
		*ret_status = reason->status;
	else
		*ret_status = signo ? STATUS_SIGNAL + (int)signo : (int)code & 0xff;
	return 0;
}

const char *status_explain(struct cursor end)
{
	static char text[32];
	const struct reason *reason = reason_of(end);
	const char *name;
	uint64_t signo;

	if (!reason || reason->words)
		return reason ? reason->words : NULL;
	if (clove_map_uint(end, "signal", &signo) || !signo || signo >= SIGNALS)
		return NULL;
	name = sigabbrev_np((int)signo);
	(void)snprintf(text, sizeof(text), "signal %d%s%s", (int)signo, name ? " SIG" : "",
		       name ? name : "");
	return text;
}
