/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What one owner may take of the kernel, so that no user keeps it from the others
 *
 * Counted by atomics: cores and file threads take and give. An operator is counted and not limited.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/fault.h"

struct config;
struct owner;

enum quota_kind {
	QUOTA_CONNECTIONS, /* of clients that came by themselves, and of agents beyond their first */
	QUOTA_AGENTS,      /* live ones, those that agents started included */
	QUOTA_COMMANDS,    /* EXEC, until reaped */
	QUOTA_FILES,       /* READ, WRITE, LOGS and SPAWN at work on files */
	QUOTA_REQUESTS,    /* all that wait for something */
	QUOTA_KINDS,
};

struct quota {
	_Atomic uint32_t used[QUOTA_KINDS];
	_Atomic uint64_t launches_ns; /* up to when its launches are paid for */
	_Atomic size_t state_bytes;   /* of requests to the store at work */
	_Atomic size_t bytes; /* input, output, results unread and file contents held for it */
	_Atomic size_t stdin_bytes; /* of its live agents */
};

/* Takes one. WIRE_OK, or WIRE_BUSY with @fault filled and nothing taken. */
enum wire_error quota_take(const struct config *config, struct owner *owner, enum quota_kind kind,
			   struct fault *fault);
void quota_give(struct owner *owner, enum quota_kind kind);

/* One command or agent more to start, at @now_ns. WIRE_OK, or WIRE_BUSY with @fault filled. */
enum wire_error quota_launch(const struct config *config, struct owner *owner, uint64_t now_ns,
			     struct fault *fault);

/* Memory. False when it would be too much. */
bool quota_charge(struct owner *owner, size_t bytes);
void quota_uncharge(struct owner *owner, size_t bytes);

/* The same for what live agents have as their standard input, which lasts. */
bool quota_charge_stdin(struct owner *owner, size_t bytes);
void quota_uncharge_stdin(struct owner *owner, size_t bytes);
