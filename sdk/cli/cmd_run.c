/* SPDX-License-Identifier: MIT */

#include <inttypes.h>
#include <stdio.h>

#include "sdk/cli/attached.h"
#include "sdk/cli/spawn_args.h"
#include "sdk/cli/status.h"

static struct run_options options = {
	.memory = SPAWN_UNSET,
	.cpu_quota_us = SPAWN_UNSET,
	.pids = SPAWN_UNSET,
	.timeout_ms = SPAWN_UNSET,
};

#define AT(member) offsetof(struct run_options, member)

static const struct flag flags[] = {
	{"name", 0, FLAG_TEXT, AT(name), "NAME",
	 "else one is made up; its workspace is kept for the next"},
	{"detach", 'd', FLAG_SWITCH, AT(detach), NULL, "print its id and leave it running"},
	{"profile", 0, FLAG_TEXT, AT(profile), "PROFILE",
	 "strict, standard, loopback, trusted or none (standard)"},
	{"memory", 'm', FLAG_SIZE, AT(memory), "SIZE", "as in 256M or 1.5G (512M)"},
	{"cpus", 0, FLAG_CPUS, AT(cpu_quota_us), "NUMBER", "processors, as in 0.5 (1)"},
	{"pids", 0, FLAG_COUNT, AT(pids), "N", "processes and threads (256)"},
	{"require-limits", 0, FLAG_SWITCH, AT(require_limits), NULL,
	 "fail where the host cannot enforce these three"},
	{"timeout", 0, FLAG_DURATION, AT(timeout_ms), "TIME",
	 "of its whole life, as in 30s or 2m (none)"},
	{"restart", 0, FLAG_TEXT, AT(restart), "POLICY[:N]",
	 "never, on-failure or always; N times at most (never)"},
	{"env", 'e', FLAG_WORDS, AT(env), "NAME[=VALUE]",
	 "a variable for it; without =VALUE, as it is here"},
	{"ro", 0, FLAG_WORDS, AT(ro), "PATH", "a file or directory it may read, at the same place"},
	{"rw", 0, FLAG_WORDS, AT(rw), "PATH", "one it may change"},
	{"workdir", 'w', FLAG_TEXT, AT(workdir), "PATH", "where it starts, inside (/workspace)"},
	{"workspace", 0, FLAG_TEXT, AT(workspace), "KIND", "disk or memory (disk)"},
	{"interpreter", 0, FLAG_TEXT, AT(interpreter), "PATH",
	 "of the script, inside (/usr/bin/python3)"},
	{"stdin", 'i', FLAG_SWITCH, AT(input), NULL,
	 "hand it all of standard input first, up to 1 MiB"},
	{"raw", 0, FLAG_SWITCH, AT(raw), NULL, "send its control characters to a terminal, too"},
	{0},
};

static void options_deinit(struct run_options *o)
{
	words_deinit(&o->env);
	words_deinit(&o->ro);
	words_deinit(&o->rw);
}

static int detached_run(const struct settings *settings, struct clove *clove, const char *program,
			const struct buf *args)
{
	struct clove_frame frame;
	uint64_t id;

	if (session_ask(settings, clove, WIRE_OP_SPAWN, args, &frame))
		return STATUS_OURS;
	if (frame.kind == CLOVE_ERROR)
		return attached_refused(program, &frame);
	if (attached_warn(clove_body(&frame), &id)) {
		session_not_understood();
		return STATUS_OURS;
	}
	(void)printf("%" PRIu64 "\n", id);
	return STATUS_OK;
}

static int start(const struct settings *settings, char **operands, int count)
{
	CLEANUP(clove_closep) struct clove *clove = NULL;
	CLEANUP(buf_deinit) struct buf args = {0};

	/* Before the connection: standard input may take its time. */
	if (spawn_args_pack(&options, operands, count, &args))
		return STATUS_OURS;
	if (session_open(settings, &clove))
		return STATUS_OURS;
	if (options.detach)
		return detached_run(settings, clove, operands[0], &args);
	return attached_run(settings, clove,
			    &(struct attached_start){
				    .args = &args,
				    .program = operands[0],
				    .name = options.name,
				    .raw = options.raw,
			    });
}

static int run(const struct settings *settings, char **operands, int count)
{
	int status = start(settings, operands, count);

	options_deinit(&options);
	return status;
}

const struct command command_run = {
	.name = "run",
	.operands = "SCRIPT|COMMAND [ARG...]",
	.summary = "Start an agent in a sandbox, show what it writes, and exit as it does",
	.text = "A first word that ends in .py, or any with --interpreter, is a script of this machine. Any other is a\n"
		"command, looked up in the sandbox. What stands behind it is the agent's, options too.\n"
		"\n"
		"Ctrl-C asks it to end, and ends it 5 s later; a second Ctrl-C does at once. It does not outlive clove,\n"
		"except with --detach.\n"
		"\n"
		"Exit status: the agent's, or 128+N when signal N ended it, 137 when it was killed or out of memory,\n"
		"124 when its time was up, 125 when clove failed, 126 when the command cannot be run, 127 when there\n"
		"is no such command.\n",
	.examples = "  clove run worker.py --verbose\n"
		    "  clove run --memory 256M --cpus 0.5 --timeout 2m --ro ./data worker.py\n"
		    "  clove run -d --name web --profile trusted --restart on-failure:3 server.py\n"
		    "  echo 'text' | clove run -i tr a-z A-Z\n",
	.flags = flags,
	.options = &options,
	.operands_min = 1,
	.operands_max = OPERANDS_ANY,
	.passes_on = true,
	.stands_in = true,
	.run = run,
};
