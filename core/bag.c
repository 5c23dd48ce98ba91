/* SPDX-License-Identifier: MIT */

#include "core/bag.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/limits.h"

#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum wire_error bag_no_memory(struct fault *fault)
{
	return fault_set(fault, WIRE_BUSY, "no memory");
}

static enum wire_error bad(struct fault *fault, const char *name, const char *what)
{
	return fault_set(fault, WIRE_INVALID_ARGUMENT, "%s %s", name, what);
}

/* ---- strings ---- */

void strv_deinit(struct strv *v)
{
	for (size_t i = 0; i < v->count; i++)
		free(v->items[i]);
	free(v->items);
	*v = (struct strv){0};
}

bool strv_push(struct strv *v, char *item)
{
	if (item && v->count + 1 >= v->cap) {
		size_t cap = v->cap ? v->cap * 2 : 16;
		char **items = realloc(v->items, cap * sizeof(char *));

		if (!items) {
			free(item);
			return false;
		}
		v->items = items;
		v->cap = cap;
	}
	if (!item)
		return false;
	v->items[v->count++] = item;
	v->items[v->count] = NULL;
	return true;
}

bool bag_text(const msgpack_object *value, struct text *ret_text)
{
	if (value->type == MSGPACK_OBJECT_STR)
		*ret_text = (struct text){value->via.str.ptr, value->via.str.size};
	else if (value->type == MSGPACK_OBJECT_BIN)
		*ret_text = (struct text){value->via.bin.ptr, value->via.bin.size};
	else
		return false;
	return true;
}

bool bag_text_is(struct text text, const char *word)
{
	return text.len == strlen(word) && !memcmp(text.bytes, word, text.len);
}

/* ---- values ---- */

enum wire_error bag_path(const char *name, const msgpack_object *value, char **place,
			 struct fault *fault)
{
	struct text text;

	if (!bag_text(value, &text) || !text.len || text.bytes[0] != '/' ||
	    text.len > LIMIT_PATH_BYTES || memchr(text.bytes, 0, text.len))
		return bad(fault, name, "must be an absolute path");
	free(*place);
	*place = strndup(text.bytes, text.len);
	return *place ? WIRE_OK : bag_no_memory(fault);
}

enum wire_error bag_strings(const char *name, const msgpack_object *value, size_t max,
			    struct strv *place, struct fault *fault)
{
	if (value->type != MSGPACK_OBJECT_ARRAY || value->via.array.size > max)
		return fault_set(fault, WIRE_INVALID_ARGUMENT,
				 "%s must be an array of at most %zu strings", name, max);
	for (uint32_t i = 0; i < value->via.array.size; i++) {
		struct text text;

		if (!bag_text(&value->via.array.ptr[i], &text) || memchr(text.bytes, 0, text.len))
			return bad(fault, name, "must be an array of strings without NUL");
		if (!strv_push(place, strndup(text.bytes, text.len)))
			return bag_no_memory(fault);
	}
	return WIRE_OK;
}

enum wire_error bag_env(const char *name, const msgpack_object *value, struct strv *place,
			struct fault *fault)
{
	if (value->type != MSGPACK_OBJECT_MAP || value->via.map.size > LIMIT_JOB_ENV)
		return fault_set(fault, WIRE_INVALID_ARGUMENT, "%s must be a map of at most %d",
				 name, LIMIT_JOB_ENV);
	for (uint32_t i = 0; i < value->via.map.size; i++) {
		struct text key, text;
		char *entry;

		if (!bag_text(&value->via.map.ptr[i].key, &key) ||
		    !bag_text(&value->via.map.ptr[i].val, &text) || !key.len ||
		    memchr(key.bytes, '=', key.len) || memchr(key.bytes, 0, key.len) ||
		    memchr(text.bytes, 0, text.len))
			return bad(fault, name,
				   "takes names without = and values, strings without NUL");
		if (asprintf(&entry, "%.*s=%.*s", (int)key.len, key.bytes, (int)text.len,
			     text.bytes) < 0)
			entry = NULL;
		if (!strv_push(place, entry))
			return bag_no_memory(fault);
	}
	return WIRE_OK;
}

enum wire_error bag_bytes(const char *name, const msgpack_object *value, uint8_t **place,
			  uint32_t *ret_len, struct fault *fault)
{
	struct text text;

	if (!bag_text(value, &text) || text.len > FRAME_PAYLOAD_MAX)
		return bad(fault, name, "must be a string or bytes, 1 MiB at most");
	free(*place);
	*place = malloc(text.len ? text.len : 1);
	if (!*place)
		return bag_no_memory(fault);
	if (text.len)
		memcpy(*place, text.bytes, text.len);
	*ret_len = text.len;
	return WIRE_OK;
}

