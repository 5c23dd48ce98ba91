/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/crash/disk.h"

struct disk_state *disk_map(const char *path)
{
	struct disk_state *state;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, sizeof(*state)))
		return NULL;
	state = mmap(NULL, sizeof(*state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	(void)close(fd);
	if (state == MAP_FAILED)
		return NULL;
	state->magic = DISK_MAGIC;
	return state;
}
