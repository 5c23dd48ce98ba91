/* SPDX-License-Identifier: MIT */

/*
 * Words for what the functions of clove.h return
 */

#include <limits.h>
#include <string.h>

#include "sdk/c/clove.h"

static const char *const texts[] = {
	[0] = "success",
	[CLOVE_E_AGAIN] = "no whole frame has come yet",
	[CLOVE_E_TIMEOUT] = "no answer in time",
	[CLOVE_E_CLOSED] = "the kernel has closed the connection",
	[CLOVE_E_BROKEN] = "the peer does not speak the protocol, or stopped within a frame",
	[CLOVE_E_TOO_LARGE] = "the arguments do not fit into a frame",
	[CLOVE_E_NO_KERNEL] =
		"no kernel listens on the socket: start one with clove_kernel, or set "
		"CLOVE_SOCKET to the socket of one that runs",
	[CLOVE_E_UNTRUSTED] =
		"the default socket is served by neither root nor this user: to trust "
		"it all the same, set CLOVE_SOCKET to its path",
	[CLOVE_E_BAD_SOCKET] =
		"CLOVE_FD is no connected Unix socket, CLOVE_DOOR no door of an agent (a child must be "
		"passed both), or the path of the socket is too long",
	[CLOVE_E_IN_USE] = "CLOVE_FD is in use, or is another process's, and CLOVE_DOOR, by which "
			   "there are others, is not set: pass it on, or set CLOVE_SOCKET",
};

const char *clove_strerror(int r)
{
	const char *text = NULL;

	if (r >= 0 && (size_t)r < sizeof(texts) / sizeof(texts[0]))
		text = texts[r];
	else if (r < 0 && r != INT_MIN)
		text = strerrordesc_np(-r);
	return text ? text : "unknown error";
}
