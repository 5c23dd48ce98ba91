/* SPDX-License-Identifier: MIT */

/*
 * The MessagePack form of a spec
 *
 * On the wire a spec is one map with exactly the keys that fields[] lists for its kind, in any
 * order: unsigned integers, str, arrays of them, and for the binds an array of [fd, flags, target].
 *
 * Unpacking runs in a process that holds root, on bytes from one that does not. It goes in four
 * passes, each of which trusts only what the earlier ones have shown: claims_hold() walks the
 * bytes, so that no count can make msgpack-c allocate more than the message is long; msgpack-c
 * builds the tree; field by field the types are checked; and the result, copied into one block,
 * must pass the same spec_check() that the kernel can ask beforehand.
 */

#include <errno.h>
#include <msgpack.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "core/base/err.h"
#include "sandbox/spec_priv.h"

enum type {
	TYPE_U32,
	TYPE_U64,
	TYPE_TEXT,
	TYPE_TEXTS,
	TYPE_GROUPS,
	TYPE_BINDS,
};

enum {
	PLAIN = 1 << LAUNCH_PLAIN,
	AGENT = 1 << LAUNCH_AGENT,
	ENTER = 1 << LAUNCH_ENTER,
	ALL = PLAIN | AGENT | ENTER,
	KEY_MAX = 32,
};

struct field {
	const char *key;
	enum type type;
	unsigned kinds; /* bits 1 << enum launch_kind */
	size_t offset;
};

#define FIELD(key, type, kinds, member)                                \
	{                                                              \
		key, type, kinds, offsetof(struct launch_spec, member) \
	}

static const struct field fields[] = {
	FIELD("kind", TYPE_U32, ALL, kind),
	FIELD("argv", TYPE_TEXTS, ALL, argv),
	FIELD("env", TYPE_TEXTS, ALL, env),
	FIELD("cwd", TYPE_TEXT, ALL, cwd),
	FIELD("cwd_or_root", TYPE_U32, ALL, cwd_or_root),
	FIELD("umask", TYPE_U32, ALL, umask),
	FIELD("uid", TYPE_U32, PLAIN | AGENT, uid),
	FIELD("gid", TYPE_U32, PLAIN | AGENT, gid),
	FIELD("groups", TYPE_GROUPS, PLAIN | AGENT, groups),
	FIELD("box_id", TYPE_U64, ENTER, box_id),
	FIELD("flags", TYPE_U32, AGENT, box.flags),
	FIELD("net", TYPE_U32, AGENT, box.net),
	FIELD("seccomp", TYPE_U32, AGENT, box.seccomp),
	FIELD("nice", TYPE_U32, AGENT, box.nice),
	FIELD("hostname", TYPE_TEXT, AGENT, box.hostname),
	FIELD("stdin_fd", TYPE_U32, AGENT, box.stdin_fd),
	FIELD("socket_fd", TYPE_U32, AGENT, box.socket_fd),
	FIELD("report_fd", TYPE_U32, AGENT, box.report_fd),
	FIELD("log_fd", TYPE_U32, AGENT, box.log_fd),
	FIELD("log_bytes", TYPE_U64, AGENT, box.log_bytes),
	FIELD("workspace_fd", TYPE_U32, AGENT, box.workspace_fd),
	FIELD("workspace_bytes", TYPE_U64, AGENT, box.workspace_bytes),
	FIELD("workspace_quota", TYPE_U64, AGENT, box.workspace_quota),
	FIELD("tmp_bytes", TYPE_U64, AGENT, box.tmp_bytes),
	FIELD("binds", TYPE_BINDS, AGENT, box.binds),
	FIELD("bind_uid", TYPE_U32, AGENT, box.bind_uid),
	FIELD("bind_gid", TYPE_U32, AGENT, box.bind_gid),
	FIELD("nofile", TYPE_U64, AGENT, box.rlimits.nofile),
	FIELD("nproc", TYPE_U64, AGENT, box.rlimits.nproc),
	FIELD("fsize_bytes", TYPE_U64, AGENT, box.rlimits.fsize_bytes),
	FIELD("as_bytes", TYPE_U64, AGENT, box.rlimits.as_bytes),
	FIELD("memory_bytes", TYPE_U64, AGENT, box.limits.memory_bytes),
	FIELD("cpu_quota_us", TYPE_U64, AGENT, box.limits.cpu_quota_us),
	FIELD("pids", TYPE_U64, AGENT, box.limits.pids),
	FIELD("io_read_bytes", TYPE_U64, AGENT, box.limits.io_read_bytes),
	FIELD("io_write_bytes", TYPE_U64, AGENT, box.limits.io_write_bytes),
	FIELD("cgroup", TYPE_TEXT, AGENT, box.cgroup),
};

