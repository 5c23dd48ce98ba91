/* SPDX-License-Identifier: MIT */

/*
 * RocksDB's log format: blocks of 32 KiB; in each, records that do not cross its end:
 *
 *   masked crc32c of type and payload, 4 | length, 2 | type, 1 | payload
 *
 * little-endian. Less than 7 bytes at the end of a block are zeros. A wrong length is noticed by RocksDB
 * everywhere but in the last block, so only that one is looked at.
 */

#include "store/wal.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/cleanup.h"
#include "core/base/err.h"

enum {
	BLOCK_BYTES = 32 << 10,
	HEAD_BYTES = 7,
	TYPE_LAST = 16, /* highest record type, with room for later ones */
};

static uint32_t crc32c(const uint8_t *bytes, size_t len)
{
	static const uint32_t by_nibble[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
		0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
		0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < len; i++) {
		crc ^= bytes[i];
		crc = crc >> 4 ^ by_nibble[crc & 15];
		crc = crc >> 4 ^ by_nibble[crc & 15];
	}
	return ~crc;
}

/* Length of the record at @from, of which @len bytes are there; 0 when none is whole and right. */
static size_t record_read(const uint8_t *from, size_t len)
{
	uint32_t stored, crc;
	uint16_t payload;

	if (len < HEAD_BYTES || !from[6] || from[6] > TYPE_LAST)
		return 0;
	memcpy(&stored, from, sizeof(stored));
	memcpy(&payload, from + 4, sizeof(payload));
	payload = le16toh(payload);
	if (HEAD_BYTES + (size_t)payload > len)
		return 0;
	crc = crc32c(from + 6, 1 + (size_t)payload);
	if (le32toh(stored) != (crc >> 15 | crc << 17) + UINT32_C(0xa282ead8))
		return 0;
	return HEAD_BYTES + (size_t)payload;
}

static bool record_follows(const uint8_t *from, size_t len)
{
	for (size_t at = 0; at + HEAD_BYTES <= len; at++)
		if (record_read(from + at, len - at))
			return true;
	return false;
}

static int check_file(int dir, const char *name, bool *ret_damaged)
{
	CLEANUP(fd_closep) int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	static _Thread_local uint8_t block[BLOCK_BYTES];
	struct stat st;
	off_t start;
	ssize_t len;
	size_t at = 0, n;

	if (fd < 0 || fstat(fd, &st))
		return err_raise(-errno);
	start = st.st_size ? (st.st_size - 1) / BLOCK_BYTES * BLOCK_BYTES : 0;
	len = pread(fd, block, sizeof(block), start);
	if (len < 0)
		return err_raise(-errno);
	while ((n = record_read(block + at, (size_t)len - at)))
		at += n;
	*ret_damaged = at < (size_t)len && record_follows(block + at + 1, (size_t)len - at - 1);
	return 0;
}

static void dir_closep(DIR **dir)
{
	if (*dir)
		(void)closedir(*dir);
}

int wal_check(const char *path, char *reterr_name)
{
	CLEANUP(dir_closep) DIR *dir = opendir(path);
	struct dirent *file;
	int r;

	if (!dir)
		return err_raise(-errno);
	while ((file = readdir(dir))) {
		const char *dot = strrchr(file->d_name, '.');
		bool damaged = false;

		if (!dot || strcmp(dot, ".log"))
			continue;
		r = check_file(dirfd(dir), file->d_name, &damaged);
		if (r)
			return err_trace(r);
		if (damaged) {
			(void)snprintf(reterr_name, 64, "%.63s", file->d_name);
			return WAL_E_DAMAGED;
		}
	}
	return 0;
}
