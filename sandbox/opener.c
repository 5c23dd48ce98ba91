/* SPDX-License-Identifier: MIT */

/*
 * Openers, both ends
 *
 *   file thread --PACKET_OPEN: flags, mode, resolve, base, path--> opener
 *   file thread <--PACKET_OPENED: 0 and the file, OPEN_E_NOT_REGULAR, or -errno-- opener
 *
 * The opener is single-threaded, has its socket and nothing else open, and takes from a request
 * what open() would take from its user, less what could do harm here: a FIFO or a device could
 * block or act when opened, so all is opened non-blocking and only a regular file is passed on;
 * O_TRUNC waits until it is known to be one; a path never goes through a magic link of /proc,
 * behind which are the opener's own root and descriptors. There is no way around openat2(): where
 * it is refused, every request is answered with its errno.
 *
 * A file system of the user (FUSE) can hold an open() for ever. Then the caller's wait ends after
 * OPENER_TIMEOUT_S, it closes its end, and the opener ends when the file system lets go.
 */

#include "sandbox/opener.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/base/err.h"
#include "sandbox/identity.h"
#include "sandbox/launch.h"
#include "sandbox/packet.h"

enum {
	SOCK_FD = 3,
	FLAGS_ALLOWED = O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | O_NOFOLLOW | O_PATH,
	EAGAIN_TRIES = 16, /* a rename beside a scoped lookup makes openat2() ask for another try */
};

struct request_body {
	struct packet_open open;
	char bytes[2 * (SPEC_PATH_MAX + 1)]; /* base, NUL, path, NUL */
};

static int open_at(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.mode = mode,
		.resolve = resolve | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	for (int i = 0; i < EAGAIN_TRIES; i++) {
		fd = syscall(SYS_openat2, dir, path, &how, sizeof(how));
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	return fd < 0 ? -errno : (int)fd;
}

/*
 * With O_PATH: a file or directory to be shown to somebody else, who gets no more than the user has. @flags
 * say what that must be.
 */
static int admit_path(int fd, int flags)
{
	int mode = (flags & O_ACCMODE) == O_RDWR ? R_OK | W_OK : R_OK;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return OPEN_E_NOT_REGULAR;
	if (S_ISDIR(st.st_mode))
		mode |= X_OK;
	return syscall(SYS_faccessat2, fd, "", mode, AT_EMPTY_PATH | AT_EACCESS) < 0 ? -errno : 0;
}

/* What was opened: keeps it only if it is a regular file, and makes it an ordinary descriptor. */
static int admit(int fd, bool truncate)
{
	struct stat st;
	int flags;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode))
		return OPEN_E_NOT_REGULAR;
	if (truncate && ftruncate(fd, 0) < 0)
		return -errno;
	flags = fcntl(fd, F_GETFL);
	return flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 ? -errno : 0;
}

/*
 * True if the message is what its lengths say: two strings with a NUL after each, and none
 * inside.
 */
static bool is_request(const struct packet *packet, const struct request_body *body)
{
	size_t base_len = body->open.base_len, path_len = body->open.path_len;

	return packet->head.op == PACKET_OPEN && !packet->n_fds &&
	       packet->body_len >= sizeof(body->open) &&
	       packet->body_len == sizeof(body->open) + base_len + path_len + 2 &&
	       strnlen(body->bytes, base_len + 1) == base_len &&
	       strnlen(body->bytes + base_len + 1, path_len + 1) == path_len;
}

/* 0, OPEN_E_NOT_REGULAR or -errno. */
static int serve(const struct packet_open *open, const char *base, const char *path, int *ret_fd)
{
	CLEANUP(fd_closep) int dir = -1, fd = -1;
	int r;

	if (open->flags & ~(uint32_t)FLAGS_ALLOWED)
		return -EINVAL;
	if (open->flags & O_PATH && open->flags & (O_CREAT | O_EXCL | O_TRUNC | O_APPEND))
		return -EINVAL;
	if ((open->flags & O_TRUNC) && (open->flags & O_ACCMODE) == O_RDONLY)
		return -EINVAL;
	/* An absolute path ignores the base, unless it may not leave it. */
	if (*path != '/' || (open->resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT))) {
		if (*base != '/')
			return -EINVAL;
		dir = open_at(AT_FDCWD, base, O_PATH | O_DIRECTORY, 0, 0);
		if (dir < 0)
			return dir;
	}
	if (open->flags & O_PATH)
		fd = open_at(dir, path, open->flags & (O_PATH | O_NOFOLLOW), 0, open->resolve);
	else
		fd = open_at(dir, path, (open->flags & ~(uint32_t)O_TRUNC) | O_NOCTTY | O_NONBLOCK,
			     open->flags & O_CREAT ? open->mode : 0, open->resolve);
	/* A FIFO nobody reads, a socket, a device without a driver. */
	if (fd == -ENXIO)
		return OPEN_E_NOT_REGULAR;
	if (fd < 0)
		return fd;
	r = open->flags & O_PATH ? admit_path(fd, (int)open->flags)
				 : admit(fd, open->flags & O_TRUNC);
	if (r)
		return r;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int become(uid_t uid, gid_t gid, const gid_t *groups, size_t n_groups)
{
	int r;

	r = identity_set_groups(groups, n_groups);
	if (r == 0)
		r = identity_set_gid(gid);
	if (r == 0)
		r = identity_set_uid(uid);
	/* The change of uid may have undone the launcher's; the user must not look into this. */
	if (r == 0 && prctl(PR_SET_DUMPABLE, 0) < 0)
		r = -errno;
	return r;
}

