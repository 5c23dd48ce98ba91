/* SPDX-License-Identifier: MIT */

/* How values end, and who pays for them meanwhile. */

#include "tests/unit/store/fixture.h"

#include <time.h>

static struct store_op op_ttl(struct store_op op, int64_t ttl_ms)
{
	op.ttl_ms = ttl_ms;
	return op;
}

static void pause_ms(long ms)
{
	const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	assert_int_equal(nanosleep(&pause, NULL), 0);
}

/* Until the sweeper has taken @count entries away. */
static void await_expired(struct fixture *f, uint64_t count)
{
	struct store_stats stats;

	for (unsigned i = 0; i < FIXTURE_WAIT_MS / 10; i++) {
		store_stats(f->store, &stats);
		if (stats.expired >= count)
			return;
		pause_ms(10);
	}
	fail_msg("nothing expired");
}

static void an_expired_value_is_absent_to_everybody(void **state)
{
	struct fixture *f = *state;
	struct store_key key = key_global("a");
	struct waited_scan scan = {0};

	(void)write_one(f, op_ttl(op_put("a", "one"), 30), NULL);
	expect_at(f, 0, key, "one");
	expect_at(f, 1, key, "one");
	pause_ms(31);
	expect_at(f, 0, key, NULL); /* from the cache, in which it still is */
	expect_at(f, 1, key, NULL);
	assert_int_equal(do_scan(f, 0, &scan, space_global()), 0);
	assert_int_equal(scan.scan.count, 0);
	store_scan_deinit(&scan.scan);
	(void)write_one(
		f,
		(struct store_op){
			.key = key, .verb = STORE_INCREMENT, .value = "\x05", .value_len = 1},
		NULL);
	await_expired(f, 0);
	expect_sound(f);
}

static void what_expired_is_given_back(void **state)
{
	struct fixture *f = *state;
	char key[16];

	for (unsigned i = 0; i < 600; i++) {
		(void)snprintf(key, sizeof(key), "k%03u", i);
		(void)write_one(f, op_ttl(op_put(key, "one"), 1), NULL);
	}
	await_expired(f, 600);
	expect_usage(f, "", 0, 0);
	expect_sound(f);
}

static void what_expired_while_nobody_ran_is_given_back(void **state)
{
	struct fixture *f = *state;

	(void)write_one(f, op_ttl(op_put("a", "one"), 10), NULL);
	fixture_close(f);
	pause_ms(11);
	fixture_open(f);
	expect(f, "a", NULL);
	await_expired(f, 1);
	expect_usage(f, "", 0, 0);
}

static void a_new_value_forgets_the_old_expiry(void **state)
{
	struct fixture *f = *state;
	struct store_op add = {
		.key = key_global("n"), .verb = STORE_INCREMENT, .value = "\x01", .value_len = 1};
	struct waited_get get = {0};
	int64_t expiry_ms;

	(void)write_one(f, op_ttl(op_put("a", "one"), 20), NULL);
	(void)put(f, "a", "two");
	(void)write_one(f, op_ttl(add, 60000), NULL);
	assert_int_equal(do_get(f, 0, &get, &add.key, 1), 0);
	expiry_ms = store_entry_expiry_ms(get.get.entries[0]);
	store_get_deinit(&get.get);
	(void)write_one(f, add, NULL); /* but counting goes on as before */
	assert_int_equal(do_get(f, 0, &get, &add.key, 1), 0);
	assert_int_equal(store_entry_expiry_ms(get.get.entries[0]), expiry_ms);
	store_get_deinit(&get.get);
	pause_ms(200);
	expect(f, "a", "two");
	expect_sound(f);
}

static void conditions_take_the_expired_for_absent(void **state)
{
	struct fixture *f = *state;
	struct store_op op = op_put("a", "two");

	(void)write_one(f, op_ttl(op_put("a", "one"), 5), NULL);
	pause_ms(6);
	op.when = STORE_IF_VERSION;
	op.version = 0;
	(void)write_one(f, op, NULL);
	expect(f, "a", "two");
	expect_sound(f);
}

static struct store_op op_session(const char *session, const char *key, const char *text)
{
	struct store_op op = op_put(key, text);

	op.key.space = space_named(STORE_SESSION, session);
	return op;
}

static void a_session_ends_with_its_drop(void **state)
{
	struct fixture *f = *state;
	char key[16];

	for (unsigned i = 0; i < 700; i++) {
		(void)snprintf(key, sizeof(key), "k%03u", i);
		(void)write_one(f, op_session("s1", key, "one"), NULL);
	}
	(void)write_one(f, op_session("s2", "k", "two"), NULL);
	(void)put(f, "a", "kept");
	assert_int_equal(do_drop(f, space_named(STORE_SESSION, "s1")), 700);
	expect_at(f, 0, op_session("s1", "k000", "").key, NULL);
	expect_at(f, 0, op_session("s1", "k699", "").key, NULL);
	expect_at(f, 0, op_session("s2", "k", "").key, "two");
	expect(f, "a", "kept");
	expect_usage(f, "", 2, 2 * STORE_ENTRY_COST + 2 + 4 + 5);
	expect_sound(f);
}

static void sessions_end_with_the_kernel(void **state)
{
	struct fixture *f = *state;

	(void)write_one(f, op_ttl(op_session("s1", "k", "one"), 50000), NULL);
	(void)put(f, "a", "kept");
	fixture_reopen(f);
	expect_at(f, 0, op_session("s1", "k", "").key, NULL);
	expect(f, "a", "kept");
	expect_usage(f, "", 1, STORE_ENTRY_COST + 1 + 5);
	expect_sound(f);
}

