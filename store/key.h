/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Keys as they are stored
 *
 *   format byte 1 | owner, 4 bytes, big-endian | scope, 1 byte | length of name, 1 byte | name | key
 *
 * so that what belongs to a space is adjacent, in the order of its keys. A space is everything before
 * the key. An expiry is indexed under its time, 8 bytes, big-endian, followed by the stored key. A payer's row
 * is a letter, owner (4 bytes, big-endian) and account.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/store.h"

enum {
	KEY_FORMAT = 1,
	KEY_SPACE_MIN = 7,
	KEY_SPACE_MAX = KEY_SPACE_MIN + STORE_NAME_MAX,
	KEY_WITHIN_MAX = 4096, /* what store_sizes.key_max may be */
	KEY_MAX = KEY_SPACE_MAX + KEY_WITHIN_MAX,
	KEY_TIME_BYTES = 8,
	KEY_PAYER_MAX = 5 + STORE_NAME_MAX,
};

/* The encoded length, or 0 for a space that cannot be. */
uint32_t key_space_len(const struct store_space *space);
void key_space_write(const struct store_space *space, uint8_t *to);

/* Of an encoded key or space: length of its space, 0 if it is damaged. */
uint32_t key_space_read(const uint8_t *key, size_t len);
enum store_scope key_scope(const uint8_t *key); /* of one that key_space_read() took */

/* The least string above all that begin with @prefix, in @ret_end of the same size. 0: there is none. */
size_t key_prefix_end(const uint8_t *prefix, size_t len, uint8_t *ret_end);

void key_time_write(int64_t time_ms, uint8_t *to);
int64_t key_time_read(const uint8_t *from);

/* Row of a payer's usage: length. */
size_t key_payer_write(uint32_t owner, const void *account, size_t account_len, uint8_t *to);
