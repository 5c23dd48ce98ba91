/* SPDX-License-Identifier: MIT */

/* What store_open() does with directories that are not as it left them. */

#include "tests/unit/store/fixture.h"

#include <fcntl.h>
#include <rocksdb/c.h>
#include <sys/wait.h>

#include "store/verify.h"

static void expect_refused(struct fixture *f, int result, const char *first, const char *second)
{
	assert_int_equal(fixture_try_open(f), result);
	if (!strstr(f->text, first) || !strstr(f->text, second) || !strstr(f->text, f->path))
		fail_msg("%s", f->text);
}

static void inside(const struct fixture *f, const char *name, char *to, size_t size)
{
	(void)snprintf(to, size, "%s/db/%s", f->path, name);
}

/* The only file in the database whose name ends so. */
static void file_ending(const struct fixture *f, const char *end, char *to, size_t size)
{
	char path[96];
	DIR *dir;
	struct dirent *file;
	unsigned found = 0;

	inside(f, "", path, sizeof(path));
	dir = opendir(path);
	assert_non_null(dir);
	while ((file = readdir(dir))) {
		size_t len = strlen(file->d_name);

		if (len > strlen(end) && !strcmp(file->d_name + len - strlen(end), end)) {
			(void)snprintf(to, size, "%s%s", path, file->d_name);
			found++;
		}
	}
	(void)closedir(dir);
	assert_int_equal(found, 1);
}

