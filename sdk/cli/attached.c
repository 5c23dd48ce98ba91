/* SPDX-License-Identifier: MIT */

/*
 *   SPAWN ──> answered ──> following: LOGS again and again, and one WAIT
 *                │                        │            │
 *                │ error                  │ signal     │ WAIT answered: it has ended
 *                v                        v            v
 *              125..127                 KILL ───> the rest of its output, then its status
 *
 * One loop, in which nothing blocks: a signal is acted on whatever the kernel or the reader of the output
 * does. The first asks the agent to end, the second ends it, the third leaves it. One that comes while
 * SPAWN is under way is kept until there is an agent to end. A reader of the output who goes away is
 * as good as a first signal.
 *
 * The agent's log may begin with what a former agent of the name wrote. So where that ends is looked up
 * before SPAWN. Only of a former one that the kernel does not remember nobody can tell.
 */

#include "sdk/cli/attached.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "core/base/err.h"
#include "ipc/pack.h"
#include "sdk/cli/complain.h"
#include "sdk/cli/deadline.h"
#include "sdk/cli/follow.h"
#include "sdk/cli/put.h"
#include "sdk/cli/status.h"

enum {
	GRACE_MS = 5000, /* between a first signal and the end */
	ID_CHARS = 24,
};

struct attached {
	const struct settings *settings;
	const struct attached_start *start;
	struct follow follow; /* without streams until the agent runs */
	struct sink sinks[FOLLOW_STREAMS];
	uint64_t cursors[FOLLOW_STREAMS]; /* where its output begins */
	int signal_fd;
	uint64_t spawn_id, wait_id; /* requests */
	uint64_t
		spawn_late_ns; /* when SPAWN has taken too long; DEADLINE_NEVER once it is answered */

	uint64_t id;          /* the agent's; 0 until it runs */
	char agent[ID_CHARS]; /* the same */
	bool end_wanted;      /* KILL is sent, or will be when it runs */
	unsigned signals;     /* so many have come */
	int signo;            /* the first of them */
	int sink_error;       /* why nobody gets the output; 0 while somebody does */

	bool ended;
	const char *why;     /* it ended, when not by itself */
	uint64_t bytes_lost; /* of its output, not kept by the kernel */
	bool finished;       /* there is no agent, and @status says why */
	int status;          /* of its end */
};

static const char *const stream_names[FOLLOW_STREAMS] = {"stdout", "stderr"};

static void attached_deinit(struct attached *attached)
{
	for (unsigned i = 0; i < FOLLOW_STREAMS; i++)
		sink_deinit(&attached->sinks[i]);
	attached->signal_fd = fd_close(attached->signal_fd);
}

/* ---- what the kernel answers ---- */

int attached_refused(const char *program, const struct clove_frame *frame)
{
	struct cursor detail = cursor_make(frame->error.detail, frame->error.detail_len);
	bool failed = frame->error.code == WIRE_EXEC_FAILED;
	uint64_t os_error = 0;

	session_refused(failed ? program : NULL, frame);
	if (!failed)
		return STATUS_OURS;
	(void)clove_map_uint(detail, "errno", &os_error);
	return os_error == ENOENT ? STATUS_NO_COMMAND : STATUS_CANNOT_RUN;
}

int attached_warn(struct cursor spawned, uint64_t *ret_id)
{
	struct cursor warnings;
	const char *text;
	uint32_t count, len;
	uint64_t id;

	if (clove_map_uint(spawned, "agent_id", &id) || !id ||
	    clove_map_get(spawned, "warnings", &warnings) || cursor_read_array(&warnings, &count))
		return CLOVE_E_BROKEN;
	while (count--) {
		if (cursor_read_str(&warnings, &text, &len))
			return CLOVE_E_BROKEN;
		complain("warning: %.*s", (int)len, text);
	}
	*ret_id = id;
	return 0;
}

/* A call with the agent, and @value when that is not NULL, for arguments. */
static int request(struct attached *attached, uint16_t op, const uint64_t *value, uint64_t *ret_id)
{
	CLEANUP(buf_deinit) struct buf args = {0};
	msgpack_packer pk;

	msgpack_packer_init(&pk, &args, put_packed);
	pack_array(&pk, value ? 2 : 1);
	pack_uint(&pk, attached->id);
	if (value)
		pack_uint(&pk, *value);
	return clove_send(attached->follow.clove, op, args.data, args.len, -1, ret_id);
}

