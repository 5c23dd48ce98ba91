/* SPDX-License-Identifier: MIT */

/*
 * The bag of options is unpacked with msgpack-c into its object model: EXEC costs a process, a few
 * objects do not matter, and the keys come in any order. A table names every key with its reader; an unknown key
 * is refused, so a typing error does not silently mean the default.
 */

#include "core/exec_options.h"

#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/limits.h"
#include "core/user.h"

#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* Bytes that came as str or bin. */
struct text {
	const char *bytes;
	uint32_t len;
};

static enum wire_error bad(struct fault *fault, const char *what)
{
	return fault_set(fault, WIRE_INVALID_ARGUMENT, "EXEC: %s", what);
}

static enum wire_error no_memory(struct fault *fault)
{
	return fault_set(fault, WIRE_BUSY, "no memory");
}

/* ---- strv ---- */

static void strv_deinit(struct strv *v)
{
	for (size_t i = 0; i < v->count; i++)
		free(v->items[i]);
	free(v->items);
	*v = (struct strv){0};
}

/* Takes @item; NULL is a failed allocation of the caller's. False without memory. */
static bool strv_push(struct strv *v, char *item)
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

/* ---- command ---- */

static enum wire_error word_push(struct exec_options *o, struct cursor *at, struct fault *fault)
{
	const uint8_t *bytes;
	uint32_t len;

	if (cursor_read_bytes(at, &bytes, &len))
		return bad(fault, "command: every element must be a string");
	if (memchr(bytes, 0, len))
		return bad(fault, "command: no NUL inside");
	return strv_push(&o->argv, strndup((const char *)bytes, len)) ? WIRE_OK : no_memory(fault);
}

static enum wire_error command_read(struct exec_options *o, struct cursor at, struct fault *fault)
{
	enum wire_error code = WIRE_OK;
	uint32_t count;

	if (!cursor_read_array(&at, &count)) {
		if (!count || count > LIMIT_JOB_ARGS)
			return fault_set(fault, WIRE_INVALID_ARGUMENT,
					 "EXEC: command: 1 to %d elements", LIMIT_JOB_ARGS);
		while (count-- && !code)
			code = word_push(o, &at, fault);
		if (!code && !*o->argv.items[0])
			return bad(fault, "command: the program's name is empty");
		return code;
	}
	if (!strv_push(&o->argv, strdup("/bin/sh")) || !strv_push(&o->argv, strdup("-c")))
		return no_memory(fault);
	return word_push(o, &at, fault);
}

/* ---- options ---- */

static bool text_of(const msgpack_object *value, struct text *ret_text)
{
	if (value->type == MSGPACK_OBJECT_STR)
		*ret_text = (struct text){value->via.str.ptr, value->via.str.size};
	else if (value->type == MSGPACK_OBJECT_BIN)
		*ret_text = (struct text){value->via.bin.ptr, value->via.bin.size};
	else
		return false;
	return true;
}

static enum wire_error cwd_read(struct exec_options *o, const msgpack_object *value,
				struct fault *fault)
{
	struct text text;

	if (!text_of(value, &text) || !text.len || text.bytes[0] != '/' ||
	    text.len > LIMIT_PATH_BYTES || memchr(text.bytes, 0, text.len))
		return bad(fault, "cwd must be an absolute path");
	free(o->cwd);
	o->cwd = strndup(text.bytes, text.len);
	return o->cwd ? WIRE_OK : no_memory(fault);
}

static enum wire_error env_read(struct exec_options *o, const msgpack_object *value,
				struct fault *fault)
{
	if (value->type != MSGPACK_OBJECT_MAP || value->via.map.size > LIMIT_JOB_ENV)
		return fault_set(fault, WIRE_INVALID_ARGUMENT,
				 "EXEC: env must be a map of at most %d", LIMIT_JOB_ENV);
	for (uint32_t i = 0; i < value->via.map.size; i++) {
		struct text name, text;
		char *entry;

		if (!text_of(&value->via.map.ptr[i].key, &name) ||
		    !text_of(&value->via.map.ptr[i].val, &text) || !name.len ||
		    memchr(name.bytes, '=', name.len) || memchr(name.bytes, 0, name.len) ||
		    memchr(text.bytes, 0, text.len))
			return bad(fault,
				   "env: names without = and values must be strings without NUL");
		if (asprintf(&entry, "%.*s=%.*s", (int)name.len, name.bytes, (int)text.len,
			     text.bytes) < 0)
			entry = NULL;
		if (!strv_push(&o->env, entry))
			return no_memory(fault);
	}
	return WIRE_OK;
}

static enum wire_error stdin_read(struct exec_options *o, const msgpack_object *value,
				  struct fault *fault)
{
	struct text text;

	if (!text_of(value, &text) || text.len > FRAME_PAYLOAD_MAX)
		return bad(fault, "stdin must be a string or bytes, 1 MiB at most");
	free(o->input);
	o->input = malloc(text.len ? text.len : 1);
	if (!o->input)
		return no_memory(fault);
	if (text.len)
		memcpy(o->input, text.bytes, text.len);
	o->input_len = text.len;
	return WIRE_OK;
}

