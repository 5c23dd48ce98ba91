/* SPDX-License-Identifier: MIT */

#include "tests/unit/store/fixture.h"

static struct store_op op_if(struct store_op op, enum store_when when, uint64_t version)
{
	op.when = when;
	op.version = version;
	return op;
}

static struct store_op op_of(enum store_verb verb, const char *key, const char *value, uint32_t len)
{
	return (struct store_op){
		.key = key_global(key), .verb = verb, .value = value, .value_len = len};
}

static void what_is_put_is_there_with_its_version(void **state)
{
	struct fixture *f = *state;
	uint64_t first = put(f, "a", "one"), second = put(f, "b", "two");

	assert_true(second > first);
	assert_int_equal(expect(f, "a", "one"), first);
	assert_int_equal(expect(f, "b", "two"), second);
	expect(f, "c", NULL);
	(void)write_one(f, op_of(STORE_DELETE, "a", NULL, 0), NULL);
	expect(f, "a", NULL);
	fixture_reopen(f);
	expect(f, "a", NULL);
	assert_int_equal(expect(f, "b", "two"), second);
	expect_sound(f);
}

static void versions_go_on_after_a_restart(void **state)
{
	struct fixture *f = *state;
	uint64_t before = put(f, "a", "one");

	fixture_reopen(f);
	assert_true(put(f, "a", "two") > before);
}

static void compare_and_set_takes_exactly_the_version(void **state)
{
	struct fixture *f = *state;
	struct waited_write write = {0};
	uint64_t version = put(f, "a", "one");
	struct store_op stale = op_if(op_put("a", "bad"), STORE_IF_VERSION, version - 1);
	struct store_op fresh = op_if(op_put("a", "two"), STORE_IF_VERSION, version);

	assert_int_equal(do_write(f, 0, &write, &stale, 1), STORE_E_CONFLICT);
	assert_int_equal(write.write.version, version);
	assert_int_equal(write.write.failed_op, 0);
	store_write_deinit(&write.write);
	expect(f, "a", "one");
	(void)write_one(f, fresh, NULL);
	expect(f, "a", "two");
}

static void version_zero_creates_only(void **state)
{
	struct fixture *f = *state;
	int r;

	(void)write_one(f, op_if(op_put("a", "one"), STORE_IF_VERSION, 0), NULL);
	(void)write_one(f, op_if(op_put("a", "two"), STORE_IF_VERSION, 0), &r);
	assert_int_equal(r, STORE_E_CONFLICT);
	expect(f, "a", "one");
	(void)write_one(f, op_if(op_put("missing", "two"), STORE_IF_VERSION, 7), &r);
	assert_int_equal(r, STORE_E_CONFLICT);
	(void)write_one(f, op_if(op_put("missing", "two"), STORE_IF_EXISTS, 0), &r);
	assert_int_equal(r, STORE_E_CONFLICT);
	expect(f, "missing", NULL);
}

/* Reads the number that an increment left. */
static int64_t increment(struct fixture *f, const char *key, const char *by, uint32_t len)
{
	struct waited_write write = {0};
	struct store_op op = op_of(STORE_INCREMENT, key, by, len);
	const uint8_t *bytes;
	uint32_t value_len;
	int64_t value;

	assert_int_equal(do_write(f, 0, &write, &op, 1), 0);
	bytes = store_entry_value(store_write_entry(&write.write, 0), &value_len);
	value = value_len == 1 ? (int8_t)bytes[0] : value_len == 2 ? bytes[1] : -1000;
	store_write_deinit(&write.write);
	return value;
}

