/* SPDX-License-Identifier: MIT */

#include "tests/unit/store/fixture.h"

struct watcher {
	struct store_watch watch;
	bool ready;
};

static void on_ready(struct store_watch *watch)
{
	container_of(watch, struct watcher, watch)->ready = true;
}

static int watcher_open(struct fixture *f, struct watcher *watcher, const char *key, bool prefix,
			uint64_t after)
{
	struct store_key place = key_global(key);

	*watcher = (struct watcher){.watch = {.ready = on_ready}};
	return store_watch_open(store_client(f->store, 1), &watcher->watch, &place, prefix, after);
}

/* The next event, waiting for it. */
static struct store_event next(struct fixture *f, struct watcher *watcher)
{
	struct store_event event;
	uint32_t count;

	for (;;) {
		assert_int_equal(store_watch_next(&watcher->watch, &event, 1, &count), 0);
		if (count)
			return event;
		watcher->ready = false;
		fixture_await(f, 1, &watcher->ready);
	}
}

static void expect_event(struct fixture *f, struct watcher *watcher, const char *key,
			 enum store_change change, uint64_t revision, const char *text)
{
	struct store_event event = next(f, watcher);
	uint32_t len;

	assert_int_equal(event.key_len, strlen(key));
	assert_memory_equal(event.key, key, event.key_len);
	assert_int_equal(event.change, change);
	if (revision)
		assert_int_equal(event.revision, revision);
	if (text)
		assert_memory_equal(store_entry_value(event.entry, &len), packed(text),
				    strlen(text) + 1);
	else
		assert_null(event.entry);
	store_event_deinit(&event);
}

static void expect_nothing(struct fixture *f, struct watcher *watcher)
{
	struct store_event event;
	uint32_t count;

	(void)store_client_reap(store_client(f->store, 1), 64);
	assert_int_equal(store_watch_next(&watcher->watch, &event, 1, &count), 0);
	assert_int_equal(count, 0);
}

static uint64_t delete_key(struct fixture *f, const char *key)
{
	return write_one(f, (struct store_op){.key = key_global(key), .verb = STORE_DELETE}, NULL);
}

static void a_key_is_watched_and_no_other(void **state)
{
	struct fixture *f = *state;
	struct watcher watcher;
	uint64_t revision;

	assert_int_equal(watcher_open(f, &watcher, "a", false, STORE_WATCH_NOW), 0);
	(void)put(f, "aa", "other");
	expect_nothing(f, &watcher);
	revision = put(f, "a", "one");
	expect_event(f, &watcher, "a", STORE_CHANGED, revision, "one");
	revision = delete_key(f, "a");
	expect_event(f, &watcher, "a", STORE_DELETED, revision, NULL);
	(void)delete_key(f, "a");
	expect_nothing(f, &watcher);
	store_watch_close(&watcher.watch);
}

static void a_prefix_tells_of_all_its_keys_in_order(void **state)
{
	struct fixture *f = *state;
	struct watcher watcher;
	struct store_op op = op_put("b1", "other space");

	assert_int_equal(watcher_open(f, &watcher, "b", true, STORE_WATCH_NOW), 0);
	(void)put(f, "b1", "one");
	(void)put(f, "a", "not this");
	(void)put(f, "b2", "two");
	op.key.space = space_named(STORE_AGENT, "x");
	(void)write_one(f, op, NULL);
	(void)put(f, "b1", "three");
	expect_event(f, &watcher, "b1", STORE_CHANGED, 0, "one");
	expect_event(f, &watcher, "b2", STORE_CHANGED, 0, "two");
	expect_event(f, &watcher, "b1", STORE_CHANGED, 0, "three");
	expect_nothing(f, &watcher);
	store_watch_close(&watcher.watch);
}

static void an_expiry_is_told(void **state)
{
	struct fixture *f = *state;
	struct watcher watcher;
	struct store_op op = op_put("a", "one");

	assert_int_equal(watcher_open(f, &watcher, "", true, STORE_WATCH_NOW), 0);
	op.ttl_ms = 10;
	(void)write_one(f, op, NULL);
	expect_event(f, &watcher, "a", STORE_CHANGED, 0, "one");
	expect_event(f, &watcher, "a", STORE_EXPIRED, 0, NULL);
	store_watch_close(&watcher.watch);
}

