/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * READ and WRITE off the cores: a pool of threads that may block on a disk
 *
 * An operation is a request. The core fills it and submits it; a file thread has it opened by the
 * opener, which is a process with the caller's own rights, does the work and posts it back to the
 * core by its lane. The threads touch nothing of a core but that lane.
 */

#include <stdbool.h>
#include <stdint.h>

#include "core/fault.h"
#include "core/request.h"

struct kernel;
struct files;

enum file_kind {
	FILE_READ,
	FILE_WRITE, /* truncates first */
	FILE_APPEND,
	FILE_PATCH, /* at the offset, of a file that exists */
};

struct file_op {
	struct request request;
	struct file_op *next; /* in the queue */
	enum file_kind kind;
	uint64_t offset;
	uint32_t length; /* bytes to read at most, or to write */
	uint8_t *data;   /* owned; what was read, or is to be written */
	size_t charged;  /* bytes counted against LIMIT_FILES_BYTES */

	/* results */
	struct fault fault; /* code 0: success */
	uint32_t done;      /* bytes read or written */
	uint64_t size, dev, ino;
	bool eof;

	uint32_t path_len;
	char path[];
};

/* 0 or -errno. */
int files_start(struct kernel *kernel, struct files **ret_files);

/* Ends the threads; after the cores have ended. False when one hangs in a file system. */
bool files_stop(struct files *files);

/* From a core. WIRE_OK, or WIRE_BUSY with @fault filled and @op untouched. */
enum wire_error files_submit(struct files *files, struct file_op *op, struct fault *fault);

/* Gives back the memory that was counted for @op. Any thread. */
void files_uncharge(struct files *files, struct file_op *op);

uint32_t files_queued(struct files *files); /* any thread */
