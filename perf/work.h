/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What is asked of a server, the same for every protocol
 *
 * Keys are numbers below @keys, values follow from their key: so every fetched byte can be checked, and both
 * systems are asked the same in the same order. Values do not compress, keys are 16 bytes of text, in which
 * the size of the values is, so that loads of several sizes do not meet in one server.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum work_kind {
	WORK_ECHO,  /* requests that carry @size bytes, which the reply repeats */
	WORK_FILL,  /* each key stored once, in order; then it is over */
	WORK_STORE, /* keys at random, all as likely */
	WORK_FETCH, /* the same; all must be there */
	WORK_MIXED, /* nine fetches to a store, few keys often and many rarely (Zipf, 0.99) */
};

enum {
	WORK_KEY_BYTES = 16,
	WORK_SIZE_MIN = WORK_KEY_BYTES, /* of a value: it begins with its key */
	WORK_SIZE_MAX = 1 << 20,
};

enum ask_kind {
	ASK_ECHO,
	ASK_STORE,
	ASK_FETCH,
};

struct ask {
	enum ask_kind kind;
	uint64_t key;
};

struct work {
	enum work_kind kind;
	uint32_t size; /* of a payload or value, bytes */
	bool durable;  /* stores are to be on the disk before they are answered */
	uint64_t keys; /* at least 1 */

	/* work.c's */
	uint64_t state; /* of the random numbers */
	uint64_t next;  /* key of WORK_FILL */
	uint8_t *noise; /* what values are cut from */
	struct {
		double theta, zeta, alpha, eta;
	} zipf;
	struct ask *again; /* that a server had no room for */
	size_t again_count, again_size;
};

/* After the upper part is filled in. 0 or -ENOMEM. */
int work_init(struct work *work);
void work_deinit(struct work *work);

/* Up to @max next requests; fewer, even none, only at the end of WORK_FILL. */
uint32_t work_draw(struct work *work, struct ask *asks, uint32_t max);

/* @ask was refused for now: it comes again, sooner or later. 0 or -ENOMEM. */
int work_return(struct work *work, const struct ask *ask);

void work_write_key(const struct work *work, uint64_t key, uint8_t *to);   /* WORK_KEY_BYTES */
void work_write_value(const struct work *work, uint64_t key, uint8_t *to); /* @size bytes */
bool work_is_value(const struct work *work, uint64_t key, const uint8_t *bytes, size_t len);
