/* SPDX-License-Identifier: MIT */

/*
 * One database, four column families, one write-ahead log for all of them
 *
 * A database is made under another name and renamed when it is whole, so one without a
 * CURRENT file is damaged, and never silently replaced by an empty one.
 *
 * What follows a crash: the log is replayed. kTolerateCorruptedTailRecords takes a torn end for what it is, and
 * refuses damage before it; RocksDB's default would drop what follows the damage and open. The one case it
 * gets wrong is caught by wal.c.
 *
 * Memory: blocks, indexes and filters are all in the one cache (partitioned, so that none of them is
 * large), memtables are bounded together; nothing else grows with the data but a descriptor and some hundred bytes
 * for each file of 64 MiB.
 */

#include "store/db.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "core/base/check.h"
#include "core/base/err.h"
#include "store/entry.h"
#include "store/key.h"
#include "store/wal.h"

enum {
	PROBE_BYTES = 1 << 20,
	KEY_OVERHEAD = 64, /* of a key in a memtable, at most */
	L0_FILES_MAX = 16, /* below where RocksDB makes writes wait (20) */
	BLOOM_BITS = 10,   /* per key: 1 % of the reads of absent keys look in vain */
	MEMTABLES = 4,
	LOG_HEADERS = 5, /* InfoLogLevel::HEADER_LEVEL */
	LOG_DIR_MAX = 64,
};

static const char *const family_names[DB_FAMILIES] = {"default", "state", "session", "expiry"};

#ifdef CLOVE_TSAN
/*
 * RocksDB is built without ThreadSanitizer, which sees its memcpy() and memcmp() but not the atomics that order them.
 * The C++ library is there for RocksDB only; entry_read() copies out of RocksDB's memory.
 */
const char *__tsan_default_suppressions(void);

__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void)
{
	return "race:librocksdb.so\nrace:libstdc++.so\nrace:entry_read\n";
}
#endif

/* ---- errors ---- */

int db_error(char *error, char *reterr_text)
{
	int r = strncmp(error, "Corruption", 10) ? DB_E_FAILED : DB_E_DAMAGED;

	if (reterr_text)
		(void)snprintf(reterr_text, STORE_TEXT_MAX, "%.900s", error);
	rocksdb_free(error);
	return r;
}

static int corrupt(const struct db_config *config, const char *what, char *reterr_text)
{
	(void)snprintf(
		reterr_text, STORE_TEXT_MAX,
		"%.300s is damaged: %.250s. Nothing was changed. Ways out: put a backup in its "
		"place; or move it away, to start empty%s%.100s%s",
		config->path, what, config->salvage_hint && !config->salvage ? "; or " : "",
		config->salvage_hint && !config->salvage ? config->salvage_hint : "",
		config->salvage_hint && !config->salvage
			? ", to keep what was written before the damage and lose the rest"
			: "");
	return STORE_E_CORRUPT;
}

static int newer(const struct db_config *config, const char *what, char *reterr_text)
{
	(void)snprintf(
		reterr_text, STORE_TEXT_MAX,
		"%.300s was written by a newer version of Clove (%.100s). Start that version, or give "
		"this one another directory",
		config->path, what);
	return STORE_E_NEWER;
}

static int locked(const struct db_config *config, int pid, char *reterr_text)
{
	char who[32] = "this process";

	if (pid)
		(void)snprintf(who, sizeof(who), "process %d", pid);
	(void)snprintf(reterr_text, STORE_TEXT_MAX,
		       "%.300s is in use by %s. Stop it, or give this one another directory",
		       config->path, who);
	return STORE_E_LOCKED;
}

static int os_error(const char *path, int r, char *reterr_text)
{
	(void)snprintf(reterr_text, STORE_TEXT_MAX, "%.500s: %s", path, strerrordesc_np(-r));
	return err_raise(r);
}

