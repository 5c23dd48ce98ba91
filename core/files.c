/* SPDX-License-Identifier: MIT */

#include "core/files.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "core/fair.h"
#include "core/kernel.h"
#include "core/openers.h"
#include "core/shard.h"

enum {
	STOP_WAIT_MS = 300,
};

struct file_thread {
	struct files *files;
	pthread_t thread;
	unsigned lane; /* index of its lanes in kernel->lanes */
};

struct files {
	struct kernel *kernel;
	pthread_mutex_t mutex; /* of the queue */
	pthread_cond_t changed;
	struct list queue;
	bool stopping;
	unsigned started;
	struct file_thread threads[LIMIT_FILE_THREADS];

	_Atomic uint32_t queued; /* submitted, not delivered */
	_Atomic size_t bytes;    /* contents in memory */
};

/* ---- memory ---- */

bool files_charge(struct kernel *kernel, struct user *user, size_t bytes)
{
	_Atomic size_t *all = &kernel->files->bytes;
	size_t before = atomic_fetch_add_explicit(all, bytes, memory_order_relaxed);

	if (before + bytes <= LIMIT_FILES_BYTES && quota_charge(user->owner, bytes))
		return true;
	(void)atomic_fetch_sub_explicit(all, bytes, memory_order_relaxed);
	return false;
}

bool files_charge_share(struct kernel *kernel, struct user *user, size_t own, size_t bytes)
{
	size_t total = atomic_load_explicit(&kernel->files->bytes, memory_order_relaxed);

	return fair_share(own, bytes, total, LIMIT_FILES_BYTES) &&
	       files_charge(kernel, user, bytes);
}

void files_uncharge(struct kernel *kernel, struct user *user, size_t bytes)
{
	(void)atomic_fetch_sub_explicit(&kernel->files->bytes, bytes, memory_order_relaxed);
	quota_uncharge(user->owner, bytes);
}

enum wire_error files_fault(struct fault *fault, int result, const char *what, const char *path)
{
	switch (result) {
	case OPEN_E_GONE:
		return fault_set(
			fault, WIRE_UNAVAILABLE,
			"%s%.100s: the process that works on your files was lost; try again, or if the launcher is gone restart the kernel",
			what, path);
	case OPEN_E_MANY:
		return fault_set(fault, WIRE_BUSY,
				 "%s%.100s: too many of your file operations hang; try again", what,
				 path);
	case OPEN_E_SLOW:
		return fault_set_os(fault, ETIMEDOUT, "%s%.100s: the file system did not answer",
				    what, path);
	case OPEN_E_NOT_REGULAR:
		return fault_set(fault, WIRE_NOT_A_FILE,
				 "%s%.120s: not a regular file (a device, socket or pipe)", what,
				 path);
	default:
		return fault_set_os(fault, -result, "%s%.120s", what, path);
	}
}

/* ---- the way back ---- */

static void release(struct file_task *task)
{
	quota_give(task->user->owner, QUOTA_FILES);
	task->user = user_unref(task->user);
}

static void deliver(struct shard *shard, void *arg, uint64_t value)
{
	struct file_task *task = arg;

	(void)value;
	shard->files_queued--;
	release(task);
	task->done(task);
}

void files_deliver(struct kernel *kernel, unsigned lane, struct file_task *task)
{
	struct shard *shard = task->shard;

	(void)atomic_fetch_sub_explicit(&kernel->files->queued, 1, memory_order_relaxed);
	/* There is room: a core has fewer tasks out than a lane has items. */
	(void)lane_push(kernel->lanes[lane][shard->index],
			(struct lane_item){.deliver = deliver, .arg = task});
	shard_wake(NULL, shard);
}

void files_drop(struct file_task *task)
{
	task->box = opener_close(task->box);
	release(task);
	task->drop(task);
}

