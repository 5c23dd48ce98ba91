/* SPDX-License-Identifier: MIT */

/*
 * The fleet: every client sends a batch of requests in one write, waits for all the answers, and sends
 * the next, as redis-benchmark does. So clients x pipeline requests are in flight at any time, and the
 * server sets the pace.
 *
 * Who was refused anything in a batch rests for a while before the next, as the server asks. All rest equally long, so
 * they wake up in the order in which they went to rest.
 *
 * A latency is the time from the write of a batch to the read that brought the answer. The clock is
 * read once per read of a socket, the same for every protocol.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "core/base/cleanup.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "perf/drive.h"

enum {
	EVENTS_MAX = 1024,
	SILENCE_MS = 10000, /* without any answer: the server hangs */
	READ_BYTES_MAX = 64 << 10,
};

struct member {
	struct dialogue *dialogue;
	int fd;           /* the dialogue's */
	uint32_t due;     /* answers that this batch still lacks */
	uint32_t refused; /* of this batch */
	uint64_t sent_ns; /* of the batch */
	uint64_t rests_until_ns;
	struct member *next_resting;
	bool want_writing; /* the socket was full */
};

struct fleet {
	const struct drive *drive;
	struct tally *tally;
	struct member *members;
	struct member *resting, **resting_last;
	uint32_t busy; /* members with a batch in flight */
	int epoll_fd;
	bool over; /* the window, or the work */
};

static int watch(struct fleet *fleet, struct member *m, int how, bool want_writing)
{
	struct epoll_event event = {.events = EPOLLIN | (want_writing ? (uint32_t)EPOLLOUT : 0),
				    .data.ptr = m};

	if (epoll_ctl(fleet->epoll_fd, how, m->fd, &event))
		return err_raise(-errno);
	m->want_writing = want_writing;
	return 0;
}

static int send_output(struct fleet *fleet, struct member *m)
{
	const struct protocol *protocol = fleet->drive->protocol;
	const uint8_t *bytes;
	ssize_t n;
	size_t len;

	while ((bytes = protocol->output(m->dialogue, &len))) {
		n = send(m->fd, bytes, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			return m->want_writing ? 0 : watch(fleet, m, EPOLL_CTL_MOD, true);
		if (n < 0)
			return err_raise(-errno);
		protocol->output_sent(m->dialogue, (size_t)n);
	}
	return m->want_writing ? watch(fleet, m, EPOLL_CTL_MOD, false) : 0;
}

/* Without anything left to ask the member idles; the last one ends it all. */
static int start_batch(struct fleet *fleet, struct member *m, uint64_t now_ns)
{
	struct ask asks[PROTOCOL_PIPELINE_MAX];
	int r;

	m->due = work_draw(fleet->drive->work, asks, fleet->drive->pipeline);
	m->refused = 0;
	if (!m->due) {
		fleet->over = !fleet->busy && !fleet->resting;
		return 0;
	}
	r = fleet->drive->protocol->put(m->dialogue, asks, m->due);
	if (r)
		return err_fold(r);
	fleet->busy++;
	m->sent_ns = now_ns;
	return send_output(fleet, m);
}

static void rest(struct fleet *fleet, struct member *m, uint64_t now_ns)
{
	m->rests_until_ns = now_ns + DRIVE_REST_MS * CLOCK_NS_PER_MS;
	m->next_resting = NULL;
	*fleet->resting_last = m;
	fleet->resting_last = &m->next_resting;
}

static int wake_rested(struct fleet *fleet)
{
	uint64_t now_ns = fleet->resting ? clock_now_ns() : 0;
	int r = 0;

	while (!r && fleet->resting && fleet->resting->rests_until_ns <= now_ns) {
		struct member *m = fleet->resting;

		fleet->resting = m->next_resting;
		if (!fleet->resting)
			fleet->resting_last = &fleet->resting;
		r = start_batch(fleet, m, now_ns);
	}
	return r;
}

static int read_answers(struct fleet *fleet, struct member *m)
{
	static uint8_t bytes[READ_BYTES_MAX];
	const struct protocol *protocol = fleet->drive->protocol;
	uint64_t now_ns;
	struct heard heard;
	ssize_t n;
	int r;

	n = recv(m->fd, bytes, sizeof(bytes), 0);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0) {
		(void)fprintf(stderr, "perf_load: %s: the server closed a connection\n",
			      protocol->name);
		return DRIVE_E_FAILED;
	}
	now_ns = clock_now_ns();
	r = protocol->input(m->dialogue, bytes, (size_t)n, &heard);
	if (r == PROTOCOL_E_WRONG || (!r && heard.replies > m->due))
		return DRIVE_E_FAILED;
	if (r)
		return err_trace(r);
	m->due -= heard.replies;
	m->refused += heard.refused;
	if (heard.replies && !tally_add(fleet->tally, m->sent_ns, now_ns,
					heard.replies - heard.refused, heard.refused))
		fleet->over = true;
	if (m->due || fleet->over)
		return 0;
	fleet->busy--;
	if (!m->refused)
		return start_batch(fleet, m, now_ns);
	rest(fleet, m, now_ns);
	return 0;
}

