/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Where in the hierarchy Clove's subtree goes
 */

#include <stdbool.h>

#include "sandbox/cgroup.h"

struct cgroup_place {
	char base[CGROUP_PATH_MAX];   /* the group to hold the subtree */
	char origin[CGROUP_PATH_MAX]; /* the group to go back to in the end */
	char v1[256];                 /* controllers that are in cgroup v1 */
	char why[CGROUP_WHY_MAX];     /* why there is no place */

	/* cgroup_place_look() */
	char offered[256];  /* controllers of <base> */
	char switched[256]; /* those that are on below it */
	bool top;           /* of the hierarchy: processes and controllers may be together */
	bool delegated;     /* its controllers are ours to switch */
};

/*
 * Fills in the first part for the subtree @name. @parent: the group to take, NULL for our own. 0,
 * CGROUP_E_OFF with @why, or -errno.
 */
int cgroup_place_find(struct cgroup_place *place, const char *name, const char *parent);

/* Fills in the rest. @chosen: by someone who knows, so it is ours. */
void cgroup_place_look(struct cgroup_place *place, int base, bool chosen);
