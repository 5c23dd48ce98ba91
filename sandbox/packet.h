/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Messages over the sockets between kernel, launcher and openers: a head, a body, descriptors
 *
 * One packet is one SOCK_SEQPACKET message, so it arrives whole or not at all. Both ends are the
 * same binary: head and fixed bodies travel as structs. Received descriptors are close-on-exec from
 * the start, and belong to the struct packet until taken out.
 */

#include <stddef.h>
#include <stdint.h>

#include "core/base/cleanup.h"
#include "sandbox/spec.h"

enum {
	PACKET_E_AGAIN = 1, /* would block, or took longer than the socket's time limit */
	PACKET_E_GONE,      /* the peer closed its end */
	PACKET_E_TOO_BIG,   /* more than the socket takes as one message */
	PACKET_E_MALFORMED, /* shorter than a head, or longer than the buffer */
	PACKET_E_NO_FDS,    /* descriptors were lost: this process has no room for them */
};

enum {
	PACKET_BODY_MAX = SPEC_BYTES_MAX,
	PACKET_FDS_MAX = 253, /* SCM_MAX_FD: with room for all, lost ones mean a full table */
};

enum packet_op {
	PACKET_READY = 1, /* arg: errno of the start of a launcher, channel or opener */
	PACKET_CHANNEL,   /* on control; the launcher's end */
	PACKET_OPENER,    /* on control; the opener's end; body: uid, gid, groups as uint32_t */
	PACKET_LAUNCH,    /* on a channel; id; descriptors; body: a packed spec */
	PACKET_SIGNAL,    /* on a channel; id; arg: signal, maybe with PACKET_WHOLE_TREE */
	PACKET_REPLY,     /* from a channel; id; body: struct packet_reply; maybe a pidfd */
	PACKET_OPEN,      /* to an opener; id; body: struct packet_open, base, path; maybe a file */
	PACKET_OPENED, /* from an opener; id; arg: result; body: struct packet_opened; maybe a file */
	PACKET_WINDOW,     /* to an opener; the memory shared with it */
	PACKET_BOX_OPENER, /* on a channel; id of an agent; the opener's end; READY comes there */
	PACKET_PROBE,      /* on control; the launcher's end */
	PACKET_PROBED,     /* to that end; body: struct launch_probe */
	PACKET_CGROUPS,    /* on control; the caller's end; body: id, NUL, parent or nothing, NUL */
	PACKET_REMOVE,     /* on control; the caller's end, a directory; READY when it is empty */
	PACKET_MEASURER,   /* on control; the measurer's end */
	PACKET_MEASURE,    /* to a measurer; id; a directory; body: uint64_t, bytes to stop at */
	PACKET_MEASURED,   /* from it; id; body: uint64_t, bytes */
	PACKET_CGROUPED,   /* to that end; arg: errno; maybe a directory */
	PACKET_REPORT,     /* from an init; body: struct launch_report */
	PACKET_CONNECTION, /* from an init's keeper; the kernel's end of a connection */
	/*
	 * Through a door; a SEQPACKET socket to answer to. The answer: arg: errno; or a connection. Clients in
	 * agents know this one: its number and the head are part of the protocol (ipc/WIRE.md).
	 */
	PACKET_DOOR = 64,
};

#define PACKET_WHOLE_TREE 0x100

struct packet_head {
	uint32_t op;
	int32_t arg;
	uint64_t id;
};

struct packet_reply {
	uint32_t type; /* enum launch_reply_type */
	uint32_t step; /* enum launch_step */
	int32_t pid;
	int32_t error;
	int32_t program;
	uint32_t layers;
	uint32_t landlock_abi;
	uint64_t unmapped;
	char reason[SPEC_REASON_MAX];
};

struct packet_open {
	uint32_t kind; /* enum open_kind */
	uint32_t flags;
	uint32_t mode;
	uint32_t length;
	uint64_t resolve;
	uint64_t offset;
	uint32_t base_len;
	uint32_t path_len;
};

struct packet_opened {
	uint32_t done;
	uint8_t eof, passed, reserved[2];
	uint64_t size, dev, ino;
};

struct packet {
	struct packet_head head; /* zeros when PACKET_E_MALFORMED says it was not complete */
	void *body;              /* borrowed */
	size_t body_max, body_len;
	int fds[PACKET_FDS_MAX];
	unsigned n_fds;
};

/* A socket pair, both ends blocking and close-on-exec. 0 or -errno. */
int packet_pair(int ret_pair[2]);

/* @flags: 0 or MSG_DONTWAIT. 0, PACKET_E_AGAIN, PACKET_E_GONE, PACKET_E_TOO_BIG or -errno. */
int packet_send(int sock, const struct packet_head *head, const void *body, size_t body_len,
		const int *fds, unsigned n_fds, int flags);

/*
 * Fills @packet, whose body and body_max the caller set. An empty message counts as the end. On
 * failure no descriptor is left in it. 0, any PACKET_E code but PACKET_E_TOO_BIG, or -errno.
 */
int packet_recv(int sock, struct packet *packet, int flags);

/* Closes the descriptors that were not taken out. */
void packet_close_fds(struct packet *packet);

/* Sends PACKET_READY with @error; nobody may be listening any more. */
void packet_send_ready(int sock, int error);

/* Waits for PACKET_READY. 0, PACKET_E_GONE or the -errno that it carries. */
int packet_await_ready(int sock);
