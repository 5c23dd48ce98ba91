/* SPDX-License-Identifier: MIT */

#include "store/verify.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/entry.h"
#include "store/key.h"
#include "store/usage.h"

enum {
	SUM_BUCKETS = 4096,
	STOP_EVERY = 1024, /* entries */
};

/* What a payer's entries come to, counted here. */
struct sum {
	struct sum *next;
	struct usage_figures parts[USAGE_PARTS];
	uint32_t row_len;
	uint8_t row[];
};

struct verify {
	struct db *db;
	const struct hash_seed *seed;
	rocksdb_readoptions_t *options;
	const rocksdb_snapshot_t *snapshot;
	struct sum *sums[SUM_BUCKETS];
	struct verify_stop stop;
	uint64_t keys, bytes, seen;
	char *text;
};

__attribute__((format(printf, 2, 3))) static int finding(struct verify *verify, const char *format,
							 ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(verify->text, STORE_TEXT_MAX, format, args);
	va_end(args);
	return STORE_E_DAMAGED;
}

static int sum_find(struct verify *verify, const uint8_t *row, size_t row_len, struct sum **ret_sum)
{
	struct sum **bucket = &verify->sums[hash_bytes(verify->seed, row, row_len) % SUM_BUCKETS],
		   *sum = *bucket;

	while (sum && (sum->row_len != row_len || memcmp(sum->row, row, row_len)))
		sum = sum->next;
	if (!sum) {
		sum = calloc(1, sizeof(*sum) + row_len);
		if (!sum)
			return STORE_E_BUSY;
		sum->row_len = (uint32_t)row_len;
		memcpy(sum->row, row, row_len);
		sum->next = *bucket;
		*bucket = sum;
	}
	*ret_sum = sum;
	return 0;
}

static int sum_entry(struct verify *verify, enum usage_part part, const struct store_entry *entry,
		     size_t key_len)
{
	struct entry_payer payer = entry_payer(entry);
	uint8_t row[KEY_PAYER_MAX];
	uint32_t value_len;
	int r = 0;

	(void)store_entry_value(entry, &value_len);
	for (uint32_t len = 0; !r && len <= payer.account_len;
	     len += payer.account_len ? payer.account_len : 1) {
		struct sum *sum;

		r = sum_find(verify, row, key_payer_write(payer.owner, payer.account, len, row),
			     &sum);
		if (r)
			break;
		sum->parts[part].keys++;
		sum->parts[part].bytes += key_len + value_len + STORE_ENTRY_COST;
	}
	return r;
}

static int check_indexed(struct verify *verify, const uint8_t *key, size_t key_len,
			 int64_t expiry_ms)
{
	uint8_t index[KEY_TIME_BYTES + KEY_MAX];
	char *error = NULL;
	rocksdb_pinnableslice_t *found;

	if (!expiry_ms)
		return 0;
	key_time_write(expiry_ms, index);
	memcpy(index + KEY_TIME_BYTES, key, key_len);
	found = rocksdb_get_pinned_cf(verify->db->rocks, verify->options,
				      verify->db->families[DB_EXPIRY], (const char *)index,
				      KEY_TIME_BYTES + key_len, &error);
	if (error)
		return db_error(error, verify->text) == DB_E_DAMAGED ? STORE_E_DAMAGED
								     : STORE_E_FAILED;
	if (!found)
		return finding(verify, "an expiry is not indexed");
	rocksdb_pinnableslice_destroy(found);
	return 0;
}

static int check_value(struct verify *verify, enum usage_part part, const uint8_t *key,
		       size_t key_len, const void *image, size_t image_len)
{
	CLEANUP(store_entry_unrefp) struct store_entry *entry = NULL;
	uint32_t space_len = key_space_read(key, key_len);
	int r;

	if (!space_len || key_len > KEY_MAX)
		return finding(verify, "a key of unknown form");
	entry = entry_read(image, image_len);
	if (!entry)
		return errno == EBADMSG ? finding(verify, "a value of unknown form") : STORE_E_BUSY;
	verify->keys++;
	verify->bytes += key_len + image_len;
	r = sum_entry(verify, part, entry, key_len - space_len);
	return r ? r : check_indexed(verify, key, key_len, store_entry_expiry_ms(entry));
}

/* An entry of the index belongs to a value that expires then; those of sessions may outlive them. */
static int check_index(struct verify *verify, const uint8_t *key, size_t key_len)
{
	rocksdb_pinnableslice_t *found;
	const char *image;
	char *error = NULL;
	size_t len;
	int r = 0;

	if (key_len <= KEY_TIME_BYTES ||
	    !key_space_read(key + KEY_TIME_BYTES, key_len - KEY_TIME_BYTES))
		return finding(verify, "an indexed expiry of unknown form");
	if (db_family_of(key + KEY_TIME_BYTES) == DB_SESSION)
		return 0;
	found = rocksdb_get_pinned_cf(
		verify->db->rocks, verify->options, verify->db->families[DB_STATE],
		(const char *)key + KEY_TIME_BYTES, key_len - KEY_TIME_BYTES, &error);
	if (error)
		return db_error(error, verify->text) == DB_E_DAMAGED ? STORE_E_DAMAGED
								     : STORE_E_FAILED;
	if (!found)
		return finding(verify, "an indexed expiry of what is not there");
	image = rocksdb_pinnableslice_value(found, &len);
	{
		CLEANUP(store_entry_unrefp) struct store_entry *entry = entry_read(image, len);

		if (!entry || store_entry_expiry_ms(entry) != key_time_read(key))
			r = finding(verify, "an indexed expiry that its value does not have");
	}
	rocksdb_pinnableslice_destroy(found);
	return r;
}

