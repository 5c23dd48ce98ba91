/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Switching controllers on for agents, and off again
 */

#include "sandbox/cgroup_place.h"

/* Moves the supervisor processes if they must, switches on what there is, and says what is not. */
void cgroup_controllers_start(struct cgroup_root *root, const struct cgroup_place *place,
			      const struct cgroup_config *config);

/* Once agents/ is gone: switches them off, unless others use them too, and moves everyone back. */
void cgroup_controllers_stop(struct cgroup_root *root);