static void nothing_is_missed_between_a_read_and_its_watch(void **state)
{
	struct fixture *f = *state;
	struct store_key key = key_global("a");
	struct waited_get get = {0};
	struct watcher watcher;
	uint64_t revision;

	(void)put(f, "a", "one");
	assert_int_equal(do_get(f, 1, &get, &key, 1), 0);
	revision = get.get.revision;
	store_get_deinit(&get.get);
	(void)put(f, "a", "two");
	(void)put(f, "b", "other");
	(void)put(f, "a", "three");
	assert_int_equal(watcher_open(f, &watcher, "a", false, revision), 0);
	expect_event(f, &watcher, "a", STORE_CHANGED, 0, "two");
	expect_event(f, &watcher, "a", STORE_CHANGED, 0, "three");
	expect_nothing(f, &watcher);
	store_watch_close(&watcher.watch);
	/* And from an event's own revision on. */
	assert_int_equal(watcher_open(f, &watcher, "a", false, revision + 1), 0);
	expect_event(f, &watcher, "a", STORE_CHANGED, 0, "three");
	store_watch_close(&watcher.watch);
}

/* 0 is before everything, not "from now on". */
static void from_revision_0_everything_is_told_while_it_is_known(void **state)
{
	struct fixture *f = *state;
	struct watcher watcher;
	unsigned i;

	assert_int_equal(watcher_open(f, &watcher, "", true, 0), 0);
	expect_nothing(f, &watcher);
	store_watch_close(&watcher.watch);
	(void)put(f, "a", "one");
	(void)put(f, "b", "other");
	(void)put(f, "a", "two");
	assert_int_equal(watcher_open(f, &watcher, "a", false, 0), 0);
	expect_event(f, &watcher, "a", STORE_CHANGED, 0, "one");
	expect_event(f, &watcher, "a", STORE_CHANGED, 0, "two");
	expect_nothing(f, &watcher);
	store_watch_close(&watcher.watch);

	fixture_close(f); /* what was there before a start is not known */
	fixture_open(f);
	assert_int_equal(watcher_open(f, &watcher, "a", false, 0), STORE_E_COMPACTED);

	fixture_close(f);
	f->config.ephemeral = true;
	f->config.sizes.history_events = 64;
	fixture_open(f);
	for (i = 0; i < 64; i++)
		(void)put(f, "a", "one");
	assert_int_equal(watcher_open(f, &watcher, "a", false, 0), 0);
	store_watch_close(&watcher.watch);
	(void)put(f, "b", "other");
	assert_int_equal(watcher_open(f, &watcher, "a", false, 0), STORE_E_COMPACTED);
}

static void what_is_no_longer_known_is_compacted(void **state)
{
	struct fixture *f = *state;
	struct watcher watcher;
	uint64_t old = put(f, "a", "one");
	char text[16];

	fixture_close(f);
	f->config.sizes.history_events = 64;
	fixture_open(f);
	/* From before the start. */
	assert_int_equal(watcher_open(f, &watcher, "a", false, old), STORE_E_COMPACTED);
	old = put(f, "a", "two");
	/* From a future that a restored backup has undone. */
	assert_int_equal(watcher_open(f, &watcher, "a", false, old + 1), STORE_E_COMPACTED);
	for (unsigned i = 0; i < 65; i++) {
		(void)snprintf(text, sizeof(text), "%u", i);
		(void)put(f, "b", text);
	}
	assert_int_equal(watcher_open(f, &watcher, "a", false, old - 1), STORE_E_COMPACTED);
}

static void a_slow_watch_is_told_and_a_quiet_one_does_not_fall_behind(void **state)
{
	struct fixture *f = *state;
	struct watcher slow, quiet;
	struct store_event event;
	struct store_stats stats;
	uint32_t count;

	fixture_close(f);
	f->config.sizes.history_events = 64;
	fixture_open(f);
	assert_int_equal(watcher_open(f, &slow, "a", false, STORE_WATCH_NOW), 0);
	assert_int_equal(watcher_open(f, &quiet, "quiet", false, STORE_WATCH_NOW), 0);
	for (unsigned i = 0; i < 200; i++)
		(void)put(f, "a", "one");
	store_stats(f->store, &stats);
	assert_int_equal(stats.history_events, 64);
	assert_int_equal(stats.watches, 2);
	assert_int_equal(store_watch_next(&slow.watch, &event, 1, &count), STORE_E_COMPACTED);
	assert_int_equal(store_watch_next(&slow.watch, &event, 1, &count), STORE_E_COMPACTED);
	(void)put(f, "quiet", "one");
	expect_event(f, &quiet, "quiet", STORE_CHANGED, 0, "one");
	store_watch_close(&slow.watch);
	store_watch_close(&quiet.watch);
}

