/* SPDX-License-Identifier: MIT */

#include "core/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/agent.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/config.h"
#include "core/fair.h"
#include "core/kernel.h"
#include "core/shard.h"
#include "core/user.h"

enum {
	DROP_RETRY_MS = 100,
};

/* A space that is to be emptied. */
struct state_drop {
	struct store_drop drop;
	struct list waiting; /* in state->drops */
	struct shard *shard;
	struct store_space space;
	char name[STORE_NAME_MAX];
};

/* ---- open and close ---- */

static void on_wake(void *arg)
{
	struct shard *shard = arg;

	atomic_store_explicit(&shard->state.due, true, memory_order_release);
	shard_wake(NULL, shard);
}

int state_open(struct kernel *kernel)
{
	const struct config *config = kernel->config;
	char text[STORE_TEXT_MAX];
	void *wake_args[LIMIT_CORES];
	int r;

	for (unsigned i = 0; i < kernel->core_count; i++)
		wake_args[i] = kernel->shards[i];
	r = store_open(
		&(struct store_config){
			.path = config->data_dir,
			.salvage_hint = "--salvage",
			.clients = kernel->core_count,
			.ephemeral = config->ephemeral,
			.salvage = config->salvage,
			.wake = on_wake,
			.wake_args = wake_args,
			.sizes =
				{
					.key_max = LIMIT_STATE_KEY_BYTES,
					.value_max = FRAME_PAYLOAD_MAX,
					.ops_max = LIMIT_STATE_OPS,
					.request_max = LIMIT_STATE_REQUEST_BYTES,
					.queue_ops = LIMIT_STATE_QUEUE_OPS,
					.queue_bytes = 2 * LIMIT_STATE_BYTES,
					.reads_max = LIMIT_STATE_READS,
					.read_bytes = LIMIT_STATE_READ_BYTES,
					/* Half for values as they are, a quarter each for the writer and for RocksDB's blocks. */
					.client_cache =
						config->store_cache / 2 / kernel->core_count,
					.writer_cache = config->store_cache / 4,
					.block_cache = config->store_cache / 4,
				},
		},
		&kernel->store, text);
	if (r) {
		(void)fprintf(stderr, "clove_kernel: %s\n", text);
		return r;
	}
	for (unsigned i = 0; i < kernel->core_count; i++)
		kernel->shards[i]->state.client = store_client(kernel->store, i);
	return 0;
}

void state_close(struct kernel *kernel)
{
	if (!kernel->store)
		return;
	store_close(kernel->store);
	kernel->store = NULL;
	for (unsigned i = 0; i < kernel->core_count; i++) {
		struct list *it;

		while ((it = list_shift(&kernel->shards[i]->state.drops)))
			free(container_of(it, struct state_drop, waiting));
	}
}

/* ---- the core's pass ---- */

void state_init(struct shard *shard)
{
	list_init(&shard->state.drops);
}

void state_free(struct shard *shard)
{
	free(shard->state.spare);
}

bool state_is_due(const struct shard *shard)
{
	return atomic_load_explicit(&shard->state.due, memory_order_relaxed);
}

void state_reap(struct shard *shard)
{
	struct state *state = &shard->state;

	/* Relaxed first: the exchange would cost every pass. */
	if (!state_is_due(shard) ||
	    !atomic_exchange_explicit(&state->due, false, memory_order_acquire))
		return;
	if (store_client_reap(state->client, LIMIT_STATE_REAPED_PER_PASS))
		atomic_store_explicit(&state->due, true, memory_order_relaxed);
}

void state_flush(struct shard *shard)
{
	if (shard->state.client)
		store_client_flush(shard->state.client);
}

/* ---- spaces that are emptied ---- */

static void drop_submit(struct state_drop *drop);

static void on_drop_retry(struct timer *timer)
{
	struct shard *shard = container_of(timer, struct shard, state.drop_retry);
	struct list now;
	struct list *it;

	list_init(&now);
	list_move(&now, &shard->state.drops);
	while ((it = list_shift(&now)))
		drop_submit(container_of(it, struct state_drop, waiting));
}