static int add_member(struct fleet *fleet, struct member *m)
{
	int r, fd;

	r = drive_connect(fleet->drive, &fd);
	if (r)
		return err_trace(r);
	/* Connecting waited for the server's backlog; from here on nothing blocks. */
	r = fcntl(fd, F_SETFL, O_NONBLOCK) ? -errno : 0;
	if (!r)
		r = fleet->drive->protocol->dialogue_new(fd, fleet->drive->work, &m->dialogue);
	if (r) {
		(void)fd_close(fd);
		return err_fold(r);
	}
	m->fd = fd;
	return watch(fleet, m, EPOLL_CTL_ADD, false);
}

static int run_fleet(struct fleet *fleet)
{
	static struct epoll_event events[EVENTS_MAX];
	struct member *m;
	int n, r = 0;

	tally_start(fleet->tally, fleet->drive->warmup_ms, fleet->drive->window_ms);
	for (uint32_t i = 0; i < fleet->drive->clients && !r; i++)
		r = start_batch(fleet, &fleet->members[i], clock_now_ns());
	while (!r && !fleet->over) {
		n = epoll_wait(fleet->epoll_fd, events, EVENTS_MAX,
			       fleet->resting ? DRIVE_REST_MS : SILENCE_MS);
		if (n < 0 && errno != EINTR)
			return err_raise(-errno);
		if (!n && !fleet->resting) {
			(void)fprintf(stderr, "perf_load: %s: no reply in %d s\n",
				      fleet->drive->protocol->name, SILENCE_MS / 1000);
			return DRIVE_E_FAILED;
		}
		for (int i = 0; i < n && !r && !fleet->over; i++) {
			m = events[i].data.ptr;
			if (events[i].events & EPOLLOUT)
				r = send_output(fleet, m);
			if (!r && events[i].events & ~(uint32_t)EPOLLOUT)
				r = read_answers(fleet, m);
		}
		if (!r && !fleet->over)
			r = wake_rested(fleet);
	}
	return r;
}

int drive_fleet(const struct drive *drive, struct tally *tally)
{
	CLEANUP(fd_closep) int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	CLEANUP(freep) struct member *members = calloc(drive->clients, sizeof(*members));
	struct fleet fleet = {
		.drive = drive, .tally = tally, .members = members, .epoll_fd = epoll_fd};
	int r = 0;

	fleet.resting_last = &fleet.resting;
	if (epoll_fd < 0 || !members)
		return err_raise(members ? -errno : -ENOMEM);
	for (uint32_t i = 0; i < drive->clients && !r; i++)
		r = add_member(&fleet, &members[i]);
	if (!r)
		r = run_fleet(&fleet);
	if (!r)
		tally_print(tally, drive->io);
	for (uint32_t i = 0; i < drive->clients; i++)
		members[i].dialogue = drive->protocol->dialogue_free(members[i].dialogue);
	return r;
}
