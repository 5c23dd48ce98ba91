/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * SipHash-1-3: keys come from agents, so tables must not be predictable
 */

#include <stddef.h>
#include <stdint.h>

struct hash_seed {
	uint64_t k0, k1;
};

/* 0 or -errno. */
int hash_seed_init(struct hash_seed *seed);

uint64_t hash_bytes(const struct hash_seed *seed, const void *bytes, size_t len);