/* What RocksDB said when it did not open. */
static int open_error(const struct db_config *config, char *error, char *reterr_text)
{
	char text[STORE_TEXT_MAX];
	int r;

	if (strstr(error, "lock hold by current process") || strstr(error, "While lock file")) {
		rocksdb_free(error);
		return locked(config, 0, reterr_text);
	}
	r = db_error(error, text);
	if (r == DB_E_DAMAGED)
		return corrupt(config, text, reterr_text);
	(void)snprintf(reterr_text, STORE_TEXT_MAX, "%.300s cannot be opened: %.600s", config->path,
		       text);
	return STORE_E_FAILED;
}

/* ---- options ---- */

static rocksdb_options_t *family_options(const struct db_config *config, enum db_family family)
{
	rocksdb_options_t *options = rocksdb_options_create();
	rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
	const bool values = family == DB_STATE || family == DB_SESSION;

	rocksdb_block_based_options_set_block_cache(table, config->cache);
	rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
	rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(table, 1);
	rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1);
	rocksdb_block_based_options_set_pin_top_level_index_and_filter(table, 1);
	rocksdb_block_based_options_set_index_type(
		table, rocksdb_block_based_table_index_type_two_level_index_search);
	rocksdb_block_based_options_set_format_version(table, 5);
	if (values) {
		rocksdb_block_based_options_set_filter_policy(
			table, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS));
		rocksdb_block_based_options_set_partition_filters(table, 1);
		rocksdb_block_based_options_set_data_block_index_type(
			table,
			rocksdb_block_based_table_data_block_index_type_binary_search_and_hash);
		rocksdb_options_set_memtable_prefix_bloom_size_ratio(options, 0.05);
		rocksdb_options_set_memtable_whole_key_filtering(options, 1);
	}
	rocksdb_options_set_block_based_table_factory(options, table);
	rocksdb_block_based_options_destroy(table);

	rocksdb_options_set_write_buffer_size(options, config->sizes.write_buffer);
	rocksdb_options_set_max_write_buffer_number(options, MEMTABLES);
	rocksdb_options_set_level_compaction_dynamic_level_bytes(options, 1);
	rocksdb_options_set_compression(options, rocksdb_lz4_compression);
	if (family == DB_EXPIRY) /* a queue: its front is all tombstones until it is compacted */
		rocksdb_options_add_compact_on_deletion_collector_factory(options, 1024, 512);
	return options;
}

/*
 * RocksDB's own log is of no use to anybody here, and a danger: in a build with assertions, as Debian's is, the
 * process is aborted at the first line after one that a full disk refused. There is no option to have none. So it is told
 * to log next to nothing, to memory, into a directory that is gone once it has opened the file.
 */
static void log_away(rocksdb_options_t *options, char *ret_dir, size_t size)
{
	static const char *const parents[] = {"/dev/shm", "/run", "/tmp"};

	rocksdb_options_set_info_log_level(options, LOG_HEADERS);
	for (unsigned i = 0; i < sizeof(parents) / sizeof(parents[0]); i++) {
		(void)snprintf(ret_dir, size, "%s/clove-store.XXXXXX", parents[i]);
		if (mkdtemp(ret_dir)) {
			rocksdb_options_set_db_log_dir(options, ret_dir);
			return;
		}
	}
	ret_dir[0] = '\0'; /* beside the data, then */
}

static void log_away_end(const char *path)
{
	DIR *dir = path[0] ? opendir(path) : NULL;
	struct dirent *file;

	while (dir && (file = readdir(dir)))
		(void)unlinkat(dirfd(dir), file->d_name, 0);
	if (dir)
		(void)closedir(dir);
	if (path[0])
		(void)rmdir(path);
}

/* After a failure RocksDB is closed and opened again (writer.c), and must not have begun to repair itself meanwhile. */
static rocksdb_options_t *without_resume(rocksdb_options_t *options)
{
	rocksdb_options_t *changed = rocksdb_options_create();
	char *error = NULL;

	rocksdb_get_options_from_string(options, "max_bgerror_resume_count=0", changed, &error);
	CHECK(!error);
	rocksdb_options_destroy(options);
	return changed;
}

