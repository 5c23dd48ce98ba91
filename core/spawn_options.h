/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * SPAWN's arguments, interpreted: what to run, confined how, and what to do when it ends
 *
 * Input is hostile. Everything here owns its memory. It lives as long as the agent, because a
 * restart starts the same again.
 */

#include <stdbool.h>
#include <stdint.h>

#include "core/bag.h"
#include "core/base/cleanup.h"
#include "sandbox/spec.h"

enum profile {
	PROFILE_STRICT,   /* a network namespace of its own, nothing in it */
	PROFILE_STANDARD, /* the empty network namespace that all share */
	PROFILE_LOOPBACK, /* its own, with lo up */
	PROFILE_TRUSTED,  /* the host's network */
	PROFILE_NONE,     /* no sandbox: on the host, as the owner */
	PROFILE_COUNT,
};

const char *profile_name(enum profile profile);

enum restart_policy {
	RESTART_NEVER,
	RESTART_ON_FAILURE, /* any end but exit code 0 */
	RESTART_ALWAYS,
};

const char *restart_policy_name(enum restart_policy policy);

struct spawn_options {
	char *name;
	char *home;   /* name of its directory: behind those of its parents, each with a colon */
	char *script; /* as the caller wrote it; NULL: argv is the whole command */
	struct strv argv;  /* or the arguments behind the script */
	char *interpreter; /* of the script; absolute, inside */
	struct strv env;   /* as given: "NAME=value" */
	char *cwd;         /* absolute, inside; NULL: the default */
	uint8_t *input;    /* for stdin; NULL without any */
	uint32_t input_len;
	struct strv ro, rw; /* paths outside, absolute */
	enum profile profile;
	bool profile_given, sandboxed, require_limits, workspace_in_memory;
	bool tied;       /* ends with the connection that started it */
	bool goes_along; /* not an option: what it leaves goes with what its parent does */
	struct launch_limits limits;
	uint64_t workspace_bytes, tmp_bytes;
	enum restart_policy restart;
	uint64_t restarts_max, restart_window_ms;
	uint64_t timeout_ms; /* of one life; 0: none */
	uint32_t rights;     /* WIRE_RIGHT_x asked for */
};

/* WIRE_OK, or a code with @fault filled and nothing owned. @bag has pos NULL when absent. */
enum wire_error spawn_options_init(struct spawn_options *options, const uint8_t *name,
				   uint32_t name_len, struct cursor program, struct cursor bag,
				   struct fault *fault);
/* Just limits, for a live agent: what is not given is 0. WIRE_OK or a code with @fault filled. */
enum wire_error spawn_limits_read(struct launch_limits *limits, struct cursor bag,
				  struct fault *fault);
void spawn_options_deinit(struct spawn_options *options);

/* 1 to 63 of a-z A-Z 0-9 . _ -, the first a letter or digit: also the name of a directory. */
bool agent_name_is_valid(const uint8_t *name, uint32_t len);
