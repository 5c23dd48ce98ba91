/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Following what an agent writes, within an event loop
 *
 * The kernel keeps the output in files and answers LOGS with a piece of it and a cursor behind that. So
 * following is asking again: at once while there is more, with growing pauses while there is not. There is one
 * request in flight for each stream, and none while its sink still has a piece to write: memory is
 * bounded by one piece, and a reader who stands still stops the asking.
 */

#include "sdk/c/clove.h"
#include "sdk/cli/sink.h"
#include "sdk/cli/tail.h"

enum {
	FOLLOW_STREAMS = 2,
};

struct follow_stream {
	const char *name;  /* "stdout", "stderr" */
	struct sink *sink; /* NULL: nobody wants it, only its end */
	struct tail *tail; /* collects what there is at first; NULL: all of it goes to the sink */
	uint64_t cursor;   /* 0: from the oldest byte kept */

	/* private */
	uint64_t request_id; /* in flight; 0 none */
	uint64_t late_ns;    /* when its answer has taken too long */
	uint64_t due_ns;     /* when to ask next */
	uint32_t pause_ms;
	bool ended, lost_said;
};

struct follow {
	struct clove *clove; /* borrowed, as all of these */
	const char *agent;   /* as agents_pack() reads it */
	bool stays; /* until the agent has ended for good; else until the end of what there is */
	int timeout_ms; /* of an answer to LOGS; -1 none */
	struct follow_stream streams[FOLLOW_STREAMS];
	unsigned stream_count;
};

enum follow_kind {
	FOLLOW_NOTHING,
	FOLLOW_FRAME,   /* one that is no answer to LOGS; valid until the next turn */
	FOLLOW_REFUSED, /* LOGS: an error reply; that stream has ended */
	FOLLOW_SIGNAL,  /* @signal_fd has something */
	FOLLOW_SINK,    /* a sink takes no more: @sink_error is SINK_E_CLOSED or -errno */
};

struct follow_event {
	enum follow_kind kind;
	struct clove_frame frame;
	int sink_error;
};

/*
 * One turn: asks what is due, then waits for an answer, another frame, room in a sink, a signal, or
 * until @until_ns (DEADLINE_NEVER: no such limit). 0 with what has come, or what libclove returned:
 * CLOVE_E_TIMEOUT when an answer to LOGS takes too long.
 */
int follow_turn(struct follow *follow, int signal_fd, uint64_t until_ns,
		struct follow_event *ret_event);

/* Asks at once, without waiting for the pauses: there is news of the agent. */
void follow_hurry(struct follow *follow);

/* All streams have ended, and all is written. */
bool follow_is_done(const struct follow *follow);
