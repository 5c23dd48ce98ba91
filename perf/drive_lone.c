/* SPDX-License-Identifier: MIT */

/*
 * One blocking connection, and the parts of it that the crowd uses as well
 *
 * No epoll here: with one request at a time it would only add a system call to every round trip. With
 * several it is needed: a server that waits for its answers to be read does not read our requests.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

#include "core/base/check.h"
#include "core/base/cleanup.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "perf/drive.h"

enum {
	REPLY_TIMEOUT_S = 10,
};

int drive_connect(const struct drive *drive, int *ret_fd)
{
	CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct timeval timeout = {.tv_sec = REPLY_TIMEOUT_S};
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	if (fd < 0)
		return err_raise(-errno);
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", drive->path);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) ||
	    connect(fd, (const struct sockaddr *)&addr, sizeof(addr)))
		return err_raise(-errno);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int send_all(const struct drive *drive, int fd, struct dialogue *dialogue)
{
	const uint8_t *bytes;
	ssize_t n;
	size_t len;

	while ((bytes = drive->protocol->output(dialogue, &len))) {
		n = send(fd, bytes, len, MSG_NOSIGNAL);
		if (n < 0)
			return err_raise(-errno);
		drive->protocol->output_sent(dialogue, (size_t)n);
	}
	return 0;
}

int drive_exchange(const struct drive *drive, int fd, struct dialogue *dialogue, bool *ret_refused)
{
	static uint8_t bytes[64 << 10];
	uint32_t due = 1;
	struct heard heard;
	struct ask ask;
	ssize_t n;
	int r;

	CHECK(work_draw(drive->work, &ask, 1) == 1);
	r = drive->protocol->put(dialogue, &ask, due);
	if (!r)
		r = send_all(drive, fd, dialogue);
	if (r)
		return err_fold(r);
	while (due) {
		n = recv(fd, bytes, sizeof(bytes), 0);
		if (n <= 0) {
			(void)fprintf(stderr, "perf_load: %s: %s\n", drive->protocol->name,
				      !n                ? "the server closed the connection"
				      : errno == EAGAIN ? "no reply in time"
							: strerror(errno));
			return DRIVE_E_FAILED;
		}
		r = drive->protocol->input(dialogue, bytes, (size_t)n, &heard);
		if (r == PROTOCOL_E_WRONG || (!r && heard.replies > due))
			return DRIVE_E_FAILED;
		if (r)
			return err_trace(r);
		due -= heard.replies;
		*ret_refused = heard.refused;
	}
	return 0;
}

int drive_lone(const struct drive *drive, struct tally *tally)
{
	const struct timespec rest = {.tv_nsec = DRIVE_REST_MS * CLOCK_NS_PER_MS};
	struct dialogue *dialogue;
	uint64_t sent_ns, now_ns;
	bool refused;
	int r, fd;

	r = drive_connect(drive, &fd);
	if (r)
		return err_trace(r);
	r = drive->protocol->dialogue_new(fd, drive->work, &dialogue);
	if (r) {
		(void)fd_close(fd);
		return err_fold(r);
	}
	tally_start(tally, drive->warmup_ms, drive->window_ms);
	do {
		sent_ns = clock_now_ns();
		r = drive_exchange(drive, fd, dialogue, &refused);
		now_ns = clock_now_ns();
		if (!r && refused)
			(void)nanosleep(&rest, NULL);
	} while (!r && tally_add(tally, sent_ns, now_ns, !refused, refused));
	if (!r)
		tally_print(tally, drive->io);
	dialogue = drive->protocol->dialogue_free(dialogue);
	return r;
}
