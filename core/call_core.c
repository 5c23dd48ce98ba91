/* SPDX-License-Identifier: MIT */

/*
 * Calls about the connection and the kernel itself: NOOP, HELLO, EXIT, CANCEL, LIST, STATS
 */

#include <string.h>

#include "core/agent_table.h"
#include "core/base/clock.h"
#include "core/call.h"
#include "core/directory.h"
#include "core/files.h"
#include "core/protection.h"
#include "core/request.h"
#include "core/shard.h"
#include "core/user.h"
#include "ipc/frame.h"
#include "ipc/pack.h"

static void reply_end(struct call *call)
{
	conn_end(call->conn, call->def->op, WIRE_FLAG_REPLY, call->id);
}

enum wire_error call_noop(struct call *call)
{
	msgpack_packer *pk = conn_begin(call->conn);

	if (call_has(call, 0))
		conn_splice(call->conn, call->args[0].pos,
			    (size_t)(call->args[0].end - call->args[0].pos));
	else
		(void)msgpack_pack_nil(pk);
	reply_end(call);
	return WIRE_OK;
}

static void pack_limits(msgpack_packer *pk)
{
	pack_map(pk, 5);
	pack_key_uint(pk, "payload_max", FRAME_PAYLOAD_MAX);
	pack_key_uint(pk, "frame_max", FRAME_BODY_MAX);
	pack_key_uint(pk, "depth_max", FRAME_DEPTH_MAX);
	pack_key_uint(pk, "in_flight_max", LIMIT_IN_FLIGHT);
	pack_key_uint(pk, "exec_output_max", LIMIT_JOB_OUTPUT_BYTES);
}

/* Names of the calls that this kernel really has. */
static void pack_features(msgpack_packer *pk)
{
	size_t count = 0;

	for (unsigned i = 0; i < WIRE_CALL_COUNT; i++)
		count += call_is_built(i);
	pack_array(pk, count);
	for (unsigned i = 0; i < WIRE_CALL_COUNT; i++)
		if (call_is_built(i))
			pack_text(pk, wire_calls[i].name);
}

enum wire_error call_hello(struct call *call)
{
	uint64_t version_min = call_uint(call, 0, 0);
	uint64_t version_max = call_uint(call, 1, 0);
	struct conn *conn = call->conn;
	struct shard *shard = conn->shard;
	struct kernel *kernel = shard->kernel;
	const char *client;
	uint32_t client_len = 0;
	msgpack_packer *pk;

	if (version_min > FRAME_VERSION || version_max < FRAME_VERSION)
		return fault_set(
			&call->fault, WIRE_VERSION,
			"this kernel speaks protocol version %d, the client %llu to %llu; install matching versions of both",
			FRAME_VERSION, (unsigned long long)version_min,
			(unsigned long long)version_max);
	client = (const char *)call_bytes(call, 2, &client_len);
	if (client_len > LIMIT_CLIENT_NAME_BYTES)
		return fault_set(&call->fault, WIRE_TOO_LARGE, "client: at most %d bytes",
				 LIMIT_CLIENT_NAME_BYTES);
	log_debug("hello", "agent=%u client=\"%.*s\"", conn->agent->id, (int)client_len,
		  client ? client : "");

	pk = conn_begin(conn);
	pack_map(pk, 13);
	pack_key_uint(pk, "protocol", FRAME_VERSION);
	pack_key_text(pk, "version", CLOVE_VERSION);
	pack_key_uint(pk, "agent_id", conn->agent->id);
	pack_key_uint(pk, "uid", conn->user->owner->uid);
	pack_key_uint(pk, "core", shard->index);
	pack_text(pk, "features");
	pack_features(pk);
	pack_text(pk, "limits");
	pack_limits(pk);
	pack_key_text(pk, "io", loop_backend_name(kernel->io.backend));
	pack_key_uint(pk, "epoch", kernel->epoch);
	pack_key_uint(pk, "uptime_ms", (shard->now_ns - kernel->start_ns) / CLOCK_NS_PER_MS);
	pack_key_bool(pk, "sandbox", kernel->config->sandbox);
	pack_key_bool(pk, "box_commands", kernel->config->box_commands);
	pack_text(pk, "protections");
	pack_map(pk, PROTECTION_LIMITS);
	protection_pack_limits(protection_of_host(kernel), pk);
	reply_end(call);
	return WIRE_OK;
}