/* As soon as there is an agent. */
static int end_it(struct attached *attached, uint64_t grace_ms)
{
	uint64_t id; /* its answer says no more than WAIT's */

	attached->end_wanted = true;
	if (!attached->id || attached->ended)
		return 0;
	return request(attached, WIRE_OP_KILL, &grace_ms, &id);
}

static int on_spawned(struct attached *attached, struct cursor spawned)
{
	int r = attached_warn(spawned, &attached->id);

	if (r)
		return r;
	(void)snprintf(attached->agent, sizeof(attached->agent), "%" PRIu64, attached->id);
	for (unsigned i = 0; i < FOLLOW_STREAMS; i++)
		attached->follow.streams[i] = (struct follow_stream){
			.name = stream_names[i],
			.sink = &attached->sinks[i],
			.cursor = attached->cursors[i],
		};
	attached->follow.stream_count = FOLLOW_STREAMS;
	r = request(attached, WIRE_OP_WAIT, NULL, &attached->wait_id);
	return !r && attached->end_wanted ? end_it(attached, GRACE_MS) : r;
}

static int on_ended(struct attached *attached, struct cursor end)
{
	int r = status_of_end(end, &attached->status);

	if (r)
		return r;
	attached->ended = true;
	attached->why = status_explain(end);
	(void)clove_map_uint(end, "log_bytes_lost", &attached->bytes_lost);
	follow_hurry(&attached->follow);
	return 0;
}

static int on_frame(struct attached *attached, const struct clove_frame *frame)
{
	if (frame->kind == CLOVE_PUSH)
		return 0;
	if (frame->id == attached->spawn_id)
		attached->spawn_late_ns = DEADLINE_NEVER;
	if (frame->id == attached->spawn_id && frame->kind == CLOVE_ERROR) {
		attached->status = attached_refused(attached->start->program, frame);
		attached->finished = true;
	} else if (frame->id == attached->spawn_id) {
		return on_spawned(attached, clove_body(frame));
	} else if (frame->id == attached->wait_id && frame->kind == CLOVE_ERROR) {
		session_refused(attached->agent, frame);
		attached->status = STATUS_OURS;
		attached->finished = true;
	} else if (frame->id == attached->wait_id) {
		return on_ended(attached, clove_body(frame));
	}
	return 0;
}

/* ---- what else happens ---- */

static int on_signal(struct attached *attached)
{
	struct signalfd_siginfo info;

	if (read(attached->signal_fd, &info, sizeof(info)) != sizeof(info))
		return 0;
	if (!attached->signals++)
		attached->signo = (int)info.ssi_signo;
	return end_it(attached, attached->signals == 1 ? GRACE_MS : 0);
}

static int on_sink(struct attached *attached, int error)
{
	if (error != SINK_E_CLOSED)
		complain("the output cannot be written: %s", clove_strerror(error));
	attached->sink_error = error;
	for (unsigned i = 0; i < FOLLOW_STREAMS; i++)
		attached->follow.streams[i].sink = NULL;
	return end_it(attached, GRACE_MS);
}

/* The user waits no longer, for the agent or for who reads what it wrote. */
static bool is_left(const struct attached *attached)
{
	return attached->signals > (attached->id && !attached->ended ? 2 : 1);
}

static int leave(const struct attached *attached)
{
	if (!attached->id)
		complain(
			"the kernel has not answered; clove ps tells whether the agent was started");
	else if (!attached->ended)
		complain("agent %s may be there still; clove kill %s ends it", attached->agent,
			 attached->agent);
	return STATUS_SIGNAL + attached->signo;
}

static int finish(const struct attached *attached)
{
	if (attached->sink_error == SINK_E_CLOSED) {
		/* What a shell takes for quiet. */
		(void)signal(SIGPIPE, SIG_DFL);
		(void)raise(SIGPIPE);
	}
	if (attached->sink_error)
		return STATUS_OURS;
	if (attached->bytes_lost)
		complain("agent %s: %" PRIu64 " bytes of its output could not be kept",
			 attached->agent, attached->bytes_lost);
	if (!attached->why || !attached->signo) {
		if (attached->why)
			complain("agent %s: %s", attached->agent, attached->why);
		return attached->status;
	}
	return STATUS_SIGNAL + attached->signo;
}

