/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What to launch, and its form on the wire to the launcher
 *
 * The kernel fills a struct launch_spec with borrowed memory and sends it; the launcher unpacks its
 * own copy. Both judge it by the same rules, so spec_check() tells a caller beforehand, in words,
 * what the launcher would refuse.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/base/buf.h"
#include "core/base/cleanup.h"

enum {
	SPEC_E_REFUSED = 1, /* the reason says why */
	SPEC_E_TOO_BIG,     /* more than SPEC_BYTES_MAX when packed */
};

enum {
	SPEC_BYTES_MAX = 64 * 1024 - 64, /* with its packet head below the 64 KiB of a message */
	SPEC_ARGS_MAX = 4096,            /* of argv, and of env */
	SPEC_GROUPS_MAX = 1024,
	SPEC_PATH_MAX = 4095,
	SPEC_REASON_MAX = 96,
};

enum launch_kind {
	LAUNCH_PLAIN = 1, /* a command of its user, confined by nothing but its uid */
};

struct launch_spec {
	enum launch_kind kind;
	const char *const
		*argv; /* ends with NULL; argv[0] without a slash is looked up in env's PATH */
	const char *const *env; /* "NAME=value", ends with NULL; nothing is added to it */
	const char *cwd;        /* absolute; entered as the user */
	uid_t uid;
	gid_t gid;
	const gid_t *groups; /* exactly these; a launcher without root keeps its own */
	size_t n_groups;
	mode_t umask;
};

struct spec_reason {
	char text[SPEC_REASON_MAX]; /* for a human; ends with NUL */
};

/* 0 or SPEC_E_REFUSED with the reason. */
int spec_check(const struct launch_spec *spec, struct spec_reason *reterr_reason);

/* Appends @spec, which need not have been checked. 0, SPEC_E_TOO_BIG or -ENOMEM. */
int spec_pack(const struct launch_spec *spec, struct buf *message);

/*
 * 0, SPEC_E_REFUSED with the reason, or -ENOMEM. The spec is one block that holds all its
 * strings.
 */
int spec_unpack(const void *bytes, size_t len, struct launch_spec **ret_spec,
		struct spec_reason *reterr_reason);
struct launch_spec *spec_free(struct launch_spec *spec);
DEFINE_CLEANUP(struct launch_spec *, spec_free);