static void increments_add_up(void **state)
{
	struct fixture *f = *state;
	int r;

	assert_int_equal(increment(f, "n", "\x05", 1), 5);
	assert_int_equal(increment(f, "n", "\xff", 1), 4);
	assert_int_equal(increment(f, "n", "\xcc\xc8", 2), 204);
	(void)put(f, "text", "one");
	(void)write_one(f, op_of(STORE_INCREMENT, "text", "\x01", 1), &r);
	assert_int_equal(r, STORE_E_TYPE);
	expect(f, "text", "one");
	(void)write_one(f, op_of(STORE_PUT, "max", "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 9),
			NULL);
	(void)write_one(f, op_of(STORE_INCREMENT, "max", "\x01", 1), &r);
	assert_int_equal(r, STORE_E_RANGE);
}

/* Increments in one commit see each other. */
static void increments_submitted_together_all_count(void **state)
{
	struct fixture *f = *state;
	static struct waited_write writes[100];
	struct store_op op = op_of(STORE_INCREMENT, "n", "\x01", 1);
	uint64_t last = 0;

	for (unsigned i = 0; i < 100; i++) {
		writes[i].done = false;
		writes[i].write = (struct store_write){.done = waited_write_done};
		assert_int_equal(
			store_write_submit(store_client(f->store, 0), &writes[i].write, &op, 1),
			STORE_E_PENDING);
	}
	for (unsigned i = 0; i < 100; i++) {
		fixture_await(f, 0, &writes[i].done);
		assert_int_equal(writes[i].write.result, 0);
		assert_true(writes[i].write.revision > last);
		last = writes[i].write.revision;
		store_write_deinit(&writes[i].write);
	}
	assert_int_equal(increment(f, "n", "\x01", 1), 101);
	expect_sound(f);
}

static void append_joins(void **state)
{
	struct fixture *f = *state;
	int r;

	(void)write_one(f, op_of(STORE_APPEND, "s", packed("ab"), 3), NULL);
	(void)write_one(f, op_of(STORE_APPEND, "s", packed("cd"), 3), NULL);
	expect(f, "s", "abcd");
	(void)write_one(f, op_of(STORE_APPEND, "s", "\x91\x01", 2), &r);
	assert_int_equal(r, STORE_E_TYPE);
	(void)write_one(f, op_of(STORE_APPEND, "n", "\x01", 1), &r);
	assert_int_equal(r, STORE_E_TYPE);
	expect(f, "n", NULL);
}

static void a_transaction_happens_whole_or_not_at_all(void **state)
{
	struct fixture *f = *state;
	struct waited_write write = {0};
	uint64_t version = put(f, "a", "one");
	struct store_op ops[4] = {
		op_put("b", "two"),
		op_of(STORE_DELETE, "a", NULL, 0),
		op_put("c", "three"),
		op_if(op_of(STORE_CHECK, "d", NULL, 0), STORE_IF_EXISTS, 0),
	};

	assert_int_equal(do_write(f, 0, &write, ops, 4), STORE_E_CONFLICT);
	assert_int_equal(write.write.failed_op, 3);
	store_write_deinit(&write.write);
	/* One that fails only when it is carried out undoes what came before. */
	ops[3] = op_of(STORE_INCREMENT, "a", "\xa1x", 2);
	assert_int_equal(do_write(f, 0, &write, ops, 4), STORE_E_TYPE);
	assert_int_equal(write.write.failed_op, 3);
	store_write_deinit(&write.write);
	assert_int_equal(expect(f, "a", "one"), version);
	expect(f, "b", NULL);
	expect(f, "c", NULL);

	ops[3] = op_if(op_of(STORE_CHECK, "a", NULL, 0), STORE_IF_VERSION, version);
	assert_int_equal(do_write(f, 0, &write, ops, 4), 0);
	assert_true(store_write_existed(&write.write, 1));
	assert_false(store_write_existed(&write.write, 0));
	assert_null(store_write_entry(&write.write, 1));
	assert_int_equal(expect(f, "b", "two"), write.write.revision);
	assert_int_equal(expect(f, "c", "three"), write.write.revision);
	expect(f, "a", NULL);
	store_write_deinit(&write.write);
	expect_sound(f);
}

static void a_get_sees_writes_submitted_before_it(void **state)
{
	struct fixture *f = *state;
	struct store_client *client = store_client(f->store, 0);
	struct waited_write first = {.write = {.done = waited_write_done}}, second = first;
	struct waited_get get = {.get = {.done = waited_get_done}};
	struct waited_scan scan = {.scan = {.done = waited_scan_done}};
	struct store_op op = op_put("a", "one");
	struct store_key key = key_global("a");
	struct store_space space = space_global();
	uint32_t len;

	assert_int_equal(store_write_submit(client, &first.write, &op, 1), STORE_E_PENDING);
	op = op_put("a", "two");
	assert_int_equal(store_write_submit(client, &second.write, &op, 1), STORE_E_PENDING);
	assert_int_equal(store_get_submit(client, &get.get, &key, 1), STORE_E_PENDING);
	assert_int_equal(store_scan_submit(client, &scan.scan, &space), STORE_E_PENDING);
	fixture_await(f, 0, &get.done);
	assert_true(first.done && second.done);
	assert_int_equal(get.get.result, 0);
	assert_non_null(get.get.entries[0]);
	assert_memory_equal(store_entry_value(get.get.entries[0], &len), packed("two"), 4);
	fixture_await(f, 0, &scan.done);
	assert_int_equal(scan.scan.count, 1);
	store_get_deinit(&get.get);
	store_scan_deinit(&scan.scan);
	store_write_deinit(&first.write);
	store_write_deinit(&second.write);
}

static void what_one_client_was_told_the_other_sees(void **state)
{
	struct fixture *f = *state;
	struct store_key key = key_global("a");
	char text[16];

	for (unsigned i = 0; i < 200; i++) {
		struct waited_write write = {0};
		struct store_op op;

		(void)snprintf(text, sizeof(text), "%u", i);
		op = op_put("a", text);
		assert_int_equal(do_write(f, i % 2, &write, &op, 1), 0);
		store_write_deinit(&write.write);
		expect_at(f, 0, key, text);
		expect_at(f, 1, key, text);
	}
}

static void spaces_do_not_see_each_other(void **state)
{
	struct fixture *f = *state;
	struct store_op op = op_put("a", "global");
	struct store_key key = op.key;

	(void)write_one(f, op, NULL);
	op.key.space = space_named(STORE_AGENT, "x");
	op.value = packed("agent");
	op.value_len = 6;
	(void)write_one(f, op, NULL);
	expect(f, "a", "global");
	expect_at(f, 0, op.key, "agent");
	key.space = space_named(STORE_AGENT, "xa");
	expect_at(f, 0, key, NULL);
	key.space = space_global();
	key.space.owner = 1001;
	expect_at(f, 0, key, NULL);
}

static void bad_input_is_refused_before_it_is_queued(void **state)
{
	struct fixture *f = *state;
	struct waited_write write = {0};
	static char big[(1 << 20) + 1];
	struct store_op op;
	struct store_op many[1025];

	op = op_put("", "one");
	assert_int_equal(do_write(f, 0, &write, &op, 1), STORE_E_INVALID);
	op = op_put("a", "one");
	op.ttl_ms = -1;
	assert_int_equal(do_write(f, 0, &write, &op, 1), STORE_E_INVALID);
	op = op_put("a", "one");
	op.key.space.scope = 4;
	assert_int_equal(do_write(f, 0, &write, &op, 1), STORE_E_INVALID);
	op = op_put("a", "one");
	op.value_len = 0;
	assert_int_equal(do_write(f, 0, &write, &op, 1), STORE_E_INVALID);
	op = op_put("a", "one");
	op.key.key = big;
	op.key.key_len = 1025;
	assert_int_equal(do_write(f, 0, &write, &op, 1), STORE_E_TOO_BIG);
	op = op_put("a", "one");
	op.value = big;
	op.value_len = sizeof(big);
	assert_int_equal(do_write(f, 0, &write, &op, 1), STORE_E_TOO_BIG);
	for (unsigned i = 0; i < 1025; i++)
		many[i] = op_put("a", "one");
	assert_int_equal(do_write(f, 0, &write, many, 1025), STORE_E_TOO_BIG);
	assert_int_equal(do_write(f, 0, &write, many, 0), STORE_E_INVALID);
	expect(f, "a", NULL);
	/* Any bytes are a key. */
	op = op_put("a", "one");
	op.key.key = "\0\xff\0";
	op.key.key_len = 3;
	(void)write_one(f, op, NULL);
	expect_at(f, 0, op.key, "one");
	/* An append may not grow a value over its limit. */
	big[0] = (char)0xdb;
	big[1] = 0;
	big[2] = 0x0f;
	big[3] = (char)0xff;
	big[4] = (char)0xfb;
	op = op_of(STORE_PUT, "big", big, 1 << 20);
	(void)write_one(f, op, NULL);
	op = op_of(STORE_APPEND, "big", packed("one"), 4);
	assert_int_equal(do_write(f, 0, &write, &op, 1), STORE_E_TOO_BIG);
	store_write_deinit(&write.write);
}

static void a_full_queue_is_busy(void **state)
{
	struct fixture *f = *state;
	struct waited_write writes[5] = {0};
	struct store_op op = op_put("a", "one");

	fixture_close(f);
	f->config.sizes.queue_ops = 4;
	fixture_open(f);
	for (unsigned i = 0; i < 5; i++) {
		writes[i].write.done = waited_write_done;
		assert_int_equal(
			store_write_submit(store_client(f->store, 0), &writes[i].write, &op, 1),
			i < 4 ? STORE_E_PENDING : STORE_E_BUSY);
	}
	for (unsigned i = 0; i < 4; i++) {
		fixture_await(f, 0, &writes[i].done);
		store_write_deinit(&writes[i].write);
	}
	(void)put(f, "a", "two");
}

static void close_commits_what_was_submitted(void **state)
{
	struct fixture *f = *state;
	struct waited_write write = {.write = {.done = waited_write_done}};
	struct waited_get get = {.get = {.done = waited_get_done}};
	struct store_op op = op_put("a", "one");
	struct store_key key = key_global("a");

	assert_int_equal(store_write_submit(store_client(f->store, 0), &write.write, &op, 1),
			 STORE_E_PENDING);
	assert_int_equal(store_get_submit(store_client(f->store, 0), &get.get, &key, 1),
			 STORE_E_PENDING);
	store_close(f->store);
	f->store = NULL;
	assert_true(write.done && get.done);
	assert_int_equal(write.write.result, 0);
	assert_int_equal(get.get.result, STORE_E_STOPPED);
	store_write_deinit(&write.write);
	store_get_deinit(&get.get);
	fixture_open(f);
	expect(f, "a", "one");
}

static void durable_is_told_from_not(void **state)
{
	struct fixture *f = *state;
	struct waited_write write = {0};
	struct store_op op = op_put("a", "one");
	struct store_stats before, after;

	store_stats(f->store, &before);
	assert_int_equal(do_write(f, 0, &write, &op, 1), 0);
	assert_int_equal(write.write.given, STORE_GIVEN_LOG);
	store_write_deinit(&write.write);
	write.write.durable = true;
	assert_int_equal(do_write(f, 0, &write, &op, 1), 0);
	assert_int_equal(write.write.given, STORE_GIVEN_SYNCED);
	store_write_deinit(&write.write);
	store_stats(f->store, &after);
	assert_int_equal(after.syncs, before.syncs + 1);
}

static void an_ephemeral_store_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	char path[80];

	(void)put(f, "a", "stays");
	fixture_close(f);
	f->config.ephemeral = true;
	fixture_open(f);
	expect(f, "a", NULL);
	(void)put(f, "a", "one");
	expect(f, "a", "one");
	fixture_close(f);
	(void)snprintf(path, sizeof(path), "%s/ephemeral", f->path);
	assert_int_not_equal(access(path, F_OK), 0);
	f->config.ephemeral = false;
	fixture_open(f);
	expect(f, "a", "stays"); /* whoever mixes them up loses nothing */
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STORE_TEST(what_is_put_is_there_with_its_version),
		STORE_TEST(versions_go_on_after_a_restart),
		STORE_TEST(compare_and_set_takes_exactly_the_version),
		STORE_TEST(version_zero_creates_only),
		STORE_TEST(increments_add_up),
		STORE_TEST(increments_submitted_together_all_count),
		STORE_TEST(append_joins),
		STORE_TEST(a_transaction_happens_whole_or_not_at_all),
		STORE_TEST(a_get_sees_writes_submitted_before_it),
		STORE_TEST(what_one_client_was_told_the_other_sees),
		STORE_TEST(spaces_do_not_see_each_other),
		STORE_TEST(bad_input_is_refused_before_it_is_queued),
		STORE_TEST(a_full_queue_is_busy),
		STORE_TEST(close_commits_what_was_submitted),
		STORE_TEST(durable_is_told_from_not),
		STORE_TEST(an_ephemeral_store_leaves_nothing),
	};

	return cmocka_run_group_tests_name("store/write", tests, NULL, NULL);
}
