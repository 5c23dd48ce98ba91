/* SPDX-License-Identifier: MIT */

/*
 * The far end of one channel: requests in, replies out
 *
 * Every request is answered, also one that makes no sense: a kernel that waits for a reply which
 * never comes would be the harder bug. What arrived with a refused request is closed.
 *
 * When the channel is full, replies wait in the outbox and no further request is read. So the
 * outbox needs no memory of its own and cannot grow without bound: each child has a slot for its
 * one reply, and the one request that found the channel full has the peer's.
 *
 * A peer that closes its end is gone with everything it launched.
 */

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/check.h"
#include "sandbox/launcher_priv.h"

/* True if the reply was sent, or never can be. */
static bool slot_send(struct peer *peer, const struct reply_slot *slot)
{
	struct packet_head head = {.op = PACKET_REPLY, .id = slot->id};
	int r;

	r = packet_send(peer->sock, &head, &slot->reply, sizeof(slot->reply), &slot->pidfd,
			slot->pidfd >= 0, MSG_DONTWAIT);
	/* If it is gone the next event is EPOLLHUP. Anything else, as want of memory, may pass. */
	return r == 0 || r == PACKET_E_GONE;
}

static void peer_expect(struct server *server, struct peer *peer, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = &peer->watch};

	CHECK(epoll_ctl(server->epoll, EPOLL_CTL_MOD, peer->sock, &event) == 0);
}

void launcher_peer_reply(struct server *server, struct peer *peer, struct reply_slot *slot)
{
	if (list_empty(&peer->outbox)) {
		if (slot_send(peer, slot))
			return;
		peer_expect(server, peer, EPOLLOUT);
	}
	list_append(&peer->outbox, &slot->in_outbox);
}

static void outbox_flush(struct server *server, struct peer *peer)
{
	while (!list_empty(&peer->outbox)) {
		struct list *first = peer->outbox.next;

		if (!slot_send(peer, container_of(first, struct reply_slot, in_outbox)))
			return;
		list_unlink(first);
	}
	peer_expect(server, peer, EPOLLIN);
}

/* A reply about no process. */
static void reply(struct server *server, struct peer *peer, uint64_t id, struct packet_reply what)
{
	peer->slot.id = id;
	peer->slot.pidfd = -1;
	peer->slot.reply = what;
	launcher_peer_reply(server, peer, &peer->slot);
}

static void reply_refusal(struct server *server, struct peer *peer, const struct refusal *refusal)
{
	struct packet_reply failed = {
		.type = LAUNCH_FAILED,
		.step = refusal->step,
		.error = refusal->error,
	};

	memcpy(failed.reason, refusal->reason.text, sizeof(failed.reason));
	reply(server, peer, server->packet.head.id, failed);
}

/* 0: a reply will follow, or -1 with why there will be no process. */
static int launch(struct server *server, struct peer *peer, struct refusal *reterr_refusal)
{
	CLEANUP(spec_freep) struct launch_spec *spec = NULL;
	struct packet *packet = &server->packet;
	int r;

	r = spec_unpack(packet->body, packet->body_len, &spec, &reterr_refusal->reason);
	if (r) {
		reterr_refusal->step = LAUNCH_STEP_SPEC;
		reterr_refusal->error = r == SPEC_E_REFUSED ? EINVAL : -r;
		return -1;
	}
	if (packet->n_fds != spec_fds(spec)) {
		*reterr_refusal = (struct refusal){LAUNCH_STEP_DESCRIPTORS, EBADMSG, {""}};
		return -1;
	}
	return launcher_child_start(server, peer, packet->head.id, spec, packet->fds,
				    reterr_refusal);
}

static void signal_child(struct server *server, struct peer *peer)
{
	const struct packet_head *head = &server->packet.head;
	struct child *child = launcher_child_find(server, peer, head->id);
	bool whole_tree = head->arg > 0 && head->arg & PACKET_WHOLE_TREE;
	int signo = whole_tree ? head->arg & ~PACKET_WHOLE_TREE : head->arg, r = -ESRCH;

	if (signo < 1 || signo >= NSIG)
		r = -EINVAL;
	else if (child)
		r = launcher_child_signal(server, child, signo, whole_tree);
	reply(server, peer, head->id, (struct packet_reply){.type = LAUNCH_KILLED, .error = -r});
}

/* Whoever asked waits at the other end of the socket. */
static void serve_opener(struct server *server)
{
	const struct packet *packet = &server->packet;
	struct child *box = launcher_child_find(server, NULL, packet->head.id);
	int r = -ESRCH;

	if (box && box->kind == LAUNCH_AGENT && box->terms)
		r = launcher_box_opener(server, box, packet->fds[0]);
	if (r)
		packet_send_ready(packet->fds[0], -r);
}

/* @received is what packet_recv() made of the request. */
static void serve(struct server *server, struct peer *peer, int received)
{
	struct refusal refusal = {LAUNCH_STEP_MESSAGE, EBADMSG, {""}};
	const struct packet *packet = &server->packet;

	if (received == PACKET_E_NO_FDS) {
		refusal.step = LAUNCH_STEP_DESCRIPTORS;
		refusal.error = EMFILE;
	} else if (received == 0 && packet->head.op == PACKET_SIGNAL && !packet->body_len &&
		   !packet->n_fds) {
		signal_child(server, peer);
		return;
	} else if (received == 0 && packet->head.op == PACKET_BOX_OPENER && !packet->body_len &&
		   packet->n_fds == 1) {
		serve_opener(server);
		return;
	} else if (received == 0 && packet->head.op == PACKET_LAUNCH) {
		if (launch(server, peer, &refusal) == 0)
			return;
	}
	reply_refusal(server, peer, &refusal);
}

static void on_event(struct server *server, struct watch *watch, uint32_t events)
{
	struct peer *peer = container_of(watch, struct peer, watch);
	int r;

	if (events & (EPOLLHUP | EPOLLERR)) {
		launcher_peer_free(server, peer);
		return;
	}
	if (events & EPOLLOUT) {
		outbox_flush(server, peer);
		return;
	}
	r = packet_recv(peer->sock, &server->packet, MSG_DONTWAIT);
	if (r == PACKET_E_AGAIN)
		return;
	if (r < 0 || r == PACKET_E_GONE) {
		launcher_peer_free(server, peer);
		return;
	}
	serve(server, peer, r);
	packet_close_fds(&server->packet);
}

int launcher_peer_add(struct server *server, int sock)
{
	struct peer *peer = calloc(1, sizeof(*peer));
	int r;

	if (!peer)
		return -ENOMEM;
	r = launcher_watch(server, sock, EPOLLIN, &peer->watch);
	if (r) {
		free(peer);
		return r;
	}
	peer->watch.fn = on_event;
	peer->sock = sock;
	list_init(&peer->children);
	list_init(&peer->outbox);
	list_init(&peer->slot.in_outbox);
	list_append(&server->peers, &peer->in_server);
	server->n_peers++;
	return 0;
}

void launcher_peer_free(struct server *server, struct peer *peer)
{
	while (!list_empty(&peer->children)) {
		struct child *child = container_of(peer->children.next, struct child, in_peer);

		(void)launcher_child_signal(server, child, SIGKILL, true);
		launcher_child_free(server, child);
	}
	list_unlink(&peer->in_server);
	server->n_peers--;
	launcher_unwatch(server, peer->sock);
	(void)fd_close(peer->sock);
	free(peer);
}