static rocksdb_options_t *database_options(const struct db_config *config)
{
	rocksdb_options_t *options = without_resume(family_options(config, DB_META));
	rocksdb_env_t *env = rocksdb_create_default_env();

	rocksdb_env_lower_thread_pool_cpu_priority(env);
	rocksdb_env_lower_high_priority_thread_pool_cpu_priority(env);
	rocksdb_options_set_env(options, env);
	rocksdb_env_destroy(env);
	rocksdb_options_set_wal_recovery_mode(
		options, config->salvage ? rocksdb_point_in_time_recovery
					 : rocksdb_tolerate_corrupted_tail_records_recovery);
	rocksdb_options_set_paranoid_checks(options, 1);
	rocksdb_options_set_max_open_files(options, -1);
	rocksdb_options_set_max_file_opening_threads(options, 1);
	rocksdb_options_set_max_background_jobs(options, 2);
	rocksdb_options_set_db_write_buffer_size(options, MEMTABLES * config->sizes.write_buffer);
	rocksdb_options_set_max_total_wal_size(options, 4 * MEMTABLES * config->sizes.write_buffer);
	rocksdb_options_set_allow_concurrent_memtable_write(options, 0); /* one writer */
	rocksdb_options_set_enable_write_thread_adaptive_yield(options, 0);
	rocksdb_options_set_bytes_per_sync(options, 1 << 20);
	rocksdb_options_set_skip_stats_update_on_db_open(options, 1);
	rocksdb_options_set_stats_dump_period_sec(options, 0);
	rocksdb_options_set_stats_persist_period_sec(options, 0);
	return options;
}

/* ---- opening ---- */

struct opened {
	rocksdb_options_t *options[DB_FAMILIES];
	char log_dir[LOG_DIR_MAX];
};

static void opened_deinit(struct opened *opened)
{
	log_away_end(opened->log_dir);
	for (unsigned i = 0; i < DB_FAMILIES; i++)
		if (opened->options[i])
			rocksdb_options_destroy(opened->options[i]);
}

static struct opened all_options(const struct db_config *config)
{
	struct opened opened = {.options = {database_options(config)}};

	for (unsigned i = 1; i < DB_FAMILIES; i++)
		opened.options[i] = family_options(config, i);
	log_away(opened.options[0], opened.log_dir, sizeof(opened.log_dir));
	return opened;
}

void db_free(struct db *db)
{
	for (unsigned i = 0; i < DB_FAMILIES; i++)
		if (db->families[i])
			rocksdb_column_family_handle_destroy(db->families[i]);
	if (db->rocks)
		rocksdb_close(db->rocks);
	rocksdb_readoptions_destroy(db->reads);
	rocksdb_readoptions_destroy(db->memory_reads);
	rocksdb_flushoptions_destroy(db->flushes);
	rocksdb_writeoptions_destroy(db->writes);
	rocksdb_writeoptions_destroy(db->synced_writes);
	free(db);
}

static struct db *db_new(const struct db_config *config)
{
	struct db *db = calloc(1, sizeof(*db));

	if (!db)
		return NULL;
	db->reads = rocksdb_readoptions_create();
	db->memory_reads = rocksdb_readoptions_create();
	rocksdb_readoptions_set_read_tier(db->memory_reads, 1);
	db->flushes = rocksdb_flushoptions_create();
	rocksdb_flushoptions_set_wait(db->flushes, 0);
	db->memtable_bytes = config->ephemeral ? 0 : config->sizes.write_buffer / 4 * 3;
	db->writes = rocksdb_writeoptions_create();
	db->synced_writes = rocksdb_writeoptions_create();
	rocksdb_writeoptions_set_no_slowdown(db->writes, 1);
	rocksdb_writeoptions_set_no_slowdown(db->synced_writes, 1);
	if (config->ephemeral)
		rocksdb_writeoptions_disable_WAL(db->writes, 1);
	else
		rocksdb_writeoptions_set_sync(db->synced_writes, 1);
	return db;
}

void db_destroy(const char *path)
{
	rocksdb_options_t *options = rocksdb_options_create();
	char *error = NULL, log_dir[LOG_DIR_MAX];

	log_away(options, log_dir, sizeof(log_dir));
	/* Families it is not told of it finds in the manifest; what is no database it leaves alone. */
	rocksdb_destroy_db(options, path, &error);
	rocksdb_free(error);
	rocksdb_options_destroy(options);
	log_away_end(log_dir);
}

