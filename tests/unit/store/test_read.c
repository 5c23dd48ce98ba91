/* SPDX-License-Identifier: MIT */

#include "tests/unit/store/fixture.h"

static void each_tier_answers_what_the_one_before_cannot(void **state)
{
	struct fixture *f = *state;
	struct store_key key = key_global("a");
	struct store_stats stats;

	(void)put(f, "a", "one");
	expect_at(f, 0, key, "one"); /* written through */
	expect_at(f, 1, key, "one"); /* the other client: from the memtable */
	expect_at(f, 1, key, "one"); /* remembered */
	store_stats(f->store, &stats);
	assert_int_equal(stats.cache_hits, 2);
	assert_int_equal(stats.block_hits, 1);
	assert_int_equal(stats.disk_gets, 0);
	expect_at(f, 0, key_global("b"), NULL); /* that it is absent only the disk knows */
	expect_at(f, 0, key_global("b"), NULL);
	store_stats(f->store, &stats);
	assert_int_equal(stats.disk_gets, 1);
	assert_int_equal(stats.cache_hits, 3);

	fixture_reopen(f);
	expect_at(f, 0, key, "one"); /* nothing of the file is in memory */
	store_stats(f->store, &stats);
	assert_int_equal(stats.disk_gets, 1);
	expect_at(f, 1, key, "one"); /* its block is */
	store_stats(f->store, &stats);
	assert_int_equal(stats.block_hits, 1);
}

static void a_change_makes_what_others_remember_void(void **state)
{
	struct fixture *f = *state;
	struct store_key key = key_global("a");
	struct store_op op;

	expect_at(f, 1, key, NULL);
	(void)put(f, "a", "one");
	expect_at(f, 1, key, "one");
	(void)put(f, "a", "two");
	expect_at(f, 1, key, "two");
	op = (struct store_op){.key = key, .verb = STORE_DELETE};
	(void)write_one(f, op, NULL);
	expect_at(f, 1, key, NULL);
}

static void a_cache_is_bounded_and_still_right(void **state)
{
	struct fixture *f = *state;
	char key[16], text[16];

	fixture_close(f);
	f->config.sizes.client_cache = 4096;
	fixture_open(f);
	for (unsigned i = 0; i < 500; i++) {
		(void)snprintf(key, sizeof(key), "k%u", i);
		(void)snprintf(text, sizeof(text), "v%u", i);
		(void)put(f, key, text);
	}
	for (unsigned i = 0; i < 500; i++) {
		(void)snprintf(key, sizeof(key), "k%u", i);
		(void)snprintf(text, sizeof(text), "v%u", i);
		expect(f, key, text);
	}
}

static void several_keys_are_read_at_once(void **state)
{
	struct fixture *f = *state;
	struct store_key keys[3] = {key_global("a"), key_global("b"), key_global("c")};
	struct waited_get get = {0};

	(void)put(f, "a", "one");
	(void)put(f, "c", "three");
	for (unsigned tier = 0; tier < 2; tier++) {
		assert_int_equal(do_get(f, 1, &get, keys, 3), 0);
		assert_int_equal(get.get.count, 3);
		assert_non_null(get.get.entries[0]);
		assert_null(get.get.entries[1]);
		assert_non_null(get.get.entries[2]);
		store_get_deinit(&get.get);
	}
	keys[1].key_len = 0;
	assert_int_equal(do_get(f, 1, &get, keys, 3), STORE_E_INVALID);
}

static void answers_are_bounded(void **state)
{
	struct fixture *f = *state;
	static char value[100000] = {(char)0xc6, 0, 1, (char)0x86, (char)0x9b};
	struct store_op op = op_put("a", "");
	struct store_key keys[50];
	struct waited_get get = {0};

	op.value = value;
	op.value_len = sizeof(value);
	(void)write_one(f, op, NULL);
	for (unsigned i = 0; i < 50; i++)
		keys[i] = key_global("a");
	assert_int_equal(do_get(f, 0, &get, keys, 50), STORE_E_TOO_BIG);
	store_get_deinit(&get.get);
	assert_int_equal(do_get(f, 0, &get, keys, 40), 0);
	store_get_deinit(&get.get);
}

/* Gets behind a write that is not done hold their keys in memory: large ones in great number must not. */
static void waiting_keys_are_bounded(void **state)
{
	struct fixture *f = *state;
	static char names[60][1000];
	struct store_client *client;
	struct store_key keys[61];
	struct waited_write write = {
		.write = {.done = waited_write_done, .payer = {.owner = FIXTURE_OWNER}}};
	struct store_op op = op_put("a", "one");
	struct waited_get gets[8] = {0};
	struct store_stats stats;
	unsigned accepted = 0;

	fixture_close(f);
	f->config.sizes.read_bytes = 256 << 10;
	fixture_open(f);
	client = store_client(f->store, 0);
	keys[0] = key_global("a");
	for (unsigned i = 0; i < 60; i++) {
		memset(names[i], (int)i + 1, sizeof(names[i]));
		keys[i + 1] = (struct store_key){
			.space = space_global(), .key = names[i], .key_len = sizeof(names[i])};
	}
	assert_int_equal(store_write_submit(client, &write.write, &op, 1), STORE_E_PENDING);
	for (; accepted < 8; accepted++) {
		int r;

		gets[accepted].get.done = waited_get_done;
		r = store_get_submit(client, &gets[accepted].get, keys, 61);
		if (r == STORE_E_BUSY)
			break;
		assert_int_equal(r, STORE_E_PENDING);
	}
	assert_int_equal(accepted, 4);
	fixture_await(f, 0, &write.done);
	for (unsigned i = 0; i < accepted; i++) {
		fixture_await(f, 0, &gets[i].done);
		assert_int_equal(gets[i].get.result, 0);
		assert_non_null(gets[i].get.entries[0]);
		assert_null(gets[i].get.entries[60]);
		store_get_deinit(&gets[i].get);
	}
	store_write_deinit(&write.write);
	store_stats(f->store, &stats);
	assert_int_equal(stats.read_bytes, 0);
}

