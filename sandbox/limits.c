/* SPDX-License-Identifier: MIT */

#include "sandbox/limits.h"

#include "core/base/cleanup.h"
#include "sandbox/launch.h"

static uint32_t at_most_u32(uint64_t value)
{
	return value < UINT32_MAX ? (uint32_t)value : UINT32_MAX;
}

void limits_to_cgroup(const struct launch_limits *limits, dev_t io_dev,
		      struct cgroup_limits *ret_limits)
{
	*ret_limits = (struct cgroup_limits){
		.memory_bytes = limits->memory_bytes,
		.cpu_quota_us = at_most_u32(limits->cpu_quota_us),
		/* One more, of the init. */
		.pids = limits->pids ? at_most_u32(limits->pids + 1) : 0,
		.io_read_bytes = limits->io_read_bytes,
		.io_write_bytes = limits->io_write_bytes,
		.io_dev = io_dev,
	};
}

uint32_t limits_layers(uint32_t features)
{
	static const struct {
		enum cgroup_feature feature;
		enum launch_layer layer;
	} pairs[] = {
		{CGROUP_MEMORY, LAUNCH_LAYER_CGROUP_MEMORY},
		{CGROUP_CPU, LAUNCH_LAYER_CGROUP_CPU},
		{CGROUP_PIDS, LAUNCH_LAYER_CGROUP_PIDS},
		{CGROUP_IO, LAUNCH_LAYER_CGROUP_IO},
		{CGROUP_FREEZE, LAUNCH_LAYER_CGROUP_FREEZE},
		{CGROUP_KILL, LAUNCH_LAYER_CGROUP_KILL},
	};
	uint32_t layers = 0;

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		if (features & CGROUP_BIT(pairs[i].feature))
			layers |= 1u << pairs[i].layer;
	return layers;
}

int limits_set(int groups, const char *group, const struct launch_limits *limits, dev_t io_dev,
	       uint32_t *ret_layers)
{
	struct cgroup_limits wanted;
	CLEANUP(fd_closep) int dirfd = -1;
	uint32_t enforced;
	int r = cgroup_find_at(groups, group, &dirfd);

	if (r)
		return r;
	limits_to_cgroup(limits, io_dev, &wanted);
	r = cgroup_limit(dirfd, &wanted, &enforced);
	if (!r)
		*ret_layers = limits_layers(enforced);
	return r;
}
