/* SPDX-License-Identifier: MIT */

#include "sdk/cli/agents.h"
#include "sdk/cli/output.h"
#include "sdk/cli/status.h"

static int seen(void *arg, const char *operand, struct cursor result)
{
	(void)operand;
	if (!output_list_add(arg, result))
		return STATUS_OK;
	session_not_understood();
	return STATUS_FAILED;
}

static int run(const struct settings *settings, char **operands, int count)
{
	CLEANUP(output_list_deinit) struct output_list list = {0};
	const struct agents_call call = {
		.op = WIRE_OP_INSPECT,
		.timeout_ms = session_timeout(settings, SESSION_TIMEOUT_MS),
		.arg = &list,
		.show = seen,
	};
	int status;
	int r = agents_each(settings, &call, operands, count, &status);

	if (!r || list.text.len)
		output_list_print(&list);
	return r ? STATUS_FAILED : status;
}

const struct command command_inspect = {
	.name = "inspect",
	.operands = "AGENT...",
	.summary = "Print everything known of live agents, as a JSON array",
	.text = "How one has ended is what clove wait --format json prints.\n",
	.examples = "  clove inspect worker\n"
		    "  clove inspect worker | jq '.[0].protections'\n",
	.operands_min = 1,
	.operands_max = OPERANDS_ANY,
	.run = run,
};
