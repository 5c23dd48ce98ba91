/* SPDX-License-Identifier: MIT */

/*
 * Backup, restore, verify, usage
 *
 * A backup is a checkpoint of RocksDB: files are linked, or copied to another file system, and the log is copied.
 * It is itself a database, in a directory of its own that only its owner may enter. A restore builds a copy beside the database (its large files are linked, they
 * never change), verifies that copy as a whole, and only then has the writer put it in place.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/err.h"
#include "store/store_priv.h"
#include "store/verify.h"

/* Long work must not hold up the end of the store, nor whoever has to replace the database. */
static int stop_asked(const void *arg)
{
	const struct store *store = arg;

	return atomic_load_explicit(&store->stopping, memory_order_relaxed) ? STORE_E_STOPPED : 0;
}

static int stop_or_replaced(const void *arg)
{
	const struct store *store = arg;

	if (!atomic_load_explicit(&store->db, memory_order_relaxed))
		return STORE_E_BUSY;
	return stop_asked(arg);
}

static int os_finding(struct store_chore *chore, const char *path, int error)
{
	(void)snprintf(chore->text, sizeof(chore->text), "%.800s: %s", path,
		       strerrordesc_np(error));
	return STORE_E_FAILED;
}

/* ---- backup ---- */

static int checkpoint(struct store_chore *chore, struct db *db, const char *inside)
{
	rocksdb_checkpoint_t *rocks;
	char *error = NULL;

	rocks = rocksdb_checkpoint_object_create(db->rocks, &error);
	if (!error) {
		/* With its log rather than flushed: only the writer may begin a new log (db.c, turn()). */
		rocksdb_checkpoint_create(rocks, inside, db->memtable_bytes ? UINT64_MAX : 0,
					  &error);
		rocksdb_checkpoint_object_destroy(rocks);
	}
	if (!error)
		return 0;
	(void)db_error(error, chore->text);
	return STORE_E_FAILED;
}

static int backup(struct store *store, struct store_chore *chore, struct db *db)
{
	CLEANUP(freep) char *inside = NULL, *parent = NULL;
	int r;

	if (atomic_load_explicit(&store->failed, memory_order_relaxed)) {
		store_cause(store, chore->text, sizeof(chore->text));
		return STORE_E_FAILED;
	}
	if (asprintf(&inside, "%s/db", chore->path) < 0 ||
	    asprintf(&parent, "%s/..", chore->path) < 0)
		return STORE_E_BUSY;
	/* Nobody else may look into it, not even while it is made; RocksDB's own files and directories are for all to read. */
	if (mkdir(chore->path, 0700)) {
		if (errno != EEXIST)
			return os_finding(chore, chore->path, errno);
		(void)snprintf(chore->text, sizeof(chore->text),
			       "%.800s exists; name a path that does not", chore->path);
		return STORE_E_EXISTS;
	}
	r = checkpoint(chore, db, inside);
	if (!r && (db_sync_directory(chore->path) || db_sync_directory(parent)))
		r = os_finding(chore, chore->path, EIO);
	if (r) {
		db_destroy(inside);
		(void)rmdir(chore->path);
	}
	return r;
}

/* ---- restore ---- */

static int copy_bytes(int from, int to)
{
	char bytes[64 << 10];
	ssize_t n;

	while ((n = read(from, bytes, sizeof(bytes))) > 0)
		for (ssize_t done = 0, w; done < n; done += w) {
			w = write(to, bytes + done, (size_t)(n - done));
			if (w < 0)
				return -errno;
		}
	if (n < 0)
		return -errno;
	return fdatasync(to) ? -errno : 0;
}

