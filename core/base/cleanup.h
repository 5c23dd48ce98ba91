/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Ownership by scope: CLEANUP(fn) releases a local when it leaves scope, TAKE() hands it out instead.
 */

#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(fn) __attribute__((cleanup(fn)))

/* Defines fn##p(), which calls fn on a pointer variable that is not NULL. */
#define DEFINE_CLEANUP(type, fn)          \
	static inline void fn##p(type *p) \
	{                                 \
		if (*p)                   \
			fn(*p);           \
	}                                 \
	struct cleanup_semicolon_

#define TAKE(ptr)                          \
	__extension__({                    \
		__auto_type take_ = (ptr); \
		(ptr) = NULL;              \
		take_;                     \
	})

/* Closes @fd unless it is negative. Returns -1, to be stored where @fd was. */
static inline int fd_close(int fd)
{
	if (fd >= 0)
		(void)close(fd);
	return -1;
}

static inline void fd_closep(int *fd)
{
	*fd = fd_close(*fd);
}

#define TAKE_FD(fd)               \
	__extension__({           \
		int take_ = (fd); \
		(fd) = -1;        \
		take_;            \
	})

static inline void freep(void *p)
{
	free(*(void **)p);
}
