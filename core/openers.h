/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Openers: the processes that touch users' files, and the one thread that talks to them
 *
 * Each user (uid, gid and groups) has a few openers of its own while it needs them, and a queue of its
 * own before them, so whatever one user's files do, only that user's tasks wait. The thread itself never
 * waits for a file: an opener that does not answer in time is killed, and its question answered for it.
 */

struct file_task;
struct kernel;
struct openers;

/* 0 or -errno. */
int openers_start(struct kernel *kernel, struct openers **ret_openers);

/* After the cores have ended, before the file threads do; the thread never hangs. */
void openers_stop(struct openers *openers);

/* Any thread: the questions of @task, then files_pass_on(). */
void openers_add(struct openers *openers, struct file_task *task);

/* Number of the thread's lanes. */
unsigned openers_lane(const struct kernel *kernel);
