/* SPDX-License-Identifier: MIT */

/*
 * The opener process
 *
 * It is single-threaded, has its socket, its window and nothing else open, and takes from a request
 * what open() would take from its user, less what could do harm here: a FIFO or a device could
 * block or act when opened, so all is opened non-blocking and only a regular file is passed on, read or
 * written; O_TRUNC waits until it is known to be one; a path never goes through a magic link of
 * /proc, behind which are the opener's own root and descriptors. There is no way around openat2():
 * where it is refused, every request is answered with its errno.
 *
 * Files stay non-blocking: those of /proc and /sys that would wait for something to happen say
 * EAGAIN instead. A file system of the user (FUSE) can hold this process for ever. Then the caller
 * closes its end, the launcher sees that and kills this process.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/base/err.h"
#include "sandbox/identity.h"
#include "sandbox/opener.h"
#include "sandbox/opener_priv.h"

enum {
	SOCK_FD = 3,
	FLAGS_ALLOWED = O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | O_NOFOLLOW | O_PATH,
	EAGAIN_TRIES = 16, /* a rename beside a scoped lookup makes openat2() ask for another try */
	UNSIZED_BYTES = 64 << 10, /* read of a file that does not know its size, as in /proc */
};

/* One request in work. */
struct service {
	const struct packet_open *open;
	const char *base, *path;
	int into;        /* -1 without one */
	uint8_t *window; /* NULL until it came */
	struct packet_opened answer;
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

/* What was opened: keeps it only if it is a regular file. */
static int admit(int fd, bool truncate, struct packet_opened *answer)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode))
		return OPEN_E_NOT_REGULAR;
	answer->size = (uint64_t)st.st_size;
	answer->dev = st.st_dev;
	answer->ino = st.st_ino;
	return truncate && ftruncate(fd, 0) < 0 ? -errno : 0;
}

/* ---- contents ---- */

