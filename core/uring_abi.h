/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the kernel's io_uring ABI has and older headers lack
 *
 * liburing 2.1 (Ubuntu 22.04), 2.3 (Debian 12) and 2.5 (Ubuntu 24.04) must all build, so the opcodes,
 * flags and structures younger than 2.1 stand here under our own names. Numbers from the kernel's
 * include/uapi/linux/io_uring.h.
 */

#include <liburing.h>
#include <stdint.h>

enum {
	URING_OP_POLL_ADD = 6,
	URING_OP_ACCEPT = 13,
	URING_OP_ASYNC_CANCEL = 14,
	URING_OP_SEND = 26,
	URING_OP_RECV = 27,
	URING_OP_MSG_RING = 40,

	URING_SETUP_CQSIZE = 1 << 3,
	URING_SETUP_CLAMP = 1 << 4,
	URING_SETUP_SUBMIT_ALL = 1 << 7,
	URING_SETUP_SINGLE_ISSUER = 1 << 12,
	URING_SETUP_DEFER_TASKRUN = 1 << 13,
	URING_SETUP_NO_SQARRAY = 1 << 16,

	URING_SQE_BUFFER_SELECT = 1 << 5,
	URING_SQE_CQE_SKIP_SUCCESS = 1 << 6,

	URING_ACCEPT_MULTISHOT = 1 << 0,
	URING_RECV_MULTISHOT = 1 << 1,
	URING_POLL_MULTISHOT = 1 << 0,

	URING_CQE_BUFFER = 1 << 0,
	URING_CQE_MORE = 1 << 1,
	URING_CQE_BUFFER_SHIFT = 16,

	URING_SQ_CQ_OVERFLOW = 1 << 1,

	URING_ENTER_GETEVENTS = 1 << 0,
	URING_ENTER_EXT_ARG = 1 << 3,
	URING_ENTER_REGISTERED_RING = 1 << 4,

	URING_REGISTER_PROBE = 8,
	URING_REGISTER_RING_FDS = 20,
	URING_REGISTER_PBUF_RING = 22,
};

/* One entry of a provided-buffer ring. The ring's tail lies in the @tail of entry 0. */
struct uring_buf {
	uint64_t addr;
	uint32_t len;
	uint16_t bid;
	uint16_t tail;
};

struct uring_buf_reg {
	uint64_t ring_addr;
	uint32_t ring_entries;
	uint16_t bgid;
	uint16_t flags;
	uint64_t reserved[3];
};

struct uring_wait_arg {
	uint64_t sigmask;
	uint32_t sigmask_bytes;
	uint32_t pad;
	uint64_t timespec;
};

struct uring_fd_update {
	uint32_t offset;
	uint32_t reserved;
	uint64_t data;
};