/* ---- the loop ---- */

static int event_take(struct attached *attached, const struct follow_event *event)
{
	switch (event->kind) {
	case FOLLOW_FRAME:
		return on_frame(attached, &event->frame);
	case FOLLOW_REFUSED:
		session_refused(attached->agent, &event->frame);
		return 0;
	case FOLLOW_SIGNAL:
		return on_signal(attached);
	case FOLLOW_SINK:
		return on_sink(attached, event->sink_error);
	default:
		return 0;
	}
}

static int loop(struct attached *attached)
{
	struct follow *follow = &attached->follow;
	struct follow_event event;
	int r = 0;

	while (!r && !(attached->ended && follow_is_done(follow))) {
		r = follow_turn(follow, attached->signal_fd, attached->spawn_late_ns, &event);
		if (!r)
			r = event_take(attached, &event);
		if (!r && !deadline_left_ms(attached->spawn_late_ns))
			r = CLOVE_E_TIMEOUT;
		if (attached->finished)
			return attached->status;
		if (!r && is_left(attached))
			return leave(attached);
	}
	if (!r)
		return finish(attached);
	session_lost(attached->settings, r);
	return STATUS_OURS;
}

/* ---- before it ---- */

static int signals_open(int *ret_fd)
{
	sigset_t set;
	int fd;

	(void)signal(SIGPIPE, SIG_IGN); /* the agent is to end first */
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGHUP);
	fd = sigprocmask(SIG_BLOCK, &set, NULL) ? -1 : signalfd(-1, &set, SFD_CLOEXEC);
	if (fd < 0)
		return err_raise(-errno);
	*ret_fd = fd;
	return 0;
}

/* Where the output of a former agent of this name ends. */
static int former_end(struct attached *attached)
{
	CLEANUP(freep) char *operand = NULL;
	struct follow_event event = {.kind = FOLLOW_NOTHING};
	struct follow follow = {
		.clove = attached->follow.clove,
		.timeout_ms = session_timeout(attached->settings, SESSION_TIMEOUT_MS),
		.stream_count = FOLLOW_STREAMS,
	};
	int r = 0;

	if (asprintf(&operand, "name:%s", attached->start->name) < 0) {
		operand = NULL;
		complain_of_memory();
	}
	follow.agent = operand;
	for (unsigned i = 0; i < FOLLOW_STREAMS; i++)
		follow.streams[i].name = stream_names[i];
	/* Refused: there was none, or SPAWN will say what is wrong with the name. */
	while (!r && !follow_is_done(&follow))
		r = follow_turn(&follow, -1, DEADLINE_NEVER, &event);
	for (unsigned i = 0; i < FOLLOW_STREAMS; i++)
		attached->cursors[i] = follow.streams[i].cursor;
	return r;
}

static int spawn_send(struct attached *attached)
{
	int timeout_ms = session_timeout(attached->settings, SESSION_TIMEOUT_MS);

	attached->spawn_late_ns = deadline_in(timeout_ms, SESSION_MARGIN_MS);
	return clove_send(attached->follow.clove, WIRE_OP_SPAWN, attached->start->args->data,
			  attached->start->args->len, timeout_ms, &attached->spawn_id);
}

int attached_run(const struct settings *settings, struct clove *clove,
		 const struct attached_start *start)
{
	CLEANUP(attached_deinit)
	struct attached attached = {
		.settings = settings,
		.start = start,
		.follow = {.clove = clove, .stays = true, .timeout_ms = -1},
		.signal_fd = -1,
	};
	int r;

	attached.follow.agent = attached.agent;
	sink_init(&attached.sinks[0], STDOUT_FILENO, start->raw);
	sink_init(&attached.sinks[1], STDERR_FILENO, start->raw);
	r = start->name ? former_end(&attached) : 0;
	if (!r)
		r = signals_open(&attached.signal_fd);
	if (!r)
		r = spawn_send(&attached);
	if (!r)
		return loop(&attached);
	session_lost(settings, r);
	return STATUS_OURS;
}
