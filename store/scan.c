/* SPDX-License-Identifier: MIT */

/*
 * Scans: always by a reader, since nobody knows beforehand how much of it is in memory
 *
 * A cursor is a format byte and the last key of the page, within the space. The next page begins above it, and ends
 * with the prefix in any case, so a forged cursor leads nowhere its scan could not go anyway.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/cleanup.h"
#include "store/client.h"

enum {
	CURSOR_FORMAT = 1,
};

struct scan_body {
	size_t charged;
	uint32_t space_len, limit;
	uint32_t from_len, end_len; /* seek key; bound, 0: none */
	uint8_t *from, *end;        /* in @bytes */
	uint8_t *cursor;            /* malloc'ed */
	uint8_t bytes[];
};

static void drop_rows(struct store_scan *scan)
{
	for (uint32_t i = 0; i < scan->count; i++) {
		(void)store_entry_unref(scan->rows[i].entry);
		free(scan->rows[i].key);
	}
	scan->count = 0;
}

/* Appends the row the iterator is at. 0, STORE_E_BUSY or _DAMAGED. */
static int add_row(struct store_scan *scan, const uint8_t *key, size_t key_len,
		   struct store_entry *entry)
{
	struct store_row *row = &scan->rows[scan->count];
	const uint32_t space_len = scan->body->space_len;

	row->key_len = (uint32_t)key_len - space_len;
	row->key = malloc(row->key_len);
	if (!row->key)
		return STORE_E_BUSY;
	memcpy(row->key, key + space_len, row->key_len);
	row->entry = scan->keys_only ? NULL : store_entry_ref(entry);
	scan->count++;
	return 0;
}

static int set_cursor(struct store_scan *scan, const uint8_t *key, size_t key_len)
{
	const uint32_t len = (uint32_t)key_len - scan->body->space_len;
	uint8_t *cursor = malloc(1 + (size_t)len);

	if (!cursor)
		return STORE_E_BUSY;
	cursor[0] = CURSOR_FORMAT;
	memcpy(cursor + 1, key + scan->body->space_len, len);
	scan->body->cursor = cursor;
	scan->next_cursor = cursor;
	scan->next_cursor_len = 1 + len;
	scan->more = true;
	return 0;
}

/* Goes through the iterator until a limit or the end. 0 or STORE_E_. */
static int fill_page(struct store *store, struct store_scan *scan, rocksdb_iterator_t *it)
{
	const int64_t now_ms = store_now_ms();
	uint32_t steps = 0;
	size_t bytes = 0;
	int r = 0;

	rocksdb_iter_seek(it, (const char *)scan->body->from, scan->body->from_len);
	for (; !r && rocksdb_iter_valid(it); rocksdb_iter_next(it)) {
		CLEANUP(store_entry_unrefp) struct store_entry *entry = NULL;
		size_t key_len, len;
		const uint8_t *key = (const uint8_t *)rocksdb_iter_key(it, &key_len);
		const char *image = rocksdb_iter_value(it, &len);

		errno = 0;
		entry = entry_read(image, len);
		if (!entry)
			return errno == EBADMSG ? STORE_E_DAMAGED : STORE_E_BUSY;
		steps++;
		if (!entry_expired(entry, now_ms)) {
			r = add_row(scan, key, key_len, entry);
			bytes += key_len + (scan->keys_only ? 0 : len);
		}
		if (!r && (scan->count == scan->body->limit || steps == STORE_SCAN_STEPS_MAX ||
			   bytes >= store->db_config.sizes.request_max / 2))
			return set_cursor(scan, key, key_len);
	}
	return r;
}

static int iterate(struct store *store, struct db *db, struct store_scan *scan)
{
	rocksdb_readoptions_t *options = rocksdb_readoptions_create();
	char *error = NULL;
	rocksdb_iterator_t *it;
	int r;

	if (scan->body->end_len)
		rocksdb_readoptions_set_iterate_upper_bound(options, (const char *)scan->body->end,
							    scan->body->end_len);
	it = rocksdb_create_iterator_cf(db->rocks, options,
					db->families[db_family_of(scan->body->from)]);
	r = fill_page(store, scan, it);
	rocksdb_iter_get_error(it, &error);
	if (error)
		r = db_error(error, NULL) == DB_E_DAMAGED ? STORE_E_DAMAGED : STORE_E_FAILED;
	rocksdb_iter_destroy(it);
	rocksdb_readoptions_destroy(options);
	return r;
}

static int charge(struct store *store, struct store_scan *scan)
{
	size_t bytes = 0;

	for (uint32_t i = 0; i < scan->count; i++)
		bytes += scan->rows[i].key_len +
			 (scan->rows[i].entry ? scan->rows[i].entry->len : 0);
	if (!store_read_charge(store, bytes))
		return STORE_E_BUSY;
	scan->body->charged = bytes;
	return 0;
}

