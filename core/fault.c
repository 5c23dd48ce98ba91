/* SPDX-License-Identifier: MIT */

#include "core/fault.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void fault_text(struct fault *fault, enum wire_error code, const char *format, va_list ap)
	__attribute__((format(printf, 3, 0)));

static void fault_text(struct fault *fault, enum wire_error code, const char *format, va_list ap)
{
	*fault = (struct fault){.code = code};
	(void)vsnprintf(fault->message, sizeof(fault->message), format, ap);
	/* A caller's words may be in it, of any bytes, cut anywhere; the message is text. */
	for (char *c = fault->message; *c; c++)
		if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f)
			*c = '?';
}

enum wire_error fault_set(struct fault *fault, enum wire_error code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fault_text(fault, code, format, ap);
	va_end(ap);
	return code;
}

static enum wire_error code_of_errno(int os_error)
{
	switch (os_error) {
	case ENOENT:
	case ENOTDIR:
		return WIRE_NOT_FOUND;
	case EACCES:
	case EPERM:
	case EROFS:
		return WIRE_PERMISSION_DENIED;
	case ENOSPC:
	case EDQUOT:
		return WIRE_NO_SPACE;
	case EISDIR:
		return WIRE_NOT_A_FILE;
	case ENAMETOOLONG:
	case EINVAL:
	case ELOOP:
		return WIRE_INVALID_ARGUMENT;
	case EFBIG:
		return WIRE_TOO_LARGE;
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case EAGAIN:
		return WIRE_BUSY;
	default:
		return WIRE_IO_ERROR;
	}
}

enum wire_error fault_set_os(struct fault *fault, int os_error, const char *format, ...)
{
	size_t len;
	va_list ap;

	va_start(ap, format);
	fault_text(fault, code_of_errno(os_error), format, ap);
	va_end(ap);
	len = strlen(fault->message);
	(void)snprintf(fault->message + len, sizeof(fault->message) - len, ": %s",
		       strerrordesc_np(os_error));
	fault->os_error = os_error;
	return fault->code;
}