static void fill(struct fixture *f, const char *prefix, unsigned count)
{
	char key[32];

	for (unsigned i = 0; i < count; i++) {
		(void)snprintf(key, sizeof(key), "%s%03u", prefix, i);
		(void)put(f, key, key);
	}
}

static void a_scan_pages_through_its_prefix(void **state)
{
	struct fixture *f = *state;
	struct waited_scan scan = {.scan = {.prefix = "b", .prefix_len = 1, .limit = 7}};
	unsigned seen = 0, pages = 0;
	uint8_t cursor[64];
	char key[16];

	fill(f, "a", 10);
	fill(f, "b", 25);
	fill(f, "c", 10);
	do {
		assert_int_equal(do_scan(f, 0, &scan, space_global()), 0);
		for (uint32_t i = 0; i < scan.scan.count; i++, seen++) {
			uint32_t len;

			(void)snprintf(key, sizeof(key), "b%03u", seen);
			assert_int_equal(scan.scan.rows[i].key_len, 4);
			assert_memory_equal(scan.scan.rows[i].key, key, 4);
			assert_memory_equal(store_entry_value(scan.scan.rows[i].entry, &len),
					    packed(key), 5);
		}
		if (scan.scan.more) {
			memcpy(cursor, scan.scan.next_cursor, scan.scan.next_cursor_len);
			scan.scan.cursor = cursor;
			scan.scan.cursor_len = scan.scan.next_cursor_len;
		}
		store_scan_deinit(&scan.scan);
		pages++;
	} while (scan.scan.more);
	assert_int_equal(seen, 25);
	assert_int_equal(pages, 4);
}

static void a_listing_has_keys_alone(void **state)
{
	struct fixture *f = *state;
	struct waited_scan scan = {.scan = {.keys_only = true}};

	fill(f, "a", 3);
	assert_int_equal(do_scan(f, 0, &scan, space_global()), 0);
	assert_int_equal(scan.scan.count, 3);
	assert_null(scan.scan.rows[0].entry);
	assert_false(scan.scan.more);
	store_scan_deinit(&scan.scan);
}

static void a_scan_ends_with_its_space(void **state)
{
	struct fixture *f = *state;
	struct waited_scan scan = {0};
	struct store_op op = op_put("zz", "other");
	struct store_space space = space_named(STORE_AGENT, "\xff\xff");

	fill(f, "a", 2);
	op.key.space = space;
	(void)write_one(f, op, NULL);
	op.key.space.owner++;
	(void)write_one(f, op, NULL);
	assert_int_equal(do_scan(f, 0, &scan, space_global()), 0);
	assert_int_equal(scan.scan.count, 2);
	store_scan_deinit(&scan.scan);
	assert_int_equal(do_scan(f, 0, &scan, space), 0);
	assert_int_equal(scan.scan.count, 1);
	store_scan_deinit(&scan.scan);
	/* A prefix of nothing but 0xff has no string above it. */
	scan.scan.prefix = "\xff\xff";
	scan.scan.prefix_len = 2;
	assert_int_equal(do_scan(f, 0, &scan, space), 0);
	assert_int_equal(scan.scan.count, 0);
	store_scan_deinit(&scan.scan);
}

static void a_forged_cursor_leads_nowhere(void **state)
{
	struct fixture *f = *state;
	struct waited_scan scan = {.scan = {.prefix = "b", .prefix_len = 1}};

	fill(f, "a", 2);
	fill(f, "b", 2);
	scan.scan.cursor = "\x01"
			   "a000";
	scan.scan.cursor_len = 5;
	assert_int_equal(do_scan(f, 0, &scan, space_global()), STORE_E_INVALID);
	scan.scan.cursor = "\x02"
			   "b000";
	assert_int_equal(do_scan(f, 0, &scan, space_global()), STORE_E_INVALID);
	scan.scan.cursor_len = 1;
	scan.scan.cursor = "\x01";
	assert_int_equal(do_scan(f, 0, &scan, space_global()), STORE_E_INVALID);
	/* One that fits is one that a page could have given. */
	scan.scan.cursor = "\x01"
			   "b000";
	scan.scan.cursor_len = 5;
	assert_int_equal(do_scan(f, 0, &scan, space_global()), 0);
	assert_int_equal(scan.scan.count, 1);
	assert_memory_equal(scan.scan.rows[0].key, "b001", 4);
	store_scan_deinit(&scan.scan);
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(each_tier_answers_what_the_one_before_cannot),
		STORE_TEST(a_change_makes_what_others_remember_void),
		STORE_TEST(a_cache_is_bounded_and_still_right),
		STORE_TEST(several_keys_are_read_at_once),
		STORE_TEST(answers_are_bounded),
		STORE_TEST(waiting_keys_are_bounded),
		STORE_TEST(a_scan_pages_through_its_prefix),
		STORE_TEST(a_listing_has_keys_alone),
		STORE_TEST(a_scan_ends_with_its_space),
		STORE_TEST(a_forged_cursor_leads_nowhere),
	};

	return cmocka_run_group_tests_name("store/read", tests, NULL, NULL);
}
