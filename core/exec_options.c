/* SPDX-License-Identifier: MIT */

#include "core/exec_options.h"

#include <stdlib.h>
#include <string.h>

#include "core/limits.h"

static enum wire_error cwd_read(void *to, const msgpack_object *value, struct fault *fault)
{
	struct exec_options *o = to;

	return bag_path("EXEC: cwd", value, &o->cwd, fault);
}

static enum wire_error env_read(void *to, const msgpack_object *value, struct fault *fault)
{
	struct exec_options *o = to;

	return bag_env("EXEC: env", value, &o->env, fault);
}

static enum wire_error stdin_read(void *to, const msgpack_object *value, struct fault *fault)
{
	struct exec_options *o = to;

	return bag_bytes("EXEC: stdin", value, &o->input, &o->input_len, fault);
}

static enum wire_error timeout_read(void *to, const msgpack_object *value, struct fault *fault)
{
	struct exec_options *o = to;

	return bag_uint("EXEC: timeout_ms", value, 0, LIMIT_TIMEOUT_MS_MAX, &o->timeout_ms, fault);
}

static enum wire_error output_read(void *to, const msgpack_object *value, struct fault *fault)
{
	struct exec_options *o = to;
	uint64_t bytes;
	enum wire_error code =
		bag_uint("EXEC: output_max", value, 0, LIMIT_JOB_OUTPUT_BYTES, &bytes, fault);

	if (!code)
		o->output_max = (uint32_t)bytes;
	return code;
}

static const struct bag_row rows[] = {
	{"cwd", cwd_read},           {"env", env_read},
	{"stdin", stdin_read},       {"timeout_ms", timeout_read},
	{"output_max", output_read},
};

enum wire_error exec_options_init(struct exec_options *options, const char *user, const char *home,
				  struct cursor command, struct cursor bag, struct fault *fault)
{
	enum wire_error code;

	*options = (struct exec_options){
		.timeout_ms = LIMIT_JOB_TIMEOUT_MS_DEFAULT,
		.output_max = LIMIT_JOB_OUTPUT_BYTES,
	};
	code = bag_command("EXEC: command:", command, &options->argv, fault);
	if (!code && bag.pos)
		code = bag_read("EXEC", bag, rows, sizeof(rows) / sizeof(rows[0]), options, fault);
	if (!code)
		code = bag_env_complete(&options->env, user, home, fault);
	if (!code && !options->cwd) {
		options->cwd_is_home = true;
		options->cwd = strdup(home);
		code = options->cwd ? WIRE_OK : bag_no_memory(fault);
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