void files_drop_lanes(struct kernel *kernel, unsigned lane)
{
	struct lane_item item;

	for (unsigned core = 0; core < kernel->core_count; core++)
		while (lane_pop(kernel->lanes[lane][core], &item))
			files_drop(item.arg);
}

/* ---- the file threads ---- */

static struct file_task *next_task(struct files *files)
{
	struct list *next = NULL;

	(void)pthread_mutex_lock(&files->mutex);
	while (!files->stopping && !(next = list_shift(&files->queue)))
		(void)pthread_cond_wait(&files->changed, &files->mutex);
	(void)pthread_mutex_unlock(&files->mutex);
	return next ? container_of(next, struct file_task, link) : NULL;
}

static void *file_main(void *arg)
{
	struct file_thread *self = arg;
	struct file_task *task;

	(void)prctl(PR_SET_NAME, "file");
	while ((task = next_task(self->files))) {
		task->run(task);
		files_deliver(self->files->kernel, self->lane, task);
	}
	return NULL;
}

static void queue_add(struct files *files, struct file_task *task)
{
	(void)pthread_mutex_lock(&files->mutex);
	list_append(&files->queue, &task->link);
	(void)pthread_cond_signal(&files->changed);
	(void)pthread_mutex_unlock(&files->mutex);
}

void files_pass_on(struct kernel *kernel, struct file_task *task)
{
	task->box = opener_close(task->box);
	if (task->run)
		queue_add(kernel->files, task);
	else
		files_deliver(kernel, openers_lane(kernel), task);
}

enum wire_error files_submit(struct shard *shard, struct user *user, struct file_task *task,
			     struct fault *fault)
{
	struct kernel *kernel = shard->kernel;
	enum wire_error code;

	if (shard->files_queued == LIMIT_FILES_QUEUED)
		return fault_set(fault, WIRE_BUSY, "too many file operations wait; try again");
	code = quota_take(kernel->config, user->owner, QUOTA_FILES, fault);
	if (code)
		return code;
	shard->files_queued++;
	(void)atomic_fetch_add_explicit(&kernel->files->queued, 1, memory_order_relaxed);
	task->shard = shard;
	task->user = user_ref(user);
	task->lost = 0;
	if (task->ask)
		openers_add(kernel->openers, task);
	else
		queue_add(kernel->files, task);
	return WIRE_OK;
}

uint32_t files_queued(struct files *files)
{
	return atomic_load_explicit(&files->queued, memory_order_relaxed);
}

/* ---- life ---- */

int files_start(struct kernel *kernel, struct files **ret_files)
{
	struct files *files = calloc(1, sizeof(*files));
	int r;

	if (!files)
		return err_raise(-ENOMEM);
	files->kernel = kernel;
	list_init(&files->queue);
	(void)pthread_mutex_init(&files->mutex, NULL);
	(void)pthread_cond_init(&files->changed, NULL);
	for (unsigned i = 0; i < LIMIT_FILE_THREADS; i++) {
		files->threads[i] = (struct file_thread){
			.files = files,
			.lane = kernel->core_count + i,
		};
		r = pthread_create(&files->threads[i].thread, NULL, file_main, &files->threads[i]);
		if (r) {
			(void)files_stop(files);
			return err_raise(-r);
		}
		files->started++;
	}
	*ret_files = files;
	return 0;
}

bool files_stop(struct files *files)
{
	struct timespec until;
	struct list *next;

	(void)pthread_mutex_lock(&files->mutex);
	files->stopping = true;
	(void)pthread_cond_broadcast(&files->changed);
	(void)pthread_mutex_unlock(&files->mutex);
	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += STOP_WAIT_MS * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	for (unsigned i = 0; i < files->started; i++)
		if (pthread_timedjoin_np(files->threads[i].thread, NULL, &until))
			return false;

	for (unsigned i = 0; i < files->started; i++)
		files_drop_lanes(files->kernel, files->threads[i].lane);
	while ((next = list_shift(&files->queue)))
		files_drop(container_of(next, struct file_task, link));
	free(files);
	return true;
}
