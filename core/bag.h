/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Bags of options: a MessagePack map whose keys a table names, each with its reader
 *
 * Unpacked with msgpack-c into its object model: what takes a bag costs a process, a few objects do
 * not matter, and keys come in any order. An unknown key is refused, so that a typing error does
 * not silently mean the default; a nil value counts as absent. Input is hostile.
 */

#include <msgpack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/fault.h"
#include "ipc/cursor.h"

/* Growable vector of strings, ended by NULL. */
struct strv {
	char **items; /* owned, and each of them */
	size_t count, cap;
};

void strv_deinit(struct strv *v);

/* Takes @item; NULL is a failed allocation of the caller's. False without memory. */
bool strv_push(struct strv *v, char *item);

/* Borrowed bytes that came as str or bin. */
struct text {
	const char *bytes;
	uint32_t len;
};

struct bag_row {
	const char *name;
	/* WIRE_OK, or a code with @fault filled. */
	enum wire_error (*read)(void *to, const msgpack_object *value, struct fault *fault);
};

/* Applies every pair of the map at @bag to @to; @what names the call in messages. */
enum wire_error bag_read(const char *what, struct cursor bag, const struct bag_row *rows,
			 size_t count, void *to, struct fault *fault);

/* The same for a map inside another's value. */
enum wire_error bag_apply(const char *what, const msgpack_object *map, const struct bag_row *rows,
			  size_t count, void *to, struct fault *fault);

bool bag_text(const msgpack_object *value, struct text *ret_text);
bool bag_text_is(struct text text, const char *word);

/* Each puts a new string or strings there. @name is for messages, as in "EXEC: cwd". */
enum wire_error bag_path(const char *name, const msgpack_object *value, char **place,
			 struct fault *fault); /* absolute */
enum wire_error bag_strings(const char *name, const msgpack_object *value, size_t max,
			    struct strv *place, struct fault *fault); /* appends; no NUL inside */
enum wire_error bag_env(const char *name, const msgpack_object *value, struct strv *place,
			struct fault *fault); /* a map; appends "NAME=value" */
enum wire_error bag_bytes(const char *name, const msgpack_object *value, uint8_t **place,
			  uint32_t *ret_len, struct fault *fault); /* 1 MiB at most */
enum wire_error bag_uint(const char *name, const msgpack_object *value, uint64_t min, uint64_t max,
			 uint64_t *ret_value, struct fault *fault);
enum wire_error bag_bool(const char *name, const msgpack_object *value, bool *ret_value,
			 struct fault *fault);

/* An argument of type COMMAND: a string becomes /bin/sh -c, an array argv. */
enum wire_error bag_command(const char *what, struct cursor at, struct strv *argv,
			    struct fault *fault);

/* "NAME=value" for HOME, USER, LOGNAME, PATH and LANG, where @env has none of that name. */
enum wire_error bag_env_complete(struct strv *env, const char *user, const char *home,
				 struct fault *fault);

enum wire_error bag_no_memory(struct fault *fault);
