/* SPDX-License-Identifier: MIT */

/*
 * Values of a result that is a map, by name
 *
 * Each look-up walks the map from its beginning: results have some dozen keys, and no order of them is
 * promised. Of a key that comes twice the first counts. Keys that are no strings are stepped over.
 */

#include <string.h>

#include "sdk/c/clove.h"

int clove_map_get(struct cursor map, const char *key, struct cursor *ret_value)
{
	size_t key_len = strlen(key);
	struct cursor value;
	const uint8_t *name;
	uint32_t pairs, len;
	bool found;

	if (cursor_read_map(&map, &pairs))
		return CLOVE_E_BROKEN;
	while (pairs--) {
		found = !cursor_read_bytes(&map, &name, &len);
		if (!found && cursor_skip(&map))
			return CLOVE_E_BROKEN;
		found = found && len == key_len && !memcmp(name, key, len);
		value = map;
		if (cursor_skip(&map))
			return CLOVE_E_BROKEN;
		if (!found)
			continue;
		value.end = map.pos;
		*ret_value = value;
		return 0;
	}
	return CLOVE_E_BROKEN;
}

int clove_map_uint(struct cursor map, const char *key, uint64_t *ret_value)
{
	struct cursor value;
	int r = clove_map_get(map, key, &value);

	if (r)
		return r;
	return cursor_read_uint(&value, ret_value) ? CLOVE_E_BROKEN : 0;
}

int clove_map_int(struct cursor map, const char *key, int64_t *ret_value)
{
	struct cursor value;
	int r = clove_map_get(map, key, &value);

	if (r)
		return r;
	return cursor_read_int(&value, ret_value) ? CLOVE_E_BROKEN : 0;
}

int clove_map_bool(struct cursor map, const char *key, bool *ret_value)
{
	struct cursor value;
	int r = clove_map_get(map, key, &value);

	if (r)
		return r;
	return cursor_read_bool(&value, ret_value) ? CLOVE_E_BROKEN : 0;
}

int clove_map_bytes(struct cursor map, const char *key, const uint8_t **ret_bytes,
		    uint32_t *ret_len)
{
	struct cursor value;
	int r = clove_map_get(map, key, &value);

	if (r)
		return r;
	return cursor_read_bytes(&value, ret_bytes, ret_len) ? CLOVE_E_BROKEN : 0;
}
