/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The directory that holds everything the kernel keeps: db/, agents/, audit/, and the lock
 */

enum {
	DATA_DIR_E_LOCKED = 1, /* another kernel uses it */
	DATA_DIR_E_FOREIGN,    /* not ours, or open to others */
};

/*
 * Makes @path (mode 0700, parents too) if need be and locks it until @ret_lock is closed; @ret_dir
 * is the directory itself. 0, DATA_DIR_E_x or -errno.
 */
int data_dir_open(const char *path, int *ret_dir, int *ret_lock);
