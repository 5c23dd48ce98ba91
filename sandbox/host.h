/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What this host offers, found out and prepared once, when the launcher starts
 */

#include <stdbool.h>
#include <stdint.h>

#include "sandbox/launch.h"
#include "sandbox/seccomp_filter.h"

struct host {
	bool is_root;
	uint32_t landlock_abi; /* 0: none */
	int own_net,
		empty_net; /* namespaces of the launcher, and without any interface up; or -1 */
	struct seccomp_filter filters[LAUNCH_SECCOMP_TRUSTED + 1]; /* by enum launch_seccomp */
	struct launch_probe probe;
};

/* Forks for a moment. What cannot be had is an entry of the probe, not an error. 0 or -errno. */
int host_init(struct host *host);

/* What has turned out later about a layer; @why it is off, or a remark, is copied. */
void host_note(struct host *host, enum launch_layer layer, bool on, const char *why);

/*
 * The first layer that @spec insists on and this host lacks, or LAUNCH_LAYER_COUNT. Landlock and
 * limits are no such layers: what is in force of them is reported.
 */
enum launch_layer host_missing(const struct host *host, const struct launch_spec *spec);