enum wire_error bag_uint(const char *name, const msgpack_object *value, uint64_t min, uint64_t max,
			 uint64_t *ret_value, struct fault *fault)
{
	if (value->type != MSGPACK_OBJECT_POSITIVE_INTEGER || value->via.u64 < min ||
	    value->via.u64 > max)
		return fault_set(fault, WIRE_INVALID_ARGUMENT,
				 "%s must be a whole number from %llu to %llu", name,
				 (unsigned long long)min, (unsigned long long)max);
	*ret_value = value->via.u64;
	return WIRE_OK;
}

enum wire_error bag_bool(const char *name, const msgpack_object *value, bool *ret_value,
			 struct fault *fault)
{
	if (value->type != MSGPACK_OBJECT_BOOLEAN)
		return bad(fault, name, "must be true or false");
	*ret_value = value->via.boolean;
	return WIRE_OK;
}

/* ---- bags ---- */

static enum wire_error pair_read(const char *what, const msgpack_object_kv *pair,
				 const struct bag_row *rows, size_t count, void *to,
				 struct fault *fault)
{
	struct text name;

	if (!bag_text(&pair->key, &name))
		return fault_set(fault, WIRE_INVALID_ARGUMENT, "%s: option names must be strings",
				 what);
	if (pair->val.type == MSGPACK_OBJECT_NIL)
		return WIRE_OK;
	for (size_t i = 0; i < count; i++)
		if (bag_text_is(name, rows[i].name))
			return rows[i].read(to, &pair->val, fault);
	return fault_set(fault, WIRE_INVALID_ARGUMENT, "%s: there is no option %.*s", what,
			 name.len > 40 ? 40 : (int)name.len, name.bytes);
}

enum wire_error bag_apply(const char *what, const msgpack_object *map, const struct bag_row *rows,
			  size_t count, void *to, struct fault *fault)
{
	enum wire_error code = WIRE_OK;

	if (map->type != MSGPACK_OBJECT_MAP)
		return fault_set(fault, WIRE_INVALID_ARGUMENT, "%s must be a map", what);
	for (uint32_t i = 0; !code && i < map->via.map.size; i++)
		code = pair_read(what, &map->via.map.ptr[i], rows, count, to, fault);
	return code;
}

enum wire_error bag_read(const char *what, struct cursor bag, const struct bag_row *rows,
			 size_t count, void *to, struct fault *fault)
{
	enum wire_error code;
	msgpack_unpacked unpacked;
	size_t offset = 0;

	msgpack_unpacked_init(&unpacked);
	if (msgpack_unpack_next(&unpacked, (const char *)bag.pos, (size_t)(bag.end - bag.pos),
				&offset) != MSGPACK_UNPACK_SUCCESS)
		code = fault_set(fault, WIRE_INVALID_ARGUMENT,
				 "%s: options cannot be unpacked as a map", what);
	else
		code = bag_apply(what, &unpacked.data, rows, count, to, fault);
	msgpack_unpacked_destroy(&unpacked);
	return code;
}

/* ---- commands ---- */

static enum wire_error word_push(const char *what, struct strv *argv, struct cursor *at,
				 struct fault *fault)
{
	const uint8_t *bytes;
	uint32_t len;

	if (cursor_read_bytes(at, &bytes, &len))
		return bad(fault, what, "every element must be a string");
	if (memchr(bytes, 0, len))
		return bad(fault, what, "no NUL inside");
	return strv_push(argv, strndup((const char *)bytes, len)) ? WIRE_OK : bag_no_memory(fault);
}

enum wire_error bag_command(const char *what, struct cursor at, struct strv *argv,
			    struct fault *fault)
{
	enum wire_error code = WIRE_OK;
	uint32_t count;

	if (!cursor_read_array(&at, &count)) {
		if (!count || count > LIMIT_JOB_ARGS)
			return fault_set(fault, WIRE_INVALID_ARGUMENT, "%s 1 to %d elements", what,
					 LIMIT_JOB_ARGS);
		while (count-- && !code)
			code = word_push(what, argv, &at, fault);
		if (!code && !*argv->items[0])
			return bad(fault, what, "the program's name is empty");
		return code;
	}
	if (!strv_push(argv, strdup("/bin/sh")) || !strv_push(argv, strdup("-c")))
		return bag_no_memory(fault);
	return word_push(what, argv, &at, fault);
}

/* ---- environment ---- */

static bool env_has(const struct strv *env, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < env->count; i++)
		if (!strncmp(env->items[i], name, len) && env->items[i][len] == '=')
			return true;
	return false;
}

enum wire_error bag_env_complete(struct strv *env, const char *user, const char *home,
				 struct fault *fault)
{
	const char *const base[][2] = {
		{"HOME", home},         {"USER", user},      {"LOGNAME", user},
		{"PATH", PATH_DEFAULT}, {"LANG", "C.UTF-8"},
	};
	char *entry;

	for (size_t i = 0; i < sizeof(base) / sizeof(base[0]); i++) {
		if (env_has(env, base[i][0]))
			continue;
		if (asprintf(&entry, "%s=%s", base[i][0], base[i][1]) < 0)
			entry = NULL;
		if (!strv_push(env, entry))
			return bag_no_memory(fault);
	}
	return WIRE_OK;
}
