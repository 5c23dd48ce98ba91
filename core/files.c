/* SPDX-License-Identifier: MIT */

#include "core/files.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/agent.h"
#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "core/fair.h"
#include "core/kernel.h"
#include "core/shard.h"
#include "sandbox/launch.h"
#include "sandbox/opener.h"

enum {
	READ_FIRST_BYTES = 64 << 10, /* where a file does not know its size, as in /proc */
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
	struct file_task *first, **last;
	bool stopping;
	unsigned started;
	struct file_thread threads[LIMIT_FILE_THREADS];

	pthread_mutex_t opener_mutex; /* one request at a time */
	int opener;                   /* -1 until first used, and after it was lost */

	_Atomic uint32_t queued;
	_Atomic size_t bytes; /* contents in memory */
};

/* ---- memory ---- */

/* False when all contents together would outgrow LIMIT_FILES_BYTES. */
static bool charge(struct files *files, struct file_op *op, size_t bytes)
{
	size_t before = atomic_fetch_add_explicit(&files->bytes, bytes, memory_order_relaxed);

	if (before + bytes > LIMIT_FILES_BYTES) {
		(void)atomic_fetch_sub_explicit(&files->bytes, bytes, memory_order_relaxed);
		return false;
	}
	op->charged += bytes;
	return true;
}

void files_uncharge(struct files *files, struct file_op *op)
{
	(void)atomic_fetch_sub_explicit(&files->bytes, op->charged, memory_order_relaxed);
	op->charged = 0;
}

/* ---- the work, in a file thread ---- */

/* One try to have @op's file opened; an opener that was lost is replaced for the next try. */
static int open_once(struct files *files, const struct open_request *request, int *ret_fd)
{
	const struct user *user = &files->kernel->user;
	int r = 0;

	(void)pthread_mutex_lock(&files->opener_mutex);
	if (files->opener < 0)
		r = opener_start(files->kernel->launcher, user->uid, user->gid, user->groups,
				 (size_t)user->group_count, &files->opener);
	if (!r)
		r = opener_open(files->opener, request, ret_fd);
	if (r == OPEN_E_GONE)
		files->opener = fd_close(files->opener);
	(void)pthread_mutex_unlock(&files->opener_mutex);
	return r;
}

int files_open(struct files *files, const struct open_request *request, int *ret_fd)
{
	int r = open_once(files, request, ret_fd);

	return r == OPEN_E_GONE ? open_once(files, request, ret_fd) : r;
}

static int file_open(struct files *files, struct file_op *op, int *ret_fd)
{
	static const int flags[] = {
		[FILE_READ] = O_RDONLY,
		[FILE_WRITE] = O_WRONLY | O_CREAT | O_TRUNC,
		[FILE_APPEND] = O_WRONLY | O_CREAT | O_APPEND,
		[FILE_PATCH] = O_WRONLY,
	};
	const bool boxed = op->box_opener >= 0;
	const struct open_request request = {
		.path = op->path,
		.path_len = op->path_len,
		.base = boxed ? AGENT_INSIDE_HOME : files->kernel->user.home,
		.flags = flags[op->kind],
		.mode = 0666,
	};
	int r = boxed ? opener_await(op->box_opener) : files_open(files, &request, ret_fd);

	if (boxed && !r)
		r = opener_open(op->box_opener, &request, ret_fd);
	if (!r)
		return 0;
	if (boxed && (r == -EAGAIN || r == OPEN_E_GONE))
		(void)fault_set(&op->fault, WIRE_BUSY,
				"the box lets no more files be opened now; try again");
	else if (r == OPEN_E_GONE)
		(void)fault_set(&op->fault, WIRE_UNAVAILABLE,
				"the process that opens files is gone; restart the kernel");
	else if (r == OPEN_E_NOT_REGULAR)
		(void)fault_set(&op->fault, WIRE_NOT_A_FILE,
				"%.120s: not a regular file (a device, socket or pipe)", op->path);
	else
		(void)fault_set_os(&op->fault, -r, "%.120s", op->path);
	return -1;
}

static void read_piece(struct files *files, struct file_op *op, int fd)
{
	uint32_t room = op->length;
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st)) {
		(void)fault_set_os(&op->fault, errno, "%.120s", op->path);
		return;
	}
	op->size = (uint64_t)st.st_size;
	op->dev = st.st_dev;
	op->ino = st.st_ino;
	if (op->size > op->offset && op->size - op->offset < room)
		room = (uint32_t)(op->size - op->offset);
	else if (op->size <= op->offset && room > READ_FIRST_BYTES)
		room = READ_FIRST_BYTES;
	if (!charge(files, op, room) || !(op->data = malloc(room ? room : 1))) {
		(void)fault_set(&op->fault, WIRE_BUSY,
				"too much file content is in memory; try again");
		return;
	}
	while (op->done < room) {
		n = pread(fd, op->data + op->done, room - op->done, (off_t)(op->offset + op->done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			(void)fault_set_os(&op->fault, errno, "%.120s", op->path);
			return;
		}
		if (!n)
			break;
		op->done += (uint32_t)n;
	}
	/* A file that does not know its size is at its end when it gives less than it was asked for. */
	op->eof = op->done < room || (op->size && op->offset + op->done >= op->size);
}

static void write_piece(struct file_op *op, int fd)
{
	struct stat st = {0};
	ssize_t n;

	while (op->done < op->length) {
		const uint8_t *from = op->data + op->done;
		size_t left = op->length - op->done;

		n = op->kind == FILE_PATCH ? pwrite(fd, from, left, (off_t)(op->offset + op->done))
					   : write(fd, from, left);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			(void)fault_set_os(&op->fault, errno, "%.100s: %u of %u bytes written",
					   op->path, op->done, op->length);
			op->fault.bytes_written = op->done;
			return;
		}
		op->done += (uint32_t)n;
	}
	if (fstat(fd, &st) == 0)
		op->size = (uint64_t)st.st_size;
}

