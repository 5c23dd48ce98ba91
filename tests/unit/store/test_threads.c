/* SPDX-License-Identifier: MIT */

/*
 * Clients in threads of their own, all at once
 *
 * Transfers between accounts by compare-and-set transactions must keep their sum, whoever reads; counters must count every
 * increment; what a thread was told it must see, and never something older than it saw before.
 */

#include "tests/unit/store/fixture.h"

#include <pthread.h>

enum {
	THREADS = 3,
	ROUNDS = 400,
	ACCOUNTS = 8,
	START = 100,
};

struct actor {
	struct store *store;
	struct store_client *client;
	int event;
	uint32_t index;
	uint64_t seed;
};

static void actor_await(struct actor *actor, const bool *done)
{
	store_client_flush(actor->client);
	while (!*done) {
		struct pollfd ready = {.fd = actor->event, .events = POLLIN};
		uint64_t count;

		(void)store_client_reap(actor->client, 64);
		store_client_flush(actor->client);
		if (*done)
			break;
		if (poll(&ready, 1, FIXTURE_WAIT_MS) != 1)
			abort();
		(void)!read(actor->event, &count, sizeof(count));
	}
}

static uint32_t choose(struct actor *actor, uint32_t below)
{
	actor->seed = actor->seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t)(actor->seed >> 33) % below;
}

static struct store_key account(uint32_t index, char *name)
{
	(void)snprintf(name, 8, "acc%u", index);
	return key_global(name);
}

static uint8_t amount(const struct store_entry *entry)
{
	uint32_t len;

	return store_entry_value(entry, &len)[0];
}

/* All accounts, as of one moment: their sum is what it was in the beginning. */
static void read_all(struct actor *actor, struct waited_get *get)
{
	struct store_key keys[ACCOUNTS];
	char names[ACCOUNTS][8];
	unsigned sum = 0;
	int r;

	for (uint32_t i = 0; i < ACCOUNTS; i++)
		keys[i] = account(i, names[i]);
	get->done = false;
	get->get.done = waited_get_done;
	r = store_get_submit(actor->client, &get->get, keys, ACCOUNTS);
	if (r == STORE_E_PENDING)
		actor_await(actor, &get->done);
	else if (r)
		abort();
	if (get->get.result)
		abort();
	for (uint32_t i = 0; i < ACCOUNTS; i++)
		sum += amount(get->get.entries[i]);
	if (sum != ACCOUNTS * START)
		abort();
}

static void transfer(struct actor *actor)
{
	uint32_t from = choose(actor, ACCOUNTS), to = choose(actor, ACCOUNTS);
	struct waited_get get = {0};
	struct waited_write write = {
		.write = {.done = waited_write_done, .durable = !choose(actor, 50)}};
	char names[2][8];
	uint8_t amounts[2];
	struct store_op ops[2];

	read_all(actor, &get);
	amounts[0] = (uint8_t)(amount(get.get.entries[from]) - 1);
	amounts[1] = (uint8_t)(amount(get.get.entries[to]) + 1);
	for (unsigned i = 0; i < 2; i++)
		ops[i] = (struct store_op){
			.key = account(i ? to : from, names[i]),
			.verb = STORE_PUT,
			.when = STORE_IF_VERSION,
			.version = store_entry_version(get.get.entries[i ? to : from]),
			.value = &amounts[i],
			.value_len = 1,
		};
	store_get_deinit(&get.get);
	/* Within a byte's range of positive MessagePack integers. */
	if (from == to || amounts[0] < 1 || amounts[1] > 126)
		return;
	if (store_write_submit(actor->client, &write.write, ops, 2) != STORE_E_PENDING)
		abort();
	actor_await(actor, &write.done);
	if (write.write.result && write.write.result != STORE_E_CONFLICT)
		abort();
	store_write_deinit(&write.write);
}

static void count_up(struct actor *actor)
{
	struct waited_write write = {.write = {.done = waited_write_done}};
	struct store_op op = {.key = key_global("count"),
			      .verb = STORE_INCREMENT,
			      .value = "\x01",
			      .value_len = 1};

	if (store_write_submit(actor->client, &write.write, &op, 1) != STORE_E_PENDING)
		abort();
	actor_await(actor, &write.done);
	if (write.write.result)
		abort();
	store_write_deinit(&write.write);
}

/* The common counter never goes back for one who looks again. */
static void look(struct actor *actor, uint64_t *version)
{
	struct waited_get get = {.get = {.done = waited_get_done}};
	struct store_key key = key_global("count");
	int r = store_get_submit(actor->client, &get.get, &key, 1);

	if (r == STORE_E_PENDING)
		actor_await(actor, &get.done);
	if (get.get.result)
		abort();
	if (get.get.entries[0]) {
		if (store_entry_version(get.get.entries[0]) < *version)
			abort();
		*version = store_entry_version(get.get.entries[0]);
	}
	store_get_deinit(&get.get);
}

static void *act(void *arg)
{
	struct actor *actor = arg;
	uint64_t version = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		transfer(actor);
		count_up(actor);
		look(actor, &version);
	}
	return NULL;
}

static void clients_in_threads_agree(void **state)
{
	struct fixture *f = *state;
	struct actor actors[THREADS] = {0};
	pthread_t threads[THREADS];
	void *args[THREADS];
	struct store_key key = key_global("count");
	struct waited_get get = {0};
	char name[8];
	uint32_t len;
	const uint8_t *value;

	for (uint32_t i = 0; i < THREADS; i++) {
		actors[i] = (struct actor){
			.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .index = i, .seed = i + 1};
		args[i] = &actors[i].event;
	}
	f->config.clients = THREADS;
	f->config.wake_args = args;
	f->config.sizes.client_cache = 16384; /* so that they also forget */
	f->events[0] = actors[0].event;
	fixture_open(f);
	for (uint32_t i = 0; i < ACCOUNTS; i++) {
		static const uint8_t start = START;

		(void)write_one(
			f,
			(struct store_op){.key = account(i, name), .value = &start, .value_len = 1},
			NULL);
	}
	for (uint32_t i = 0; i < THREADS; i++) {
		actors[i].store = f->store;
		actors[i].client = store_client(f->store, i);
		assert_int_equal(pthread_create(&threads[i], NULL, act, &actors[i]), 0);
	}
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(do_get(f, 0, &get, &key, 1), 0);
	value = store_entry_value(get.get.entries[0], &len);
	assert_int_equal(len, 3);
	assert_int_equal(value[1] << 8 | value[2], THREADS * ROUNDS);
	store_get_deinit(&get.get);
	expect_sound(f);
	fixture_close(f);
	for (uint32_t i = 1; i < THREADS; i++)
		(void)fd_close(actors[i].event);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(clients_in_threads_agree, fixture_setup_closed,
						fixture_teardown),
	};

	return cmocka_run_group_tests_name("store/threads", tests, NULL, NULL);
}
