/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A value as it is stored, and in memory
 *
 *   format byte 1 | version, 8 | expiry ms, 8 | payer's owner, 4 | account length, 1 | account | MessagePack
 *
 * little-endian. In memory the same bytes follow a reference count, so a commit encodes nothing twice and a
 * value from the disk is copied once. Entries never change, and any thread may hold one.
 */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/cleanup.h"
#include "store/store.h"

enum {
	ENTRY_FORMAT = 1,
	ENTRY_HEAD = 22,
};

struct store_entry {
	_Atomic uint32_t refs;
	uint32_t len; /* of @image */
	uint8_t image[];
};

struct entry_payer {
	uint32_t owner;
	uint32_t account_len;
	const uint8_t *account;
};

DEFINE_CLEANUP(struct store_entry *, store_entry_unref);

/* A new one with one reference and a value to be filled in; NULL without memory. */
struct store_entry *entry_new(uint64_t version, int64_t expiry_ms, const struct entry_payer *payer,
			      uint32_t value_len, uint8_t **ret_value);

/* From stored bytes. NULL without memory, or (with errno EBADMSG) when they are damaged. */
struct store_entry *entry_read(const void *image, size_t len);

struct entry_payer entry_payer(const struct store_entry *entry);

static inline int entry_expired(const struct store_entry *entry, int64_t now_ms)
{
	int64_t expiry_ms = store_entry_expiry_ms(entry);

	return expiry_ms && expiry_ms <= now_ms;
}