__attribute__((format(printf, 1, 2))) static void run(const char *format, ...)
{
	char command[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	assert_int_equal(system(command), 0);
}

static void a_missing_directory_is_named(void **state)
{
	struct fixture *f = *state;

	f->config.path = "/nonexistent/clove";
	assert_int_not_equal(fixture_try_open(f), 0);
	assert_non_null(strstr(f->text, "/nonexistent/clove"));
}

/* Another process, without the threads of this one: opens a store, says so, closes it when told to. */
static int hold(const char *path)
{
	void *state;
	struct fixture *f;
	char byte = 0;
	int r;

	(void)fixture_setup_closed(&state);
	f = state;
	(void)rmdir(f->path);
	f->config.path = path;
	r = fixture_try_open(f);
	(void)!write(STDOUT_FILENO, &byte, 1);
	(void)!read(STDIN_FILENO, &byte, 1);
	if (!r)
		store_close(f->store);
	free(f);
	return r;
}

static void a_store_in_use_is_refused_with_who_uses_it(void **state)
{
	struct fixture *f = *state;
	struct fixture other;
	char pid[32];
	int ready[2], go[2];
	pid_t child;
	char byte = 0;

	assert_int_equal(pipe2(ready, O_CLOEXEC) | pipe2(go, O_CLOEXEC), 0);
	child = fork();
	if (!child) {
		(void)dup2(ready[1], STDOUT_FILENO);
		(void)dup2(go[0], STDIN_FILENO);
		(void)execl("/proc/self/exe", "holder", f->path, NULL);
		_exit(127);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	(void)snprintf(pid, sizeof(pid), "process %d", (int)child);
	expect_refused(f, STORE_E_LOCKED, pid, "another directory");
	assert_int_equal(write(go[1], &byte, 1), 1);
	assert_int_equal(waitpid(child, &ready[0], 0), child);
	assert_int_equal(ready[0], 0);
	fixture_open(f); /* and then it is free */
	other = *f;
	assert_int_equal(fixture_try_open(&other), STORE_E_LOCKED);
	assert_non_null(strstr(other.text, "this process"));
}

static void a_newer_format_is_refused(void **state)
{
	struct fixture *f = *state;
	const char *names[] = {"default", "state", "session", "expiry", "later"};
	const rocksdb_options_t *options[5];
	rocksdb_column_family_handle_t *families[5];
	rocksdb_options_t *plain = rocksdb_options_create();
	rocksdb_writeoptions_t *writes = rocksdb_writeoptions_create();
	char path[96], *error = NULL;
	rocksdb_t *rocks;

	fixture_open(f);
	fixture_close(f);
	inside(f, "", path, sizeof(path));
	for (unsigned i = 0; i < 5; i++)
		options[i] = plain;
	rocks = rocksdb_open_column_families(plain, path, 4, names, options, families, &error);
	assert_null(error);
	rocksdb_put(rocks, writes, "format", 6, "2", 1, &error);
	for (unsigned i = 0; i < 4; i++)
		rocksdb_column_family_handle_destroy(families[i]);
	rocksdb_close(rocks);
	expect_refused(f, STORE_E_NEWER, "format 2, this one knows 1", "newer version");
	rocksdb_options_set_create_missing_column_families(plain, 1);
	rocks = rocksdb_open_column_families(plain, path, 5, names, options, families, &error);
	assert_null(error);
	for (unsigned i = 0; i < 5; i++)
		rocksdb_column_family_handle_destroy(families[i]);
	rocksdb_close(rocks);
	expect_refused(f, STORE_E_NEWER, "later", "newer version");
	rocksdb_options_destroy(plain);
	rocksdb_writeoptions_destroy(writes);
}

static void a_lost_file_is_corruption_not_a_new_store(void **state)
{
	struct fixture *f = *state;
	char path[128];

	fixture_open(f);
	(void)put(f, "a", "one");
	fixture_close(f);
	inside(f, "CURRENT", path, sizeof(path));
	assert_int_equal(unlink(path), 0);
	expect_refused(f, STORE_E_CORRUPT, "CURRENT", "put a backup in its place");
	run("rm -rf '%s/db'", f->path);
	fixture_open(f); /* moved away, it starts empty: the way out that the text names */
	expect(f, "a", NULL);
}

static void half_a_creation_is_begun_anew(void **state)
{
	struct fixture *f = *state;

	fixture_open(f);
	fixture_close(f);
	run("mv '%s/db' '%s/db.new'", f->path, f->path);
	run("rm '%s/db.new/CURRENT'", f->path);
	fixture_open(f);
	(void)put(f, "a", "one");
	expect_sound(f);
}

enum {
	KEYS = 120,
};

/* A store that was killed with everything in its log: in killed/, to be copied to db/. */
static void make_killed_store(struct fixture *f)
{
	char key[16];

	fixture_open(f);
	for (unsigned i = 0; i < KEYS; i++) {
		(void)snprintf(key, sizeof(key), "k%03u", i);
		(void)put(f, key, key);
	}
	run("cp -r '%s/db' '%s/killed'", f->path, f->path);
	fixture_close(f);
}

static void restore_killed(struct fixture *f)
{
	run("rm -rf '%s/db' && cp -r '%s/killed' '%s/db'", f->path, f->path, f->path);
}

static void a_flipped_byte_anywhere_in_the_log_is_refused(void **state)
{
	struct fixture *f = *state;
	char log[128];
	unsigned refused = 0, tried = 0;
	struct stat st;

	make_killed_store(f);
	restore_killed(f);
	file_ending(f, ".log", log, sizeof(log));
	assert_int_equal(stat(log, &st), 0);
	/* All through a record and its neighbours, bits high and low: lengths, checksums, types, payload. */
	for (off_t at = st.st_size / 2; at < st.st_size / 2 + 160;
	     at += tried % 2 ? 1 : 0, tried++) {
		uint8_t byte;
		int fd;

		restore_killed(f);
		fd = open(log, O_RDWR);
		assert_true(fd >= 0);
		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= tried % 2 ? 0x80 : 0x01;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		(void)close(fd);
		if (fixture_try_open(f) != STORE_E_CORRUPT)
			fail_msg("byte %ld: opened", (long)at);
		if (!strstr(f->text, "use --salvage") || !strstr(f->text, "backup") ||
		    !strstr(f->text, f->path))
			fail_msg("%s", f->text);
		refused++;
	}
	assert_true(refused >= 320);
	/* The way out that the text names. */
	f->config.salvage = true;
	fixture_open(f);
	expect(f, "k000", "k000");
	expect(f, "k119", NULL);
	(void)put(f, "a", "one");
	fixture_close(f);
	f->config.salvage = false;
	fixture_open(f);
	expect(f, "a", "one");
	expect(f, "k000", "k000");
}

static void a_torn_end_is_what_a_crash_leaves(void **state)
{
	struct fixture *f = *state;
	char log[128], key[16];
	struct stat st;

	make_killed_store(f);
	restore_killed(f);
	file_ending(f, ".log", log, sizeof(log));
	assert_int_equal(stat(log, &st), 0);
	for (off_t cut = 1; cut < 300; cut += 7) {
		bool ended = false;

		restore_killed(f);
		assert_int_equal(truncate(log, st.st_size - cut), 0);
		fixture_open(f);
		/* What is there is a beginning: once something is missing, everything after it is. */
		for (unsigned i = 0; i < KEYS; i++) {
			struct waited_get get = {0};
			struct store_key name = key_global(key);

			(void)snprintf(key, sizeof(key), "k%03u", i);
			name = key_global(key);
			assert_int_equal(do_get(f, 0, &get, &name, 1), 0);
			assert_false(ended && get.get.entries[0]);
			ended = ended || !get.get.entries[0];
			store_get_deinit(&get.get);
		}
		assert_true(ended);
		expect_sound(f);
		fixture_close(f);
	}
}

/* A restore moves the database aside, then the restored one to its place: it may die in between, or before it cleans up. */
static void a_restore_that_died_half_way_is_ended(void **state)
{
	struct fixture *f = *state;
	char db[96], old[96], restoring[96], command[512];

	inside(f, "", db, sizeof(db));
	(void)snprintf(old, sizeof(old), "%s/db.old", f->path);
	(void)snprintf(restoring, sizeof(restoring), "%s/db.restoring", f->path);
	fixture_open(f);
	(void)put(f, "a", "one");
	fixture_close(f);
	assert_int_equal(rename(db, old), 0);
	fixture_open(f);
	expect(f, "a", "one");
	fixture_close(f);
	(void)snprintf(command, sizeof(command), "cp -r %s %s; cp -r %s %s", db, old, db,
		       restoring);
	assert_int_equal(system(command), 0);
	fixture_open(f);
	expect(f, "a", "one");
	assert_int_not_equal(access(old, F_OK), 0);
	assert_int_not_equal(access(restoring, F_OK), 0);
}

static void largest_table(const struct fixture *f, char *to, size_t size)
{
	char list[256];
	FILE *names;

	(void)snprintf(list, sizeof(list), "ls -S '%s'/db/*.sst", f->path);
	names = popen(list, "r");
	assert_non_null(names);
	assert_non_null(fgets(to, (int)size, names));
	(void)pclose(names);
	to[strcspn(to, "\n")] = '\0';
}

static void a_damaged_value_is_told_and_the_rest_is_read(void **state)
{
	struct fixture *f = *state;
	struct store_key key = key_global("k0000");
	struct waited_get get = {0};
	struct waited_chore chore = {0};
	struct waited_drop drop = {.drop = {.done = waited_drop_done}};
	struct store_space space = space_global();
	struct store_watch watch = {0};
	uint64_t revision;
	char sst[128], name[16];
	unsigned ok = 0, damaged = 0;
	uint8_t byte;
	int fd;

	fixture_open(f);
	for (unsigned i = 0; i < 2000; i++) {
		(void)snprintf(name, sizeof(name), "k%04u", i);
		(void)put(f, name, name);
	}
	fixture_reopen(f); /* the log becomes a table */
	fixture_close(f);
	largest_table(f, sst, sizeof(sst));
	fd = open(sst, O_RDWR);
	assert_int_equal(pread(fd, &byte, 1, 5000), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, 5000), 1);
	(void)close(fd);
	fixture_open(f);
	for (unsigned i = 0; i < 2000; i++) {
		int r;

		(void)snprintf(name, sizeof(name), "k%04u", i);
		key = key_global(name);
		r = do_get(f, 0, &get, &key, 1);
		store_get_deinit(&get.get);
		ok += r == 0;
		damaged += r == STORE_E_DAMAGED;
	}
	assert_int_equal(ok + damaged, 2000);
	assert_true(damaged > 0);
	assert_true(ok > 1000);
	assert_int_equal(do_chore(f, &chore, STORE_VERIFY, NULL), STORE_E_DAMAGED);
	/* What cannot be read is not taken for the end. */
	assert_int_equal(store_drop_submit(store_client(f->store, 0), &drop.drop, &space),
			 STORE_E_PENDING);
	fixture_await(f, 0, &drop.done);
	assert_int_equal(drop.drop.result, STORE_E_DAMAGED);
	/* Nor has it left a revision that nobody knows of. */
	revision =
		write_one(f, (struct store_op){.key = key_global("z"), .verb = STORE_DELETE}, NULL);
	assert_int_equal(store_watch_open(store_client(f->store, 0), &watch, &key, false, revision),
			 0);
	store_watch_close(&watch);
}

static int asked_too_often(const void *arg)
{
	unsigned *left = *(unsigned *const *)arg;

	return (*left)-- ? 0 : STORE_E_STOPPED;
}

/* Whoever has to stop it, or to put another database in place, does not wait until it ends. */
static void a_verification_can_be_interrupted(void **state)
{
	struct fixture *f = *state;
	const struct hash_seed seed = {1, 2};
	unsigned left = 1, *at = &left;
	struct db_config config = {.sizes = {.write_buffer = 1 << 20}};
	char key[16], path[96];
	uint64_t keys, bytes;
	struct db *db;

	fixture_open(f);
	for (unsigned i = 0; i < 3000; i++) {
		(void)snprintf(key, sizeof(key), "k%04u", i);
		(void)put(f, key, "value");
	}
	fixture_close(f);
	(void)snprintf(path, sizeof(path), "%s/db", f->path);
	config.path = path;
	config.cache = rocksdb_cache_create_lru(1 << 20);
	assert_int_equal(db_open(&config, DB_READ_ONLY, &db, f->text), 0);
	assert_int_equal(verify_database(db, &seed, (struct verify_stop){asked_too_often, &at},
					 &keys, &bytes, f->text),
			 STORE_E_STOPPED);
	assert_true(keys > 0 && keys < 3000);
	left = 1000;
	assert_int_equal(verify_database(db, &seed, (struct verify_stop){asked_too_often, &at},
					 &keys, &bytes, f->text),
			 0);
	assert_int_equal(keys, 3000);
	db_free(db);
	rocksdb_cache_destroy(config.cache);
}

#define OPEN_TEST(name) \
	cmocka_unit_test_setup_teardown(name, fixture_setup_closed, fixture_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		OPEN_TEST(a_missing_directory_is_named),
		OPEN_TEST(a_store_in_use_is_refused_with_who_uses_it),
		OPEN_TEST(a_newer_format_is_refused),
		OPEN_TEST(a_lost_file_is_corruption_not_a_new_store),
		OPEN_TEST(half_a_creation_is_begun_anew),
		OPEN_TEST(a_flipped_byte_anywhere_in_the_log_is_refused),
		OPEN_TEST(a_torn_end_is_what_a_crash_leaves),
		OPEN_TEST(a_restore_that_died_half_way_is_ended),
		OPEN_TEST(a_verification_can_be_interrupted),
		OPEN_TEST(a_damaged_value_is_told_and_the_rest_is_read),
	};

	if (argc > 1)
		return hold(argv[1]);
	return cmocka_run_group_tests_name("store/open", tests, NULL, NULL);
}