enum wire_error call_exit(struct call *call)
{
	(void)msgpack_pack_nil(conn_begin(call->conn));
	reply_end(call);
	conn_leave(call->conn);
	return WIRE_OK;
}

enum wire_error call_cancel(struct call *call)
{
	struct request *request = request_find(call->conn, call_uint(call, 0, 0));
	bool ended = request && request_cancel(request);

	pack_bool(conn_begin(call->conn), ended);
	reply_end(call);
	return WIRE_OK;
}

/* Whether @conn may know of @view, and has asked for it. */
static bool listed(const struct conn *conn, const struct agent_view *view, bool all)
{
	return (all || view->kind == AGENT_SPAWNED) &&
	       (view->uid == conn->user->owner->uid || conn_is_operator(conn));
}

/* One agent's map: 21 keys of 10 bytes, 12 numbers of 9 bytes, a name, words. */
enum {
	LIST_ITEM_BYTES_MAX = 512,
};

_Static_assert(FRAME_LIST_MAX *LIST_ITEM_BYTES_MAX <= FRAME_PAYLOAD_MAX,
	       "a full list fits a frame");

/* What the directory knows of @view; for a client that came by itself, little. */
static bool card_of(struct kernel *kernel, const struct agent_view *view,
		    struct agent_card *ret_card)
{
	if (view->kind == AGENT_SPAWNED)
		return !directory_find(kernel->directory, view->id, ret_card);
	*ret_card = (struct agent_card){.state = AGENT_RUNNING, .profile = PROFILE_NONE};
	return true;
}

static void pack_item(struct shard *shard, msgpack_packer *pk, const struct agent_view *view,
		      const struct agent_card *card, bool usage)
{
	uint64_t now_ns = shard->now_ns;

	pack_map(pk, 14 + (usage ? PROTECTION_USAGE : 0));
	pack_key_uint(pk, "id", view->id);
	pack_key_text(pk, "name", card->name);
	pack_key_text(pk, "kind", view->kind == AGENT_SPAWNED ? "spawned" : "external");
	pack_key_text(pk, "state", agent_state_name(card->state));
	pack_key_uint(pk, "pid", view->pid);
	pack_key_uint(pk, "uid", view->uid);
	pack_key_uint(pk, "core", view->core);
	pack_key_uint(pk, "uptime_ms",
		      now_ns < view->since_ns ? 0 : (now_ns - view->since_ns) / CLOCK_NS_PER_MS);
	pack_key_uint(pk, "calls", view->calls);
	pack_key_uint(pk, "parent", card->parent);
	pack_key_bool(pk, "sandboxed", card->profile != PROFILE_NONE);
	pack_key_text(pk, "profile", profile_name(card->profile));
	pack_key_uint(pk, "incarnation", card->incarnation);
	pack_text(pk, "protections");
	pack_map(pk, PROTECTION_LIMITS);
	protection_pack_limits(card->layers, pk);
	if (usage)
		protection_pack_usage(shard->kernel, card, now_ns, pk);
}

enum wire_error call_list(struct call *call)
{
	struct shard *shard = call->conn->shard;
	struct kernel *kernel = shard->kernel;
	bool all = call_bool(call, 0, false), usage = call_bool(call, 2, false);
	uint32_t max = usage ? FRAME_USAGE_MAX : FRAME_LIST_MAX;
	uint32_t slot = 0;
	struct agent_view view;
	struct agent_card card;
	msgpack_packer *pk = conn_begin(call->conn);
	size_t at = shard->out.len;
	uint32_t total = 0;