static void drop_later(struct state_drop *drop)
{
	struct shard *shard = drop->shard;

	list_append(&shard->state.drops, &drop->waiting);
	if (!shard->state.drop_retry.place)
		(void)timer_set(&shard->timers, &shard->state.drop_retry,
				shard->now_ns + DROP_RETRY_MS * CLOCK_NS_PER_MS, on_drop_retry);
}

static void on_dropped(struct store_drop *store_drop)
{
	struct state_drop *drop = container_of(store_drop, struct state_drop, drop);

	if (!drop->drop.result || drop->drop.result == STORE_E_STOPPED)
		free(drop);
	else
		drop_later(drop);
}

static void drop_submit(struct state_drop *drop)
{
	int r;

	drop->drop = (struct store_drop){.done = on_dropped};
	r = store_drop_submit(drop->shard->state.client, &drop->drop, &drop->space);
	if (r == STORE_E_PENDING)
		return;
	if (r == STORE_E_STOPPED)
		free(drop);
	else
		drop_later(drop);
}

static void space_empty(struct shard *shard, uint32_t owner, enum store_scope scope,
			const void *name, uint32_t name_len)
{
	struct state_drop *drop = calloc(1, sizeof(*drop));

	/* Without memory it stays until its name is used again, a session's until the next start. */
	if (!drop)
		return;
	list_init(&drop->waiting);
	drop->shard = shard;
	memcpy(drop->name, name, name_len);
	drop->space = (struct store_space){
		.owner = owner, .scope = scope, .name = drop->name, .name_len = name_len};
	drop_submit(drop);
}

void state_session_end(struct conn *conn)
{
	if (conn->session)
		space_empty(conn->shard, conn->user->owner->uid, STORE_SESSION, &conn->session,
			    sizeof(conn->session));
}

/* ---- scopes ---- */

static const char *const scope_names[] = {
	[STORE_GLOBAL] = "global", [STORE_AGENT] = "agent", [STORE_SESSION] = "session"};

const char *state_scope_name(enum store_scope scope)
{
	return scope_names[scope];
}

static void scope_add(struct state_scopes *scopes, uint32_t owner, enum store_scope scope,
		      const void *name, size_t name_len)
{
	scopes->spaces[scopes->count++] = (struct store_space){
		.owner = owner, .scope = scope, .name = name, .name_len = (uint32_t)name_len};
}

static void scope_add_session(struct call *call, bool writing, struct state_scopes *scopes)
{
	struct conn *conn = call->conn;

	/* Numbered by their first write, so most connections have none to look into, or to delete. */
	if (!conn->session && writing)
		conn->session = atomic_fetch_add_explicit(&conn->shard->kernel->sessions, 1,
							  memory_order_relaxed) +
				1;
	scopes->session = conn->session;
	scope_add(scopes, conn->user->owner->uid, STORE_SESSION, &conn->session,
		  sizeof(conn->session));
}

/* A client has no name of its own that would outlive it: what is its agent's alone is its session's. */
static enum wire_error scope_add_agent(struct call *call, bool writing, struct state_scopes *scopes)
{
	const struct conn *conn = call->conn;

	if (!conn->is_agents) {
		scope_add_session(call, writing, scopes);
		return WIRE_OK;
	}
	if (!conn->spawned)
		return fault_set(&call->fault, WIRE_AGENT_NOT_FOUND, "the agent has ended");
	scope_add(scopes, conn->user->owner->uid, STORE_AGENT, conn->spawned->options.home,
		  strlen(conn->spawned->options.home));
	return WIRE_OK;
}

