/* SPDX-License-Identifier: MIT */

#include "core/spawn_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/limits.h"

/* What a sandboxed agent may do unless it is given less: everything inside its box, nothing outside but by its budget. */
#define RIGHTS_DEFAULT                                                             \
	(WIRE_RIGHT_EXEC | WIRE_RIGHT_READ | WIRE_RIGHT_WRITE | WIRE_RIGHT_SPAWN | \
	 WIRE_RIGHT_SEND | WIRE_RIGHT_STATE | WIRE_RIGHT_THINK)

static const char *const profile_names[PROFILE_COUNT] = {"strict", "standard", "loopback",
							 "trusted", "none"};
static const char *const policy_names[] = {"never", "on-failure", "always"};

const char *profile_name(enum profile profile)
{
	return profile_names[profile];
}

const char *restart_policy_name(enum restart_policy policy)
{
	return policy_names[policy];
}

bool agent_name_is_valid(const uint8_t *name, uint32_t len)
{
	if (!len || len > LIMIT_AGENT_NAME_BYTES)
		return false;
	for (uint32_t i = 0; i < len; i++) {
		bool plain = (name[i] >= 'a' && name[i] <= 'z') ||
			     (name[i] >= 'A' && name[i] <= 'Z') ||
			     (name[i] >= '0' && name[i] <= '9');

		if (!plain && (!i || !memchr("._-", name[i], 3)))
			return false;
	}
	return true;
}

/* ---- options ---- */

static enum wire_error word_read(const char *name, const msgpack_object *value,
				 const char *const *words, unsigned count, unsigned *ret_index,
				 struct fault *fault)
{
	char list[96] = "";
	struct text text;
	size_t len = 0;

	for (unsigned i = 0; i < count; i++) {
		if (bag_text(value, &text) && bag_text_is(text, words[i])) {
			*ret_index = i;
			return WIRE_OK;
		}
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", i ? ", " : "",
					words[i]);
	}
	return fault_set(fault, WIRE_INVALID_ARGUMENT, "SPAWN: %s must be one of %s", name, list);
}

#define OPTION(name) \
	static enum wire_error name##_read(void *to, const msgpack_object *value, struct fault *f)

OPTION(sandboxed)
{
	return bag_bool("SPAWN: sandboxed", value, &((struct spawn_options *)to)->sandboxed, f);
}

OPTION(require_limits)
{
	return bag_bool("SPAWN: require_limits", value,
			&((struct spawn_options *)to)->require_limits, f);
}

OPTION(tied)
{
	return bag_bool("SPAWN: tied", value, &((struct spawn_options *)to)->tied, f);
}

OPTION(profile)
{
	struct spawn_options *o = to;
	unsigned index = 0;
	enum wire_error code = word_read("profile", value, profile_names, PROFILE_COUNT, &index, f);

	if (!code) {
		o->profile = (enum profile)index;
		o->profile_given = true;
	}
	return code;
}

OPTION(interpreter)
{
	return bag_path("SPAWN: interpreter", value, &((struct spawn_options *)to)->interpreter, f);
}

OPTION(cwd)
{
	return bag_path("SPAWN: cwd", value, &((struct spawn_options *)to)->cwd, f);
}

OPTION(stdin)
{
	struct spawn_options *o = to;

	return bag_bytes("SPAWN: stdin", value, &o->input, &o->input_len, f);
}

OPTION(workspace)
{
	static const char *const words[] = {"disk", "memory"};
	unsigned index = 0;
	enum wire_error code = word_read("workspace", value, words, 2, &index, f);

	if (!code)
		((struct spawn_options *)to)->workspace_in_memory = index == 1;
	return code;
}

OPTION(restart_policy)
{
	unsigned index = 0;
	enum wire_error code = word_read("restart_policy", value, policy_names, 3, &index, f);

	if (!code)
		((struct spawn_options *)to)->restart = (enum restart_policy)index;
	return code;
}

OPTION(args)
{
	return bag_strings("SPAWN: args", value, LIMIT_JOB_ARGS,
			   &((struct spawn_options *)to)->argv, f);
}

static enum wire_error paths_read(const char *name, const msgpack_object *value, struct strv *place,
				  struct fault *f)
{
	enum wire_error code = bag_strings(name, value, LIMIT_AGENT_BINDS, place, f);

	for (size_t i = 0; !code && i < place->count; i++)
		if (*place->items[i] != '/' || strlen(place->items[i]) > LIMIT_PATH_BYTES)
			code = fault_set(f, WIRE_INVALID_ARGUMENT, "%s: paths must be absolute",
					 name);
	return code;
}

