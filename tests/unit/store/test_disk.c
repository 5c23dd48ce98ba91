/* SPDX-License-Identifier: MIT */

/* A store whose disk is full, fails, is slow or goes away, and then is well again. */

#include "tests/unit/store/fixture.h"

#include <time.h>

#include "tests/crash/disk.h"

struct place {
	char base[64], data[80], state[80];
	struct disk_state *disk;
	struct fixture *f;
};

static struct place place;

static void set_faults(uint32_t faults)
{
	atomic_store_explicit(&place.disk->faults, faults, memory_order_release);
}

/* A store on the disk that fails: it only knows one directory for its whole life. */
static int setup_closed(void **state)
{
	(void)fixture_setup_closed(state);
	place.f = *state;
	if (!place.disk) {
		(void)snprintf(place.base, sizeof(place.base), "/tmp/clove-disk.XXXXXX");
		assert_non_null(mkdtemp(place.base));
		(void)snprintf(place.data, sizeof(place.data), "%s/data", place.base);
		(void)snprintf(place.state, sizeof(place.state), "%s/state", place.base);
		place.disk = disk_watch(place.state, place.data);
		assert_non_null(place.disk);
	}
	assert_int_equal(mkdir(place.data, 0700), 0);
	place.f->config.path = place.data;
	return 0;
}

static int setup(void **state)
{
	(void)setup_closed(state);
	fixture_open(*state);
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	set_faults(0);
	(void)fixture_teardown(state);
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", place.data);
	assert_int_equal(system(command), 0);
	return 0;
}

static int remove_place(void **state)
{
	char command[128];

	(void)state;
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", place.base);
	return system(command);
}

static int put_durable(struct fixture *f, const char *key, const char *text)
{
	struct waited_write write = {.write = {.durable = true}};
	struct store_op op = op_put(key, text);
	int r = do_write(f, 0, &write, &op, 1);

	if (!r)
		assert_int_equal(write.write.given, STORE_GIVEN_SYNCED);
	store_write_deinit(&write.write);
	return r;
}

static void pause_ms(long ms)
{
	const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	(void)nanosleep(&pause, NULL);
}

/* Until the store takes writes again, which it must find out by itself. */
static void await_writable(struct fixture *f)
{
	struct store_stats stats;

	for (unsigned i = 0; i < FIXTURE_WAIT_MS / 10; i++) {
		if (!put_durable(f, "well", "again")) {
			store_stats(f->store, &stats);
			assert_false(stats.failed);
			return;
		}
		pause_ms(10);
	}
	fail_msg("writes never worked again");
}

static void expect_reads(struct fixture *f)
{
	struct waited_scan scan = {0};

	expect(f, "a", "one");
	expect_at(f, 1, key_global("a"), "one");
	assert_int_equal(do_scan(f, 1, &scan, space_global()), 0);
	assert_true(scan.scan.count >= 1);
	store_scan_deinit(&scan.scan);
}

static void fails_and_recovers(struct fixture *f, uint32_t faults, const char *cause)
{
	char text[STORE_TEXT_MAX];
	struct store_stats stats, after;
	uint64_t before = put(f, "a", "one");

	store_stats(f->store, &stats);
	set_faults(faults);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(put_durable(f, "b", "two"), STORE_E_FAILED);
		expect_reads(f);
	}
	store_cause(f->store, text, sizeof(text));
	if (!strstr(text, cause))
		fail_msg("%s", text);
	store_stats(f->store, &after);
	assert_true(after.failed);
	assert_int_equal(after.failures, stats.failures + 1);
	pause_ms(300); /* it tries, in vain */
	expect_reads(f);

	set_faults(0);
	await_writable(f);
	store_stats(f->store, &after);
	assert_int_equal(after.reopens, stats.reopens + 1);
	assert_true(put(f, "c", "three") > before);
	expect_reads(f);
	expect_sound(f);
	fixture_reopen(f);
	expect_reads(f);
	expect(f, "well", "again");
	expect(f, "c", "three");
	expect_sound(f);
}

static void a_full_disk_refuses_writes_until_there_is_room(void **state)
{
	fails_and_recovers(*state, DISK_FULL, "No space left");
}

static void a_failed_sync_refuses_writes_until_one_works(void **state)
{
	fails_and_recovers(*state, DISK_SYNC_FAILS, "Input/output error");
}

static void a_failed_write_refuses_writes_until_one_works(void **state)
{
	fails_and_recovers(*state, DISK_WRITE_FAILS, "Input/output error");
}

