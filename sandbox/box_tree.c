/* SPDX-License-Identifier: MIT */

/*
 * All descendants of this process, where no pid namespace holds them together
 *
 * As their subreaper it inherits what they leave behind, so nothing gets out of the tree, whatever
 * session it is in. The tree moves while it is walked: a caller that wants an end repeats until
 * there is no child left.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/cleanup.h"
#include "sandbox/box.h"

enum {
	DEPTH_MAX = 64, /* below that, a later walk gets there: parents are gone by then */
	LINE_BYTES = 4096,
};

static unsigned signal_children(pid_t parent, int signo, unsigned depth);

/* Of one thread of @parent: children belong to threads. */
static unsigned signal_list(int fd, int signo, unsigned depth)
{
	char text[LINE_BYTES];
	unsigned n_reached = 0;
	off_t at = 0;

	for (;;) {
		ssize_t n = pread(fd, text, sizeof(text) - 1, at);
		char *p = text, *end;

		if (n <= 0)
			return n_reached;
		/* A number that the end of the buffer cuts is read again. */
		while (n == (ssize_t)sizeof(text) - 1 && n > 0 && text[n - 1] != ' ')
			n--;
		text[n] = '\0';
		for (long pid; (pid = strtol(p, &end, 10)) > 0; p = end) {
			n_reached += kill((pid_t)pid, signo) == 0;
			if (depth < DEPTH_MAX)
				n_reached += signal_children((pid_t)pid, signo, depth + 1);
		}
		at += n;
	}
}

static unsigned signal_children(pid_t parent, int signo, unsigned depth)
{
	char path[64];
	CLEANUP(fd_closep) int fd = -1;

	/* Not of every thread: a child of another thread than the first comes to us with its end. */
	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)parent, (int)parent);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? 0 : signal_list(fd, signo, depth);
}

unsigned box_tree_signal(int signo)
{
	return signal_children(getpid(), signo, 0);
}
