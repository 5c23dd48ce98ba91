/* SPDX-License-Identifier: MIT */

/*
 * The launch spec and its MessagePack form
 *
 * On the wire a spec is one map with exactly these keys, in any order:
 *
 *   kind, uid, gid, umask   unsigned integers
 *   cwd                     str
 *   argv, env               arrays of str
 *   groups                  array of unsigned integers
 *
 * Unpacking runs in a process that holds root, on bytes from one that does not. It goes in four
 * passes, each of which trusts only what the earlier ones have shown: claims_hold() walks the
 * bytes, so that no count can make msgpack-c allocate more than the message is long; msgpack-c
 * builds the tree; field by field the types are checked; and the result, copied into one block,
 * must pass the same spec_check() that the kernel can ask beforehand.
 */

#include "sandbox/spec.h"

#include <errno.h>
#include <msgpack.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/base/err.h"

enum field {
	FIELD_KIND,
	FIELD_ARGV,
	FIELD_ENV,
	FIELD_CWD,
	FIELD_UID,
	FIELD_GID,
	FIELD_GROUPS,
	FIELD_UMASK,
	FIELD_COUNT,
};

static const char *const field_names[FIELD_COUNT] = {
	"kind", "argv", "env", "cwd", "uid", "gid", "groups", "umask",
};

