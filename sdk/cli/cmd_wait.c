/* SPDX-License-Identifier: MIT */

#include <stdio.h>

#include "sdk/cli/agents.h"
#include "sdk/cli/output.h"
#include "sdk/cli/status.h"

static struct wait_options {
	unsigned format;
} options;

static const struct flag flags[] = {
	{"format", 0, FLAG_CHOICE, offsetof(struct wait_options, format), OUTPUT_FORMATS,
	 "a status a line, or all that is known of each end"},
	{0},
};

static int ended(void *arg, const char *operand, struct cursor end)
{
	struct output_list *list = arg;
	int status;

	(void)operand;
	if (status_of_end(end, &status) || (list && output_list_add(list, end))) {
		session_not_understood();
		return STATUS_OURS;
	}
	if (!list)
		(void)printf("%d\n", status);
	return status;
}

static int run(const struct settings *settings, char **operands, int count)
{
	CLEANUP(output_list_deinit) struct output_list list = {0};
	bool json = options.format == OUTPUT_JSON;
	int status;
	int r = agents_each(settings,
			    &(struct agents_call){
				    .op = WIRE_OP_WAIT,
				    .timeout_ms = session_timeout(settings, -1),
				    .timeout_status = STATUS_TIMEOUT,
				    .arg = json ? &list : NULL,
				    .show = ended,
			    },
			    operands, count, &status);

	if (json && (!r || list.text.len))
		output_list_print(&list);
	return r ? STATUS_OURS : status;
}

const struct command command_wait = {
	.name = "wait",
	.operands = "AGENT...",
	.summary = "Wait until agents have ended for good, and exit as they did",
	.text = "Prints a status a line, in the order of the AGENTs, and exits with the first that is not 0: the\n"
		"agent's exit status, 128+N when signal N ended it, 137 when it was killed or out of memory, 124\n"
		"when its time was up. 124 also when --timeout is up (without it there is no limit), 125 when\n"
		"clove itself failed. An agent that has ended is remembered until its name is used again.\n",
	.examples = "  clove wait worker\n"
		    "  clove wait --timeout 10m worker helper\n"
		    "  clove wait --format json worker\n",
	.flags = flags,
	.options = &options,
	.operands_min = 1,
	.operands_max = OPERANDS_ANY,
	.stands_in = true,
	.run = run,
};