static int copy_file(int from_dir, int to_dir, const char *name)
{
	const char *dot = strrchr(name, '.');
	CLEANUP(fd_closep) int from = -1, to = -1;

	if (dot && !strcmp(dot, ".sst") && !linkat(from_dir, name, to_dir, name, 0))
		return 0;
	from = openat(from_dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (from < 0)
		return -errno;
	to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (to < 0)
		return -errno;
	return copy_bytes(from, to);
}

static bool belongs(const char *name)
{
	const char *dot = strrchr(name, '.');

	return !strcmp(name, "CURRENT") || !strcmp(name, "IDENTITY") ||
	       !strncmp(name, "MANIFEST-", 9) || !strncmp(name, "OPTIONS-", 8) ||
	       (dot && (!strcmp(dot, ".sst") || !strcmp(dot, ".log")));
}

static void dir_freep(DIR **dir)
{
	if (*dir)
		(void)closedir(*dir);
}

static int copy_database(struct store_chore *chore, const char *to_path)
{
	CLEANUP(freep) char *inside = NULL;
	CLEANUP(dir_freep) DIR *from = NULL;
	CLEANUP(fd_closep) int to = -1;
	struct dirent *file;
	int r;

	if (asprintf(&inside, "%s/db", chore->path) < 0)
		return STORE_E_BUSY;
	from = opendir(inside);
	if (!from)
		return os_finding(chore, inside, errno);
	if (mkdir(to_path, 0700))
		return os_finding(chore, to_path, errno);
	to = open(to_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (to < 0)
		return os_finding(chore, to_path, errno);
	while ((file = readdir(from))) {
		if (!belongs(file->d_name))
			continue;
		r = copy_file(dirfd(from), to, file->d_name);
		if (r)
			return os_finding(chore, file->d_name, -r);
	}
	return fsync(to) ? os_finding(chore, to_path, errno) : 0;
}

static int verify_copy(struct store *store, struct store_chore *chore, char *copy)
{
	struct db_config config = store->db_config;
	CLEANUP(db_freep) struct db *db = NULL;
	char why[STORE_TEXT_MAX];
	int r;

	config.path = copy;
	config.salvage_hint = NULL;
	r = db_open(&config, DB_READ_ONLY, &db, why);
	if (!r)
		r = verify_database(db, &store->seed, (struct verify_stop){stop_asked, store},
				    &chore->keys, &chore->bytes, why);
	if (!r)
		return 0;
	(void)snprintf(chore->text, sizeof(chore->text), "%.300s cannot be restored: %.600s",
		       chore->path, why);
	return r == STORE_E_DAMAGED ? STORE_E_CORRUPT : r;
}

static int restore(struct store *store, struct store_chore *chore)
{
	CLEANUP(freep) char *copy = NULL;
	int r;

	if (asprintf(&copy, "%s.restoring", store->db_config.path) < 0)
		return STORE_E_BUSY;
	db_destroy(copy);
	r = copy_database(chore, copy);
	if (!r)
		r = verify_copy(store, chore, copy);
	if (!r)
		r = store_swap(store, copy, chore->text);
	if (r)
		db_destroy(copy);
	return r;
}

/* ---- usage ---- */

static int usage(struct store_chore *chore, struct db *db)
{
	uint8_t row[KEY_PAYER_MAX];
	size_t row_len = key_payer_write(chore->owner, chore->account, chore->account_len, row);

	for (unsigned part = 0; part < USAGE_PARTS; part++) {
		struct usage_figures figures;

		if (usage_read(db, part, row, row_len, &figures))
			return STORE_E_FAILED;
		chore->bytes += figures.bytes;
		chore->keys += figures.keys;
	}
	return 0;
}

/* ---- any ---- */

static int with_database(struct store_reader *reader, struct store_chore *chore)
{
	struct db *db = store_reader_pin(reader);
	int r = STORE_E_FAILED;

	if (!db)
		return r;
	if (chore->kind == STORE_BACKUP)
		r = backup(reader->store, chore, db);
	else if (chore->kind == STORE_VERIFY)
		r = verify_database(db, &reader->store->seed,
				    (struct verify_stop){stop_or_replaced, reader->store},
				    &chore->keys, &chore->bytes, chore->text);
	else
		r = usage(chore, db);
	store_unpin(&reader->pin);
	return r;
}

static void chore_run(struct store_task *task, struct store_reader *reader)
{
	struct store_chore *chore = container_of(task, struct store_chore, task);

	if (chore->kind == STORE_RESTORE)
		chore->result = restore(reader->store, chore);
	else
		chore->result = with_database(reader, chore);
	if (chore->kind != STORE_USAGE)
		atomic_store_explicit(&reader->store->chore_busy, false, memory_order_release);
}

static void chore_finish(struct store_task *task)
{
	struct store_chore *chore = container_of(task, struct store_chore, task);

	chore->done(chore);
}

int store_chore_submit(struct store_client *client, struct store_chore *chore)
{
	struct store *store = client->store;

	if (chore->kind == STORE_USAGE && chore->account_len > STORE_NAME_MAX)
		return STORE_E_INVALID;
	if (store->closing)
		return STORE_E_STOPPED;
	chore->result = 0;
	chore->bytes = chore->keys = 0;
	chore->text[0] = '\0';
	chore->task.client = client;
	chore->task.result = &chore->result;
	chore->task.run = chore_run;
	chore->task.finish = chore_finish;
	if (chore->kind != STORE_USAGE &&
	    atomic_exchange_explicit(&store->chore_busy, true, memory_order_acquire))
		return STORE_E_BUSY;
	if (store_read_enqueue(store, &chore->task))
		return STORE_E_PENDING;
	if (chore->kind != STORE_USAGE)
		atomic_store_explicit(&store->chore_busy, false, memory_order_release);
	return STORE_E_BUSY;
}