enum {
	FIELD_KIND = 0,
	FIELD_COUNT = sizeof(fields) / sizeof(fields[0]),
};

static bool belongs(const struct field *field, uint64_t kind)
{
	/* A kind that nobody knows is sent as a plain one, for spec_check() to refuse in words. */
	return field->kinds & (kind >= LAUNCH_PLAIN && kind <= LAUNCH_ENTER ? 1u << kind : PLAIN);
}

struct sink {
	struct buf *message;
	size_t bytes_left;
	int error; /* the first failure; what follows it is not written */
};

static int sink_write(void *data, const char *bytes, size_t n)
{
	struct sink *sink = data;

	if (sink->error)
		return -1;
	if (n > sink->bytes_left)
		sink->error = SPEC_E_TOO_BIG;
	else
		sink->error = buf_append(sink->message, bytes, n);
	sink->bytes_left -= sink->error ? 0 : n;
	return sink->error ? -1 : 0;
}

static void pack_text(msgpack_packer *pk, const char *text)
{
	size_t n = strlen(text);

	(void)msgpack_pack_str(pk, n);
	(void)msgpack_pack_str_body(pk, text, n);
}

static void pack_texts(msgpack_packer *pk, const char *const *texts)
{
	size_t n = 0;

	while (texts[n])
		n++;
	(void)msgpack_pack_array(pk, n);
	for (size_t i = 0; i < n; i++)
		pack_text(pk, texts[i]);
}

static void pack_binds(msgpack_packer *pk, const struct launch_box *box)
{
	(void)msgpack_pack_array(pk, box->n_binds);
	for (size_t i = 0; i < box->n_binds; i++) {
		(void)msgpack_pack_array(pk, 3);
		(void)msgpack_pack_uint32(pk, box->binds[i].fd);
		(void)msgpack_pack_uint32(pk, box->binds[i].flags);
		pack_text(pk, box->binds[i].target);
	}
}

static void pack_field(msgpack_packer *pk, const struct launch_spec *spec,
		       const struct field *field)
{
	const void *at = (const char *)spec + field->offset;

	switch (field->type) {
	case TYPE_U32:
		(void)msgpack_pack_uint32(pk, *(const uint32_t *)at);
		return;
	case TYPE_U64:
		(void)msgpack_pack_uint64(pk, *(const uint64_t *)at);
		return;
	case TYPE_TEXT:
		pack_text(pk, *(const char *const *)at);
		return;
	case TYPE_TEXTS:
		pack_texts(pk, *(const char *const *const *)at);
		return;
	case TYPE_GROUPS:
		(void)msgpack_pack_array(pk, spec->n_groups);
		for (size_t i = 0; i < spec->n_groups; i++)
			(void)msgpack_pack_uint32(pk, spec->groups[i]);
		return;
	case TYPE_BINDS:
		pack_binds(pk, &spec->box);
		return;
	}
}

int spec_pack(const struct launch_spec *spec, struct buf *message)
{
	struct sink sink = {.message = message, .bytes_left = SPEC_BYTES_MAX};
	msgpack_packer pk;
	size_t n = 0;

	for (size_t i = 0; i < FIELD_COUNT; i++)
		n += belongs(&fields[i], spec->kind);
	msgpack_packer_init(&pk, &sink, sink_write);
	(void)msgpack_pack_map(&pk, n);
	for (size_t i = 0; i < FIELD_COUNT && !sink.error; i++) {
		if (!belongs(&fields[i], spec->kind))
			continue;
		pack_text(&pk, fields[i].key);
		pack_field(&pk, spec, &fields[i]);
	}
	return sink.error == SPEC_E_TOO_BIG ? SPEC_E_TOO_BIG : err_trace(sink.error);
}

/* True if @len bytes are one value of str, uint, array and map, every count of which is honest. */
static bool claims_hold(const uint8_t *p, size_t len)
{
	size_t i = 0;

	for (size_t pending = 1; pending > 0; pending--) {
		unsigned tag, size_bytes = 0;
		uint64_t size = 0;

		if (i == len)
			return false;
		tag = p[i++];
		if (tag < 0x80 || (tag >= 0xcc && tag <= 0xcf)) { /* uint */
			size = tag < 0x80 ? 0 : 1u << (tag - 0xcc);
			if (size > len - i)
				return false;
			i += size;
			continue;
		}
		if (tag >= 0xd9 && tag <= 0xdb) /* str 8, 16, 32 */
			size_bytes = 1u << (tag - 0xd9);
		else if (tag >= 0xdc && tag <= 0xdf) /* array 16, 32, map 16, 32 */
			size_bytes = tag & 1 ? 4 : 2;
		else if (tag < 0xc0) /* fixmap, fixarray, fixstr */
			size = tag < 0xa0 ? tag & 0xf : tag & 0x1f;
		else
			return false;
		if (size_bytes > len - i)
			return false;
		for (unsigned b = 0; b < size_bytes; b++)
			size = size << 8 | p[i++];
		if (size > len - i)
			return false;
		if ((tag >= 0xa0 && tag < 0xc0) || (tag >= 0xd9 && tag <= 0xdb))
			i += size;
		else
			pending += size * (tag < 0x90 || tag >= 0xde ? 2 : 1);
	}
	return i == len;
}

