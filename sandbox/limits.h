/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * An agent's limits in terms of cgroups, for the launcher that sets them and the kernel that changes them
 */

#include <stdint.h>
#include <sys/types.h>

#include "sandbox/cgroup.h"
#include "sandbox/spec.h"

/* @io_dev: st_dev of the workspace; 0: none. */
void limits_to_cgroup(const struct launch_limits *limits, dev_t io_dev,
		      struct cgroup_limits *ret_limits);

/* Bits of enum cgroup_feature as bits 1 << LAUNCH_LAYER_x. */
uint32_t limits_layers(uint32_t features);

/*
 * Sets all limits of a live group anew. May wait for memory to be reclaimed (before Linux 6.16).
 * @ret_layers: what holds of what is asked for. 0, CGROUP_E_GONE, CGROUP_E_OFF or -errno.
 */
int limits_set(int groups, const char *group, const struct launch_limits *limits, dev_t io_dev,
	       uint32_t *ret_layers);