int db_sync_directory(const char *path)
{
	CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd))
		return err_raise(-errno);
	return 0;
}

static int sync_parent(const char *path)
{
	CLEANUP(freep) char *parent = strdup(path);
	char *slash;

	if (!parent)
		return err_raise(-ENOMEM);
	slash = strrchr(parent, '/');
	if (!slash)
		return err_trace(db_sync_directory("."));
	slash[slash == parent] = '\0';
	return err_trace(db_sync_directory(parent));
}

/* An empty database at @path: all families, and the format. Synced, closed. */
static int db_make(const struct db_config *config, const char *path, char *reterr_text)
{
	CLEANUP(opened_deinit) struct opened opened = all_options(config);
	rocksdb_column_family_handle_t *families[DB_FAMILIES] = {0};
	rocksdb_writeoptions_t *writes;
	char *error = NULL, format[16];
	rocksdb_t *rocks;

	rocksdb_options_set_create_if_missing(opened.options[0], 1);
	rocksdb_options_set_create_missing_column_families(opened.options[0], 1);
	rocks = rocksdb_open_column_families(opened.options[0], path, DB_FAMILIES, family_names,
					     (const rocksdb_options_t *const *)opened.options,
					     families, &error);
	if (!rocks)
		return open_error(config, error, reterr_text);
	(void)snprintf(format, sizeof(format), "%d", DB_FORMAT);
	writes = rocksdb_writeoptions_create();
	rocksdb_writeoptions_set_sync(writes, 1);
	rocksdb_put(rocks, writes, "format", 6, format, strlen(format), &error);
	rocksdb_writeoptions_destroy(writes);
	for (unsigned i = 0; i < DB_FAMILIES; i++)
		rocksdb_column_family_handle_destroy(families[i]);
	rocksdb_close(rocks);
	return error ? open_error(config, error, reterr_text) : 0;
}

/* Makes the database under another name first: it appears whole or not at all. */
static int db_found(const struct db_config *config, char *reterr_text)
{
	CLEANUP(freep) char *fresh = NULL;
	int r;

	if (asprintf(&fresh, "%s.new", config->path) < 0)
		return err_raise(-ENOMEM);
	db_destroy(fresh);
	r = db_make(config, fresh, reterr_text);
	if (r)
		return r;
	if (rename(fresh, config->path))
		return os_error(config->path, -errno, reterr_text);
	r = sync_parent(config->path);
	return r ? os_error(config->path, r, reterr_text) : 0;
}

/*
 * Who has the database: 0, or STORE_E_LOCKED. Asked of /proc/locks, because opening and closing the lock's file would
 * release it, were it ours. Whoever is not seen there RocksDB finds.
 */
static int check_lock(const struct db_config *config, char *reterr_text)
{
	CLEANUP(freep) char *path = NULL, *line = NULL;
	FILE *locks;
	struct stat st;
	size_t size = 0;
	int pid = 0, found = 0;

	if (asprintf(&path, "%s/LOCK", config->path) < 0)
		return err_raise(-ENOMEM);
	locks = stat(path, &st) ? NULL : fopen("/proc/locks", "re");
	if (!locks)
		return 0;
	while (!found && getline(&line, &size, locks) > 0) {
		unsigned device_major, device_minor;
		uint64_t inode;

		if (sscanf(line, "%*s POSIX %*s WRITE %d %x:%x:%" SCNu64, &pid, &device_major,
			   &device_minor, &inode) == 4)
			found = inode == st.st_ino &&
				makedev(device_major, device_minor) == st.st_dev;
	}
	(void)fclose(locks);
	return found ? locked(config, pid == getpid() ? 0 : pid, reterr_text) : 0;
}

