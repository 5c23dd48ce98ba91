/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The system call filters of boxes, built once in the launcher and installed by every box
 */

#include <linux/filter.h>

#include "sandbox/spec.h"

struct seccomp_filter {
	struct sock_filter *insns; /* malloc'ed, never freed: the launcher keeps it */
	unsigned short n;
};

/* @variant is not LAUNCH_SECCOMP_NONE. 0 or -errno. */
int seccomp_filter_build(enum launch_seccomp variant, struct seccomp_filter *ret_filter);

/* For the calling thread and what it starts; needs no_new_privs. 0 or -errno. */
int seccomp_filter_install(const struct seccomp_filter *filter);