static int check_one(struct verify *verify, enum db_family family, rocksdb_iterator_t *it)
{
	size_t key_len, len;
	const uint8_t *key = (const uint8_t *)rocksdb_iter_key(it, &key_len);
	const char *value = rocksdb_iter_value(it, &len);
	struct sum *sum;
	int r = verify->seen++ % STOP_EVERY ? 0 : verify->stop.asked(verify->stop.arg);

	if (r) {
		(void)snprintf(verify->text, STORE_TEXT_MAX, "interrupted");
		return r;
	}
	if (family == DB_EXPIRY)
		return check_index(verify, key, key_len);
	if ((family == DB_META || family == DB_SESSION) && key_len >= 5 && key[0] == 'u')
		return sum_find(verify, key, key_len,
				&sum); /* so that a row without entries is found, too */
	if (family == DB_META)
		return 0;
	return check_value(verify, family == DB_SESSION ? USAGE_SESSION : USAGE_KEPT, key, key_len,
			   value, len);
}

static int check_family(struct verify *verify, enum db_family family)
{
	rocksdb_iterator_t *it = rocksdb_create_iterator_cf(verify->db->rocks, verify->options,
							    verify->db->families[family]);
	char *error = NULL;
	int r = 0;

	for (rocksdb_iter_seek_to_first(it); !r && rocksdb_iter_valid(it); rocksdb_iter_next(it))
		r = check_one(verify, family, it);
	rocksdb_iter_get_error(it, &error);
	rocksdb_iter_destroy(it);
	if (error && !r)
		return db_error(error, verify->text) == DB_E_DAMAGED ? STORE_E_DAMAGED
								     : STORE_E_FAILED;
	rocksdb_free(error);
	return r;
}

/* The stored figures as of the same moment. */
static int stored_figures(struct verify *verify, enum usage_part part, const struct sum *sum,
			  struct usage_figures *ret)
{
	char *error = NULL, *value;
	uint64_t words[2] = {0};
	size_t len = 0;

	value = rocksdb_get_cf(verify->db->rocks, verify->options,
			       verify->db->families[part == USAGE_SESSION ? DB_SESSION : DB_META],
			       (const char *)sum->row, sum->row_len, &len, &error);
	if (error)
		return db_error(error, verify->text) == DB_E_DAMAGED ? STORE_E_DAMAGED
								     : STORE_E_FAILED;
	if (value && len == sizeof(words))
		memcpy(words, value, sizeof(words));
	rocksdb_free(value);
	ret->bytes = le64toh(words[0]);
	ret->keys = le64toh(words[1]);
	return 0;
}

static int check_sums(struct verify *verify)
{
	for (unsigned i = 0; i < SUM_BUCKETS; i++)
		for (struct sum *sum = verify->sums[i]; sum; sum = sum->next)
			for (unsigned part = 0; part < USAGE_PARTS; part++) {
				struct usage_figures stored;
				int r = stored_figures(verify, part, sum, &stored);

				if (r)
					return r;
				if (stored.bytes != sum->parts[part].bytes ||
				    stored.keys != sum->parts[part].keys)
					return finding(verify,
						       "usage of a payer: %" PRIu64
						       " keys, %" PRIu64 " bytes stored, %" PRIu64
						       " and %" PRIu64 " counted",
						       stored.keys, stored.bytes,
						       sum->parts[part].keys,
						       sum->parts[part].bytes);
			}
	return 0;
}

static void verify_end(struct verify *verify)
{
	for (unsigned i = 0; i < SUM_BUCKETS; i++)
		while (verify->sums[i]) {
			struct sum *sum = verify->sums[i];

			verify->sums[i] = sum->next;
			free(sum);
		}
	rocksdb_readoptions_destroy(verify->options);
	rocksdb_release_snapshot(verify->db->rocks, verify->snapshot);
}

int verify_database(struct db *db, const struct hash_seed *seed, struct verify_stop stop,
		    uint64_t *ret_keys, uint64_t *ret_bytes, char *reterr_text)
{
	CLEANUP(freep) struct verify *verify = calloc(1, sizeof(*verify));
	int r = 0;

	if (!verify)
		return STORE_E_BUSY;
	verify->db = db;
	verify->seed = seed;
	verify->stop = stop;
	verify->text = reterr_text;
	verify->snapshot = rocksdb_create_snapshot(db->rocks);
	verify->options = rocksdb_readoptions_create();
	rocksdb_readoptions_set_snapshot(verify->options, verify->snapshot);
	rocksdb_readoptions_set_verify_checksums(verify->options, 1);
	rocksdb_readoptions_set_fill_cache(verify->options, 0);
	rocksdb_readoptions_set_readahead_size(verify->options, 1 << 20);
	for (unsigned family = 0; !r && family < DB_FAMILIES; family++)
		r = check_family(verify, family);
	if (!r)
		r = check_sums(verify);
	*ret_keys = verify->keys;
	*ret_bytes = verify->bytes;
	verify_end(verify);
	return r;
}