static int refuse(struct spec_reason *reterr_reason, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static int refuse(struct spec_reason *reterr_reason, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(reterr_reason->text, sizeof(reterr_reason->text), format, ap);
	va_end(ap);
	return SPEC_E_REFUSED;
}

static size_t count(const char *const *strings)
{
	size_t n = 0;

	while (strings[n])
		n++;
	return n;
}

int spec_check(const struct launch_spec *spec, struct spec_reason *reterr_reason)
{
	if (spec->kind != LAUNCH_PLAIN)
		return refuse(reterr_reason, "kind %d is not known", (int)spec->kind);
	if (!spec->argv[0] || !*spec->argv[0])
		return refuse(reterr_reason, "argv names no program");
	if (count(spec->argv) > SPEC_ARGS_MAX)
		return refuse(reterr_reason, "argv has more than %d entries", SPEC_ARGS_MAX);
	if (count(spec->env) > SPEC_ARGS_MAX)
		return refuse(reterr_reason, "env has more than %d entries", SPEC_ARGS_MAX);
	for (size_t i = 0; spec->env[i]; i++)
		if (*spec->env[i] == '=' || !strchr(spec->env[i], '='))
			return refuse(reterr_reason, "env[%zu] is not NAME=value", i);
	if (*spec->cwd != '/')
		return refuse(reterr_reason, "cwd is not an absolute path");
	if (strlen(spec->cwd) > SPEC_PATH_MAX)
		return refuse(reterr_reason, "cwd is longer than %d bytes", SPEC_PATH_MAX);
	/* To setresuid() -1 means "leave as it is", which would be root. */
	if (spec->uid == (uid_t)-1 || spec->gid == (gid_t)-1)
		return refuse(reterr_reason, "uid and gid cannot be -1");
	if (spec->n_groups > SPEC_GROUPS_MAX)
		return refuse(reterr_reason, "groups has more than %d entries", SPEC_GROUPS_MAX);
	for (size_t i = 0; i < spec->n_groups; i++)
		if (spec->groups[i] == (gid_t)-1)
			return refuse(reterr_reason, "groups[%zu] is -1", i);
	if (spec->umask & ~(mode_t)0777)
		return refuse(reterr_reason, "umask has bits outside 0777");
	return 0;
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
	size_t n = count(texts);

	(void)msgpack_pack_array(pk, n);
	for (size_t i = 0; i < n; i++)
		pack_text(pk, texts[i]);
}

static void pack_field(msgpack_packer *pk, const struct launch_spec *spec, enum field field)
{
	switch (field) {
	case FIELD_KIND:
		(void)msgpack_pack_uint32(pk, (uint32_t)spec->kind);
		return;
	case FIELD_ARGV:
		pack_texts(pk, spec->argv);
		return;
	case FIELD_ENV:
		pack_texts(pk, spec->env);
		return;
	case FIELD_CWD:
		pack_text(pk, spec->cwd);
		return;
	case FIELD_UID:
		(void)msgpack_pack_uint32(pk, spec->uid);
		return;
	case FIELD_GID:
		(void)msgpack_pack_uint32(pk, spec->gid);
		return;
	case FIELD_GROUPS:
		(void)msgpack_pack_array(pk, spec->n_groups);
		for (size_t i = 0; i < spec->n_groups; i++)
			(void)msgpack_pack_uint32(pk, spec->groups[i]);
		return;
	case FIELD_UMASK:
		(void)msgpack_pack_uint32(pk, spec->umask);
		return;
	case FIELD_COUNT:
		return;
	}
}

int spec_pack(const struct launch_spec *spec, struct buf *message)
{
	struct sink sink = {.message = message, .bytes_left = SPEC_BYTES_MAX};
	msgpack_packer pk;

	msgpack_packer_init(&pk, &sink, sink_write);
	(void)msgpack_pack_map(&pk, FIELD_COUNT);
	for (enum field field = 0; field < FIELD_COUNT && !sink.error; field++) {
		pack_text(&pk, field_names[field]);
		pack_field(&pk, spec, field);
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

static bool is_array_of(const msgpack_object *o, bool (*is_element)(const msgpack_object *))
{
	if (o->type != MSGPACK_OBJECT_ARRAY)
		return false;
	for (uint32_t i = 0; i < o->via.array.size; i++)
		if (!is_element(&o->via.array.ptr[i]))
			return false;
	return true;
}

static bool has_type(enum field field, const msgpack_object *o)
{
	if (field == FIELD_ARGV || field == FIELD_ENV)
		return is_array_of(o, is_text);
	if (field == FIELD_GROUPS)
		return is_array_of(o, is_u32);
	return field == FIELD_CWD ? is_text(o) : is_u32(o);
}

/* Finds every field exactly once, and nothing else. */
static int find_fields(const msgpack_object *root, const msgpack_object *ret_fields[FIELD_COUNT],
		       struct spec_reason *reterr_reason)
{
	memset(ret_fields, 0, FIELD_COUNT * sizeof(*ret_fields));
	if (root->type != MSGPACK_OBJECT_MAP)
		return refuse(reterr_reason, "not a map");
	for (uint32_t i = 0; i < root->via.map.size; i++) {
		const msgpack_object_kv *kv = &root->via.map.ptr[i];
		enum field f = 0;

		while (f < FIELD_COUNT &&
		       !(is_text(&kv->key) && kv->key.via.str.size == strlen(field_names[f]) &&
			 !memcmp(kv->key.via.str.ptr, field_names[f], kv->key.via.str.size)))
			f++;
		if (f == FIELD_COUNT)
			return refuse(reterr_reason, "entry %u has an unknown key", i);
		if (ret_fields[f])
			return refuse(reterr_reason, "%s is given twice", field_names[f]);
		if (!has_type(f, &kv->val))
			return refuse(reterr_reason, "%s has the wrong type", field_names[f]);
		ret_fields[f] = &kv->val;
	}
	for (enum field f = 0; f < FIELD_COUNT; f++)
		if (!ret_fields[f])
			return refuse(reterr_reason, "%s is missing", field_names[f]);
	return 0;
}

static const char *copy_text(char **at, const msgpack_object *o)
{
	char *text = *at;

	memcpy(text, o->via.str.ptr, o->via.str.size);
	text[o->via.str.size] = '\0';
	*at += o->via.str.size + 1;
	return text;
}

static const char *const *copy_texts(const char ***slots, char **at, const msgpack_object *o)
{
	const char **texts = *slots;

	for (uint32_t i = 0; i < o->via.array.size; i++)
		texts[i] = copy_text(at, &o->via.array.ptr[i]);
	texts[o->via.array.size] = NULL;
	*slots += o->via.array.size + 1;
	return texts;
}

/* One block: the spec, the pointers of argv and env, the groups, the bytes of all strings. */
static struct launch_spec *copy_spec(const msgpack_object *const f[FIELD_COUNT], size_t text_max)
{
	size_t n_slots = f[FIELD_ARGV]->via.array.size + f[FIELD_ENV]->via.array.size + 2;
	size_t n_groups = f[FIELD_GROUPS]->via.array.size;
	size_t bytes = sizeof(struct launch_spec) + n_slots * sizeof(char *) +
		       n_groups * sizeof(gid_t) + text_max;
	struct launch_spec *spec = malloc(bytes);

	if (!spec)
		return NULL;
	const char **slots = (const char **)(spec + 1);
	gid_t *groups = (gid_t *)(slots + n_slots);
	char *text = (char *)(groups + n_groups);

	for (size_t i = 0; i < n_groups; i++)
		groups[i] = (gid_t)f[FIELD_GROUPS]->via.array.ptr[i].via.u64;
	spec->kind = (enum launch_kind)f[FIELD_KIND]->via.u64;
	spec->argv = copy_texts(&slots, &text, f[FIELD_ARGV]);
	spec->env = copy_texts(&slots, &text, f[FIELD_ENV]);
	spec->cwd = copy_text(&text, f[FIELD_CWD]);
	spec->uid = (uid_t)f[FIELD_UID]->via.u64;
	spec->gid = (gid_t)f[FIELD_GID]->via.u64;
	spec->groups = groups;
	spec->n_groups = n_groups;
	spec->umask = (mode_t)f[FIELD_UMASK]->via.u64;
	return spec;
}

static int unpack(const msgpack_object *root, size_t len, struct launch_spec **ret_spec,
		  struct spec_reason *reterr_reason)
{
	CLEANUP(spec_freep) struct launch_spec *spec = NULL;
	const msgpack_object *fields[FIELD_COUNT];
	int r;

	r = find_fields(root, fields, reterr_reason);
	if (r)
		return r;
	/* Every string cost at least its tag in the message: that pays for its NUL. */
	spec = copy_spec(fields, len);
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
		return refuse(reterr_reason, "not one MessagePack map of the types in use");
	msgpack_unpacked_init(&tree);
	if (msgpack_unpack_next(&tree, bytes, len, &offset) == MSGPACK_UNPACK_SUCCESS)
		r = unpack(&tree.data, len, ret_spec, reterr_reason);
	else
		r = refuse(reterr_reason, "nested too deeply");
	msgpack_unpacked_destroy(&tree);
	return r;
}

struct launch_spec *spec_free(struct launch_spec *spec)
{
	free(spec);
	return NULL;
}
