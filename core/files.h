/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Work off the cores: a pool of threads that may block on a disk
 *
 * A core submits a task; a file thread runs it and posts it back to that core by its lane. The threads
 * touch nothing of a core but that lane. READ and WRITE are such tasks, and requests; the file is
 * opened by the opener, which is a process with the caller's own rights.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/fault.h"
#include "core/request.h"
#include "sandbox/opener.h"

struct kernel;
struct files;

struct file_task {
	struct file_task *next;
	struct shard *shard;                                      /* whose task it is */
	void (*run)(struct files *files, struct file_task *task); /* in a file thread */
	void (*done)(struct file_task *task);                     /* in the core */
	void (*drop)(struct file_task *task); /* instead of done(), at the end of the kernel */
};

enum file_kind {
	FILE_READ,
	FILE_WRITE, /* truncates first */
	FILE_APPEND,
	FILE_PATCH, /* at the offset, of a file that exists */
};

enum file_stage {
	FILE_QUEUED,
	FILE_RUNNING,    /* a file thread has it: it will happen */
	FILE_CALLED_OFF, /* a core has it: it will not */
};

struct file_op {
	struct file_task task;
	struct request request;
	struct list parked; /* in conn->parked, until there is a place for it */
	bool placed;        /* counts in conn->files */
	enum file_kind kind;
	_Atomic uint32_t stage; /* enum file_stage; who moves it on from QUEUED, owns it */
	uint64_t offset;
	uint32_t length; /* bytes to read at most, or to write */
	uint8_t *data;   /* owned; what was read, or is to be written */
	size_t charged;  /* bytes counted against LIMIT_FILES_BYTES */
	size_t wanted;   /* bytes counted in conn->file_bytes */
	int box_opener; /* owned: of the box it is for, not awaited yet; -1: as the kernel's user */
	uint32_t descriptors; /* of the kernel's budget, for box_opener and what it opens */

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

/*
 * From a core, before a WRITE is submitted: counts its bytes, by fair.h, where @own are those of the same
 * connection. False: they are too many.
 */
bool files_charge(struct files *files, struct file_op *op, size_t own);

/* From a core. WIRE_OK, or WIRE_BUSY with op->fault filled. */
enum wire_error files_submit(struct files *files, struct file_op *op);

/* From its core: whether @op, which was submitted, had not begun, and now never will. */
bool files_call_off(struct files *files, struct file_op *op);

/* Gives back the memory that was counted for @op. Any thread. */
void files_uncharge(struct files *files, struct file_op *op);

/* From a core; the callbacks are set. WIRE_OK, or WIRE_BUSY with @fault filled. */
enum wire_error files_submit_task(struct files *files, struct shard *shard, struct file_task *task,
				  struct fault *fault);

/* In a file thread: opens as the kernel's user. As opener_open(), with a new opener where one was lost. */
int files_open(struct files *files, const struct open_request *request, int *ret_fd);

uint32_t files_queued(struct files *files); /* any thread */
