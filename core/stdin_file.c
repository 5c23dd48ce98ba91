/* SPDX-License-Identifier: MIT */

#include "core/stdin_file.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/base/err.h"

int stdin_file_open(const uint8_t *bytes, uint32_t len, int *ret_fd)
{
	CLEANUP(fd_closep) int fd = memfd_create("stdin", MFD_CLOEXEC);

	if (fd < 0)
		return err_raise(-errno);
	for (uint32_t done = 0; done < len;) {
		ssize_t n = pwrite(fd, bytes + done, len - done, done);

		if (n < 0)
			return err_raise(-errno);
		done += (uint32_t)n;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}
