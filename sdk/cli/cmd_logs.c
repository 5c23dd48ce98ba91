/* SPDX-License-Identifier: MIT */

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "sdk/cli/complain.h"
#include "sdk/cli/deadline.h"
#include "sdk/cli/follow.h"
#include "sdk/cli/session.h"
#include "sdk/cli/status.h"

static struct logs_options {
	bool follow, only_stdout, only_stderr, raw;
	uint64_t lines, bytes;
} options = {.lines = TAIL_UNBOUNDED, .bytes = TAIL_UNBOUNDED};

static const struct flag flags[] = {
	{"follow", 'f', FLAG_SWITCH, offsetof(struct logs_options, follow), NULL,
	 "go on with what is added, until the agent has ended"},
	{"tail", 'n', FLAG_COUNT, offsetof(struct logs_options, lines), "LINES",
	 "begin with the last so many lines of each stream"},
	{"bytes", 0, FLAG_SIZE, offsetof(struct logs_options, bytes), "SIZE",
	 "begin with the last so many bytes of each stream"},
	{"stdout", 0, FLAG_SWITCH, offsetof(struct logs_options, only_stdout), NULL,
	 "only what it wrote to stdout"},
	{"stderr", 0, FLAG_SWITCH, offsetof(struct logs_options, only_stderr), NULL,
	 "only what it wrote to stderr, here to stdout"},
	{"raw", 0, FLAG_SWITCH, offsetof(struct logs_options, raw), NULL,
	 "send control characters to a terminal, too"},
	{0},
};

/* What one run of the command holds. */
struct reading {
	struct follow follow;
	struct sink sinks[FOLLOW_STREAMS];
	struct tail tails[FOLLOW_STREAMS];
};

static void reading_deinit(struct reading *reading)
{
	for (unsigned i = 0; i < FOLLOW_STREAMS; i++) {
		sink_deinit(&reading->sinks[i]);
		tail_deinit(&reading->tails[i]);
	}
}

static void stream_add(struct reading *reading, const char *name, int fd)
{
	bool tailed = options.lines != TAIL_UNBOUNDED || options.bytes != TAIL_UNBOUNDED;
	unsigned i = reading->follow.stream_count++;

	sink_init(&reading->sinks[i], fd, options.raw);
	reading->tails[i] = (struct tail){.lines = options.lines, .bytes = options.bytes};
	reading->follow.streams[i] = (struct follow_stream){
		.name = name,
		.sink = &reading->sinks[i],
		.tail = tailed ? &reading->tails[i] : NULL,
	};
}

/* Who reads has gone. An end by SIGPIPE is what a shell takes for quiet. */
static int closed(void)
{
	(void)raise(SIGPIPE);
	return STATUS_SIGNAL + SIGPIPE;
}

static int follow_all(const struct settings *settings, struct follow *follow)
{
	struct follow_event event = {.kind = FOLLOW_NOTHING};
	int r = 0, status = STATUS_OK;

	while (!r && !follow_is_done(follow)) {
		r = follow_turn(follow, -1, DEADLINE_NEVER, &event);
		if (r)
			break;
		if (event.kind == FOLLOW_SINK && event.sink_error == SINK_E_CLOSED)
			return closed();
		if (event.kind == FOLLOW_SINK) {
			complain("the output cannot be written: %s",
				 clove_strerror(event.sink_error));
			return STATUS_FAILED;
		}
		if (event.kind == FOLLOW_REFUSED) {
			session_refused(follow->agent, &event.frame);
			return STATUS_FAILED;
		}
	}
	if (r) {
		session_lost(settings, r);
		status = STATUS_FAILED;
	}
	return status;
}

static int run(const struct settings *settings, char **operands, int count)
{
	CLEANUP(clove_closep) struct clove *clove = NULL;
	CLEANUP(reading_deinit) struct reading reading = {0};

	(void)count;
	if (options.lines != TAIL_UNBOUNDED && options.bytes != TAIL_UNBOUNDED) {
		complain("--tail and --bytes: choose one");
		return STATUS_USAGE;
	}
	if (session_open(settings, &clove))
		return STATUS_FAILED;
	reading.follow = (struct follow){
		.clove = clove,
		.agent = operands[0],
		.stays = options.follow,
		.timeout_ms = session_timeout(settings, SESSION_TIMEOUT_MS),
	};
	if (options.only_stdout || !options.only_stderr)
		stream_add(&reading, "stdout", STDOUT_FILENO);
	if (options.only_stderr || !options.only_stdout)
		stream_add(&reading, "stderr",
			   options.only_stderr && !options.only_stdout ? STDOUT_FILENO
								       : STDERR_FILENO);
	return follow_all(settings, &reading.follow);
}

const struct command command_logs = {
	.name = "logs",
	.operands = "AGENT",
	.summary = "Print what an agent wrote, also after its end",
	.text = "Its stdout goes to stdout, its stderr to stderr. The kernel keeps the last 512 KiB to 1 MiB of\n"
		"each. Bytes pass unchanged, except to a terminal: there control characters other than new lines, tabs\n"
		"and colours are shown, not sent.\n",
	.examples = "  clove logs worker\n"
		    "  clove logs --follow --tail 20 worker\n"
		    "  clove logs --stderr worker | less\n",
	.flags = flags,
	.options = &options,
	.operands_min = 1,
	.operands_max = 1,
	.run = run,
};