static int check_families(const struct db_config *config, const rocksdb_options_t *options,
			  char *reterr_text)
{
	char *error = NULL, text[128] = "";
	size_t count;
	char **names = rocksdb_list_column_families(options, config->path, &count, &error);
	unsigned known = 0;

	if (error)
		return open_error(config, error, reterr_text);
	for (size_t i = 0; i < count; i++) {
		unsigned family = 0;

		while (family < DB_FAMILIES && strcmp(names[i], family_names[family]))
			family++;
		if (family < DB_FAMILIES)
			known++;
		else
			(void)snprintf(text, sizeof(text), "column family %.80s", names[i]);
	}
	rocksdb_list_column_families_destroy(names, count);
	if (text[0])
		return newer(config, text, reterr_text);
	if (known == DB_FAMILIES ||
	    known == DB_FAMILIES - 1) /* the session family is dropped, then made */
		return 0;
	return corrupt(config, "column families are missing", reterr_text);
}

static int check_format(const struct db_config *config, struct db *db, char *reterr_text)
{
	char value[16] = "", text[64], *end;
	size_t len;
	long format;
	int r = db_get_raw(db, DB_META, "format", 6, value, sizeof(value) - 1, &len);

	if (r)
		return corrupt(config, "its format is missing", reterr_text);
	value[len] = '\0';
	format = strtol(value, &end, 10);
	if (*end || format < 1)
		return corrupt(config, "its format is unreadable", reterr_text);
	if (format == DB_FORMAT)
		return 0;
	(void)snprintf(text, sizeof(text), "format %ld, this one knows %d", format, DB_FORMAT);
	return newer(config, text, reterr_text);
}

/* No session outlives its kernel. Dropping a family frees its files at once, whatever was in it. */
static int empty_sessions(const struct db_config *config, struct db *db,
			  const rocksdb_options_t *options, char *reterr_text)
{
	char *error = NULL;

	rocksdb_drop_column_family(db->rocks, db->families[DB_SESSION], &error);
	if (error)
		return open_error(config, error, reterr_text);
	rocksdb_column_family_handle_destroy(db->families[DB_SESSION]);
	db->families[DB_SESSION] =
		rocksdb_create_column_family(db->rocks, options, family_names[DB_SESSION], &error);
	return error ? open_error(config, error, reterr_text) : 0;
}

static bool path_exists(const char *path, const char *name)
{
	CLEANUP(freep) char *full = NULL;
	struct stat st;

	return asprintf(&full, "%s%s", path, name) >= 0 && !lstat(full, &st);
}

static int check_files(const struct db_config *config, const rocksdb_options_t *options,
		       char *reterr_text)
{
	char name[64], text[128];
	int r;

	if (!path_exists(config->path, "/CURRENT"))
		return corrupt(config, "its file CURRENT is missing", reterr_text);
	r = check_lock(config, reterr_text);
	if (r)
		return r;
	r = check_families(config, options, reterr_text);
	if (r || config->salvage)
		return r;
	r = wal_check(config->path, name);
	if (!r)
		return 0;
	if (r < 0)
		return os_error(config->path, r, reterr_text);
	(void)snprintf(text, sizeof(text), "whole records follow a broken one in %.63s", name);
	return corrupt(config, text, reterr_text);
}

static void destroy_beside(const struct db_config *config, const char *suffix)
{
	CLEANUP(freep) char *path = NULL;

	if (asprintf(&path, "%s.%s", config->path, suffix) >= 0 && path_exists(path, ""))
		db_destroy(path);
}

/* What must be before a start: a database, and nothing left of restoring another (writer.c). */
static int prepare(const struct db_config *config, char *reterr_text)
{
	CLEANUP(freep) char *aside = NULL;

	if (asprintf(&aside, "%s.old", config->path) < 0)
		return err_raise(-ENOMEM);
	if (config->ephemeral)
		db_destroy(config->path);
	if (!path_exists(config->path, "") && path_exists(aside, "") && rename(aside, config->path))
		return os_error(aside, -errno, reterr_text);
	if (!path_exists(config->path, ""))
		return db_found(config, reterr_text);
	destroy_beside(config, "restoring");
	return 0;
}

