/* SPDX-License-Identifier: MIT */

#include "core/quota.h"

#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/config.h"
#include "core/limits.h"
#include "core/user.h"

static const struct {
	const char *setting, *noun;
} kinds[QUOTA_KINDS] = {
	[QUOTA_CONNECTIONS] = {"owner_connections", "connections"},
	[QUOTA_AGENTS] = {"owner_agents", "live agents"},
	[QUOTA_COMMANDS] = {"owner_commands", "running commands"},
	[QUOTA_FILES] = {"owner_files", "file operations at work"},
	[QUOTA_REQUESTS] = {"owner_requests", "requests in flight"},
};

enum wire_error quota_take(const struct config *config, struct owner *owner, enum quota_kind kind,
			   struct fault *fault)
{
	_Atomic uint32_t *used = &owner->quota.used[kind];
	uint32_t before = atomic_fetch_add_explicit(used, 1, memory_order_relaxed);

	if (owner->is_operator || before < config->quota[kind])
		return WIRE_OK;
	(void)atomic_fetch_sub_explicit(used, 1, memory_order_relaxed);
	return fault_set(fault, WIRE_BUSY, "user %u has %u %s, which is all it may (%s)",
			 owner->uid, config->quota[kind], kinds[kind].noun, kinds[kind].setting);
}

void quota_give(struct owner *owner, enum quota_kind kind)
{
	uint32_t before =
		atomic_fetch_sub_explicit(&owner->quota.used[kind], 1, memory_order_relaxed);

	CHECK(before > 0);
}

/*
 * Each launch pays for an interval of time, from now or from where the last one's ends; what is paid
 * for may lie a burst ahead of now.
 */
enum wire_error quota_launch(const struct config *config, struct owner *owner, uint64_t now_ns,
			     struct fault *fault)
{
	_Atomic uint64_t *paid_ns = &owner->quota.launches_ns;
	const uint64_t burst_ns = LIMIT_LAUNCH_BURST_S * CLOCK_NS_PER_S;
	uint64_t interval_ns, before, after;

	if (owner->is_operator)
		return WIRE_OK;
	interval_ns = CLOCK_NS_PER_S / config->launch_rate;
	before = atomic_load_explicit(paid_ns, memory_order_relaxed);
	do {
		after = (before > now_ns ? before : now_ns) + interval_ns;
		if (after > now_ns + burst_ns)
			return fault_set(
				fault, WIRE_BUSY,
				"user %u starts more than %u commands and agents a second (owner_launch_rate)",
				owner->uid, config->launch_rate);
	} while (!atomic_compare_exchange_weak_explicit(
		paid_ns, &before, after, memory_order_relaxed, memory_order_relaxed));
	return WIRE_OK;
}

static bool charge(const struct owner *owner, _Atomic size_t *used, size_t bytes, size_t max)
{
	size_t before = atomic_fetch_add_explicit(used, bytes, memory_order_relaxed);

	if (owner->is_operator || before + bytes <= max)
		return true;
	(void)atomic_fetch_sub_explicit(used, bytes, memory_order_relaxed);
	return false;
}

static void uncharge(_Atomic size_t *used, size_t bytes)
{
	size_t before = atomic_fetch_sub_explicit(used, bytes, memory_order_relaxed);

	CHECK(before >= bytes);
}

bool quota_charge(struct owner *owner, size_t bytes)
{
	return charge(owner, &owner->quota.bytes, bytes, LIMIT_OWNER_BYTES);
}

void quota_uncharge(struct owner *owner, size_t bytes)
{
	uncharge(&owner->quota.bytes, bytes);
}

bool quota_charge_stdin(struct owner *owner, size_t bytes)
{
	return charge(owner, &owner->quota.stdin_bytes, bytes, LIMIT_OWNER_STDIN_BYTES);
}

void quota_uncharge_stdin(struct owner *owner, size_t bytes)
{
	uncharge(&owner->quota.stdin_bytes, bytes);
}