static enum wire_error timeout_read(struct exec_options *o, const msgpack_object *value,
				    struct fault *fault)
{
	/* A year bounds the arithmetic; whoever wants longer wants none. */
	if (value->type != MSGPACK_OBJECT_POSITIVE_INTEGER || value->via.u64 > 31536000000)
		return bad(fault, "timeout_ms must be milliseconds, 0 for no timeout");
	o->timeout_ms = value->via.u64;
	return WIRE_OK;
}

static enum wire_error output_read(struct exec_options *o, const msgpack_object *value,
				   struct fault *fault)
{
	if (value->type != MSGPACK_OBJECT_POSITIVE_INTEGER ||
	    value->via.u64 > LIMIT_JOB_OUTPUT_BYTES)
		return fault_set(fault, WIRE_INVALID_ARGUMENT,
				 "EXEC: output_max must be bytes, %d at most",
				 LIMIT_JOB_OUTPUT_BYTES);
	o->output_max = (uint32_t)value->via.u64;
	return WIRE_OK;
}

static const struct option {
	const char *name;
	enum wire_error (*read)(struct exec_options *o, const msgpack_object *value,
				struct fault *fault);
} option_table[] = {
	{"cwd", cwd_read},           {"env", env_read},
	{"stdin", stdin_read},       {"timeout_ms", timeout_read},
	{"output_max", output_read},
};

static enum wire_error option_read(struct exec_options *o, const msgpack_object_kv *pair,
				   struct fault *fault)
{
	struct text name;

	if (!text_of(&pair->key, &name))
		return bad(fault, "option names must be strings");
	if (pair->val.type == MSGPACK_OBJECT_NIL)
		return WIRE_OK;
	for (size_t i = 0; i < sizeof(option_table) / sizeof(option_table[0]); i++)
		if (name.len == strlen(option_table[i].name) &&
		    !memcmp(name.bytes, option_table[i].name, name.len))
			return option_table[i].read(o, &pair->val, fault);
	return fault_set(fault, WIRE_INVALID_ARGUMENT, "EXEC: there is no option %.*s",
			 name.len > 40 ? 40 : (int)name.len, name.bytes);
}

static enum wire_error bag_read(struct exec_options *o, struct cursor bag, struct fault *fault)
{
	enum wire_error code = WIRE_OK;
	msgpack_unpacked unpacked;
	size_t offset = 0;

	msgpack_unpacked_init(&unpacked);
	if (msgpack_unpack_next(&unpacked, (const char *)bag.pos, (size_t)(bag.end - bag.pos),
				&offset) != MSGPACK_UNPACK_SUCCESS ||
	    unpacked.data.type != MSGPACK_OBJECT_MAP)
		code = bad(fault, "options cannot be unpacked as a map");
	for (uint32_t i = 0; !code && i < unpacked.data.via.map.size; i++)
		code = option_read(o, &unpacked.data.via.map.ptr[i], fault);
	msgpack_unpacked_destroy(&unpacked);
	return code;
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

/* Adds what the caller did not set; the caller's entries win. */
static enum wire_error env_complete(struct exec_options *o, const struct user *user,
				    struct fault *fault)
{
	const char *const base[][2] = {
		{"HOME", user->home},   {"USER", user->name}, {"LOGNAME", user->name},
		{"PATH", PATH_DEFAULT}, {"LANG", "C.UTF-8"},
	};
	char *entry;

	for (size_t i = 0; i < sizeof(base) / sizeof(base[0]); i++) {
		if (env_has(&o->env, base[i][0]))
			continue;
		if (asprintf(&entry, "%s=%s", base[i][0], base[i][1]) < 0)
			entry = NULL;
		if (!strv_push(&o->env, entry))
			return no_memory(fault);
	}
	return WIRE_OK;
}

enum wire_error exec_options_init(struct exec_options *options, const struct user *user,
				  struct cursor command, struct cursor bag, struct fault *fault)
{
	enum wire_error code;

	*options = (struct exec_options){
		.timeout_ms = LIMIT_JOB_TIMEOUT_MS_DEFAULT,
		.output_max = LIMIT_JOB_OUTPUT_BYTES,
	};
	code = command_read(options, command, fault);
	if (!code && bag.pos)
		code = bag_read(options, bag, fault);
	if (!code)
		code = env_complete(options, user, fault);
	if (!code && !options->cwd) {
		options->cwd = strdup(user->home);
		code = options->cwd ? WIRE_OK : no_memory(fault);
	}
	if (code)
		exec_options_deinit(options);
	return code;
}

void exec_options_deinit(struct exec_options *options)
{
	strv_deinit(&options->argv);
	strv_deinit(&options->env);
	free(options->cwd);
	free(options->input);
	*options = (struct exec_options){0};
}