enum wire_error state_scope_named(struct call *call, const uint8_t *name, uint32_t len,
				  bool writing, struct state_scopes *ret_scopes)
{
	ret_scopes->count = 0;
	for (size_t i = 0; i < sizeof(scope_names) / sizeof(scope_names[0]); i++) {
		if (!scope_names[i] || len != strlen(scope_names[i]) ||
		    memcmp(name, scope_names[i], len))
			continue;
		switch ((enum store_scope)i) {
		case STORE_GLOBAL:
			scope_add(ret_scopes, call->conn->user->owner->uid, STORE_GLOBAL, NULL, 0);
			return WIRE_OK;
		case STORE_AGENT:
			return scope_add_agent(call, writing, ret_scopes);
		case STORE_SESSION:
			scope_add_session(call, writing, ret_scopes);
			return WIRE_OK;
		}
	}
	return fault_set(&call->fault, WIRE_INVALID_ARGUMENT,
			 "scope must be \"global\", \"agent\" or \"session\"");
}

enum wire_error state_scopes(struct call *call, unsigned arg, bool writing,
			     struct state_scopes *ret_scopes)
{
	uint32_t len;
	const uint8_t *name = call_bytes(call, arg, &len);
	enum wire_error code = WIRE_OK;

	if (name)
		return state_scope_named(call, name, len, writing, ret_scopes);
	ret_scopes->count = 0;
	if (!writing && call->conn->is_agents)
		code = scope_add_agent(call, false, ret_scopes);
	if (!code && !writing && call->conn->session)
		scope_add_session(call, false, ret_scopes);
	if (!code)
		scope_add(ret_scopes, call->conn->user->owner->uid, STORE_GLOBAL, NULL, 0);
	return code;
}

enum wire_error state_key_check(uint32_t len, struct fault *fault)
{
	if (!len)
		return fault_set(fault, WIRE_INVALID_ARGUMENT, "a key must not be empty");
	if (len > LIMIT_STATE_KEY_BYTES)
		return fault_set(fault, WIRE_TOO_LARGE, "a key has at most %d bytes, this one %u",
				 LIMIT_STATE_KEY_BYTES, len);
	return WIRE_OK;
}

enum wire_error state_prefix_check(uint32_t len, struct fault *fault)
{
	if (len > LIMIT_STATE_KEY_BYTES)
		return fault_set(fault, WIRE_TOO_LARGE,
				 "a prefix has at most %d bytes, as a key, this one %u",
				 LIMIT_STATE_KEY_BYTES, len);
	return WIRE_OK;
}

/* ---- what comes back ---- */

const char *state_given_name(enum store_given given)
{
	static const char *const names[] = {
		[STORE_GIVEN_MEMORY] = "memory",
		[STORE_GIVEN_LOG] = "log",
		[STORE_GIVEN_SYNCED] = "synced",
	};

	return names[given];
}

static enum wire_error quota_fault(const struct store_write *write, struct fault *fault)
{
	static const struct {
		const char *whose, *noun, *setting;
	} quotas[] = {
		[STORE_QUOTA_NONE] = {"", "", ""},
		[STORE_QUOTA_OWNER_BYTES] = {"this user's", "bytes", "owner_bytes"},
		[STORE_QUOTA_OWNER_KEYS] = {"this user's", "keys", "owner_keys"},
		[STORE_QUOTA_ACCOUNT_BYTES] = {"this agent's", "bytes", "agent_bytes"},
		[STORE_QUOTA_ACCOUNT_KEYS] = {"this agent's", "keys", "agent_keys"},
	};

	(void)fault_set(fault, WIRE_QUOTA_EXCEEDED,
			"%s state would come to %llu %s of %llu; delete some, or raise [store] %s",
			quotas[write->quota].whose, (unsigned long long)write->quota_used,
			quotas[write->quota].noun, (unsigned long long)write->quota_limit,
			quotas[write->quota].setting);
	return fault->code;
}

static enum wire_error disk_fault(struct shard *shard, struct fault *fault)
{
	char text[STORE_TEXT_MAX];

