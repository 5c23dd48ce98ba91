/* SPDX-License-Identifier: MIT */

#include <limits.h>
#include <stdio.h>

#include "sdk/cli/agents.h"
#include "sdk/cli/complain.h"
#include "sdk/cli/status.h"

static struct kill_options {
	uint64_t grace_ms;
} options;

static const struct flag flags[] = {
	{"grace", 0, FLAG_DURATION, offsetof(struct kill_options, grace_ms), "TIME",
	 "how long its program may take to act on SIGTERM (0: at once)"},
	{0},
};

static int killed(void *arg, const char *operand, struct cursor end)
{
	uint64_t id;

	(void)arg;
	if (clove_map_uint(end, "agent_id", &id)) {
		session_not_understood();
		return STATUS_FAILED;
	}
	(void)puts(operand);
	return STATUS_OK;
}

static int run(const struct settings *settings, char **operands, int count)
{
	const uint64_t longest_ms = INT_MAX - SESSION_TIMEOUT_MS;
	int status, grace_ms;

	if (options.grace_ms > longest_ms) {
		complain("--grace is out of range: at most 24d");
		return STATUS_USAGE;
	}
	grace_ms = (int)options.grace_ms;
	return agents_each(settings,
			   &(struct agents_call){
				   .op = WIRE_OP_KILL,
				   .value = &options.grace_ms,
				   .timeout_ms =
					   session_timeout(settings, SESSION_TIMEOUT_MS + grace_ms),
				   .show = killed,
			   },
			   operands, count, &status)
		       ? STATUS_FAILED
		       : status;
}

const struct command command_kill = {
	.name = "kill",
	.operands = "AGENT...",
	.summary = "End agents and all they started; no restart follows",
	.text = "Returns when the last process is gone, and prints each AGENT as it was given. AGENT is an id or\n"
		"a name; name:7 is the agent named 7. Goes on after an error, and fails when there was one.\n",
	.examples = "  clove kill worker\n"
		    "  clove kill --grace 5s worker helper\n"
		    "  clove kill $(clove ps -q)\n",
	.flags = flags,
	.options = &options,
	.operands_min = 1,
	.operands_max = OPERANDS_ANY,
	.run = run,
};
