/* SPDX-License-Identifier: MIT */

#include "core/agent_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/agent_home.h"
#include "core/base/cleanup.h"
#include "core/kernel.h"

enum {
	PLACE_BITS = 36, /* of a cursor; above it, who the file is */
};

/*
 * Which file it is: number and time of birth, because a number is soon used again. Not 0, so that no
 * cursor is.
 */
static uint64_t identity(int fd)
{
	struct statx st;
	uint64_t hash;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &st))
		return 0;
	hash = st.stx_ino * UINT64_C(0x9e3779b97f4a7c15) ^
	       ((uint64_t)st.stx_btime.tv_sec * 1000000000 + st.stx_btime.tv_nsec) *
		       UINT64_C(0xc2b2ae3d27d4eb4f);
	hash = hash >> PLACE_BITS;
	return hash ? hash : 1;
}

/* Appends what @fd has from @place on. 0 or -errno. */
static int append(int fd, uint64_t place, uint32_t length, struct agent_log *log)
{
	while (log->len < length) {
		ssize_t n = pread(fd, log->data + log->len, length - log->len, (off_t)place);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return 0;
		log->len += (uint32_t)n;
		place += (uint64_t)n;
		log->next = (log->next >> PLACE_BITS) << PLACE_BITS | place;
	}
	return 0;
}

static int log_read(int former, int current, const uint64_t *cursor, uint32_t length,
		    struct agent_log *log)
{
	const uint64_t mask = (UINT64_C(1) << PLACE_BITS) - 1;
	const int fds[2] = {former, current};
	uint64_t who[2], place[2] = {0, 0};
	unsigned first = 0;
	int r = 0;

	for (unsigned i = 0; i < 2; i++)
		who[i] = fds[i] < 0 ? 0 : identity(fds[i]);
	log->next = cursor ? *cursor : 0;
	if (cursor && *cursor) {
		first = who[1] && *cursor >> PLACE_BITS == who[1] ? 1 : 0;
		log->lost = !first && *cursor >> PLACE_BITS != who[0];
		if (!log->lost)
			place[first] = *cursor & mask;
	}
	for (unsigned i = first; i < 2 && !r; i++) {
		if (!who[i] || log->len == length)
			continue;
		log->next = who[i] << PLACE_BITS | place[i];
		r = append(fds[i], place[i], length, log);
	}
	return r;
}

enum wire_error agent_log_read(struct kernel *kernel, const struct agent_card *card,
			       const char *stream, const uint64_t *cursor, uint32_t length,
			       struct agent_log *ret_log, struct fault *fault)
{
	CLEANUP(fd_closep) int current = -1;
	CLEANUP(fd_closep) int former = -1;
	char file[32];
	int r;

	(void)snprintf(file, sizeof(file), "%s.log", stream);
	current = agent_home_log(kernel, card->owner, card->home, file);
	(void)snprintf(file, sizeof(file), "%s.log.1", stream);
	/* Second: rotated in between, the current one is both, and read once, as the former. */
	former = agent_home_log(kernel, card->owner, card->home, file);
	ret_log->data = malloc(length ? length : 1);
	if (!ret_log->data)
		return fault_set(fault, WIRE_BUSY, "no memory");
	if (current >= 0 && former >= 0 && identity(current) == identity(former))
		current = fd_close(current);
	r = log_read(former, current, cursor, length, ret_log);
	return r ? fault_set_os(fault, -r, "the log of agent %s", card->name) : WIRE_OK;
}