_Noreturn void opener_serve(int sock)
{
	struct request_body body;
	struct packet packet = {.body = &body, .body_max = sizeof(body)};
	int r;

	while ((r = packet_recv(sock, &packet, 0)) != PACKET_E_GONE && r >= 0) {
		CLEANUP(fd_closep) int fd = -1;
		struct packet_head head = {.op = PACKET_OPENED, .arg = -EBADMSG};

		if (r == 0 && is_request(&packet, &body))
			head.arg = serve(&body.open, body.bytes,
					 body.bytes + body.open.base_len + 1, &fd);
		packet_close_fds(&packet);
		if (packet_send(sock, &head, NULL, 0, &fd, fd >= 0, 0))
			break;
	}
	_exit(0);
}

_Noreturn void opener_run(int sock, uid_t uid, gid_t gid, const gid_t *groups, size_t n_groups)
{
	int r;

	/* With another socket open, somebody's end of file would wait for this process. */
	CHECK(sock == SOCK_FD || dup2(sock, SOCK_FD) == SOCK_FD);
	CHECK(close_range(SOCK_FD + 1, ~0U, 0) == 0);
	(void)prctl(PR_SET_NAME, "clove-opener");
	r = become(uid, gid, groups, n_groups);
	packet_send_ready(SOCK_FD, -r);
	if (r)
		_exit(1);
	opener_serve(SOCK_FD);
}

/* Both ends of an opener's socket; ours waits for an answer only so long. 0 or -errno. */
static int opener_pair(int *ret_ours, int *ret_theirs)
{
	struct timeval limit = {.tv_sec = OPENER_TIMEOUT_S};
	int pair[2];
	int r = packet_pair(pair);

	if (r)
		return err_trace(r);
	if (setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0) {
		r = err_raise(-errno);
		(void)fd_close(pair[0]);
		(void)fd_close(pair[1]);
		return r;
	}
	*ret_ours = pair[0];
	*ret_theirs = pair[1];
	return 0;
}

int opener_await(int opener)
{
	int r = packet_await_ready(opener);

	return r == PACKET_E_GONE ? OPEN_E_GONE : err_fold(r);
}

int opener_start_in_box(int channel, uint64_t box_id, int *ret_opener)
{
	struct packet_head head = {.op = PACKET_BOX_OPENER, .id = box_id};
	CLEANUP(fd_closep) int ours = -1, theirs = -1;
	int r = opener_pair(&ours, &theirs);

	if (r)
		return r;
	r = packet_send(channel, &head, NULL, 0, &theirs, 1, MSG_DONTWAIT);
	if (r == PACKET_E_AGAIN)
		return LAUNCH_E_BUSY;
	if (r == PACKET_E_GONE)
		return LAUNCH_E_GONE;
	if (r)
		return err_fold(r);
	*ret_opener = TAKE_FD(ours);
	return 0;
}

int opener_start(const struct launcher *launcher, uid_t uid, gid_t gid, const gid_t *groups,
		 size_t n_groups, int *ret_opener)
{
	struct packet_head head = {.op = PACKET_OPENER};
	uint32_t ids[2 + SPEC_GROUPS_MAX] = {uid, gid};
	CLEANUP(fd_closep) int ours = -1, theirs = -1;
	int r;

	if (n_groups > SPEC_GROUPS_MAX)
		return err_raise(-EINVAL);
	for (size_t i = 0; i < n_groups; i++)
		ids[2 + i] = groups[i];
	r = opener_pair(&ours, &theirs);
	if (r)
		return r;
	r = packet_send(launcher->control, &head, ids, (2 + n_groups) * sizeof(*ids), &theirs, 1,
			0);
	theirs = fd_close(theirs);
	if (r == PACKET_E_GONE)
		return OPEN_E_GONE;
	r = r ? err_fold(r) : opener_await(ours);
	if (!r)
		*ret_opener = TAKE_FD(ours);
	return r;
}

/* 0 or -EINVAL, -ENAMETOOLONG. */
static int fill(const struct open_request *request, struct request_body *body, size_t *ret_len)
{
	size_t base_len = request->base ? strlen(request->base) : 0;

	if (base_len > SPEC_PATH_MAX || request->path_len > SPEC_PATH_MAX)
		return -ENAMETOOLONG;
	if (memchr(request->path, '\0', request->path_len))
		return -EINVAL;
	body->open = (struct packet_open){
		.flags = (uint32_t)request->flags,
		.mode = request->mode,
		.resolve = request->resolve,
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

int opener_open(int opener, const struct open_request *request, int *ret_fd)
{
	struct packet_head head = {.op = PACKET_OPEN};
	struct packet packet = {0};
	struct request_body body;
	size_t len;
	int r;

	r = fill(request, &body, &len);
	if (r)
		return r;
	r = packet_send(opener, &head, &body, len, NULL, 0, 0);
	if (r == 0)
		r = packet_recv(opener, &packet, 0);
	if (r == PACKET_E_NO_FDS)
		return err_raise(-EMFILE);
	if (r == PACKET_E_GONE || r == PACKET_E_AGAIN)
		return OPEN_E_GONE;
	if (r)
		return err_fold(r);

	r = packet.head.arg;
	if (packet.head.op != PACKET_OPENED || packet.n_fds != (r == 0)) {
		packet_close_fds(&packet);
		return err_raise(-EBADMSG);
	}
	if (r == 0)
		*ret_fd = packet.fds[0];
	return r;
}