static bool is_text(const msgpack_object *o)
{
	return o->type == MSGPACK_OBJECT_STR && !memchr(o->via.str.ptr, '\0', o->via.str.size);
}

static bool is_u32(const msgpack_object *o)
{
	return o->type == MSGPACK_OBJECT_POSITIVE_INTEGER && o->via.u64 <= UINT32_MAX;
}

static bool is_bind(const msgpack_object *o)
{
	return o->type == MSGPACK_OBJECT_ARRAY && o->via.array.size == 3 &&
	       is_u32(&o->via.array.ptr[0]) && is_u32(&o->via.array.ptr[1]) &&
	       is_text(&o->via.array.ptr[2]);
}

static bool is_array_of(const msgpack_object *o, bool (*is_element)(const msgpack_object *))
{
	if (o->type != MSGPACK_OBJECT_ARRAY)
		return false;
	for (uint32_t i = 0; i < o->via.array.size; i++)
		if (!is_element(&o->via.array.ptr[i]))
			return false;
	return true;
}

static bool has_type(enum type type, const msgpack_object *o)
{
	switch (type) {
	case TYPE_U32:
		return is_u32(o);
	case TYPE_U64:
		return o->type == MSGPACK_OBJECT_POSITIVE_INTEGER;
	case TYPE_TEXT:
		return is_text(o);
	case TYPE_TEXTS:
		return is_array_of(o, is_text);
	case TYPE_GROUPS:
		return is_array_of(o, is_u32);
	case TYPE_BINDS:
		return is_array_of(o, is_bind);
	}
	return false;
}

static size_t find_key(const msgpack_object *key)
{
	size_t i = 0;

	while (i < FIELD_COUNT && !(is_text(key) && key->via.str.size == strlen(fields[i].key) &&
				    !memcmp(key->via.str.ptr, fields[i].key, key->via.str.size)))
		i++;
	return i;
}

/* Finds every field of the kind exactly once, and nothing else. */
static int find_fields(const msgpack_object *root, const msgpack_object *ret_fields[FIELD_COUNT],
		       struct spec_reason *reterr_reason)
{
	memset(ret_fields, 0, FIELD_COUNT * sizeof(*ret_fields));
	if (root->type != MSGPACK_OBJECT_MAP)
		return spec_refuse(reterr_reason, "not a map");
	for (uint32_t i = 0; i < root->via.map.size; i++) {
		const msgpack_object_kv *kv = &root->via.map.ptr[i];
		size_t f = find_key(&kv->key);

		if (f == FIELD_COUNT)
			return spec_refuse(reterr_reason, "entry %u has an unknown key", i);
		if (ret_fields[f])
			return spec_refuse(reterr_reason, "%s is given twice", fields[f].key);
		if (!has_type(fields[f].type, &kv->val))
			return spec_refuse(reterr_reason, "%s has the wrong type", fields[f].key);
		ret_fields[f] = &kv->val;
	}
	if (!ret_fields[FIELD_KIND])
		return spec_refuse(reterr_reason, "kind is missing");
	for (size_t f = 0; f < FIELD_COUNT; f++) {
		bool wanted = belongs(&fields[f], ret_fields[FIELD_KIND]->via.u64);

		if (wanted && !ret_fields[f])
			return spec_refuse(reterr_reason, "%s is missing", fields[f].key);
		if (!wanted && ret_fields[f])
			return spec_refuse(reterr_reason, "%s is not of this kind", fields[f].key);
	}
	return 0;
}

/* The block that holds a spec, while it is filled. */
struct block {
	struct launch_spec *spec;
	struct launch_bind *binds;
	const char **slots;
	gid_t *groups;
	char *text;
};

static const char *copy_text(struct block *block, const msgpack_object *o)
{
	char *text = block->text;

	memcpy(text, o->via.str.ptr, o->via.str.size);
	text[o->via.str.size] = '\0';
	block->text += o->via.str.size + 1;
	return text;
}

