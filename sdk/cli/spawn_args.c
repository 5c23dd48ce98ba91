/* SPDX-License-Identifier: MIT */

/*
 * What to run. A first word that ends in .py, or any with --interpreter, is a script of this machine: the
 * kernel reads it as its user and gives a copy to the agent. Any other is a command, looked up in the sandbox.
 * So what a line means depends on its text alone, not on what files there are.
 */

#include "sdk/cli/spawn_args.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "ipc/frame.h"
#include "ipc/pack.h"
#include "sdk/cli/complain.h"
#include "sdk/cli/put.h"
#include "sdk/cli/quantity.h"

enum {
	STEM_CHARS = 40,                     /* of a made-up name, before its number */
	INPUT_BYTES_MAX = FRAME_PAYLOAD_MAX, /* what SPAWN takes */
	INPUT_READ_BYTES = 64 << 10,
};

/* A map of options: how many pairs is known at its end, and packed before them. */
struct bag {
	struct buf bytes;
	msgpack_packer pk;
	size_t pairs;
};

static void bag_deinit(struct bag *bag)
{
	buf_deinit(&bag->bytes);
}

static void bag_init(struct bag *bag)
{
	*bag = (struct bag){0};
	msgpack_packer_init(&bag->pk, &bag->bytes, put_packed);
}

/* The key; its value is packed by the caller. */
static void bag_key(struct bag *bag, const char *key)
{
	pack_text(&bag->pk, key);
	bag->pairs++;
}

static void bag_text(struct bag *bag, const char *key, const char *value)
{
	if (!value)
		return;
	bag_key(bag, key);
	pack_text(&bag->pk, value);
}

static void bag_uint(struct bag *bag, const char *key, uint64_t value)
{
	if (value == SPAWN_UNSET)
		return;
	bag_key(bag, key);
	pack_uint(&bag->pk, value);
}

static void bag_put(const struct bag *bag, struct buf *to)
{
	msgpack_packer pk;

	msgpack_packer_init(&pk, to, put_packed);
	pack_map(&pk, bag->pairs);
	put_bytes(to, bag->bytes.data, bag->bytes.len);
}

/* ---- the name ---- */

static bool ends_in(const char *text, const char *end)
{
	size_t text_len = strlen(text), end_len = strlen(end);

	return text_len > end_len && !strcmp(text + text_len - end_len, end);
}

/* "worker-3f9ac01d" for worker.py: no other agent has it, nor has left files under it. */
static void name_put(const char *word, struct buf *to)
{
	const char *slash = strrchr(word, '/');
	size_t start = to->len;
	uint32_t number = 0;
	char text[16];

	for (const char *c = slash ? slash + 1 : word; *c && to->len - start < STEM_CHARS; c++) {
		bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
			     (*c >= '0' && *c <= '9');

		if (!strcmp(c, ".py"))
			break;
		if (plain || (to->len > start && strchr("._-", *c)))
			put_bytes(to, c, 1);
	}
	if (to->len == start)
		put_text(to, "agent");
	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		number = (uint32_t)getpid();
	(void)snprintf(text, sizeof(text), "-%08x", number);
	put_text(to, text);
}

/* ---- paths ---- */

/* @path as it stands, or below the current directory. NULL when that is gone, which is said. */
static char *path_complete(const char *path)
{
	CLEANUP(freep) char *here = NULL;
	char *whole;

	if (*path == '/') {
		whole = strdup(path);
	} else {
		here = getcwd(NULL, 0);
		if (!here) {
			complain("the current directory: %s; give %s from / on", strerror(errno),
				 path);
			return NULL;
		}
		if (asprintf(&whole, "%s/%s", here, path) < 0)
			whole = NULL;
	}
	if (!whole)
		complain_of_memory();
	return whole;
}

/* An agent sees a shared path at the same place, so it needs one without . and .. in it. */
static int paths_pack(struct bag *bag, const char *key, const struct words *paths)
{
	if (!paths->count)
		return 0;
	bag_key(bag, key);
	pack_array(&bag->pk, paths->count);
	for (size_t i = 0; i < paths->count; i++) {
		const char *path = paths->items[i];
		CLEANUP(freep) char *whole = NULL;

		if (*path != '/') {
			whole = realpath(path, NULL);
			if (!whole) {
				complain("--%s %s: %s; check the path", key, path, strerror(errno));
				return SPAWN_ARGS_E_FAILED;
			}
			path = whole;
		}
		pack_text(&bag->pk, path);
	}
	return 0;
}

/* ---- the environment ---- */

/* Whether a later one sets the same variable. */
static bool is_replaced(const struct words *env, size_t index, size_t name_len)
{
	for (size_t i = index + 1; i < env->count; i++)
		if (strcspn(env->items[i], "=") == name_len &&
		    !memcmp(env->items[i], env->items[index], name_len))
			return true;
	return false;
}

