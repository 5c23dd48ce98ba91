/* SPDX-License-Identifier: MIT */

#include "core/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum log_level log_threshold = LOG_INFO;
static const char *log_program = "";

static const char *const names[] = {"debug", "info", "warn", "error"};

void log_init(const char *program, enum log_level level)
{
	log_program = program;
	log_threshold = level;
}

int log_level_parse(const char *name, enum log_level *ret_level)
{
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(name, names[i]))
			continue;
		*ret_level = (enum log_level)i;
		return 0;
	}
	return -EINVAL;
}

int log_enabled(enum log_level level)
{
	return level >= log_threshold;
}

/* Text from outside (a client's name, a path) must not be able to forge a line. */
static void neutralise(char *line, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
}

void log_line(enum log_level level, const char *event, const char *format, ...)
{
	int saved = errno;
	char line[1024];
	struct timespec ts;
	struct tm tm;
	size_t len;
	va_list ap;
	int n;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	(void)gmtime_r(&ts.tv_sec, &tm);
	len = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
	n = snprintf(line + len, sizeof(line) - len, ".%03ldZ %-5s %s%s%s ", ts.tv_nsec / 1000000,
		     names[level], log_program, *log_program ? ": " : "", event);
	len += (size_t)n;
	va_start(ap, format);
	n = vsnprintf(line + len, sizeof(line) - len - 1, format, ap);
	va_end(ap);
	if (n > 0)
		len += (size_t)n < sizeof(line) - len - 1 ? (size_t)n : sizeof(line) - len - 2;
	neutralise(line, len);
	line[len++] = '\n';
	/* A full pipe or closed stderr loses the line, never the kernel. */
	if (write(STDERR_FILENO, line, len) < 0)
		errno = 0;
	errno = saved;
}
