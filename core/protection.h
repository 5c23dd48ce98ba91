/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * By what an agent's limits hold, and what it uses of them, as clients are told
 */

#include <msgpack.h>
#include <stdint.h>

struct agent_card;
struct kernel;

enum {
	PROTECTION_LIMITS = 4, /* pairs that protection_pack_limits() packs */
	PROTECTION_USAGE = 3,
};

/* memory, cpu, pids and io: to cgroup, rlimit or none. @layers: bits 1 << LAUNCH_LAYER_x. */
void protection_pack_limits(uint32_t layers, msgpack_packer *pk);

/* What this host can enforce, as bits 1 << LAUNCH_LAYER_x. */
uint32_t protection_of_host(const struct kernel *kernel);

/*
 * memory_bytes, cpu_percent of one CPU since its present life began, processes (the init too); nil where it is
 * not known. Reads three small files of the agent's cgroup, which takes some 20 us.
 */
void protection_pack_usage(struct kernel *kernel, const struct agent_card *card, uint64_t now_ns,
			   msgpack_packer *pk);
