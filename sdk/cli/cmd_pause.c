/* SPDX-License-Identifier: MIT */

/*
 * clove pause, clove resume and clove rm: a call for each agent, and its name when it is done
 */

#include <stdio.h>

#include "sdk/cli/agents.h"
#include "sdk/cli/status.h"

static int done(void *arg, const char *operand, struct cursor result)
{
	const uint8_t *state;
	uint32_t len;

	(void)arg;
	if (clove_map_bytes(result, "state", &state, &len)) {
		session_not_understood();
		return STATUS_FAILED;
	}
	(void)puts(operand);
	return STATUS_OK;
}

static int removed(void *arg, const char *operand, struct cursor result)
{
	(void)arg;
	if (cursor_peek(&result) != CURSOR_NIL) {
		session_not_understood();
		return STATUS_FAILED;
	}
	(void)puts(operand);
	return STATUS_OK;
}

static int each(uint16_t op, const struct settings *settings, char **operands, int count)
{
	const struct agents_call call = {
		.op = op,
		.timeout_ms = session_timeout(settings, SESSION_TIMEOUT_MS),
		.show = op == WIRE_OP_REMOVE ? removed : done,
	};
	int status;

	return agents_each(settings, &call, operands, count, &status) ? STATUS_FAILED : status;
}

static int pause_run(const struct settings *settings, char **operands, int count)
{
	return each(WIRE_OP_PAUSE, settings, operands, count);
}

static int resume_run(const struct settings *settings, char **operands, int count)
{
	return each(WIRE_OP_RESUME, settings, operands, count);
}

static int rm_run(const struct settings *settings, char **operands, int count)
{
	return each(WIRE_OP_REMOVE, settings, operands, count);
}

const struct command command_rm = {
	.name = "rm",
	.operands = "AGENT...",
	.summary = "Delete what agents that have ended left: workspace and logs",
	.text = "Those of agents they started too. One that is alive has to be killed first. Prints each AGENT as\n"
		"it was given. Goes on after an error, and fails when there was one.\n",
	.examples = "  clove rm worker\n",
	.operands_min = 1,
	.operands_max = OPERANDS_ANY,
	.run = rm_run,
};

const struct command command_pause = {
	.name = "pause",
	.operands = "AGENT...",
	.summary = "Stop every process of agents, until clove resume",
	.text = "Prints each AGENT as it was given. Goes on after an error, and fails when there was one.\n",
	.examples = "  clove pause worker\n",
	.operands_min = 1,
	.operands_max = OPERANDS_ANY,
	.run = pause_run,
};

const struct command command_resume = {
	.name = "resume",
	.operands = "AGENT...",
	.summary = "Let paused agents run",
	.text = "Prints each AGENT as it was given. Goes on after an error, and fails when there was one.\n",
	.examples = "  clove resume worker\n",
	.operands_min = 1,
	.operands_max = OPERANDS_ANY,
	.run = resume_run,
};
