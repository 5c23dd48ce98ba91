/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Work off the cores on files: what concerns a user's files, and what concerns the kernel's own
 *
 * A core submits a task. If the task has questions, a process with its user's rights answers them
 * first, by openers.c: no thread of the kernel opens, reads or writes a file that a user names, since
 * any could hang. If it has work of its own, in the data directory, a file thread then runs that.
 * At last it comes back to its core by a lane. The threads touch nothing of a core but that lane.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/list.h"
#include "core/fault.h"
#include "sandbox/opener.h"

struct files;
struct kernel;
struct shard;
struct user;

struct file_task {
	struct list link;
	struct shard *shard; /* whose task it is */
	struct user *user;   /* on whose behalf: a reference while it is submitted */
	struct opener *box;  /* owned: to ask this one, in a box, and then close it */
	unsigned lost;       /* openers that ended before they answered */

	/*
	 * In the openers' thread. ask() tells the next question, the same again until told() was called
	 * with its answer; false: there is none. NULL: no questions. A reply without a process is one with
	 * result OPEN_E_GONE, OPEN_E_SLOW or OPEN_E_MANY. told() takes reply->fd by leaving -1.
	 */
	bool (*ask)(struct file_task *task, struct open_request *ret_request);
	void (*told)(struct file_task *task, struct open_reply *reply, const uint8_t *window);

	void (*run)(struct file_task *task);  /* in a file thread; may be NULL */
	void (*done)(struct file_task *task); /* in the core */
	void (*drop)(struct file_task *task); /* instead of done(), at the end of the kernel */
};

/* 0 or -errno. */
int files_start(struct kernel *kernel, struct files **ret_files);

/* Ends the threads; after the cores have ended. False when one hangs in a file system. */
bool files_stop(struct files *files);

/* From a core; @task is filled but for its user, who is @user. WIRE_OK, or WIRE_BUSY with @fault filled. */
enum wire_error files_submit(struct shard *shard, struct user *user, struct file_task *task,
			     struct fault *fault);

/* In the openers' thread: no more questions. */
void files_pass_on(struct kernel *kernel, struct file_task *task);

/* Back to its core, by the lane of the calling thread, number @lane. Frees nothing. */
void files_deliver(struct kernel *kernel, unsigned lane, struct file_task *task);

/* At the end of the kernel, when no other thread is left: drops a task, or what is in the lanes of a thread. */
void files_drop(struct file_task *task);
void files_drop_lanes(struct kernel *kernel, unsigned lane);

/* Counts @bytes of contents in memory, of all users and of @user. False: too much. Any thread. */
bool files_charge(struct kernel *kernel, struct user *user, size_t bytes);
/* The same within the share, by fair.h, of who has @own of them already. */
bool files_charge_share(struct kernel *kernel, struct user *user, size_t own, size_t bytes);
void files_uncharge(struct kernel *kernel, struct user *user, size_t bytes);

/* What a reply's @result, not 0, means: @what before @path, as in "script ". Fills @fault; its code. */
enum wire_error files_fault(struct fault *fault, int result, const char *what, const char *path);

uint32_t files_queued(struct files *files); /* any thread */
