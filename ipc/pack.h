/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The pairs of msgpack-c calls that every packed value needs
 *
 * Results are dropped: a packer's buffer remembers that it ran out of memory and its owner asks once.
 */

#include <msgpack.h>
#include <stddef.h>
#include <string.h>

static inline void pack_str(msgpack_packer *pk, const char *bytes, size_t len)
{
	(void)msgpack_pack_str(pk, len);
	(void)msgpack_pack_str_body(pk, bytes, len);
}

static inline void pack_text(msgpack_packer *pk, const char *text)
{
	pack_str(pk, text, strlen(text));
}

static inline void pack_bin(msgpack_packer *pk, const void *bytes, size_t len)
{
	(void)msgpack_pack_bin(pk, len);
	(void)msgpack_pack_bin_body(pk, bytes, len);
}

static inline void pack_bool(msgpack_packer *pk, _Bool value)
{
	(void)(value ? msgpack_pack_true(pk) : msgpack_pack_false(pk));
}

static inline void pack_uint(msgpack_packer *pk, uint64_t value)
{
	(void)msgpack_pack_uint64(pk, value);
}

static inline void pack_map(msgpack_packer *pk, size_t pairs)
{
	(void)msgpack_pack_map(pk, pairs);
}

static inline void pack_array(msgpack_packer *pk, size_t count)
{
	(void)msgpack_pack_array(pk, count);
}

/* A map's key and value at once. */
static inline void pack_key_uint(msgpack_packer *pk, const char *key, uint64_t value)
{
	pack_text(pk, key);
	pack_uint(pk, value);
}

static inline void pack_key_text(msgpack_packer *pk, const char *key, const char *value)
{
	pack_text(pk, key);
	pack_text(pk, value);
}

static inline void pack_key_bool(msgpack_packer *pk, const char *key, _Bool value)
{
	pack_text(pk, key);
	pack_bool(pk, value);
}