	if (call_has(call, 1))
		slot = agent_table_slot((uint32_t)call_uint(call, 1, 0)) + 1;
	/* The count comes first but is known last: an array32 head is packed now and filled in after. */
	(void)msgpack_pack_str_body(pk, "\xdd\0\0\0\0", 5);
	for (; total < max; slot++) {
		slot = agent_table_next(kernel->agents, slot, all);
		if (slot == LIMIT_AGENTS)
			break;
		/* It may have ended since, and another have come. */
		if (!agent_table_read(kernel->agents, slot, &view) ||
		    !listed(call->conn, &view, all) || !card_of(kernel, &view, &card))
			continue;
		pack_item(shard, pk, &view, &card, usage);
		total++;
	}
	if (!shard->out.failed) {
		total = __builtin_bswap32(total);
		memcpy(shard->out.data + at + 1, &total, sizeof(total));
	}
	reply_end(call);
	return WIRE_OK;
}

static void pack_core(msgpack_packer *pk, struct shard *shard)
{
	const struct {
		const char *name;
		_Atomic uint64_t *value;
	} counters[] = {
		{"connections", &shard->stats.connections}, {"accepted", &shard->stats.accepted},
		{"frames", &shard->stats.frames},           {"replies", &shard->stats.replies},
		{"wakeups", &shard->stats.wakeups},         {"sends", &shard->stats.sends},
		{"crossings", &shard->stats.crossings},     {"jobs", &shard->stats.jobs},
		{"in_bytes", &shard->stats.in_bytes},       {"out_bytes", &shard->stats.out_bytes},
	};
	const size_t count = sizeof(counters) / sizeof(counters[0]);

	pack_map(pk, count);
	for (size_t i = 0; i < count; i++)
		pack_key_uint(pk, counters[i].name,
			      atomic_load_explicit(counters[i].value, memory_order_relaxed));
}

static void pack_store(msgpack_packer *pk, struct store *store)
{
	struct store_stats stats;

	store_stats(store, &stats);
	const struct {
		const char *name;
		uint64_t value;
	} counters[] = {
		{"revision", stats.revision},
		{"batches", stats.batches},
		{"syncs", stats.syncs},
		{"writes", stats.writes},
		{"ops", stats.ops},
		{"bytes", stats.bytes},
		{"reads_cache", stats.cache_hits},
		{"reads_memory", stats.block_hits},
		{"reads_disk", stats.disk_gets},
		{"expired", stats.expired},
		{"stalls", stats.stalls},
		{"failures", stats.failures},
		{"reopens", stats.reopens},
		{"queue_ops", stats.queue_ops},
		{"queue_bytes", stats.queue_bytes},
		{"watches", stats.watches},
	};
	const size_t count = sizeof(counters) / sizeof(counters[0]);

	pack_map(pk, count);
	for (size_t i = 0; i < count; i++)
		pack_key_uint(pk, counters[i].name, counters[i].value);
}

enum wire_error call_stats(struct call *call)
{
	struct kernel *kernel = call->conn->shard->kernel;
	msgpack_packer *pk;

	/* It tells how busy the others are. */
	if (!call->conn->user->owner->is_operator)
		return fault_set(&call->fault, WIRE_PERMISSION_DENIED,
				 "STATS is about all users: for root and user %u only",
				 kernel->user->uid);
	pk = conn_begin(call->conn);
	pack_map(pk, 6);
	pack_key_text(pk, "io", loop_backend_name(kernel->io.backend));
	pack_key_uint(pk, "connections",
		      atomic_load_explicit(&kernel->descriptors.connections, memory_order_relaxed));
	pack_text(pk, "cores");
	pack_array(pk, kernel->core_count);
	for (unsigned i = 0; i < kernel->core_count; i++)
		pack_core(pk, kernel->shards[i]);
	pack_text(pk, "store");
	pack_store(pk, kernel->store);
	pack_key_uint(pk, "files_queued", files_queued(kernel->files));
	pack_key_bool(pk, "launcher",
		      atomic_load_explicit(&kernel->launcher_alive, memory_order_relaxed));
	reply_end(call);
	return WIRE_OK;
}