static void a_directory_taken_away_is_noticed_and_found_again(void **state)
{
	struct fixture *f = *state;
	char db[96], away[96], text[STORE_TEXT_MAX];
	int r = 0;

	(void)snprintf(db, sizeof(db), "%s/db", place.data);
	(void)snprintf(away, sizeof(away), "%s/away", place.data);
	(void)put(f, "a", "one");
	assert_int_equal(rename(db, away), 0);
	for (unsigned i = 0; !r && i < FIXTURE_WAIT_MS / 10; i++, pause_ms(10))
		(void)write_one(f, op_put("b", "two"), &r);
	assert_int_equal(r, STORE_E_FAILED);
	store_cause(f->store, text, sizeof(text));
	assert_non_null(strstr(text, db));
	expect_reads(f);
	assert_int_equal(rename(away, db), 0);
	await_writable(f);
	expect_reads(f);
	expect_sound(f);
}

static void a_failure_ends_all_watches(void **state)
{
	struct fixture *f = *state;
	struct store_key key = key_global("a");
	struct store_watch watch = {0};
	struct store_event event;
	uint32_t count;

	(void)put(f, "a", "one");
	assert_int_equal(
		store_watch_open(store_client(f->store, 1), &watch, &key, false, STORE_WATCH_NOW),
		0);
	set_faults(DISK_SYNC_FAILS);
	assert_int_equal(put_durable(f, "a", "two"), STORE_E_FAILED);
	set_faults(0);
	await_writable(f);
	/* Nobody knew whether it was there; it may be. */
	assert_int_equal(store_watch_next(&watch, &event, 1, &count), STORE_E_COMPACTED);
	store_watch_close(&watch);
}

static void a_store_on_a_full_disk_is_not_opened_and_says_why(void **state)
{
	struct fixture *f = *state;

	set_faults(DISK_FULL);
	assert_int_equal(fixture_try_open(f), STORE_E_FAILED);
	if (!strstr(f->text, "No space left") || !strstr(f->text, place.data))
		fail_msg("%s", f->text);
	set_faults(0);
	fixture_open(f);
	(void)put(f, "a", "one");
	fixture_close(f);

	set_faults(DISK_FULL);
	assert_int_equal(fixture_try_open(f), STORE_E_FAILED);
	if (!strstr(f->text, "No space left") || !strstr(f->text, place.data))
		fail_msg("%s", f->text);
	set_faults(0);
	fixture_open(f);
	expect_reads(f);
	expect_sound(f);
}

static void a_store_that_failed_can_be_closed(void **state)
{
	struct fixture *f = *state;

	(void)put(f, "a", "one");
	set_faults(DISK_FULL);
	assert_int_equal(put_durable(f, "b", "two"), STORE_E_FAILED);
	fixture_close(f);
	set_faults(0);
	fixture_open(f);
	expect_reads(f);
	expect_sound(f);
}

static void a_backup_that_finds_no_room_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	struct waited_chore chore = {0};
	struct stat st;
	char path[96];

	(void)snprintf(path, sizeof(path), "%s/backup", place.data);
	(void)put(f, "a", "one");
	set_faults(DISK_FULL);
	assert_int_equal(do_chore(f, &chore, STORE_BACKUP, path), STORE_E_FAILED);
	if (!strstr(chore.chore.text, "No space left"))
		fail_msg("%s", chore.chore.text);
	assert_int_equal(stat(path, &st), -1);
	set_faults(0);
	await_writable(f);
	assert_int_equal(do_chore(f, &chore, STORE_BACKUP, path), 0);
	(void)put(f, "a", "two");

	set_faults(DISK_FULL);
	assert_int_equal(do_chore(f, &chore, STORE_RESTORE, path), STORE_E_FAILED);
	set_faults(0);
	expect(f, "a", "two");
	await_writable(f);
	assert_int_equal(do_chore(f, &chore, STORE_RESTORE, path), 0);
	expect_reads(f);
	expect_sound(f);
}

/* Of a log that failed nobody knows what is in it. */
static void a_store_that_failed_is_not_backed_up(void **state)
{
	struct fixture *f = *state;
	struct waited_chore chore = {0};
	char path[96];

	(void)snprintf(path, sizeof(path), "%s/backup", place.data);
	(void)put(f, "a", "one");
	for (uint32_t fault = DISK_FULL; fault <= DISK_WRITE_FAILS; fault *= 2) {
		set_faults(fault);
		assert_int_equal(put_durable(f, "b", "two"), STORE_E_FAILED);
		set_faults(0);
		assert_int_equal(do_chore(f, &chore, STORE_BACKUP, path), STORE_E_FAILED);
		assert_true(chore.chore.text[0]);
		await_writable(f);
	}
	assert_int_equal(do_chore(f, &chore, STORE_BACKUP, path), 0);
}

