/* SPDX-License-Identifier: MIT */

#include "store/cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/err.h"
#include "store/entry.h"

enum {
	BYTES_PER_BUCKET = 256, /* so that chains are short with small values */
	BUCKETS_MIN = 64,
	PART_MAX = 16, /* no value may take more than this part of the cache */
};

int cache_init(struct cache *cache, size_t bytes_max)
{
	size_t buckets = BUCKETS_MIN;

	while (buckets * BYTES_PER_BUCKET < bytes_max)
		buckets *= 2;
	*cache = (struct cache){
		.buckets = calloc(buckets, sizeof(struct cache_node *)),
		.mask = buckets - 1,
		.bytes_max = bytes_max,
	};
	return cache->buckets ? 0 : err_raise(-ENOMEM);
}

static size_t node_bytes(const struct cache_node *node)
{
	return sizeof(*node) + node->key_len +
	       (node->entry ? sizeof(*node->entry) + node->entry->len : 0);
}

static void node_remove(struct cache *cache, struct cache_node **link)
{
	struct cache_node *node = *link;

	*link = node->next;
	cache->bytes -= node_bytes(node);
	(void)store_entry_unref(node->entry);
	free(node);
}

void cache_clear(struct cache *cache)
{
	for (size_t i = 0; cache->buckets && i <= cache->mask; i++)
		while (cache->buckets[i])
			node_remove(cache, &cache->buckets[i]);
}

void cache_deinit(struct cache *cache)
{
	cache_clear(cache);
	free(cache->buckets);
	cache->buckets = NULL;
}

/* What is written again and again costs no allocation. */
static void node_replace(struct cache *cache, struct cache_node *node, struct store_entry *entry,
			 uint64_t tag)
{
	cache->bytes -= node_bytes(node);
	(void)store_entry_unref(node->entry);
	node->entry = store_entry_ref(entry);
	node->tag = tag;
	cache->bytes += node_bytes(node);
}

static struct cache_node **find_link(struct cache *cache, uint64_t hash, const uint8_t *key,
				     size_t key_len)
{
	struct cache_node **link = &cache->buckets[hash & cache->mask];

	while (*link && ((*link)->hash != hash || (*link)->key_len != key_len ||
			 memcmp((*link)->key, key, key_len)))
		link = &(*link)->next;
	return link;
}

struct cache_node *cache_find(struct cache *cache, uint64_t hash, const uint8_t *key,
			      size_t key_len)
{
	struct cache_node *node = *find_link(cache, hash, key, key_len);

	if (node)
		node->used = 1;
	return node;
}

static void make_room(struct cache *cache)
{
	while (cache->bytes > cache->bytes_max) {
		struct cache_node **link = &cache->buckets[cache->hand++ & cache->mask];

		while (*link) {
			if (!(*link)->used) {
				node_remove(cache, link);
				continue;
			}
			(*link)->used = 0;
			link = &(*link)->next;
		}
	}
}

void cache_put(struct cache *cache, uint64_t hash, const uint8_t *key, size_t key_len,
	       struct store_entry *entry, uint64_t tag)
{
	struct cache_node **link = find_link(cache, hash, key, key_len), *node = *link;

	if (node && node->tag > tag)
		return;
	if (node && !(entry && entry->len > cache->bytes_max / PART_MAX)) {
		node_replace(cache, node, entry, tag);
		make_room(cache);
		return;
	}
	if (node)
		node_remove(cache, link);
	if (entry && entry->len > cache->bytes_max / PART_MAX)
		return;
	node = malloc(sizeof(*node) + key_len);
	if (!node)
		return;
	*node = (struct cache_node){
		.next = *link,
		.hash = hash,
		.tag = tag,
		.entry = store_entry_ref(entry),
		.key_len = (uint32_t)key_len,
	};
	memcpy(node->key, key, key_len);
	*link = node;
	cache->bytes += node_bytes(node);
	make_room(cache);
}