static const char *const *copy_texts(struct block *block, const msgpack_object *o)
{
	const char **texts = block->slots;

	for (uint32_t i = 0; i < o->via.array.size; i++)
		texts[i] = copy_text(block, &o->via.array.ptr[i]);
	texts[o->via.array.size] = NULL;
	block->slots += o->via.array.size + 1;
	return texts;
}

static void copy_field(struct block *block, const struct field *field, const msgpack_object *o)
{
	void *at = (char *)block->spec + field->offset;

	switch (field->type) {
	case TYPE_U32:
		*(uint32_t *)at = (uint32_t)o->via.u64;
		return;
	case TYPE_U64:
		*(uint64_t *)at = o->via.u64;
		return;
	case TYPE_TEXT:
		*(const char **)at = copy_text(block, o);
		return;
	case TYPE_TEXTS:
		*(const char *const **)at = copy_texts(block, o);
		return;
	case TYPE_GROUPS:
		for (uint32_t i = 0; i < o->via.array.size; i++)
			block->groups[i] = (gid_t)o->via.array.ptr[i].via.u64;
		block->spec->groups = block->groups;
		block->spec->n_groups = o->via.array.size;
		return;
	case TYPE_BINDS:
		for (uint32_t i = 0; i < o->via.array.size; i++) {
			const msgpack_object *parts = o->via.array.ptr[i].via.array.ptr;

			block->binds[i].fd = (uint32_t)parts[0].via.u64;
			block->binds[i].flags = (uint32_t)parts[1].via.u64;
			block->binds[i].target = copy_text(block, &parts[2]);
		}
		block->spec->box.binds = block->binds;
		block->spec->box.n_binds = o->via.array.size;
		return;
	}
}

/* One block: the spec, its binds, the pointers of argv and env, the groups, all strings. */
static struct launch_spec *copy_spec(const msgpack_object *const found[FIELD_COUNT],
				     size_t text_max)
{
	size_t n_slots = 0, n_binds = 0, n_groups = 0;
	struct block block;
	char *bytes;

	for (size_t f = 0; f < FIELD_COUNT; f++) {
		if (!found[f])
			continue;
		if (fields[f].type == TYPE_TEXTS)
			n_slots += found[f]->via.array.size + 1;
		if (fields[f].type == TYPE_BINDS)
			n_binds = found[f]->via.array.size;
		if (fields[f].type == TYPE_GROUPS)
			n_groups = found[f]->via.array.size;
	}
	bytes = calloc(1, sizeof(struct launch_spec) + n_binds * sizeof(struct launch_bind) +
				  n_slots * sizeof(char *) + n_groups * sizeof(gid_t) + text_max);
	if (!bytes)
		return NULL;
	block.spec = (struct launch_spec *)(void *)bytes;
	block.binds = (struct launch_bind *)(block.spec + 1);
	block.slots = (const char **)(block.binds + n_binds);
	block.groups = (gid_t *)(block.slots + n_slots);
	block.text = (char *)(block.groups + n_groups);
	for (size_t f = 0; f < FIELD_COUNT; f++)
		if (found[f])
			copy_field(&block, &fields[f], found[f]);
	return block.spec;
}

static int unpack(const msgpack_object *root, size_t len, struct launch_spec **ret_spec,
		  struct spec_reason *reterr_reason)
{
	CLEANUP(spec_freep) struct launch_spec *spec = NULL;
	const msgpack_object *found[FIELD_COUNT];
	int r;

	r = find_fields(root, found, reterr_reason);
	if (r)
		return r;
	/* Every string cost at least its tag in the message: that pays for its NUL. */
	spec = copy_spec(found, len);
	if (!spec)
		return err_raise(-ENOMEM);
	r = spec_check(spec, reterr_reason);
	if (r)
		return r;
	*ret_spec = TAKE(spec);
	return 0;
}

int spec_unpack(const void *bytes, size_t len, struct launch_spec **ret_spec,
		struct spec_reason *reterr_reason)
{
	msgpack_unpacked tree;
	size_t offset = 0;
	int r;

	if (len > SPEC_BYTES_MAX || !claims_hold(bytes, len))
		return spec_refuse(reterr_reason, "not one MessagePack map of the types in use");
	msgpack_unpacked_init(&tree);
	if (msgpack_unpack_next(&tree, bytes, len, &offset) == MSGPACK_UNPACK_SUCCESS)
		r = unpack(&tree.data, len, ret_spec, reterr_reason);
	else
		r = spec_refuse(reterr_reason, "nested too deeply");
	msgpack_unpacked_destroy(&tree);
	return r;
}

struct launch_spec *spec_free(struct launch_spec *spec)
{
	free(spec);
	return NULL;
}