	store_cause(shard->kernel->store, text, sizeof(text));
	return fault_set(
		fault, WIRE_STORE_FAILED,
		"the disk of the state store failed; reads go on, writes when it recovers: %s",
		text);
}

enum wire_error state_fault(struct shard *shard, int r, const struct store_write *write,
			    struct fault *fault)
{
	switch (r) {
	case STORE_E_CONFLICT:
		(void)fault_set(fault, WIRE_CONFLICT,
				write->version ? "operation %u: the key has version %llu"
					       : "operation %u: the key does not exist",
				write->failed_op, (unsigned long long)write->version);
		fault->has_version = true;
		fault->version = write->version;
		break;
	case STORE_E_BUSY:
		(void)fault_set(fault, WIRE_BUSY,
				"the state store has as much to do as it may; try again in %d ms",
				STORE_RETRY_MS);
		fault->retry_ms = STORE_RETRY_MS;
		break;
	case STORE_E_QUOTA:
		return quota_fault(write, fault);
	case STORE_E_TOO_BIG:
		(void)fault_set(
			fault, WIRE_TOO_LARGE,
			"a value has at most %d bytes, and so have together those of one call or answer: ask for less at once",
			FRAME_PAYLOAD_MAX);
		break;
	case STORE_E_INVALID:
		(void)fault_set(fault, WIRE_INVALID_ARGUMENT,
				"the cursor is none that this call gave, or of another prefix");
		break;
	case STORE_E_TYPE:
		(void)fault_set(
			fault, WIRE_WRONG_TYPE,
			"operation %u: increment takes numbers, append strings, binaries or arrays, both alike",
			write ? write->failed_op : 0);
		break;
	case STORE_E_RANGE:
		(void)fault_set(fault, WIRE_OUT_OF_RANGE,
				"operation %u: the sum would be no number of 64 bits",
				write ? write->failed_op : 0);
		break;
	case STORE_E_COMPACTED:
		(void)fault_set(
			fault, WIRE_COMPACTED,
			"changes from that version on are no longer remembered: read again, then watch from what that says");
		break;
	case STORE_E_DAMAGED:
		(void)fault_set(
			fault, WIRE_STORE_DAMAGED,
			"what is stored there is damaged; other keys are not concerned: restore a backup");
		break;
	case STORE_E_STOPPED:
		(void)fault_set(fault, WIRE_SHUTTING_DOWN, "the kernel is stopping");
		break;
	case STORE_E_EXISTS:
		(void)fault_set(fault, WIRE_INVALID_ARGUMENT,
				"there is something at that path; name one that does not exist");
		break;
	case -ENOMEM:
		(void)fault_set(fault, WIRE_BUSY, "no memory");
		break;
	default:
		return disk_fault(shard, fault);
	}
	return fault->code;
}

/* ---- memory ---- */

bool state_charge(struct conn *conn, size_t bytes, struct fault *fault)
{
	struct owner *owner = conn->user->owner;
	struct kernel *kernel = conn->shard->kernel;
	size_t own =
		atomic_fetch_add_explicit(&owner->quota.state_bytes, bytes, memory_order_relaxed);
	size_t total = atomic_fetch_add_explicit(&kernel->state_bytes, bytes, memory_order_relaxed);

	if (fair_share(own, bytes, total, LIMIT_STATE_BYTES))
		return true;
	state_uncharge(conn->shard, owner, bytes);
	(void)fault_set(
		fault, WIRE_BUSY,
		"requests of this user that wait for the state store take as much as they may; try again in %d ms",
		STORE_RETRY_MS);
	fault->retry_ms = STORE_RETRY_MS;
	return false;
}

void state_uncharge(struct shard *shard, struct owner *owner, size_t bytes)
{
	(void)atomic_fetch_sub_explicit(&owner->quota.state_bytes, bytes, memory_order_relaxed);
	(void)atomic_fetch_sub_explicit(&shard->kernel->state_bytes, bytes, memory_order_relaxed);
}
