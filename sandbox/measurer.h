/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Measurer: how much a directory holds, whoever owns what is in it
 *
 * One process for the kernel, with the launcher's rights, takes one directory after the other. It walks; where
 * the file system has project quotas nobody needs it.
 */

#include <stdint.h>

struct launcher;

enum {
	MEASURER_DEPTH_MAX = 400,      /* of directories; what is deeper counts as full */
	MEASURER_BYTES_PER_FILE = 512, /* beside its blocks: empty ones fill a disk too */
};

/* Starts one that answers on @ret_sock, non-blocking and the caller's; its end is an end of file there. 0, LAUNCH_E_GONE or -errno. */
int measurer_start(const struct launcher *launcher, int *ret_sock);

/*
 * Asks for the directory @dir, an O_PATH descriptor, under the number @id; it stops counting at @bytes_max. One
 * question at a time. 0, LAUNCH_E_BUSY, LAUNCH_E_GONE or -errno.
 */
int measurer_ask(int sock, uint64_t id, int dir, uint64_t bytes_max);

struct measure {
	uint64_t id;
	uint64_t bytes; /* at least @bytes_max: it is full */
	int error;      /* errno; 0: it was measured */
};

/* 0, LAUNCH_E_EMPTY, LAUNCH_E_GONE or -errno. */
int measurer_answer(int sock, struct measure *ret_measure);

/* The process itself, called by the launcher in a fresh child. */
_Noreturn void measurer_run(int sock);