static void history_is_bounded_in_bytes(void **state)
{
	struct fixture *f = *state;
	static char value[50000] = {(char)0xc5, (char)0xc3, (char)0x4d};
	struct store_op op = op_put("a", "");
	struct store_stats stats;

	fixture_close(f);
	f->config.sizes.history_bytes = 200000;
	fixture_open(f);
	op.value = value;
	op.value_len = sizeof(value);
	for (unsigned i = 0; i < 20; i++)
		(void)write_one(f, op, NULL);
	store_stats(f->store, &stats);
	assert_true(stats.history_bytes <= 200000);
	assert_int_equal(stats.history_events, 3);
}

static void watches_are_bounded(void **state)
{
	struct fixture *f = *state;
	struct watcher watchers[3];

	fixture_close(f);
	f->config.sizes.watches_max = 2;
	fixture_open(f);
	assert_int_equal(watcher_open(f, &watchers[0], "a", false, STORE_WATCH_NOW), 0);
	assert_int_equal(watcher_open(f, &watchers[1], "a", true, STORE_WATCH_NOW), 0);
	assert_int_equal(watcher_open(f, &watchers[2], "a", false, STORE_WATCH_NOW), STORE_E_BUSY);
	store_watch_close(&watchers[0].watch);
	assert_int_equal(watcher_open(f, &watchers[2], "a", false, STORE_WATCH_NOW), 0);
	store_watch_close(&watchers[1].watch);
	store_watch_close(&watchers[2].watch);
	assert_int_equal(watcher_open(f, &watchers[0], "", false, STORE_WATCH_NOW),
			 STORE_E_INVALID);
}

static void a_refused_write_is_no_event(void **state)
{
	struct fixture *f = *state;
	struct watcher watcher;
	struct store_op op = op_put("a", "two");
	int r;

	(void)put(f, "a", "one");
	assert_int_equal(watcher_open(f, &watcher, "a", false, STORE_WATCH_NOW), 0);
	op.when = STORE_IF_VERSION;
	op.version = 1;
	(void)write_one(f, op, &r);
	assert_int_equal(r, STORE_E_CONFLICT);
	expect_nothing(f, &watcher);
	store_watch_close(&watcher.watch);
}

/* However much lies between, none of its steps is long: the writer needs the same mutex. */
static void a_watch_from_long_ago_looks_at_some_changes_at_a_time(void **state)
{
	enum { BETWEEN = 4000 };
	struct fixture *f = *state;
	struct watcher watcher;
	struct store_event event;
	uint32_t count, steps = 0;
	uint64_t revision, last;

	revision = put(f, "a", "one");
	for (unsigned i = 0; i < BETWEEN; i++)
		(void)put(f, "b", "other");
	last = put(f, "a", "two");
	assert_int_equal(watcher_open(f, &watcher, "a", false, revision), 0);
	assert_int_equal(watcher.watch.position, 1);
	for (;;) {
		uint64_t position = watcher.watch.position;

		assert_int_equal(store_watch_next(&watcher.watch, &event, 1, &count), 0);
		assert_true(watcher.watch.position - position <= 512);
		if (count)
			break;
		steps++;
		watcher.ready = false;
		fixture_await(f, 1, &watcher.ready);
	}
	assert_true(steps >= BETWEEN / 512);
	assert_int_equal(event.revision, last);
	store_event_deinit(&event);
	expect_nothing(f, &watcher);
	store_watch_close(&watcher.watch);
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(a_key_is_watched_and_no_other),
		STORE_TEST(a_prefix_tells_of_all_its_keys_in_order),
		STORE_TEST(an_expiry_is_told),
		STORE_TEST(nothing_is_missed_between_a_read_and_its_watch),
		STORE_TEST(from_revision_0_everything_is_told_while_it_is_known),
		STORE_TEST(what_is_no_longer_known_is_compacted),
		STORE_TEST(a_slow_watch_is_told_and_a_quiet_one_does_not_fall_behind),
		STORE_TEST(history_is_bounded_in_bytes),
		STORE_TEST(watches_are_bounded),
		STORE_TEST(a_refused_write_is_no_event),
		STORE_TEST(a_watch_from_long_ago_looks_at_some_changes_at_a_time),
	};

	return cmocka_run_group_tests_name("store/watch", tests, NULL, NULL);
}
