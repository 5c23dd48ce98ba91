/* SPDX-License-Identifier: MIT */

#include "store/entry.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	AT_VERSION = 1,
	AT_EXPIRY = 9,
	AT_OWNER = 17,
	AT_ACCOUNT_LEN = 21,
};

static struct store_entry *entry_alloc(size_t len)
{
	struct store_entry *entry = malloc(sizeof(*entry) + len);

	if (!entry)
		return NULL;
	atomic_init(&entry->refs, 1);
	entry->len = (uint32_t)len;
	return entry;
}

struct store_entry *entry_new(uint64_t version, int64_t expiry_ms, const struct entry_payer *payer,
			      uint32_t value_len, uint8_t **ret_value)
{
	struct store_entry *entry =
		entry_alloc(ENTRY_HEAD + (size_t)payer->account_len + value_len);
	uint64_t word;
	uint32_t owner = htole32(payer->owner);

	if (!entry)
		return NULL;
	entry->image[0] = ENTRY_FORMAT;
	word = htole64(version);
	memcpy(entry->image + AT_VERSION, &word, sizeof(word));
	word = htole64((uint64_t)expiry_ms);
	memcpy(entry->image + AT_EXPIRY, &word, sizeof(word));
	memcpy(entry->image + AT_OWNER, &owner, sizeof(owner));
	entry->image[AT_ACCOUNT_LEN] = (uint8_t)payer->account_len;
	if (payer->account_len)
		memcpy(entry->image + ENTRY_HEAD, payer->account, payer->account_len);
	*ret_value = entry->image + ENTRY_HEAD + payer->account_len;
	return entry;
}

struct store_entry *entry_read(const void *image, size_t len)
{
	const uint8_t *bytes = image;
	struct store_entry *entry;

	if (len < ENTRY_HEAD || len > UINT32_MAX || bytes[0] != ENTRY_FORMAT ||
	    len < ENTRY_HEAD + (size_t)bytes[AT_ACCOUNT_LEN]) {
		errno = EBADMSG;
		return NULL;
	}
	entry = entry_alloc(len);
	if (entry)
		memcpy(entry->image, image, len);
	return entry;
}

uint64_t store_entry_version(const struct store_entry *entry)
{
	uint64_t version;

	memcpy(&version, entry->image + AT_VERSION, sizeof(version));
	return le64toh(version);
}

int64_t store_entry_expiry_ms(const struct store_entry *entry)
{
	uint64_t expiry;

	memcpy(&expiry, entry->image + AT_EXPIRY, sizeof(expiry));
	return (int64_t)le64toh(expiry);
}

const uint8_t *store_entry_value(const struct store_entry *entry, uint32_t *ret_len)
{
	uint32_t head = ENTRY_HEAD + (uint32_t)entry->image[AT_ACCOUNT_LEN];

	*ret_len = entry->len - head;
	return entry->image + head;
}

struct entry_payer entry_payer(const struct store_entry *entry)
{
	struct entry_payer payer = {
		.account_len = entry->image[AT_ACCOUNT_LEN],
		.account = entry->image + ENTRY_HEAD,
	};

	memcpy(&payer.owner, entry->image + AT_OWNER, sizeof(payer.owner));
	payer.owner = le32toh(payer.owner);
	return payer;
}

struct store_entry *store_entry_ref(struct store_entry *entry)
{
	if (entry)
		(void)atomic_fetch_add_explicit(&entry->refs, 1, memory_order_relaxed);
	return entry;
}

struct store_entry *store_entry_unref(struct store_entry *entry)
{
	/* Release: this holder's reads come before the free; acquire: the others' do. */
	if (entry && atomic_fetch_sub_explicit(&entry->refs, 1, memory_order_acq_rel) == 1)
		free(entry);
	return NULL;
}