int db_open(const struct db_config *config, enum db_mode mode, struct db **ret_db,
	    char *reterr_text)
{
	CLEANUP(opened_deinit) struct opened opened = {0};
	CLEANUP(db_freep) struct db *db = NULL;
	char *error = NULL;
	int r;

	if (mode == DB_START) {
		r = prepare(config, reterr_text);
		if (r)
			return r;
	}
	db = db_new(config);
	if (!db)
		return os_error(config->path, -ENOMEM, reterr_text);
	opened = all_options(config);
	r = check_files(config, opened.options[0], reterr_text);
	if (r)
		return r;
	/* A start may have died between dropping the session family and making it. */
	rocksdb_options_set_create_missing_column_families(opened.options[0], mode != DB_READ_ONLY);
	if (mode == DB_READ_ONLY)
		db->rocks = rocksdb_open_for_read_only_column_families(
			opened.options[0], config->path, DB_FAMILIES, family_names,
			(const rocksdb_options_t *const *)opened.options, db->families, 0, &error);
	else
		db->rocks = rocksdb_open_column_families(
			opened.options[0], config->path, DB_FAMILIES, family_names,
			(const rocksdb_options_t *const *)opened.options, db->families, &error);
	if (!db->rocks)
		return open_error(config, error, reterr_text);
	db->read_only = mode == DB_READ_ONLY;
	r = check_format(config, db, reterr_text);
	if (!r && (mode == DB_START || mode == DB_RESTORED))
		r = empty_sessions(config, db, opened.options[DB_SESSION], reterr_text);
	if (r)
		return r;
	if (mode == DB_START)
		destroy_beside(config, "old");
	*ret_db = TAKE(db);
	return 0;
}

/* ---- asking ---- */

enum db_family db_family_of(const uint8_t *key)
{
	return key_scope(key) == STORE_SESSION ? DB_SESSION : DB_STATE;
}

static int get_error(char *error)
{
	if (!strncmp(error, "Result incomplete", 17)) {
		rocksdb_free(error);
		return DB_E_WOULD_BLOCK;
	}
	return db_error(error, NULL);
}

int db_get(struct db *db, enum db_family family, const void *key, size_t key_len, bool in_memory,
	   const rocksdb_snapshot_t *snapshot, struct store_entry **ret_entry)
{
	rocksdb_readoptions_t *options = in_memory ? db->memory_reads : db->reads, *own = NULL;
	rocksdb_pinnableslice_t *found;
	const char *bytes;
	char *error = NULL;
	size_t len;
	int r = 0;

	if (snapshot) {
		options = own = rocksdb_readoptions_create();
		rocksdb_readoptions_set_read_tier(own, in_memory);
		rocksdb_readoptions_set_snapshot(own, snapshot);
	}
	found = rocksdb_get_pinned_cf(db->rocks, options, db->families[family], key, key_len,
				      &error);
	if (own)
		rocksdb_readoptions_destroy(own);
	if (error)
		return get_error(error);
	/* RocksDB 7.8 can say "not there" of what is merely not in memory (its pull request 12443). */
	if (!found)
		return in_memory ? DB_E_WOULD_BLOCK : DB_E_ABSENT;
	bytes = rocksdb_pinnableslice_value(found, &len);
	if (in_memory && !len) {
		r = DB_E_WOULD_BLOCK;
	} else {
		errno = 0;
		*ret_entry = entry_read(bytes, len);
		if (!*ret_entry)
			r = errno == EBADMSG ? DB_E_DAMAGED : err_raise(-ENOMEM);
	}
	rocksdb_pinnableslice_destroy(found);
	return r;
}

int db_get_raw(struct db *db, enum db_family family, const void *key, size_t key_len, void *to,
	       size_t size, size_t *ret_len)
{
	rocksdb_pinnableslice_t *found;
	const char *bytes;
	char *error = NULL;
	size_t len;

	found = rocksdb_get_pinned_cf(db->rocks, db->reads, db->families[family], key, key_len,
				      &error);
	if (error)
		return get_error(error);
	if (!found)
		return DB_E_ABSENT;
	bytes = rocksdb_pinnableslice_value(found, &len);
	if (len <= size) {
		memcpy(to, bytes, len);
		*ret_len = len;
	}
	rocksdb_pinnableslice_destroy(found);
	return len <= size ? 0 : DB_E_DAMAGED;
}

