/* SPDX-License-Identifier: MIT */

/*
 * A crowd shows what a connection costs that does nothing: opened one after the other, answered once,
 * kept. The tally has opening and first answer as one operation.
 */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "perf/drive.h"

static int join_crowd(const struct drive *drive, struct dialogue **ret_dialogue)
{
	bool refused;
	int r, fd;

	r = drive_connect(drive, &fd);
	if (r)
		return err_trace(r);
	r = drive->protocol->dialogue_new(fd, drive->work, ret_dialogue);
	if (r) {
		(void)fd_close(fd);
		return err_fold(r);
	}
	return drive_exchange(drive, fd, *ret_dialogue, &refused);
}

static void wait_for_end_of_input(void)
{
	char byte;
	ssize_t n;

	do {
		n = read(STDIN_FILENO, &byte, 1);
	} while (n > 0 || (n < 0 && errno == EINTR));
}

int drive_crowd(const struct drive *drive, struct tally *tally)
{
	struct dialogue **crowd = calloc(drive->clients, sizeof(struct dialogue *));
	uint64_t start_ns;
	int r = 0;

	if (!crowd)
		return err_raise(-ENOMEM);
	tally_start(tally, 0, 0);
	for (uint32_t i = 0; i < drive->clients && !r; i++) {
		start_ns = clock_now_ns();
		r = join_crowd(drive, &crowd[i]);
		(void)tally_add(tally, start_ns, clock_now_ns(), 1, 0);
	}
	if (!r) {
		tally_print(tally, drive->io);
		wait_for_end_of_input();
	}
	for (uint32_t i = 0; i < drive->clients; i++)
		crowd[i] = drive->protocol->dialogue_free(crowd[i]);
	free(crowd);
	return r;
}
