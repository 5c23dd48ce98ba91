/* SPDX-License-Identifier: MIT */

#include "core/protection.h"

#include "core/base/cleanup.h"
#include "core/base/clock.h"
#include "core/directory.h"
#include "core/kernel.h"
#include "ipc/pack.h"
#include "sandbox/cgroup.h"

static const char *by(uint32_t layers, enum launch_layer cgroup, uint32_t rlimit)
{
	if (layers & 1u << cgroup)
		return "cgroup";
	return layers & rlimit ? "rlimit" : "none";
}

void protection_pack_limits(uint32_t layers, msgpack_packer *pk)
{
	pack_key_text(pk, "memory",
		      by(layers, LAUNCH_LAYER_CGROUP_MEMORY, 1u << LAUNCH_LAYER_RLIMIT_MEMORY));
	pack_key_text(pk, "cpu", by(layers, LAUNCH_LAYER_CGROUP_CPU, 0));
	pack_key_text(pk, "pids",
		      by(layers, LAUNCH_LAYER_CGROUP_PIDS, 1u << LAUNCH_LAYER_RLIMIT_PIDS));
	pack_key_text(pk, "io", by(layers, LAUNCH_LAYER_CGROUP_IO, 0));
}

uint32_t protection_of_host(const struct kernel *kernel)
{
	uint32_t layers = 0;

	for (unsigned i = 0; i < LAUNCH_LAYER_COUNT; i++)
		layers |= (uint32_t) !!kernel->probe.layers[i].on << i;
	return layers;
}

static void pack_known(msgpack_packer *pk, const char *key, uint64_t value)
{
	pack_text(pk, key);
	if (value == CGROUP_UNKNOWN)
		(void)msgpack_pack_nil(pk);
	else
		(void)msgpack_pack_uint64(pk, value);
}

void protection_pack_usage(struct kernel *kernel, const struct agent_card *card, uint64_t now_ns,
			   msgpack_packer *pk)
{
	struct cgroup_stats stats = {CGROUP_UNKNOWN, CGROUP_UNKNOWN, CGROUP_UNKNOWN};
	char group[LIMIT_AGENT_GROUP_BYTES];
	CLEANUP(fd_closep) int dirfd = -1;

	if (kernel->groups_fd >= 0 && card->layers &&
	    !directory_group(kernel->directory, card->id, group) &&
	    !cgroup_find_at(kernel->groups_fd, group, &dirfd))
		(void)cgroup_stats(dirfd, &stats);
	pack_known(pk, "memory_bytes", stats.memory_bytes);
	pack_known(pk, "processes", stats.pids);
	pack_text(pk, "cpu_percent");
	if (stats.cpu_us == CGROUP_UNKNOWN || now_ns <= card->life_ns)
		(void)msgpack_pack_nil(pk);
	else
		(void)msgpack_pack_double(pk, (double)stats.cpu_us * 1000 * 100 /
						      (double)(now_ns - card->life_ns));
}
