/* SPDX-License-Identifier: MIT */

#include "tests/unit/store/fixture.h"

#include <fcntl.h>

static void backup_path(const struct fixture *f, char *to, size_t size)
{
	(void)snprintf(to, size, "%s/backup", f->path);
}

static void a_backup_made_while_running_is_restored_while_running(void **state)
{
	struct fixture *f = *state;
	struct waited_chore chore = {0};
	struct store_op ttl = op_put("t", "soon");
	char path[80];
	uint64_t before, after;
	struct stat st;

	backup_path(f, path, sizeof(path));
	(void)put(f, "a", "one");
	(void)put(f, "b", "two");
	ttl.ttl_ms = 3600000;
	(void)write_one(f, ttl, NULL);
	ttl.key.space = space_named(STORE_SESSION, "s");
	(void)write_one(f, ttl, NULL);
	assert_int_equal(do_chore(f, &chore, STORE_BACKUP, path), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	(void)put(f, "a", "changed");
	(void)write_one(f, (struct store_op){.key = key_global("b"), .verb = STORE_DELETE}, NULL);
	before = put(f, "c", "three");
	expect_at(f, 1, key_global("a"), "changed");
	assert_int_equal(do_chore(f, &chore, STORE_RESTORE, path), 0);
	expect(f, "a", "one"); /* whatever the caches held */
	expect_at(f, 1, key_global("a"), "one");
	expect(f, "b", "two");
	expect(f, "c", NULL);
	expect(f, "t", "soon");
	expect_at(f, 0, ttl.key, NULL); /* of a session that was */
	after = put(f, "a", "new");
	assert_true(after > before); /* versions do not go back with it */
	expect_sound(f);
	fixture_reopen(f);
	expect(f, "a", "new");
	expect(f, "b", "two");
	assert_true(put(f, "a", "newer") > after);
	/* The backup is as it was: once more. */
	assert_int_equal(do_chore(f, &chore, STORE_RESTORE, path), 0);
	expect(f, "a", "one");
	expect_sound(f);
}

static void a_backup_does_not_overwrite(void **state)
{
	struct fixture *f = *state;
	struct waited_chore chore = {0};

	assert_int_equal(do_chore(f, &chore, STORE_BACKUP, f->path), STORE_E_EXISTS);
	assert_non_null(strstr(chore.chore.text, f->path));
	assert_int_equal(do_chore(f, &chore, STORE_BACKUP, "/nonexistent/backup"), STORE_E_FAILED);
	assert_true(chore.chore.text[0]);
	(void)put(f, "a", "one"); /* and nothing is the worse for it */
}

static void a_damaged_backup_is_refused_and_nothing_changes(void **state)
{
	struct fixture *f = *state;
	struct waited_chore chore = {0};
	char path[80], command[256], key[16];

	backup_path(f, path, sizeof(path));
	for (unsigned i = 0; i < 2000; i++) {
		(void)snprintf(key, sizeof(key), "k%04u", i);
		(void)put(f, key, key);
	}
	fixture_reopen(f); /* makes tables of what was in the log */
	(void)put(f, "in the log", "one");
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(do_chore(f, &chore, STORE_BACKUP, path), 0);
		(void)put(f, "a", "one");
		(void)snprintf(command, sizeof(command),
			       "file=$(ls -S %s/db/*.%s | head -n 1); cp $file $file.copy; "
			       "mv $file.copy $file; "
			       "printf x | dd of=$file bs=1 seek=%u conv=notrunc status=none",
			       path, i ? "log" : "sst", i ? 60 : 5000);
		assert_int_equal(system(command), 0);
		assert_int_equal(do_chore(f, &chore, STORE_RESTORE, path), STORE_E_CORRUPT);
		assert_non_null(strstr(chore.chore.text, path));
		expect(f, "a", "one");
		(void)snprintf(command, sizeof(command), "rm -r %s", path);
		assert_int_equal(system(command), 0);
	}
	assert_int_equal(do_chore(f, &chore, STORE_RESTORE, "/nonexistent"), STORE_E_FAILED);
	expect(f, "a", "one");
	(void)put(f, "a", "two");
	expect_sound(f);
	(void)snprintf(command, sizeof(command), "test ! -e %s/db.restoring", f->path);
	assert_int_equal(system(command), 0);
}

static void a_restore_ends_all_watches(void **state)
{
	struct fixture *f = *state;
	struct waited_chore chore = {0};
	struct store_watch watch = {0};
	struct store_key key = key_global("a");
	struct store_event event;
	uint32_t count;
	uint64_t revision;
	char path[80];

	backup_path(f, path, sizeof(path));
	revision = put(f, "a", "one");
	assert_int_equal(do_chore(f, &chore, STORE_BACKUP, path), 0);
	assert_int_equal(
		store_watch_open(store_client(f->store, 1), &watch, &key, false, STORE_WATCH_NOW),
		0);
	assert_int_equal(do_chore(f, &chore, STORE_RESTORE, path), 0);
	assert_int_equal(store_watch_next(&watch, &event, 1, &count), STORE_E_COMPACTED);
	store_watch_close(&watch);
	assert_int_equal(store_watch_open(store_client(f->store, 1), &watch, &key, false, revision),
			 STORE_E_COMPACTED);
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(a_backup_made_while_running_is_restored_while_running),
		STORE_TEST(a_backup_does_not_overwrite),
		STORE_TEST(a_damaged_backup_is_refused_and_nothing_changes),
		STORE_TEST(a_restore_ends_all_watches),
	};

	return cmocka_run_group_tests_name("store/backup", tests, NULL, NULL);
}
