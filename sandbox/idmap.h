/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Ids for an idmapped mount: what belongs to one user is another's there
 *
 * The two change places, and all other ids stay: so the files of third parties stay theirs, and nobody
 * gets rights but the one.
 */

#include <sys/types.h>

/* A user namespace that has the map, for mount_setattr(). For root. A descriptor or -errno. */
int idmap_open(uid_t uid, uid_t as_uid, gid_t gid, gid_t as_gid);