static int read_piece(struct service *s, int fd)
{
	struct packet_opened *a = &s->answer;
	uint64_t offset = s->open->offset;
	uint32_t room = s->open->length;

	if (!s->window || room > OPENER_WINDOW_BYTES || offset > (uint64_t)INT64_MAX - room)
		return -EINVAL;
	if (a->size > offset && a->size - offset < room)
		room = (uint32_t)(a->size - offset);
	else if (a->size <= offset && room > UNSIZED_BYTES)
		room = UNSIZED_BYTES;
	while (a->done < room) {
		ssize_t n =
			pread(fd, s->window + a->done, room - a->done, (off_t)(offset + a->done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		a->done += (uint32_t)n;
	}
	/* A file that does not know its size is at its end when it gives less than it was asked for. */
	a->eof = a->done < room || (a->size && offset + a->done >= a->size);
	return 0;
}

static int write_piece(struct service *s, int fd)
{
	struct packet_opened *a = &s->answer;
	uint64_t offset = s->open->offset;
	uint32_t length = s->open->length;
	struct stat st;

	if (!s->window || length > OPENER_WINDOW_BYTES || offset > (uint64_t)INT64_MAX - length)
		return -EINVAL;
	while (a->done < length) {
		const uint8_t *from = s->window + a->done;
		size_t left = length - a->done;
		ssize_t n = s->open->flags & O_APPEND
				    ? write(fd, from, left)
				    : pwrite(fd, from, left, (off_t)(offset + a->done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		a->done += (uint32_t)n;
	}
	if (fstat(fd, &st) == 0)
		a->size = (uint64_t)st.st_size;
	return 0;
}

static int copy_whole(struct service *s, int fd)
{
	struct packet_opened *a = &s->answer;
	ssize_t n;

	if (!s->window || s->into < 0)
		return -EINVAL;
	while ((n = read(fd, s->window, OPENER_WINDOW_BYTES)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if ((uint64_t)n + a->done > s->open->length)
			return -EFBIG;
		for (ssize_t done = 0, w; done < n; done += w < 0 ? 0 : w) {
			w = write(s->into, s->window + done, (size_t)(n - done));
			if (w < 0 && errno != EINTR)
				return -errno;
		}
		a->done += (uint32_t)n;
	}
	return 0;
}

static int read_link(struct service *s, int fd)
{
	ssize_t n;

	if (!s->window)
		return -EINVAL;
	n = readlinkat(fd, "", (char *)s->window, SPEC_PATH_MAX + 1);
	/* That is what it says of an open file that is no link. */
	if (n < 0)
		return errno == ENOENT ? -EINVAL : -errno;
	if (n > SPEC_PATH_MAX)
		return -ENAMETOOLONG;
	s->answer.done = (uint32_t)n;
	return 0;
}

/* ---- requests ---- */

static bool are_flags(const struct packet_open *open)
{
	bool writes = (open->flags & O_ACCMODE) != O_RDONLY;

	if (open->flags & ~(uint32_t)FLAGS_ALLOWED)
		return false;
	if (open->flags & O_PATH &&
	    (open->flags & (O_CREAT | O_EXCL | O_TRUNC | O_APPEND) || open->kind != OPEN_PASS))
		return false;
	if (open->flags & O_TRUNC && !writes)
		return false;
	return open->kind == OPEN_PASS || writes == (open->kind == OPEN_WRITE);
}

/* A descriptor or -errno. */
static int open_file(const struct packet_open *open, const char *base, const char *path)
{
	CLEANUP(fd_closep) int dir = -1;

	/* An absolute path ignores the base, unless it may not leave it. */
	if (*path != '/' || (open->resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT))) {
		if (*base != '/')
			return -EINVAL;
		dir = open_at(AT_FDCWD, base, O_PATH | O_DIRECTORY, 0, 0);
		if (dir < 0)
			return dir;
	}
	if (open->kind == OPEN_LINK)
		return open_at(dir, path, O_PATH | O_NOFOLLOW, 0, open->resolve);
	if (open->flags & O_PATH)
		return open_at(dir, path, open->flags & (O_PATH | O_NOFOLLOW), 0, open->resolve);
	return open_at(dir, path, (open->flags & ~(uint32_t)O_TRUNC) | O_NOCTTY | O_NONBLOCK,
		       open->flags & O_CREAT ? open->mode : 0, open->resolve);
}

/* 0, OPEN_E_NOT_REGULAR or -errno. */
static int serve(struct service *s, int *ret_fd)
{
	const struct packet_open *open = s->open;
	CLEANUP(fd_closep) int fd = -1;
	int r;

	if (!are_flags(open))
		return -EINVAL;
	fd = open_file(open, s->base, s->path);
	/* A FIFO nobody reads, a socket, a device without a driver. */
	if (fd == -ENXIO)
		return OPEN_E_NOT_REGULAR;
	if (fd < 0)
		return fd;
	if (open->kind == OPEN_LINK)
		return read_link(s, fd);
	r = open->flags & O_PATH ? admit_path(fd, (int)open->flags)
				 : admit(fd, open->flags & O_TRUNC, &s->answer);
	if (!r && open->kind == OPEN_READ)
		r = read_piece(s, fd);
	else if (!r && open->kind == OPEN_COPY)
		r = copy_whole(s, fd);
	else if (!r && open->kind == OPEN_WRITE)
		r = write_piece(s, fd);
	if (r)
		return r;
	if (open->kind == OPEN_PASS)
		*ret_fd = TAKE_FD(fd);
	/* Some file systems report a full disk only here. */
	else if (close(TAKE_FD(fd)) && open->kind == OPEN_WRITE)
		return -errno;
	return 0;
}

/*
 * True if the message is what its lengths say: two strings with a NUL after each, and none
 * inside; and a descriptor where one belongs.
 */
static bool is_request(const struct packet *packet, const struct request_body *body)
{
	size_t base_len = body->open.base_len, path_len = body->open.path_len;

	return packet->head.op == PACKET_OPEN && packet->body_len >= sizeof(body->open) &&
	       body->open.kind <= OPEN_LINK && packet->n_fds == (body->open.kind == OPEN_COPY) &&
	       packet->body_len == sizeof(body->open) + base_len + path_len + 2 &&
	       strnlen(body->bytes, base_len + 1) == base_len &&
	       strnlen(body->bytes + base_len + 1, path_len + 1) == path_len;
}

/* NULL if the message brings none, or the one that is there already. */
static uint8_t *take_window(const struct packet *packet, uint8_t *window)
{
	struct stat st;
	void *at;

	if (window || packet->n_fds != 1 || fstat(packet->fds[0], &st) < 0 ||
	    st.st_size != OPENER_WINDOW_BYTES)
		return window;
	at = mmap(NULL, OPENER_WINDOW_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, packet->fds[0], 0);
	return at == MAP_FAILED ? NULL : at;
}

_Noreturn void opener_serve(int sock)
{
	struct request_body body;
	struct packet packet = {.body = &body, .body_max = sizeof(body)};
	struct service service = {.open = &body.open, .base = body.bytes};
	int r;

	while ((r = packet_recv(sock, &packet, 0)) != PACKET_E_GONE && r >= 0) {
		CLEANUP(fd_closep) int fd = -1;
		struct packet_head head = {.op = PACKET_OPENED, .arg = -EBADMSG};

		if (r == 0 && packet.head.op == PACKET_WINDOW) {
			service.window = take_window(&packet, service.window);
			packet_close_fds(&packet);
			continue;
		}
		head.id = packet.head.id;
		service.answer = (struct packet_opened){0};
		if (r == 0 && is_request(&packet, &body)) {
			service.path = body.bytes + body.open.base_len + 1;
			service.into = packet.n_fds ? packet.fds[0] : -1;
			head.arg = serve(&service, &fd);
		}
		packet_close_fds(&packet);
		service.answer.passed = fd >= 0;
		if (packet_send(sock, &head, &service.answer, sizeof(service.answer), &fd, fd >= 0,
				0))
			break;
	}
	_exit(0);
}

static int become(uid_t uid, gid_t gid, const gid_t *groups, size_t n_groups)
{
	int r;

	r = identity_leave_keys(uid);
	if (r == 0)
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
