/* SPDX-License-Identifier: MIT */

/*
 * The caller's end of an opener's socket
 *
 *   kernel --PACKET_WINDOW: the memory--> opener                       once
 *   kernel <--PACKET_READY: 0, or why it cannot be the user-- opener   once
 *   kernel --PACKET_OPEN: what, flags, base, path--> opener
 *   kernel <--PACKET_OPENED: result, figures; maybe the file-- opener
 *
 * A reply carries the number of its request: what was meant for an earlier one is nobody's answer.
 */

#include "sandbox/opener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/err.h"
#include "sandbox/launch.h"
#include "sandbox/opener_priv.h"

enum {
	TRIM_BYTES = 64 << 10, /* the window's beginning, which stays */
};

struct opener *opener_close(struct opener *opener)
{
	if (!opener)
		return NULL;
	(void)fd_close(opener->sock);
	if (opener->window)
		(void)munmap((void *)(uintptr_t)opener->window, OPENER_WINDOW_BYTES);
	free(opener);
	return NULL;
}
DEFINE_CLEANUP(struct opener *, opener_close);

/* Neither end can take the memory from under the other. A descriptor or -errno. */
static int window_make(struct opener *opener)
{
	CLEANUP(fd_closep)
	int fd = memfd_create("window", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *at;

	if (fd < 0 || ftruncate(fd, OPENER_WINDOW_BYTES) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return err_raise(-errno);
	at = mmap(NULL, OPENER_WINDOW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return err_raise(-errno);
	opener->window = at;
	return TAKE_FD(fd);
}

/* One without a process at the other end, which is @ret_theirs. 0 or -errno. */
static int opener_new(struct opener **ret_opener, int *ret_theirs)
{
	CLEANUP(opener_closep) struct opener *opener = calloc(1, sizeof(*opener));
	struct packet_head head = {.op = PACKET_WINDOW};
	CLEANUP(fd_closep) int window = -1;
	int pair[2], r;

	if (!opener)
		return err_raise(-ENOMEM);
	opener->sock = -1;
	window = window_make(opener);
	if (window < 0)
		return window;
	r = packet_pair(pair);
	if (r)
		return err_trace(r);
	opener->sock = pair[0];
	r = packet_send(pair[0], &head, NULL, 0, &window, 1, MSG_DONTWAIT);
	if (r) {
		(void)close(pair[1]);
		return err_fold(r);
	}
	*ret_opener = TAKE(opener);
	*ret_theirs = pair[1];
	return 0;
}

int opener_start_in_box(int channel, uint64_t box_id, struct opener **ret_opener)
{
	struct packet_head head = {.op = PACKET_BOX_OPENER, .id = box_id};
	CLEANUP(opener_closep) struct opener *opener = NULL;
	CLEANUP(fd_closep) int theirs = -1;
	int r = opener_new(&opener, &theirs);

	if (r)
		return err_trace(r);
	r = packet_send(channel, &head, NULL, 0, &theirs, 1, MSG_DONTWAIT);
	if (r == PACKET_E_AGAIN)
		return LAUNCH_E_BUSY;
	if (r == PACKET_E_GONE)
		return LAUNCH_E_GONE;
	if (r)
		return err_fold(r);
	*ret_opener = TAKE(opener);
	return 0;
}

int opener_start(const struct launcher *launcher, uid_t uid, gid_t gid, const gid_t *groups,
		 size_t n_groups, struct opener **ret_opener)
{
	struct packet_head head = {.op = PACKET_OPENER};
	uint32_t ids[2 + SPEC_GROUPS_MAX] = {uid, gid};
	CLEANUP(opener_closep) struct opener *opener = NULL;
	CLEANUP(fd_closep) int theirs = -1;
	int r;

	if (n_groups > SPEC_GROUPS_MAX)
		return err_raise(-EINVAL);
	for (size_t i = 0; i < n_groups; i++)
		ids[2 + i] = groups[i];
	r = opener_new(&opener, &theirs);
	if (r)
		return err_trace(r);
	r = packet_send(launcher->control, &head, ids, (2 + n_groups) * sizeof(*ids), &theirs, 1,
			0);
	if (r == PACKET_E_GONE)
		return OPEN_E_GONE;
	if (r)
		return err_fold(r);
	*ret_opener = TAKE(opener);
	return 0;
}

/* 0 or -EINVAL, -ENAMETOOLONG. */
static int fill(const struct open_request *request, struct request_body *body, size_t *ret_len)
{
	size_t base_len = request->base ? strlen(request->base) : 0;

	if (base_len > SPEC_PATH_MAX || request->path_len > SPEC_PATH_MAX)
		return -ENAMETOOLONG;
	if (memchr(request->path, '\0', request->path_len))
		return -EINVAL;
	if (request->kind != OPEN_COPY && request->length > OPENER_WINDOW_BYTES)
		return -EINVAL;
	body->open = (struct packet_open){
		.kind = request->kind,
		.flags = (uint32_t)request->flags,
		.mode = request->mode,
		.resolve = request->resolve,
		.offset = request->offset,
		.length = request->length,
		.base_len = (uint32_t)base_len,
		.path_len = (uint32_t)request->path_len,
	};
	memcpy(body->bytes, base_len ? request->base : "", base_len);
	body->bytes[base_len] = '\0';
	memcpy(body->bytes + base_len + 1, request->path, request->path_len);
	body->bytes[base_len + 1 + request->path_len] = '\0';
	*ret_len = sizeof(body->open) + base_len + request->path_len + 2;
	return 0;
}

int opener_send(struct opener *opener, const struct open_request *request)
{
	struct packet_head head = {.op = PACKET_OPEN};
	struct request_body body;
	size_t len;
	int r;

	r = fill(request, &body, &len);
	if (r)
		return r;
	if (request->kind == OPEN_WRITE && request->length)
		memcpy((void *)(uintptr_t)opener->window, request->data, request->length);
	head.id = ++opener->last_id;
	r = packet_send(opener->sock, &head, &body, len, &request->into, request->kind == OPEN_COPY,
			MSG_DONTWAIT);
	/* There is always room for one request; why nobody takes it is told by opener_recv(). */
	return r && r != PACKET_E_GONE ? err_fold(r) : 0;
}

static int take_reply(const struct opener *opener, struct packet *packet,
		      struct open_reply *ret_reply)
{
	const struct packet_opened *opened = packet->body;

	if (packet->head.op != PACKET_OPENED || packet->head.id != opener->last_id ||
	    packet->body_len != sizeof(*opened) || opened->done > INT32_MAX ||
	    packet->n_fds != (packet->head.arg == 0 && opened->passed)) {
		packet_close_fds(packet);
		return err_raise(-EBADMSG);
	}
	*ret_reply = (struct open_reply){
		.result = packet->head.arg,
		.fd = packet->n_fds ? packet->fds[0] : -1,
		.done = opened->done,
		.eof = opened->eof,
		.size = opened->size,
		.dev = opened->dev,
		.ino = opened->ino,
	};
	return 0;
}

int opener_recv(struct opener *opener, struct open_reply *ret_reply)
{
	struct packet_opened opened;
	struct packet packet = {.body = &opened, .body_max = sizeof(opened)};
	int r;

	for (;;) {
		r = packet_recv(opener->sock, &packet, MSG_DONTWAIT);
		if (r == PACKET_E_AGAIN)
			return OPEN_E_WAIT;
		if (r == PACKET_E_GONE)
			return OPEN_E_GONE;
		if (r == PACKET_E_NO_FDS)
			return err_raise(-EMFILE);
		if (r)
			return err_raise(-EBADMSG);
		if (packet.head.op != PACKET_READY || opener->ready)
			return take_reply(opener, &packet, ret_reply);
		packet_close_fds(&packet);
		if (packet.head.arg == EAGAIN)
			return OPEN_E_MANY;
		if (packet.head.arg)
			return packet.head.arg > 0 ? -packet.head.arg : -EBADMSG;
		opener->ready = true;
	}
}

void opener_trim(struct opener *opener)
{
	(void)madvise((void *)(uintptr_t)(opener->window + TRIM_BYTES),
		      OPENER_WINDOW_BYTES - TRIM_BYTES, MADV_REMOVE);
}
