/* SPDX-License-Identifier: MIT */

#include "sdk/cli/session.h"

#include <errno.h>
#include <string.h>

#include "sdk/cli/complain.h"

static void no_kernel_say(const char *path)
{
	complain(
		"no kernel listens on %s; start one: clove_kernel --socket %s (or core/run serve in the "
		"source tree), or name the socket of one that runs with --socket or CLOVE_SOCKET",
		path, path);
}

int session_open(const struct settings *settings, struct clove **ret_clove)
{
	const char *path = clove_socket_path(settings->socket);
	int r = clove_open(settings->socket, ret_clove);

	if (!r)
		return 0;
	if (r == CLOVE_E_NO_KERNEL)
		no_kernel_say(path);
	else if (path && (r == -EACCES || r == -EPERM))
		complain(
			"%s: permission denied; use clove as root, or as the user the kernel runs as",
			path);
	else
		complain("%s: %s", path ? path : "CLOVE_FD", clove_strerror(r));
	return SESSION_E_FAILED;
}

int session_timeout(const struct settings *settings, int unset_ms)
{
	if (settings->timeout_ms == TIMEOUT_UNSET)
		return unset_ms;
	return settings->timeout_ms ? (int)settings->timeout_ms : -1;
}

void session_lost(const struct settings *settings, int r)
{
	const char *path = clove_socket_path(settings->socket);

	if (r == CLOVE_E_CLOSED)
		complain(
			"the kernel has closed the connection; its log says why. It ends its agents when "
			"it stops: start it again with clove_kernel --socket %s",
			path ? path : "PATH");
	else if (r == CLOVE_E_TIMEOUT)
		complain(
			"no answer in time; the kernel may be stopped or overloaded: see its log, or "
			"wait longer: clove --timeout 2m ...");
	else if (r == CLOVE_E_TOO_LARGE)
		complain(
			"the arguments are larger than the kernel takes (1 MiB); pass large data as a "
			"file");
	else
		complain(
			"%s; do clove and the kernel belong together? See clove --version and clove ping",
			clove_strerror(r));
}

int session_ask(const struct settings *settings, struct clove *clove, uint16_t op,
		const struct buf *args, struct clove_frame *ret_frame)
{
	int r = clove_call(clove, op, args ? args->data : NULL, args ? args->len : 0,
			   session_timeout(settings, SESSION_TIMEOUT_MS), ret_frame);

	if (!r)
		return 0;
	session_lost(settings, r);
	return SESSION_E_FAILED;
}

/* What to do about an error; the kernel's message says what it is. */
static const char *advice(enum wire_error code)
{
	switch (code) {
	case WIRE_AGENT_NOT_FOUND:
		return "clove ps lists those that live";
	case WIRE_SANDBOX_UNAVAILABLE:
		return "add what the host lacks, or choose another --profile";
	case WIRE_LIMITS_UNAVAILABLE:
		return "add what the host lacks, or do without --require-limits";
	case WIRE_EXEC_FAILED:
		return "a command is looked up in the sandbox, which has /usr and little else: add its "
		       "place with --ro; a script of this machine ends in .py or comes with --interpreter";
	case WIRE_PERMISSION_DENIED:
		return "use clove as root, or as the user the kernel runs as";
	case WIRE_NOT_FOUND:
	case WIRE_NOT_A_FILE:
		return "check the path";
	case WIRE_INVALID_ARGUMENT:
	case WIRE_TOO_LARGE:
		return "--help says what is taken";
	case WIRE_TIMEOUT:
		return "wait longer: clove --timeout 2m ...";
	case WIRE_NO_SPACE:
		return "make room in the kernel's data directory";
	case WIRE_NOT_IMPLEMENTED:
	case WIRE_UNKNOWN_OP:
	case WIRE_VERSION:
		return "use a kernel of the version that clove --version says";
	case WIRE_NAME_TAKEN: /* says it itself */
		return NULL;
	default:
		return wire_error_retryable(code) ? "try again later" : "the kernel's log has more";
	}
}

void session_refused(const char *what, const struct clove_frame *frame)
{
	const char *hint = advice(frame->error.code);

	complain("%s%s%.*s (%s)%s%s", what ? what : "", what ? ": " : "",
		 (int)frame->error.message_len, frame->error.message, frame->error.name,
		 hint ? "; " : "", hint ? hint : "");
}

int session_call(const struct settings *settings, struct clove *clove, uint16_t op,
		 const struct buf *args, struct clove_frame *ret_frame)
{
	if (session_ask(settings, clove, op, args, ret_frame))
		return SESSION_E_FAILED;
	if (ret_frame->kind != CLOVE_ERROR)
		return 0;
	session_refused(NULL, ret_frame);
	return SESSION_E_FAILED;
}

void session_not_understood(void)
{
	complain(
		"the kernel's answer is not understood; do clove and the kernel belong together? See "
		"clove --version and clove ping");
}
