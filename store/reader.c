/* SPDX-License-Identifier: MIT */

/*
 * The readers: threads that may wait for the disk
 *
 * They run gets that memory could not answer, scans, and chores. One chore at a time, so that of the two
 * threads one is always there for reads.
 */

#include <sys/prctl.h>

#include "store/store_priv.h"

bool store_read_enqueue(struct store *store, struct store_task *task)
{
	if (atomic_fetch_add_explicit(&store->reads, 1, memory_order_relaxed) >=
	    store->db_config.sizes.reads_max) {
		(void)atomic_fetch_sub_explicit(&store->reads, 1, memory_order_relaxed);
		return false;
	}
	task->next = NULL;
	(void)pthread_mutex_lock(&store->mutex);
	*store->read_tasks_last = task;
	store->read_tasks_last = &task->next;
	(void)pthread_cond_signal(&store->read_work);
	(void)pthread_mutex_unlock(&store->mutex);
	return true;
}

bool store_read_charge(struct store *store, size_t bytes)
{
	uint64_t before =
		atomic_fetch_add_explicit(&store->read_bytes, bytes, memory_order_relaxed);

	if (before + bytes <= store->db_config.sizes.read_bytes)
		return true;
	store_read_release(store, bytes);
	return false;
}

void store_read_release(struct store *store, size_t bytes)
{
	(void)atomic_fetch_sub_explicit(&store->read_bytes, bytes, memory_order_relaxed);
}

struct db *store_reader_pin(struct store_reader *reader)
{
	struct store *store = reader->store;
	struct db *db = store_pin(store, &reader->pin);

	if (db)
		return db;
	(void)pthread_mutex_lock(&store->mutex);
	while (!(db = store_pin(store, &reader->pin)) && !store->no_db && !store->stopping)
		(void)pthread_cond_wait(&store->db_changed, &store->mutex);
	(void)pthread_mutex_unlock(&store->mutex);
	return db;
}

static struct store_task *next_task(struct store *store)
{
	struct store_task *task;

	(void)pthread_mutex_lock(&store->mutex);
	while (!store->read_tasks && !store->stopping)
		(void)pthread_cond_wait(&store->read_work, &store->mutex);
	task = store->stopping ? NULL : store->read_tasks;
	if (task) {
		store->read_tasks = task->next;
		if (!task->next)
			store->read_tasks_last = &store->read_tasks;
	}
	(void)pthread_mutex_unlock(&store->mutex);
	return task;
}

void *store_reader_main(void *arg)
{
	struct store_reader *reader = arg;
	struct store_task *task;

	(void)prctl(PR_SET_NAME, "store-read");
	while ((task = next_task(reader->store))) {
		task->run(task, reader);
		(void)atomic_fetch_sub_explicit(&reader->store->reads, 1, memory_order_relaxed);
		task->next = NULL;
		store_finish(task->client, task, task);
	}
	return NULL;
}