OPTION(ro)
{
	return paths_read("SPAWN: ro", value, &((struct spawn_options *)to)->ro, f);
}

OPTION(rw)
{
	return paths_read("SPAWN: rw", value, &((struct spawn_options *)to)->rw, f);
}

static const struct {
	const char *name;
	uint32_t bit;
} right_table[] = {
#define RIGHT(name, bit, doc) {#name, bit},
#include "ipc/wire.def"
};

OPTION(rights)
{
	struct spawn_options *o = to;
	struct strv names = {0};
	enum wire_error code = bag_strings("SPAWN: rights", value, 32, &names, f);

	o->rights = 0;
	for (size_t n = 0; !code && n < names.count; n++) {
		size_t i = 0;

		while (i < sizeof(right_table) / sizeof(right_table[0]) &&
		       strcasecmp(names.items[n], right_table[i].name) != 0)
			i++;
		if (i == sizeof(right_table) / sizeof(right_table[0]))
			code = fault_set(f, WIRE_INVALID_ARGUMENT,
					 "SPAWN: rights: there is no right \"%.40s\"",
					 names.items[n]);
		else
			o->rights |= right_table[i].bit;
	}
	strv_deinit(&names);
	return code;
}

OPTION(env)
{
	return bag_env("SPAWN: env", value, &((struct spawn_options *)to)->env, f);
}

OPTION(max_restarts)
{
	return bag_uint("SPAWN: max_restarts", value, 0, 1000000,
			&((struct spawn_options *)to)->restarts_max, f);
}

OPTION(restart_window)
{
	return bag_uint("SPAWN: restart_window_ms", value, 1, LIMIT_TIMEOUT_MS_MAX,
			&((struct spawn_options *)to)->restart_window_ms, f);
}

OPTION(timeout)
{
	return bag_uint("SPAWN: timeout_ms", value, 0, LIMIT_TIMEOUT_MS_MAX,
			&((struct spawn_options *)to)->timeout_ms, f);
}

/* ---- limits ---- */

OPTION(memory)
{
	return bag_uint("limits: memory", value, LIMIT_AGENT_MEMORY_MIN, UINT64_C(1) << 50,
			&((struct spawn_options *)to)->limits.memory_bytes, f);
}

OPTION(cpu_quota)
{
	return bag_uint("limits: cpu_quota", value, 1000, UINT64_C(100000) * 4096,
			&((struct spawn_options *)to)->limits.cpu_quota_us, f);
}

OPTION(max_pids)
{
	/* Fewer than three could not even start: the init, the program and one thread to spare. */
	return bag_uint("limits: max_pids", value, 3, 1 << 22,
			&((struct spawn_options *)to)->limits.pids, f);
}

OPTION(io_read)
{
	return bag_uint("limits: io_read", value, 1 << 16, UINT64_C(1) << 50,
			&((struct spawn_options *)to)->limits.io_read_bytes, f);
}

OPTION(io_write)
{
	return bag_uint("limits: io_write", value, 1 << 16, UINT64_C(1) << 50,
			&((struct spawn_options *)to)->limits.io_write_bytes, f);
}

OPTION(workspace_size)
{
	return bag_uint("limits: workspace", value, 1 << 16, UINT64_C(1) << 50,
			&((struct spawn_options *)to)->workspace_bytes, f);
}

OPTION(tmp_size)
{
	return bag_uint("limits: tmp", value, 1 << 16, UINT64_C(1) << 40,
			&((struct spawn_options *)to)->tmp_bytes, f);
}

static const struct bag_row limit_rows[] = {
	{"memory", memory_read},     {"cpu_quota", cpu_quota_read},
	{"max_pids", max_pids_read}, {"workspace", workspace_size_read},
	{"tmp", tmp_size_read},      {"io_read", io_read_read},
	{"io_write", io_write_read},
};

enum { LIMIT_ROWS = sizeof(limit_rows) / sizeof(limit_rows[0]) };

OPTION(limits)
{
	return bag_apply("SPAWN: limits", value, limit_rows, LIMIT_ROWS, to, f);
}

enum wire_error spawn_limits_read(struct launch_limits *limits, struct cursor bag,
				  struct fault *fault)
{
	struct spawn_options o = {0};
	enum wire_error code =
		bag_read("SET_LIMITS: limits", bag, limit_rows, LIMIT_ROWS, &o, fault);

	if (!code && (o.workspace_bytes || o.tmp_bytes))
		code = fault_set(
			fault, WIRE_INVALID_ARGUMENT,
			"SET_LIMITS: workspace and tmp are as large as they were made at the start");
	*limits = o.limits;
	return code;
}