/* ---- writing ---- */

static uint64_t property(struct db *db, unsigned family, const char *name)
{
	uint64_t value = 0;

	(void)rocksdb_property_int_cf(db->rocks, db->families[family], name, &value);
	return value;
}

static uint64_t l0_files(struct db *db, unsigned family)
{
	char *text = rocksdb_property_value_cf(db->rocks, db->families[family],
					       "rocksdb.num-files-at-level0");
	uint64_t files = text ? strtoull(text, NULL, 10) : 0;

	rocksdb_free(text);
	return files;
}

/* Whether new memtables can be begun without waiting. */
static bool can_turn(struct db *db)
{
	for (unsigned i = 0; i < DB_FAMILIES; i++)
		if (property(db, i, "rocksdb.num-immutable-mem-table") > MEMTABLES - 3 ||
		    l0_files(db, i) > L0_FILES_MAX)
			return false;
	return true;
}

/*
 * New memtables and a new log, when the old ones are full, but before RocksDB finds them full. It would begin a new log
 * while the end of the old one is not synced, and a power cut could then take the end of the old and leave the
 * beginning of the new: a hole, of which recovery would not say a word. 0, DB_E_STALLED or DB_E_FAILED.
 */
static int turn(struct db *db, char *reterr_text)
{
	char *error = NULL;
	bool full = false;

	if (!db->memtable_bytes || db->unseen_bytes < db->memtable_bytes / 32)
		return 0;
	for (unsigned i = 0; i < DB_FAMILIES; i++)
		full = full ||
		       property(db, i, "rocksdb.cur-size-active-mem-table") >= db->memtable_bytes;
	if (!full) {
		db->unseen_bytes = 0;
		return 0;
	}
	if (!can_turn(db))
		return DB_E_STALLED;
	rocksdb_flush_wal(db->rocks, 1, &error);
	for (unsigned i = 0; !error && i < DB_FAMILIES; i++)
		rocksdb_flush_cf(db->rocks, db->flushes, db->families[i], &error);
	if (error) {
		(void)db_error(error, reterr_text);
		return DB_E_FAILED;
	}
	db->unseen_bytes = 0;
	return 0;
}

int db_write(struct db *db, rocksdb_writebatch_t *batch, bool sync, char *reterr_text)
{
	char *error = NULL;
	size_t bytes;
	int r;

	if (db->read_only) {
		(void)snprintf(reterr_text, STORE_TEXT_MAX, "open for reading only");
		return DB_E_FAILED;
	}
	r = turn(db, reterr_text);
	if (r)
		return r;
	rocksdb_write(db->rocks, sync ? db->synced_writes : db->writes, batch, &error);
	if (!error) {
		(void)rocksdb_writebatch_data(batch, &bytes);
		db->unseen_bytes += bytes + KEY_OVERHEAD * (size_t)rocksdb_writebatch_count(batch);
		return 0;
	}
	if (!strncmp(error, "Result incomplete", 17)) {
		rocksdb_free(error);
		return DB_E_STALLED;
	}
	(void)db_error(error, reterr_text);
	return DB_E_FAILED;
}

int db_probe(const char *path, char *reterr_text)
{
	CLEANUP(freep) char *name = NULL, *bytes = calloc(1, PROBE_BYTES);
	CLEANUP(fd_closep) int fd = -1;
	size_t done = 0;
	int r = 0;

	if (!bytes || asprintf(&name, "%s/probe.tmp", path) < 0)
		return os_error(path, -ENOMEM, reterr_text);
	fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return os_error(path, -errno, reterr_text);
	while (!r && done < PROBE_BYTES) {
		ssize_t n = write(fd, bytes + done, PROBE_BYTES - done);

		if (n < 0)
			r = -errno;
		else
			done += (size_t)n;
	}
	if (!r && fdatasync(fd))
		r = -errno;
	(void)unlink(name);
	return r ? os_error(path, r, reterr_text) : 0;
}
