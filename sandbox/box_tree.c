/* SPDX-License-Identifier: MIT */

/*
 * All descendants of this process, where no pid namespace holds them together
 *
 * As their subreaper it inherits what they leave behind, so nothing gets out of the tree, whatever
 * session it is in. The tree moves while it is walked: a caller that wants an end repeats until
 * there is no child left.
 *
 * A number read from /proc is a hint, no more: by the time it is used it may mean another process,
 * and a list that shrinks while it is read can even be cut within a number. This process may be
 * root. So a signal goes to a pidfd, and only after the process behind the number was seen to be a
 * child of a parent that is still the one we came from. Either of them gone by then, the signal has
 * no address.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "sandbox/box.h"

enum {
	DEPTH_MAX = 64,    /* below that, a later walk gets there: parents are gone by then */
	LINE_BYTES = 1024, /* on the stack at each depth */
};

struct entry { /* of getdents64() */
	uint64_t ino;
	int64_t off;
	unsigned short len;
	unsigned char type;
	char name[];
};

struct parent {
	pid_t pid;
	int pidfd; /* -1: this process */
	unsigned depth;
};

bool box_is_child(pid_t pid, pid_t parent)
{
	char path[64], text[512];
	CLEANUP(fd_closep) int fd = -1;
	const char *after_name;
	ssize_t n;
	int is = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	after_name = strrchr(text, ')');
	return after_name && sscanf(after_name, ") %*c %d", &is) == 1 && is == parent;
}

static bool is_there(int pidfd)
{
	return syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0;
}

static unsigned signal_children(const struct parent *parent, int signo);

/* And all below it: a process that is stopped first makes no more children. */
static unsigned signal_child(const struct parent *parent, pid_t pid, int signo)
{
	CLEANUP(fd_closep) int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct parent self = {.pid = pid, .pidfd = pidfd, .depth = parent->depth + 1};
	unsigned n_reached;

	if (pidfd < 0 || !box_is_child(pid, parent->pid) ||
	    (parent->pidfd >= 0 && !is_there(parent->pidfd)))
		return 0;
	n_reached = syscall(SYS_pidfd_send_signal, pidfd, signo, NULL, 0) == 0;
	if (self.depth < DEPTH_MAX)
		n_reached += signal_children(&self, signo);
	return n_reached;
}

/* Children of one thread, from the list @fd. */
static unsigned signal_list(const struct parent *parent, int fd, int signo)
{
	char text[LINE_BYTES];
	unsigned n_reached = 0;
	off_t at = 0;
	ssize_t n;

	while ((n = pread(fd, text, sizeof(text) - 1, at)) > 0) {
		char *p = text, *end;

		/* A number that the end of the buffer cuts is read again. */
		while (n == (ssize_t)sizeof(text) - 1 && text[n - 1] != ' ')
			n--;
		text[n] = '\0';
		for (long pid; (pid = strtol(p, &end, 10)) > 0; p = end)
			n_reached += signal_child(parent, (pid_t)pid, signo);
		at += n;
	}
	return n_reached;
}

/* Of all its threads; opendir() would allocate. */
static unsigned signal_children(const struct parent *parent, int signo)
{
	char path[64], entries[LINE_BYTES];
	CLEANUP(fd_closep) int tasks = -1;
	unsigned n_reached = 0;
	long n;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)parent->pid);
	tasks = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tasks < 0)
		return 0;
	while ((n = syscall(SYS_getdents64, tasks, entries, sizeof(entries))) > 0) {
		for (long at = 0; at < n;) {
			const char *entry = entries + at;
			CLEANUP(fd_closep) int fd = -1;
			unsigned short len;

			memcpy(&len, entry + offsetof(struct entry, len), sizeof(len));
			at += len;
			(void)snprintf(path, sizeof(path), "%.16s/children",
				       entry + offsetof(struct entry, name));
			fd = openat(tasks, path, O_RDONLY | O_CLOEXEC);
			if (fd >= 0)
				n_reached += signal_list(parent, fd, signo);
		}
	}
	return n_reached;
}

unsigned box_tree_signal(int signo)
{
	return signal_children(&(struct parent){.pid = getpid(), .pidfd = -1}, signo);
}
