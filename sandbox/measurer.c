/* SPDX-License-Identifier: MIT */

#include "sandbox/measurer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "sandbox/box.h"
#include "sandbox/launch.h"
#include "sandbox/packet.h"

/* ---- the kernel's side ---- */

int measurer_start(const struct launcher *launcher, int *ret_sock)
{
	struct packet_head head = {.op = PACKET_MEASURER};
	CLEANUP(fd_closep) int ours = -1, theirs = -1;
	int pair[2], r = packet_pair(pair);

	if (r)
		return err_trace(r);
	ours = pair[0];
	theirs = pair[1];
	r = packet_send(launcher->control, &head, NULL, 0, &theirs, 1, 0);
	if (r)
		return r == PACKET_E_GONE ? LAUNCH_E_GONE : err_fold(r);
	if (fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
		return err_raise(-errno);
	*ret_sock = TAKE_FD(ours);
	return 0;
}

int measurer_ask(int sock, uint64_t id, int dir, uint64_t bytes_max)
{
	struct packet_head head = {.op = PACKET_MEASURE, .id = id};
	int r = packet_send(sock, &head, &bytes_max, sizeof(bytes_max), &dir, 1, MSG_DONTWAIT);

	if (r == PACKET_E_AGAIN)
		return LAUNCH_E_BUSY;
	return r == PACKET_E_GONE ? LAUNCH_E_GONE : err_fold(r);
}

int measurer_answer(int sock, struct measure *ret_measure)
{
	struct packet packet = {.body = &ret_measure->bytes,
				.body_max = sizeof(ret_measure->bytes)};
	int r = packet_recv(sock, &packet, MSG_DONTWAIT);

	if (r == PACKET_E_AGAIN)
		return LAUNCH_E_EMPTY;
	if (r == PACKET_E_GONE)
		return LAUNCH_E_GONE;
	if (r)
		return err_fold(r);
	packet_close_fds(&packet);
	/* READY comes only from a launcher that could not start it. */
	if (packet.head.op != PACKET_MEASURED || packet.body_len != sizeof(ret_measure->bytes))
		return err_raise(packet.head.op == PACKET_READY ? -EAGAIN : -EBADMSG);
	ret_measure->id = packet.head.id;
	ret_measure->error = packet.head.arg;
	return 0;
}

/* ---- the process ---- */

struct walk {
	uint64_t bytes, bytes_max;
	int depth;
};

static void close_dirp(DIR **dir)
{
	if (*dir)
		(void)closedir(*dir);
}

static void walk_dir(struct walk *walk, int at, const char *name);

/* What vanishes meanwhile counts for nothing. */
static void walk_entry(struct walk *walk, int at, const char *name)
{
	struct stat st;

	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW))
		return;
	/* A file with several names is met at each of them. */
	walk->bytes += (uint64_t)st.st_blocks * 512 /
			       (S_ISDIR(st.st_mode) || !st.st_nlink ? 1 : st.st_nlink) +
		       MEASURER_BYTES_PER_FILE;
	if (S_ISDIR(st.st_mode))
		walk_dir(walk, at, name);
}

static void walk_dir(struct walk *walk, int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	CLEANUP(close_dirp) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		(void)fd_close(fd);
		return;
	}
	if (++walk->depth > MEASURER_DEPTH_MAX)
		walk->bytes = walk->bytes_max;
	while (walk->bytes < walk->bytes_max && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			walk_entry(walk, fd, entry->d_name);
	walk->depth--;
}

_Noreturn void measurer_run(int sock)
{
	int keep[] = {sock};
	uint64_t bytes_max;
	struct packet packet = {.body = &bytes_max, .body_max = sizeof(bytes_max)};

	(void)prctl(PR_SET_NAME, "clove-measurer");
	if (box_close_others(keep, 1))
		_exit(1);
	while (!packet_recv(sock, &packet, 0)) {
		struct packet_head head = {.op = PACKET_MEASURED, .id = packet.head.id};
		struct walk walk = {.bytes_max = bytes_max};

		if (packet.head.op != PACKET_MEASURE || packet.n_fds != 1 ||
		    packet.body_len != sizeof(bytes_max))
			break;
		walk_dir(&walk, packet.fds[0], ".");
		packet_close_fds(&packet);
		if (packet_send(sock, &head, &walk.bytes, sizeof(walk.bytes), NULL, 0, 0))
			break;
	}
	_exit(0);
}
