/* SPDX-License-Identifier: MIT */

#include "core/base/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
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

/*
 * A core must not wait for whoever reads the log. Polled writable, a pipe has room for a page, and no line is
 * that long; the lock keeps another thread from taking that room first. What finds none is counted, and the
 * next line that gets out says how many.
 */
static void put(const char *line, size_t len)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static unsigned lost;
	struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
	char note[64];
	int n;

	(void)pthread_mutex_lock(&lock);
	if (lost && poll(&out, 1, 0) == 1 && out.revents & POLLOUT) {
		n = snprintf(note, sizeof(note), "log-lost lines=%u\n", lost);
		(void)!write(STDERR_FILENO, note, (size_t)n);
		lost = 0;
	}
	if (poll(&out, 1, 0) == 1 && out.revents & POLLOUT)
		(void)!write(STDERR_FILENO, line, len);
	else
		lost++;
	(void)pthread_mutex_unlock(&lock);
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
	put(line, len);
	errno = saved;
}