/* Memtables that cannot be written out: busy, not stuck, and nothing is lost. */
static void a_disk_that_does_not_keep_up_makes_busy(void **state)
{
	struct fixture *f = *state;
	struct store_stats stats;
	char value[4100] = {(char)0xda, 0x10, 0x00}, key[16];
	unsigned count = 0;
	int r = 0;

	f->config.sizes.write_buffer = 128 << 10;
	fixture_open(f);
	(void)put(f, "a", "one");
	set_faults(DISK_HOLD_TABLES);
	while (!r) {
		struct store_op op = {.value = value, .value_len = 4099};

		assert_true(count < 1000);
		(void)snprintf(key, sizeof(key), "k%03u", count);
		op.key = key_global(key);
		(void)write_one(f, op, &r);
		count += r == 0;
	}
	assert_int_equal(r, STORE_E_BUSY);
	store_stats(f->store, &stats);
	assert_true(stats.stalls > 0);
	assert_false(stats.failed);
	expect_reads(f);
	expect_at(f, 1, key_global("well"), NULL);
	(void)write_one(f, op_put("well", "again"), &r);
	assert_int_equal(r, STORE_E_BUSY);
	expect_at(f, 1, key_global("well"), NULL); /* and client 1 remembers that */
	set_faults(0);
	for (unsigned i = 0; r && i < FIXTURE_WAIT_MS / 10; i++, pause_ms(10)) {
		(void)write_one(f, op_put("well", "again"), &r);
		assert_true(!r || r == STORE_E_BUSY);
	}
	assert_int_equal(r, 0);
	expect_at(f, 1, key_global("well"), "again");
	fixture_reopen(f);
	for (unsigned i = 0; i < count; i++) {
		struct waited_get get = {0};
		struct store_key one;

		(void)snprintf(key, sizeof(key), "k%03u", i);
		one = key_global(key);
		assert_int_equal(do_get(f, 0, &get, &one, 1), 0);
		assert_non_null(get.get.entries[0]);
		store_get_deinit(&get.get);
	}
	expect_sound(f);
}

/* The log works, so writes do, until memtables cannot be written out: that is a failure and not busy for ever. */
static void tables_that_cannot_be_written_are_a_failure(void **state)
{
	struct fixture *f = *state;
	char value[4100] = {(char)0xda, 0x10, 0x00};
	struct store_op op = {.value = value, .value_len = 4099};
	int r = 0;

	f->config.sizes.write_buffer = 128 << 10;
	fixture_open(f);
	(void)put(f, "a", "one");
	op.key = key_global("large");
	set_faults(DISK_TABLES_FAIL);
	for (unsigned i = 0; i < FIXTURE_WAIT_MS / 10 && r != STORE_E_FAILED; i++) {
		(void)write_one(f, op, &r);
		if (r)
			pause_ms(10);
	}
	assert_int_equal(r, STORE_E_FAILED);
	expect_reads(f);
	set_faults(0);
	await_writable(f);
	expect_reads(f);
	expect_sound(f);
}

#define DISK_TEST(name)   cmocka_unit_test_setup_teardown(name, setup, teardown)
#define CLOSED_TEST(name) cmocka_unit_test_setup_teardown(name, setup_closed, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		DISK_TEST(a_full_disk_refuses_writes_until_there_is_room),
		DISK_TEST(a_failed_sync_refuses_writes_until_one_works),
		DISK_TEST(a_failed_write_refuses_writes_until_one_works),
		DISK_TEST(a_directory_taken_away_is_noticed_and_found_again),
		DISK_TEST(a_failure_ends_all_watches),
		CLOSED_TEST(a_store_on_a_full_disk_is_not_opened_and_says_why),
		DISK_TEST(a_store_that_failed_can_be_closed),
		DISK_TEST(a_backup_that_finds_no_room_leaves_nothing),
		DISK_TEST(a_store_that_failed_is_not_backed_up),
		CLOSED_TEST(tables_that_cannot_be_written_are_a_failure),
		CLOSED_TEST(a_disk_that_does_not_keep_up_makes_busy),
	};

	return cmocka_run_group_tests_name("store/disk", tests, NULL, remove_place);
}