static const struct bag_row rows[] = {
	{"sandboxed", sandboxed_read},
	{"require_limits", require_limits_read},
	{"tied", tied_read},
	{"profile", profile_read},
	{"interpreter", interpreter_read},
	{"cwd", cwd_read},
	{"stdin", stdin_read},
	{"workspace", workspace_read},
	{"restart_policy", restart_policy_read},
	{"args", args_read},
	{"ro", ro_read},
	{"rw", rw_read},
	{"rights", rights_read},
	{"env", env_read},
	{"limits", limits_read},
	{"max_restarts", max_restarts_read},
	{"restart_window_ms", restart_window_read},
	{"timeout_ms", timeout_read},
};

/* ---- the whole ---- */

static enum wire_error program_read(struct spawn_options *o, struct cursor at, struct fault *f)
{
	const uint8_t *bytes;
	uint32_t len;

	if (cursor_peek(&at) == CURSOR_ARRAY)
		return bag_command("SPAWN: program:", at, &o->argv, f);
	if (cursor_read_bytes(&at, &bytes, &len) || !len || len > LIMIT_PATH_BYTES ||
	    memchr(bytes, 0, len))
		return fault_set(f, WIRE_INVALID_ARGUMENT,
				 "SPAWN: program must be the path of a script, or an array");
	o->script = strndup((const char *)bytes, len);
	return o->script ? WIRE_OK : bag_no_memory(f);
}

/* What only makes sense together. */
static enum wire_error consistency(struct spawn_options *o, struct fault *f)
{
	if (!o->sandboxed && o->profile_given && o->profile != PROFILE_NONE)
		return fault_set(f, WIRE_INVALID_ARGUMENT,
				 "SPAWN: profile \"%s\" is a sandbox, and sandboxed is false",
				 profile_name(o->profile));
	if (!o->sandboxed)
		o->profile = PROFILE_NONE;
	o->sandboxed = o->profile != PROFILE_NONE;
	if (!o->sandboxed && (o->ro.count || o->rw.count || o->workspace_in_memory))
		return fault_set(
			f, WIRE_INVALID_ARGUMENT,
			"SPAWN: ro, rw and workspace belong to a sandbox, and this agent has none");
	if (o->ro.count + o->rw.count > LIMIT_AGENT_BINDS)
		return fault_set(f, WIRE_INVALID_ARGUMENT, "SPAWN: ro and rw: at most %d paths",
				 LIMIT_AGENT_BINDS);
	if (!o->workspace_bytes)
		o->workspace_bytes = o->workspace_in_memory ? LIMIT_AGENT_TMP_BYTES
							    : LIMIT_AGENT_WORKSPACE_BYTES;
	return WIRE_OK;
}

enum wire_error spawn_options_init(struct spawn_options *options, const uint8_t *name,
				   uint32_t name_len, struct cursor program, struct cursor bag,
				   struct fault *fault)
{
	enum wire_error code;

	*options = (struct spawn_options){
		.profile = PROFILE_STANDARD,
		.sandboxed = true,
		.limits = {.memory_bytes = LIMIT_AGENT_MEMORY_BYTES,
			   .cpu_quota_us = LIMIT_AGENT_CPU_QUOTA_US,
			   .pids = LIMIT_AGENT_PIDS},
		.tmp_bytes = LIMIT_AGENT_TMP_BYTES,
		.restarts_max = 5,
		.restart_window_ms = 300000,
		.rights = RIGHTS_DEFAULT,
	};
	if (!agent_name_is_valid(name, name_len))
		return fault_set(
			fault, WIRE_INVALID_ARGUMENT,
			"SPAWN: name must be 1 to %d of a-z A-Z 0-9 . _ -, the first a letter or digit",
			LIMIT_AGENT_NAME_BYTES);
	options->name = strndup((const char *)name, name_len);
	code = options->name ? WIRE_OK : bag_no_memory(fault);
	if (!code)
		code = program_read(options, program, fault);
	if (!code && bag.pos)
		code = bag_read("SPAWN", bag, rows, sizeof(rows) / sizeof(rows[0]), options, fault);
	if (!code)
		code = consistency(options, fault);
	if (code)
		spawn_options_deinit(options);
	return code;
}

void spawn_options_deinit(struct spawn_options *options)
{
	free(options->name);
	free(options->home);
	free(options->script);
	strv_deinit(&options->argv);
	free(options->interpreter);
	strv_deinit(&options->env);
	free(options->cwd);
	free(options->input);
	strv_deinit(&options->ro);
	strv_deinit(&options->rw);
	*options = (struct spawn_options){0};
}
