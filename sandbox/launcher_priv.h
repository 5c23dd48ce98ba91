/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Inside the launcher process: server, peers, children
 *
 *   server   the epoll set, the control socket, the limits                  launcher.c
 *   peer     the kernel's end of one channel; its requests and its outbox   launcher_peer.c
 *   child    one launched process, from its clone until it is reaped        launcher_child.c
 *
 * A server owns peers, a peer owns children. One thread; nothing here blocks.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "core/base/list.h"
#include "sandbox/cgroup.h"
#include "sandbox/host.h"
#include "sandbox/launch.h"
#include "sandbox/packet.h"

enum {
	LAUNCHER_PEERS_MAX = 64,
	LAUNCHER_OPENERS_MAX = 256,    /* fewer under a low RLIMIT_NOFILE */
	LAUNCHER_OPENERS_PER_UID = 8,  /* or a user whose file systems hang would take them all */
	LAUNCHER_CHILDREN_MAX = 16384, /* fewer under a low RLIMIT_NOFILE */
	LAUNCHER_BUCKETS = 4096,       /* of children by id: a power of two */
	LAUNCHER_FDS_PER_CHILD = 3,    /* pidfd, lifeline, and until it is answered its status */
};

struct server;
struct box_terms;

/* Something in the epoll set; @fn may free it and whatever holds it. */
struct watch {
	void (*fn)(struct server *server, struct watch *watch, uint32_t events);
};

struct server {
	int epoll;
	int control;
	struct watch control_watch;
	struct host host;
	struct cgroup_root cgroups; /* all off until the kernel asks for them */
	struct rlimit core, nofile; /* as found at start, for the children */
	struct list peers;
	struct list openers;
	struct list by_id[LAUNCHER_BUCKETS];
	struct list exited; /* children that are no more, but perhaps not reaped */
	unsigned n_peers, n_openers, openers_max, n_children, children_max;
	bool done;
	struct packet packet; /* the request in hand */
	uint8_t body[PACKET_BODY_MAX];
};

/* A reply that may have to wait for room in the channel. */
struct reply_slot {
	struct list in_outbox;
	struct packet_reply reply;
	uint64_t id;
	int pidfd; /* borrowed from the child */
};

struct peer {
	struct list in_server;
	struct watch watch;
	int sock;
	struct list children;
	struct list outbox; /* while not empty, no request is read */
	struct reply_slot slot;
};

struct child {
	struct list in_peer;
	struct list in_bucket;
	struct list in_exited;
	struct peer *peer; /* borrowed */
	uint64_t id;
	pid_t pid;
	int pidfd;
	int status; /* read end of the status pipe or socket; -1 once answered */
	enum launch_kind kind;
	char group[24];          /* of PLAIN: the cgroup of all it starts; "": none */
	uint64_t box_id;         /* of ENTER */
	int lifeline;            /* of AGENT, else -1: its EOF ends the box */
	struct box_terms *terms; /* of AGENT, malloc'ed */
	pid_t program;           /* of AGENT and ENTER, once it is about to run */
	uint32_t layers, landlock_abi;
	struct watch status_watch, exit_watch;
	struct reply_slot slot;
};

/* Why a request was turned down at once. */
struct refusal {
	enum launch_step step;
	int error;
	struct spec_reason reason;
};

/* Fills it. -1, so that whoever turns down can end with it. */
static inline int launcher_refuse(struct refusal *reterr_refusal, enum launch_step step, int error)
{
	reterr_refusal->step = step;
	reterr_refusal->error = error;
	return -1;
}

int launcher_watch(struct server *server, int fd, uint32_t events, struct watch *watch);
/* Before close(): a copy of the descriptor elsewhere would keep the watch alive. */
void launcher_unwatch(struct server *server, int fd);

/*
 * clone() like fork(), without its signal and with a pidfd, into the cgroup of @cgroup or, if that is
 * -1, our own. 0 in the child, a pid, or -errno.
 */
pid_t launcher_clone(unsigned long flags, int cgroup, int *ret_pidfd);

/* Owns @sock from here. 0 or -errno. */
int launcher_peer_add(struct server *server, int sock);
void launcher_peer_free(struct server *server, struct peer *peer);

/* Sends the reply in @slot, now or when there is room. */
void launcher_peer_reply(struct server *server, struct peer *peer, struct reply_slot *slot);

/* 0: a reply will follow. -1: turned down, no process exists. */
int launcher_child_start(struct server *server, struct peer *peer, uint64_t id,
			 const struct launch_spec *spec, int *fds, struct refusal *reterr_refusal);

/*
 * An opener in @box, answering on @sock, which stays the caller's. 0 or -errno. launcher_opener_add()
 * is the same for any child: @run in it does not return. It is killed when the other end of @sock closes,
 * if @sock is not -1. @group is what it is cloned into, or -1.
 */
int launcher_box_opener(struct server *server, const struct child *box, int sock);
int launcher_opener_add(struct server *server, uid_t uid, int sock, int group,
			void (*run)(void *arg), void *arg);

/*
 * The clone for an agent, or for a command in @box. @fds, which may get replaced by mounts, and
 * @status stay the caller's. 0 with pid and pidfd of @child set, or -1.
 */
int launcher_box_start(struct server *server, struct child *child, const struct launch_spec *spec,
		       int *fds, int status, struct refusal *reterr_refusal);
int launcher_enter_start(struct server *server, struct child *child, const struct child *box,
			 const struct launch_spec *spec, const int *fds, int status,
			 struct refusal *reterr_refusal);
int launcher_box_signal(struct server *server, const struct child *child, int signo,
			bool whole_tree);
/* The init of an agent has ended: so does what is left in its group. */
void launcher_box_ended(struct server *server, const struct child *child);

/* NULL, or the child of that name which is not reaped; of any peer if @peer is NULL. */
struct child *launcher_child_find(struct server *server, struct peer *peer, uint64_t id);

/* Signals its process group, or in its box. 0 or -errno, -ESRCH once it is reaped. */
int launcher_child_signal(struct server *server, const struct child *child, int signo,
			  bool whole_tree);
void launcher_child_free(struct server *server, struct child *child);

/* Forgets the reaped among the next @budget exited children. */
void launcher_child_sweep(struct server *server, unsigned budget);
