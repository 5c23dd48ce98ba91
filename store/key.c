/* SPDX-License-Identifier: MIT */

#include "store/key.h"

#include <endian.h>
#include <string.h>

uint32_t key_space_len(const struct store_space *space)
{
	switch (space->scope) {
	case STORE_GLOBAL:
		return space->name_len ? 0 : KEY_SPACE_MIN;
	case STORE_AGENT:
	case STORE_SESSION:
		if (!space->name_len || space->name_len > STORE_NAME_MAX)
			return 0;
		return KEY_SPACE_MIN + space->name_len;
	}
	return 0;
}

void key_space_write(const struct store_space *space, uint8_t *to)
{
	uint32_t owner = htobe32(space->owner);

	to[0] = KEY_FORMAT;
	memcpy(to + 1, &owner, sizeof(owner));
	to[5] = (uint8_t)space->scope;
	to[6] = (uint8_t)space->name_len;
	if (space->name_len)
		memcpy(to + KEY_SPACE_MIN, space->name, space->name_len);
}

uint32_t key_space_read(const uint8_t *key, size_t len)
{
	if (len < KEY_SPACE_MIN || key[0] != KEY_FORMAT || key[5] < STORE_GLOBAL ||
	    key[5] > STORE_SESSION || len < KEY_SPACE_MIN + (size_t)key[6])
		return 0;
	return KEY_SPACE_MIN + (uint32_t)key[6];
}

enum store_scope key_scope(const uint8_t *key)
{
	return (enum store_scope)key[5];
}

size_t key_prefix_end(const uint8_t *prefix, size_t len, uint8_t *ret_end)
{
	while (len && prefix[len - 1] == 0xff)
		len--;
	if (!len)
		return 0;
	memcpy(ret_end, prefix, len);
	ret_end[len - 1]++;
	return len;
}

void key_time_write(int64_t time_ms, uint8_t *to)
{
	uint64_t time = htobe64((uint64_t)time_ms);

	memcpy(to, &time, sizeof(time));
}

int64_t key_time_read(const uint8_t *from)
{
	uint64_t time;

	memcpy(&time, from, sizeof(time));
	return (int64_t)be64toh(time);
}

size_t key_payer_write(uint32_t owner, const void *account, size_t account_len, uint8_t *to)
{
	owner = htobe32(owner);
	to[0] = 'u';
	memcpy(to + 1, &owner, sizeof(owner));
	if (account_len)
		memcpy(to + 5, account, account_len);
	return 5 + account_len;
}
