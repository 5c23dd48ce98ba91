/* SPDX-License-Identifier: MIT */

#include "perf/work.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/err.h"

enum {
	NOISE_BYTES =
		1 << 20, /* a value begins at any of them: hardly two share a compressed block */
	SEED = 1,
	STORES_IN = 10, /* of so many mixed requests one stores */
};

/* splitmix64: any state is a good one */
static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static uint64_t draw_bits(struct work *work)
{
	work->state += 0x9e3779b97f4a7c15u;
	return mix(work->state);
}

static double draw_unit(struct work *work)
{
	return (double)(draw_bits(work) >> 11) * 0x1p-53;
}

/* Below @keys; the bias is one in 2^64 / @keys. */
static uint64_t draw_key(struct work *work)
{
	return draw_bits(work) % work->keys;
}

/* ---- Zipf: Gray et al., Quickly generating billion-record synthetic databases, as YCSB has it ---- */

static void zipf_init(struct work *work)
{
	const double theta = 0.99, keys = (double)work->keys;
	double zeta = 0;

	for (uint64_t i = 1; i <= work->keys; i++)
		zeta += pow((double)i, -theta);
	work->zipf.theta = theta;
	work->zipf.zeta = zeta;
	work->zipf.alpha = 1 / (1 - theta);
	work->zipf.eta = (1 - pow(2 / keys, 1 - theta)) / (1 - (1 + pow(0.5, theta)) / zeta);
}

/* A rank from 0, the most frequent. */
static uint64_t draw_rank(struct work *work)
{
	const double u = draw_unit(work), uz = u * work->zipf.zeta;
	uint64_t rank;

	if (uz < 1 || work->keys == 1)
		return 0;
	if (uz < 1 + pow(0.5, work->zipf.theta) || work->keys == 2)
		return 1;
	rank = (uint64_t)((double)work->keys *
			  pow(work->zipf.eta * u - work->zipf.eta + 1, work->zipf.alpha));
	return rank < work->keys ? rank : work->keys - 1;
}

/* Spread over all keys, so that frequent ones are not neighbours. A prime: each rank has a key of its own. */
static uint64_t key_of_rank(const struct work *work, uint64_t rank)
{
	return rank * 2654435761u % work->keys;
}

/* ---- drawing ---- */

int work_init(struct work *work)
{
	const size_t bytes = NOISE_BYTES + (size_t)work->size;

	work->state = SEED;
	work->noise = malloc(bytes + sizeof(uint64_t));
	if (!work->noise)
		return err_raise(-ENOMEM);
	for (size_t i = 0; i < bytes; i += sizeof(uint64_t)) {
		uint64_t bits = draw_bits(work);

		memcpy(work->noise + i, &bits, sizeof(bits));
	}
	if (work->kind == WORK_MIXED)
		zipf_init(work);
	return 0;
}

void work_deinit(struct work *work)
{
	free(work->noise);
	free(work->again);
	work->noise = NULL;
	work->again = NULL;
}

static bool draw(struct work *work, struct ask *ret_ask)
{
	if (work->again_count) {
		*ret_ask = work->again[--work->again_count];
		return true;
	}
	*ret_ask = (struct ask){.kind = ASK_FETCH};
	switch (work->kind) {
	case WORK_ECHO:
		ret_ask->kind = ASK_ECHO;
		break;
	case WORK_FILL:
		if (work->next == work->keys)
			return false;
		*ret_ask = (struct ask){.kind = ASK_STORE, .key = work->next++};
		break;
	case WORK_STORE:
		*ret_ask = (struct ask){.kind = ASK_STORE, .key = draw_key(work)};
		break;
	case WORK_FETCH:
		ret_ask->key = draw_key(work);
		break;
	case WORK_MIXED:
		ret_ask->key = key_of_rank(work, draw_rank(work));
		if (!(draw_bits(work) % STORES_IN))
			ret_ask->kind = ASK_STORE;
		break;
	}
	return true;
}

uint32_t work_draw(struct work *work, struct ask *asks, uint32_t max)
{
	uint32_t count = 0;

	while (count < max && draw(work, &asks[count]))
		count++;
	return count;
}

int work_return(struct work *work, const struct ask *ask)
{
	size_t size = work->again_size ? 2 * work->again_size : 256;
	struct ask *more;

	if (work->again_count == work->again_size) {
		more = realloc(work->again, size * sizeof(*more));
		if (!more)
			return err_raise(-ENOMEM);
		work->again = more;
		work->again_size = size;
	}
	work->again[work->again_count++] = *ask;
	return 0;
}

/* ---- keys and values ---- */

void work_write_key(const struct work *work, uint64_t key, uint8_t *to)
{
	static const char digits[] = "0123456789abcdef";
	uint64_t rest = (uint64_t)work->size << 36 | key;

	for (unsigned i = WORK_KEY_BYTES; i--; rest >>= 4)
		to[i] = (uint8_t)digits[rest & 15];
}

static const uint8_t *noise_of(const struct work *work, uint64_t key)
{
	return work->noise + mix(key) % NOISE_BYTES;
}

void work_write_value(const struct work *work, uint64_t key, uint8_t *to)
{
	work_write_key(work, key, to);
	memcpy(to + WORK_KEY_BYTES, noise_of(work, key), work->size - WORK_KEY_BYTES);
}

bool work_is_value(const struct work *work, uint64_t key, const uint8_t *bytes, size_t len)
{
	uint8_t text[WORK_KEY_BYTES];

	if (len != work->size)
		return false;
	work_write_key(work, key, text);
	return !memcmp(bytes, text, sizeof(text)) &&
	       !memcmp(bytes + sizeof(text), noise_of(work, key), len - sizeof(text));
}