static int env_pack(struct bag *bag, const struct words *env)
{
	CLEANUP(bag_deinit) struct bag map;

	bag_init(&map);
	for (size_t i = 0; i < env->count; i++) {
		const char *text = env->items[i];
		size_t name_len = strcspn(text, "=");
		const char *value = text[name_len] ? text + name_len + 1 : getenv(text);

		if (is_replaced(env, i, name_len))
			continue;
		if (!name_len || !value) {
			complain("--env \"%s\": %s", text,
				 name_len ? "there is no such variable here to hand on; set it, or "
					    "write NAME=VALUE"
					  : "write NAME=VALUE");
			return SPAWN_ARGS_E_USAGE;
		}
		pack_str(&map.pk, text, name_len);
		pack_text(&map.pk, value);
		map.pairs++;
	}
	if (map.pairs) {
		bag_key(bag, "env");
		bag_put(&map, &bag->bytes);
	}
	return 0;
}

/* ---- the rest ---- */

/* "on-failure" or "on-failure:3" */
static int restart_pack(struct bag *bag, const char *restart)
{
	size_t len = restart ? strcspn(restart, ":") : 0;
	uint64_t most;

	if (!restart)
		return 0;
	bag_key(bag, "restart_policy");
	pack_str(&bag->pk, restart, len);
	if (!restart[len])
		return 0;
	if (quantity_count(restart + len + 1, &most)) {
		complain(
			"--restart \"%s\": write how often at most behind the colon, as in on-failure:3",
			restart);
		return SPAWN_ARGS_E_USAGE;
	}
	bag_uint(bag, "max_restarts", most);
	return 0;
}

static void limits_pack(struct bag *bag, const struct run_options *options)
{
	CLEANUP(bag_deinit) struct bag map;

	bag_init(&map);
	bag_uint(&map, "memory", options->memory);
	bag_uint(&map, "cpu_quota", options->cpu_quota_us);
	bag_uint(&map, "max_pids", options->pids);
	if (!map.pairs)
		return;
	bag_key(bag, "limits");
	bag_put(&map, &bag->bytes);
}

static int input_pack(struct bag *bag)
{
	CLEANUP(buf_deinit) struct buf input = {0};
	char bytes[INPUT_READ_BYTES];
	ssize_t n;

	while ((n = read(STDIN_FILENO, bytes, sizeof(bytes))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			complain("standard input: %s", strerror(errno));
			return SPAWN_ARGS_E_FAILED;
		}
		put_bytes(&input, bytes, (size_t)n);
		if (input.len > INPUT_BYTES_MAX) {
			complain(
				"standard input has more than 1 MiB; share a file instead, with --ro");
			return SPAWN_ARGS_E_FAILED;
		}
	}
	bag_key(bag, "stdin");
	pack_bin(&bag->pk, input.data, input.len);
	return 0;
}

static int options_pack(struct bag *bag, const struct run_options *options)
{
	int r;

	bag_text(bag, "profile", options->profile);
	bag_text(bag, "workspace", options->workspace);
	bag_text(bag, "interpreter", options->interpreter);
	bag_text(bag, "cwd", options->workdir);
	bag_uint(bag, "timeout_ms", options->timeout_ms);
	if (options->require_limits) {
		bag_key(bag, "require_limits");
		pack_bool(&bag->pk, true);
	}
	/* So that it does not outlive clove, whatever ends that. */
	if (!options->detach) {
		bag_key(bag, "tied");
		pack_bool(&bag->pk, true);
	}
	limits_pack(bag, options);
	r = restart_pack(bag, options->restart);
	if (!r)
		r = env_pack(bag, &options->env);
	if (!r)
		r = paths_pack(bag, "ro", &options->ro);
	if (!r)
		r = paths_pack(bag, "rw", &options->rw);
	if (!r && options->input)
		r = input_pack(bag);
	return r;
}

/* ---- the whole ---- */

/* The script and its arguments, or the command. */
static void program_pack(msgpack_packer *pk, struct bag *bag, const char *script, char **operands,
			 int count)
{
	msgpack_packer *words = script ? &bag->pk : pk;
	int first = script ? 1 : 0;

	if (script)
		pack_text(pk, script);
	if (first == count)
		return;
	if (script)
		bag_key(bag, "args");
	pack_array(words, (size_t)(count - first));
	for (int i = first; i < count; i++)
		pack_text(words, operands[i]);
}

int spawn_args_pack(const struct run_options *options, char **operands, int count,
		    struct buf *ret_args)
{
	bool is_script = options->interpreter || ends_in(operands[0], ".py");
	CLEANUP(freep) char *script = is_script ? path_complete(operands[0]) : NULL;
	CLEANUP(buf_deinit) struct buf args = {0};
	CLEANUP(buf_deinit) struct buf name = {0};
	CLEANUP(bag_deinit) struct bag bag;
	msgpack_packer pk;
	int r;

	bag_init(&bag);
	if (is_script && !script)
		return SPAWN_ARGS_E_FAILED;
	if (options->name)
		put_text(&name, options->name);
	else
		name_put(operands[0], &name);
	msgpack_packer_init(&pk, &args, put_packed);
	pack_array(&pk, 3);
	pack_str(&pk, (const char *)name.data, name.len);
	program_pack(&pk, &bag, script, operands, count);
	r = options_pack(&bag, options);
	if (r)
		return r;
	bag_put(&bag, &args);
	*ret_args = args;
	args = (struct buf){0};
	return 0;
}