static void op_run(struct files *files, struct file_task *task)
{
	struct file_op *op = container_of(task, struct file_op, task);
	uint32_t stage = FILE_QUEUED;
	int fd;

	/* Pairs with files_call_off(): one of both gets it. */
	if (!atomic_compare_exchange_strong_explicit(&op->stage, &stage, FILE_RUNNING,
						     memory_order_acquire, memory_order_relaxed))
		return;
	if (file_open(files, op, &fd))
		return;
	if (op->kind == FILE_READ)
		read_piece(files, op, fd);
	else
		write_piece(op, fd);
	/* Some file systems report a full disk only here. */
	if (close(fd) && op->kind != FILE_READ && !op->fault.code)
		(void)fault_set_os(&op->fault, errno, "%.120s", op->path);
}

static void op_done(struct file_task *task)
{
	struct file_op *op = container_of(task, struct file_op, task);
	uint8_t *fitted;

	/* What is left of it is a result now: of a file that has grown shorter, or did not know its size, less. */
	if (op->kind != FILE_READ || !op->done) {
		free(op->data);
		op->data = NULL;
	} else if ((fitted = realloc(op->data, op->done))) {
		op->data = fitted;
	}
	files_uncharge(task->shard->kernel->files, op);
	request_finish(&op->request);
}

static void op_drop(struct file_task *task)
{
	struct file_op *op = container_of(task, struct file_op, task);

	op->request.type->free(&op->request);
}

static void deliver(struct shard *shard, void *arg, uint64_t value)
{
	struct file_task *task = arg;

	(void)value;
	shard->files_queued--;
	task->done(task);
}

static struct file_task *next_task(struct files *files)
{
	struct file_task *task;

	(void)pthread_mutex_lock(&files->mutex);
	while (!files->first && !files->stopping)
		(void)pthread_cond_wait(&files->changed, &files->mutex);
	task = files->stopping ? NULL : files->first;
	if (task) {
		files->first = task->next;
		if (!files->first)
			files->last = &files->first;
	}
	(void)pthread_mutex_unlock(&files->mutex);
	return task;
}

static void *file_main(void *arg)
{
	struct file_thread *self = arg;
	struct files *files = self->files;
	struct kernel *kernel = files->kernel;
	struct file_task *task;

	(void)prctl(PR_SET_NAME, "file");
	while ((task = next_task(files))) {
		struct shard *shard = task->shard;

		task->run(files, task);
		(void)atomic_fetch_sub_explicit(&files->queued, 1, memory_order_relaxed);
		/* There is room: a core has fewer operations out than a lane has items. */
		(void)lane_push(kernel->lanes[self->lane][shard->index],
				(struct lane_item){.deliver = deliver, .arg = task});
		shard_wake(NULL, shard);
	}
	return NULL;
}

/* ---- the cores' side ---- */

bool files_charge(struct files *files, struct file_op *op, size_t own)
{
	size_t total = atomic_load_explicit(&files->bytes, memory_order_relaxed);

	return fair_share(own, op->length, total, LIMIT_FILES_BYTES) &&
	       charge(files, op, op->length);
}

enum wire_error files_submit(struct files *files, struct file_op *op)
{
	op->task.run = op_run;
	op->task.done = op_done;
	op->task.drop = op_drop;
	return files_submit_task(files, op->request.shard, &op->task, &op->fault);
}

enum wire_error files_submit_task(struct files *files, struct shard *shard, struct file_task *task,
				  struct fault *fault)
{
	if (shard->files_queued == LIMIT_FILES_QUEUED)
		return fault_set(fault, WIRE_BUSY, "too many file operations wait; try again");
	shard->files_queued++;
	(void)atomic_fetch_add_explicit(&files->queued, 1, memory_order_relaxed);
	task->shard = shard;
	task->next = NULL;
	(void)pthread_mutex_lock(&files->mutex);
	*files->last = task;
	files->last = &task->next;
	(void)pthread_cond_signal(&files->changed);
	(void)pthread_mutex_unlock(&files->mutex);
	return WIRE_OK;
}

bool files_call_off(struct files *files, struct file_op *op)
{
	uint32_t stage = FILE_QUEUED;

	/* Pairs with op_run(). */
	if (!atomic_compare_exchange_strong_explicit(&op->stage, &stage, FILE_CALLED_OFF,
						     memory_order_relaxed, memory_order_relaxed))
		return false;
	files_uncharge(files, op);
	free(op->data);
	op->data = NULL;
	return true;
}

uint32_t files_queued(struct files *files)
{
	return atomic_load_explicit(&files->queued, memory_order_relaxed);
}

int files_start(struct kernel *kernel, struct files **ret_files)
{
	struct files *files = calloc(1, sizeof(*files));
	int r;

	if (!files)
		return err_raise(-ENOMEM);
	files->kernel = kernel;
	files->last = &files->first;
	files->opener = -1;
	(void)pthread_mutex_init(&files->mutex, NULL);
	(void)pthread_mutex_init(&files->opener_mutex, NULL);
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

static void leftover(struct file_task *task)
{
	task->drop(task);
}

bool files_stop(struct files *files)
{
	struct timespec until;
	struct lane_item item;

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
		for (unsigned core = 0; core < files->kernel->core_count; core++)
			while (lane_pop(files->kernel->lanes[files->threads[i].lane][core], &item))
				leftover(item.arg);
	while (files->first) {
		struct file_task *task = files->first;

		files->first = task->next;
		leftover(task);
	}
	files->opener = fd_close(files->opener);
	free(files);
	return true;
}