static void scan_run(struct store_task *task, struct store_reader *reader)
{
	struct store_scan *scan = container_of(task, struct store_scan, task);
	struct db *db = store_reader_pin(reader);
	int r = STORE_E_FAILED;

	if (db) {
		scan->revision = store_committed(reader->store);
		scan->rows = calloc(scan->body->limit, sizeof(scan->rows[0]));
		r = scan->rows ? iterate(reader->store, db, scan) : STORE_E_BUSY;
		store_unpin(&reader->pin);
	}
	if (!r)
		r = charge(reader->store, scan);
	if (r) {
		drop_rows(scan);
		scan->more = false;
	}
	scan->result = r;
}

static void uncharge_scan(struct store_scan *scan)
{
	if (scan->body->charged)
		store_read_release(scan->task.client->store, scan->body->charged);
	scan->body->charged = 0;
}

static void scan_finish(struct store_task *task)
{
	struct store_scan *scan = container_of(task, struct store_scan, task);

	if (task->client->store->closing) /* which may be gone before what it gave */
		uncharge_scan(scan);
	scan->done(scan);
}

static void scan_resume(struct store_task *task)
{
	if (store_read_enqueue(task->client->store, task))
		return;
	container_of(task, struct store_scan, task)->result = STORE_E_BUSY;
	scan_finish(task);
}

/* The cursor must be a key with the prefix: anything else was not given by a page of this scan. */
static bool cursor_fits(const struct store_scan *scan)
{
	const uint8_t *cursor = scan->cursor;

	if (!scan->cursor_len)
		return true;
	return scan->cursor_len > 1 && cursor[0] == CURSOR_FORMAT &&
	       scan->cursor_len - 1 >= scan->prefix_len &&
	       !memcmp(cursor + 1, scan->prefix, scan->prefix_len);
}

static struct scan_body *body_new(const struct store_scan *scan, const struct store_space *space,
				  uint32_t space_len)
{
	const uint32_t prefix_len = space_len + scan->prefix_len;
	const uint32_t from_len = scan->cursor_len ? space_len + scan->cursor_len : prefix_len;
	struct scan_body *body = calloc(1, sizeof(*body) + from_len + prefix_len);

	if (!body)
		return NULL;
	body->space_len = space_len;
	body->limit = scan->limit && scan->limit < STORE_SCAN_ROWS_MAX ? scan->limit
								       : STORE_SCAN_ROWS_MAX;
	body->from = body->bytes;
	body->from_len = from_len;
	body->end = body->bytes + from_len;
	key_space_write(space, body->from);
	if (scan->prefix_len)
		memcpy(body->from + space_len, scan->prefix, scan->prefix_len);
	body->end_len = (uint32_t)key_prefix_end(body->from, prefix_len, body->end);
	if (scan->cursor_len) /* the least key above it: with a zero byte behind */
		memcpy(body->from + space_len, (const uint8_t *)scan->cursor + 1,
		       scan->cursor_len - 1);
	return body;
}

int store_scan_submit(struct store_client *client, struct store_scan *scan,
		      const struct store_space *space)
{
	const uint32_t key_max = client->store->db_config.sizes.key_max;
	uint32_t space_len = key_space_len(space);
	int r;

	scan->result = 0;
	scan->count = 0;
	scan->rows = NULL;
	scan->more = false;
	scan->next_cursor = NULL;
	scan->next_cursor_len = 0;
	scan->body = NULL;
	if (!space_len || scan->prefix_len > key_max || scan->cursor_len > key_max + 1 ||
	    !cursor_fits(scan))
		return STORE_E_INVALID;
	if (client->store->closing)
		return STORE_E_STOPPED;
	scan->body = body_new(scan, space, space_len);
	if (!scan->body)
		return STORE_E_BUSY;
	scan->task.client = client;
	scan->task.result = &scan->result;
	scan->task.run = scan_run;
	scan->task.resume = scan_resume;
	scan->task.finish = scan_finish;
	if (client->seq > client->seq_done)
		r = client_park(client, &scan->task, client->seq);
	else
		r = store_read_enqueue(client->store, &scan->task) ? STORE_E_PENDING : STORE_E_BUSY;
	if (r != STORE_E_PENDING)
		store_scan_deinit(scan);
	return r;
}

void store_scan_deinit(struct store_scan *scan)
{
	if (!scan->body)
		return;
	drop_rows(scan);
	uncharge_scan(scan);
	free(scan->rows);
	free(scan->body->cursor);
	free(scan->body);
	scan->rows = NULL;
	scan->body = NULL;
}
