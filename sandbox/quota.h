/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>

/*
 * Project quota of a workspace: what the file system itself holds it to (ext4 and XFS, mounted with prjquota)
 *
 * @dir is an O_PATH descriptor of a directory that is empty or has @project already: what is in it belongs to
 * the project, and all that is made in it will. True if the limit holds; needs root.
 */
#include <stdbool.h>

bool quota_set(int dir, uint32_t project, uint64_t bytes);
