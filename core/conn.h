/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Connection: one client's stream, its frames in and out, its identity
 *
 * Owned by one core and used in its thread only. Nothing closes a connection in the middle of a pass:
 * conn_doom() or conn_leave() marks it, and the core closes it when it sends the pass's output.
 */

#include <msgpack.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/list.h"
#include "core/fault.h"
#include "core/loop.h"

struct agent;
struct agent_entry;
struct shard;
struct user;

struct conn {
	struct loop_source source;
	struct shard *shard;
	struct agent_entry *agent;
	struct agent *spawned; /* whose connection it is; NULL: a client that came by itself */
	struct list of_agent;  /* in spawned->conns */
	struct user *user;     /* whom it acts as, a reference */
	struct list link;      /* in shard->conns */
	struct list dirty;     /* in shard->dirty */
	struct list carried;   /* in shard->carried, or before its first input in shard->unknown */
	struct list unparsed;  /* in shard->unparsed, while @in has something */
	struct list requests;  /* struct request: in work */
	struct list held;      /* struct request: done, waiting for room in the output */
	struct list parked;    /* struct file_op: waiting for others of this connection */
	size_t held_bytes;     /* of the results held */
	size_t job_bytes;      /* of the output of its commands */
	size_t file_bytes;     /* of what it wants to be written */
	struct buf in;         /* input not parsed yet */
	struct buf backlog;    /* output that the socket did not take */
	uint64_t session;      /* number of its space in the store; 0 until it writes there */
	size_t charged;        /* capacity of both, as counted against the owner */
	uint32_t out_first, out_last, out_bytes; /* this pass's output */
	uint32_t later_offset, later_len; /* handed to the loop, in out.former when it answers */
	uint32_t rights;                  /* WIRE_RIGHT_x */
	uint64_t pass;                    /* of the core, when the budget was filled */
	uint16_t budget;                  /* frames it may still run in this pass */
	uint16_t in_flight;
	uint16_t files; /* of them, that are at work on files, or that are held */
	bool is_agents; /* made for a spawned agent, which may have gone */
	bool counted;   /* among the connections of its owner */
	bool ties;      /* agents may be tied to it */
	bool ended;     /* the client sends no more; it may still read */
	bool stalled;   /* too much output waits: no parsing */
	bool leaving;   /* to be closed when its output has gone */
	bool doomed;    /* to be closed now */
};

/* Takes @fd, also on failure. 0 or -errno. */
int conn_open(struct shard *shard, int fd);
/*
 * The first connection of an agent, which owns its entry; counted by the agent. Takes @fd, also on failure.
 * 0 or -errno.
 */
int conn_open_agent(struct agent *agent, int fd);
/* A further one, counted as those of clients. Takes @fd; one that cannot be had is turned away with the reason. */
void conn_open_further(struct agent *agent, int fd);
/* Lets those be parsed whose owners were looked up meanwhile. */
void conn_admit_known(struct shard *shard);
/* Whether it is a client of root or of the kernel's own user, which reach every owner's agents. */
bool conn_is_operator(const struct conn *conn);
void conn_close(struct conn *conn);
void conn_doom(struct conn *conn);  /* closes at the end of the pass */
void conn_leave(struct conn *conn); /* takes no more, sends what it has, then closes */

/* For request.c: one less is in work. A client that sends no more is left when it was the last. */
void conn_rest(struct conn *conn);

/* Parses input left over; for the core's pass. */
void conn_continue(struct conn *conn);

/* Sends this pass's output, @now or with the loop's next wait; a lost connection is doomed. */
void conn_send(struct conn *conn, bool now);

/* Sends, and closes a doomed connection: @conn may be gone after it. */
void conn_flush(struct conn *conn);

/* Whether a further reply may be made without more waiting than LIMIT_OUT_SOFT_BYTES. */
bool conn_has_room(const struct conn *conn);

/*
 * A frame in the making: pack its body, one value, between begin and end. Frames are not nested.
 * @flags is WIRE_FLAG_x.
 */
msgpack_packer *conn_begin(struct conn *conn);
void conn_end(struct conn *conn, uint16_t op, uint16_t flags, uint64_t id);

void conn_reply_error(struct conn *conn, uint16_t op, uint64_t id, const struct fault *fault);

/* Adds bytes that are valid MessagePack to the frame in the making. */
void conn_splice(struct conn *conn, const uint8_t *bytes, size_t len);