static int write_as(struct fixture *f, const char *account, struct store_limits owner,
		    struct store_limits own, struct store_op op, struct waited_write *write)
{
	int r;

	write->write.payer = (struct store_payer){
		.account = account,
		.account_len = (uint32_t)strlen(account),
		.owner_limits = owner,
		.account_limits = own,
	};
	r = do_write(f, 0, write, &op, 1);
	store_write_deinit(&write->write);
	return r;
}

static void a_quota_refuses_what_exceeds_it_and_says_which(void **state)
{
	struct fixture *f = *state;
	const struct store_limits none = {0}, two_keys = {.keys = 2},
				  bytes = {.bytes = 3 * STORE_ENTRY_COST};
	struct waited_write write = {0};

	assert_int_equal(write_as(f, "x", none, two_keys, op_put("a", "1"), &write), 0);
	assert_int_equal(write_as(f, "x", none, two_keys, op_put("b", "1"), &write), 0);
	assert_int_equal(write_as(f, "x", none, two_keys, op_put("c", "1"), &write), STORE_E_QUOTA);
	assert_int_equal(write.write.quota, STORE_QUOTA_ACCOUNT_KEYS);
	assert_int_equal(write.write.quota_used, 3);
	assert_int_equal(write.write.quota_limit, 2);
	expect(f, "c", NULL);
	assert_int_equal(write_as(f, "x", none, two_keys, op_put("b", "22"), &write), 0);
	/* Another account is not concerned, but its owner is. */
	assert_int_equal(write_as(f, "y", two_keys, two_keys, op_put("c", "1"), &write),
			 STORE_E_QUOTA);
	assert_int_equal(write.write.quota, STORE_QUOTA_OWNER_KEYS);
	assert_int_equal(write_as(f, "y", none, two_keys, op_put("c", "1"), &write), 0);
	assert_int_equal(write_as(f, "z", none, bytes, op_put("d", "1"), &write), 0);
	assert_int_equal(write_as(f, "z", none, bytes, op_put("e", "1"), &write), 0);
	assert_int_equal(write_as(f, "z", none, bytes, op_put("f", "1"), &write), STORE_E_QUOTA);
	assert_int_equal(write.write.quota, STORE_QUOTA_ACCOUNT_BYTES);
	assert_int_equal(write_as(f, "z", bytes, none, op_put("f", "1"), &write), STORE_E_QUOTA);
	assert_int_equal(write.write.quota, STORE_QUOTA_OWNER_BYTES);
	expect_sound(f);
}

static void whoever_is_over_the_quota_may_still_shrink(void **state)
{
	struct fixture *f = *state;
	const struct store_limits none = {0}, small = {.keys = 1, .bytes = 10};
	struct waited_write write = {0};

	assert_int_equal(write_as(f, "x", none, none, op_put("a", "long long"), &write), 0);
	assert_int_equal(write_as(f, "x", none, none, op_put("b", "long"), &write), 0);
	assert_int_equal(write_as(f, "x", none, small, op_put("a", "short"), &write), 0);
	assert_int_equal(write_as(f, "x", none, small,
				  (struct store_op){.key = key_global("b"), .verb = STORE_DELETE},
				  &write),
			 0);
	expect_usage(f, "x", 1, STORE_ENTRY_COST + 1 + 6);
}

static void who_writes_last_pays(void **state)
{
	struct fixture *f = *state;
	const struct store_limits none = {0};
	struct waited_write write = {0};

	assert_int_equal(write_as(f, "x", none, none, op_put("a", "1"), &write), 0);
	expect_usage(f, "x", 1, STORE_ENTRY_COST + 1 + 2);
	assert_int_equal(write_as(f, "y", none, none, op_put("a", "22"), &write), 0);
	expect_usage(f, "x", 0, 0);
	expect_usage(f, "y", 1, STORE_ENTRY_COST + 1 + 3);
	expect_usage(f, "", 1, STORE_ENTRY_COST + 1 + 3);
	fixture_reopen(f);
	expect_usage(f, "y", 1, STORE_ENTRY_COST + 1 + 3);
	expect_sound(f);
}

static void a_refused_transaction_costs_nothing(void **state)
{
	struct fixture *f = *state;
	struct waited_write write = {0};
	struct store_op ops[3] = {op_put("a", "1"), op_put("b", "1"), op_put("c", "1")};

	write.write.payer = (struct store_payer){.owner_limits = {.keys = 2}};
	assert_int_equal(do_write(f, 0, &write, ops, 3), STORE_E_QUOTA);
	store_write_deinit(&write.write);
	expect_usage(f, "", 0, 0);
	assert_int_equal(do_write(f, 0, &write, ops, 2), 0);
	store_write_deinit(&write.write);
	expect_usage(f, "", 2, 2 * (STORE_ENTRY_COST + 1 + 2));
	expect_sound(f);
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(an_expired_value_is_absent_to_everybody),
		STORE_TEST(what_expired_is_given_back),
		STORE_TEST(what_expired_while_nobody_ran_is_given_back),
		STORE_TEST(a_new_value_forgets_the_old_expiry),
		STORE_TEST(conditions_take_the_expired_for_absent),
		STORE_TEST(a_session_ends_with_its_drop),
		STORE_TEST(sessions_end_with_the_kernel),
		STORE_TEST(a_quota_refuses_what_exceeds_it_and_says_which),
		STORE_TEST(whoever_is_over_the_quota_may_still_shrink),
		STORE_TEST(who_writes_last_pays),
		STORE_TEST(a_refused_transaction_costs_nothing),
	};

	return cmocka_run_group_tests_name("store/life", tests, NULL, NULL);
}
