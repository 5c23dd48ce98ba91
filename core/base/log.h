/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The log: one line an event on stderr, key=value
 *
 *   2026-11-22T20:00:00.000Z info  io-chosen backend=uring reason="probes passed"
 *
 * No payload, no secret, ever. A line is one write(), so threads do not mix theirs. Only core/ and
 * main programs log above debug; ipc, store, llm and sandbox report by their results.
 */

enum log_level {
	LOG_DEBUG,
	LOG_INFO,
	LOG_WARN,
	LOG_ERROR,
};

/* Set once, before threads start. */
void log_init(const char *program, enum log_level level);

/* 0, or -EINVAL for a name that is not debug, info, warn or error. */
int log_level_parse(const char *name, enum log_level *ret_level);

int log_enabled(enum log_level level);
void log_line(enum log_level level, const char *event, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#define log_at(level, ...)                            \
	do {                                          \
		if (log_enabled(level))               \
			log_line(level, __VA_ARGS__); \
	} while (0)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)  log_at(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
