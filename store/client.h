/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What reads need of their client: waiting for its own writes
 */

#include "store/store_priv.h"

/* Number of the write that a read of a key has to wait for; 0: none. */
static inline uint64_t client_pending(const struct store_client *client, uint64_t hash)
{
	uint64_t seq = client->pending[hash % STORE_PENDING_SLOTS];

	return seq > client->seq_done ? seq : 0;
}

/* Has task->resume() called once the write with that number is done. STORE_E_PENDING or STORE_E_BUSY. */
int client_park(struct store_client *client, struct store_task *task, uint64_t seq);
