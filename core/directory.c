/* SPDX-License-Identifier: MIT */

#include "core/directory.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/err.h"
#include "core/base/list.h"

enum {
	BUCKETS = 4096,
};

struct entry {
	struct list by_name, by_id; /* in a bucket of each; by_id once it has one */
	struct list ended;          /* in archive->ended, oldest first */
	struct archive *archive;
	unsigned children; /* live ones */
	struct agent_card card;
};

/* The ended agents of one owner, while there are any. */
struct archive {
	struct list link; /* in directory->archives */
	uint32_t owner;
	struct list ended;
	unsigned count;
};

struct directory {
	pthread_mutex_t lock;
	struct list names[BUCKETS], ids[BUCKETS];
	struct list archives;
	unsigned archive_count, ended_count, live_count, capped_count;
};

const char *agent_state_name(enum agent_state state)
{
	static const char *const names[] = {"starting", "running", "paused", "stopped", "crashed"};

	return names[state];
}

const char *agent_reason_name(enum agent_reason reason)
{
	static const char *const names[] = {"exited",  "signal",        "out-of-memory",
					    "timeout", "killed",        "start-failed",
					    "lost",    "workspace-full"};

	return names[reason];
}

int directory_new(struct directory **ret_directory)
{
	struct directory *directory = calloc(1, sizeof(*directory));

	if (!directory)
		return err_raise(-ENOMEM);
	(void)pthread_mutex_init(&directory->lock, NULL);
	list_init(&directory->archives);
	for (unsigned i = 0; i < BUCKETS; i++) {
		list_init(&directory->names[i]);
		list_init(&directory->ids[i]);
	}
	*ret_directory = directory;
	return 0;
}

static struct list *name_bucket(struct directory *directory, const char *name, size_t len)
{
	uint32_t hash =
		2166136261u; /* FNV-1a; those of all owners together, to be found by name alone */

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (uint8_t)name[i]) * 16777619u;
	return &directory->names[hash % BUCKETS];
}

static struct list *id_bucket(struct directory *directory, uint32_t id)
{
	/* Slot in the low bits, generation in the high ones. */
	return &directory->ids[(id ^ id >> 20) % BUCKETS];
}

static struct entry *name_find(struct directory *directory, uint32_t owner, const char *name,
			       size_t len)
{
	list_for_each (it, name_bucket(directory, name, len)) {
		struct entry *entry = container_of(it, struct entry, by_name);

		if (entry->card.owner == owner && strlen(entry->card.name) == len &&
		    !memcmp(entry->card.name, name, len))
			return entry;
	}
	return NULL;
}

static struct entry *id_find(struct directory *directory, uint32_t id)
{
	list_for_each (it, id_bucket(directory, id)) {
		struct entry *entry = container_of(it, struct entry, by_id);

		if (entry->card.id == id)
			return entry;
	}
	return NULL;
}

static void archive_remove(struct directory *directory, struct entry *entry)
{
	struct archive *archive = entry->archive;

	list_unlink(&entry->ended);
	directory->ended_count--;
	if (--archive->count)
		return;
	list_unlink(&archive->link);
	directory->archive_count--;
	free(archive);
}

static void entry_free(struct directory *directory, struct entry *entry)
{
	list_unlink(&entry->by_name);
	list_unlink(&entry->by_id);
	if (!list_empty(&entry->ended))
		archive_remove(directory, entry);
	free(entry);
}

static void child_count(struct directory *directory, uint32_t parent, int by)
{
	struct entry *entry = parent ? id_find(directory, parent) : NULL;

	if (entry)
		entry->children += (unsigned)by;
}

/*
 * What ended stays in order, of each owner for itself: one that starts and ends agents all the time
 * forgets its own, not another's. Owners that have ended agents share what may be remembered.
 */
static struct archive *archive_of(struct directory *directory, uint32_t owner)
{
	struct archive *archive;

	list_for_each (it, &directory->archives) {
		archive = container_of(it, struct archive, link);
		if (archive->owner == owner)
			return archive;
	}
	return NULL;
}

static void archive_add(struct directory *directory, struct entry *entry)
{
	struct archive *archive = archive_of(directory, entry->card.owner);
	unsigned share;

	if (!archive && (archive = calloc(1, sizeof(*archive)))) {
		archive->owner = entry->card.owner;
		list_init(&archive->ended);
		list_append(&directory->archives, &archive->link);
		directory->archive_count++;
	}
	if (!archive) { /* no memory: forgotten at once */
		entry_free(directory, entry);
		return;
	}
	/* The one used last comes last. */
	list_unlink(&archive->link);
	list_append(&directory->archives, &archive->link);
	entry->archive = archive;
	list_append(&archive->ended, &entry->ended);
	archive->count++;
	directory->ended_count++;
	share = LIMIT_AGENTS_ENDED / directory->archive_count;
	if (archive->count > share)
		entry_free(directory, container_of(archive->ended.next, struct entry, ended));
	if (directory->ended_count > LIMIT_AGENTS_ENDED) {
		/* Somebody has more than its share of now. */
		archive = container_of(directory->archives.next, struct archive, link);
		entry_free(directory, container_of(archive->ended.next, struct entry, ended));
	}
}

int directory_reserve(struct directory *directory, uint32_t owner, const char *name,
		      const char *home, uint32_t parent, enum profile profile)
{
	size_t len = strlen(name);
	struct entry *entry, *former, *above;
	unsigned depth = 1;
	int r = 0;

	CHECK(len <= LIMIT_AGENT_NAME_BYTES && strlen(home) <= LIMIT_AGENT_HOME_BYTES);
	entry = calloc(1, sizeof(*entry));
	if (!entry)
		return err_raise(-ENOMEM);
	list_init(&entry->by_id);
	list_init(&entry->ended);
	entry->card = (struct agent_card){
		.owner = owner,
		.parent = parent,
		.live = true,
		.profile = profile,
		.incarnation = 1,
	};
	memcpy(entry->card.name, name, len + 1);
	memcpy(entry->card.home, home, strlen(home) + 1);
	(void)pthread_mutex_lock(&directory->lock);
	former = name_find(directory, owner, name, len);
	above = parent ? id_find(directory, parent) : NULL;
	for (const struct entry *e = above; e; depth++)
		e = e->card.parent ? id_find(directory, e->card.parent) : NULL;
	if (former && former->card.live)
		r = DIRECTORY_E_TAKEN;
	else if (depth > LIMIT_AGENT_DEPTH)
		r = DIRECTORY_E_DEEP;
	else if (above && above->children >= LIMIT_AGENT_CHILDREN)
		r = DIRECTORY_E_FULL;
	if (!r) {
		if (former)
			entry_free(directory, former);
		list_append(name_bucket(directory, name, len), &entry->by_name);
		directory->live_count++;
		if (above)
			above->children++;
	}
	(void)pthread_mutex_unlock(&directory->lock);
	if (r)
		free(entry);
	return r;
}

void directory_cancel(struct directory *directory, uint32_t owner, const char *name)
{
	struct entry *entry;

	(void)pthread_mutex_lock(&directory->lock);
	entry = name_find(directory, owner, name, strlen(name));
	if (entry && entry->card.live) {
		child_count(directory, entry->card.parent, -1);
		directory->live_count--;
		entry_free(directory, entry);
	}
	(void)pthread_mutex_unlock(&directory->lock);
}

int directory_bind(struct directory *directory, uint32_t owner, const char *name, uint32_t id,
		   uint16_t core, uint32_t tied)
{
	struct entry *entry, *above;
	int r = 0;

	(void)pthread_mutex_lock(&directory->lock);
	entry = name_find(directory, owner, name, strlen(name));
	CHECK(entry && entry->card.live && !entry->card.id);
	/* One that ends later finds this among its children; one that has ended looked too early. */
	above = entry->card.parent ? id_find(directory, entry->card.parent) : NULL;
	if (entry->card.parent && !(above && above->card.live))
		r = DIRECTORY_E_UNKNOWN;
	if (!r) {
		entry->card.id = id;
		entry->card.core = core;
		entry->card.tied = tied;
		list_append(id_bucket(directory, id), &entry->by_id);
	}
	(void)pthread_mutex_unlock(&directory->lock);
	return r;
}

static void card_update(struct agent_card *card, enum agent_state state,
			const struct agent_end *end)
{
	card->state = state;
	if (end) {
		card->end = *end;
		card->ended_once = true;
	}
}

void directory_update(struct directory *directory, uint32_t id, enum agent_state state,
		      uint32_t incarnation, const struct agent_end *end)
{
	struct entry *entry;

	(void)pthread_mutex_lock(&directory->lock);
	entry = id_find(directory, id);
	if (entry) {
		card_update(&entry->card, state, end);
		entry->card.incarnation = incarnation;
	}
	(void)pthread_mutex_unlock(&directory->lock);
}

void directory_launched(struct directory *directory, uint32_t id, uint32_t layers,
			uint64_t launch_id, uint64_t workspace_bytes, uint64_t now_ns)
{
	struct entry *entry;

	(void)pthread_mutex_lock(&directory->lock);
	entry = id_find(directory, id);
	if (entry) {
		entry->card.layers = layers;
		entry->card.life_ns = now_ns;
		entry->card.launch_id = launch_id;
		directory->capped_count -= entry->card.workspace_bytes != 0;
		directory->capped_count += workspace_bytes != 0;
		entry->card.workspace_bytes = workspace_bytes;
	}
	(void)pthread_mutex_unlock(&directory->lock);
}

void directory_end(struct directory *directory, uint32_t id, enum agent_state state,
		   const struct agent_end *end)
{
	struct entry *entry;

	(void)pthread_mutex_lock(&directory->lock);
	entry = id_find(directory, id);
	if (entry && entry->card.live) {
		card_update(&entry->card, state, end);
		entry->card.live = false;
		directory->capped_count -= !!entry->card.workspace_bytes;
		child_count(directory, entry->card.parent, -1);
		directory->live_count--;
		archive_add(directory, entry);
	}
	(void)pthread_mutex_unlock(&directory->lock);
}

static int card_copy(const struct entry *entry, struct agent_card *ret_card)
{
	if (!entry)
		return DIRECTORY_E_UNKNOWN;
	*ret_card = entry->card;
	return 0;
}

int directory_find(struct directory *directory, uint32_t id, struct agent_card *ret_card)
{
	int r;

	(void)pthread_mutex_lock(&directory->lock);
	r = card_copy(id_find(directory, id), ret_card);
	(void)pthread_mutex_unlock(&directory->lock);
	return r;
}

int directory_find_name(struct directory *directory, uint32_t owner, const char *name, size_t len,
			struct agent_card *ret_card)
{
	int r;

	(void)pthread_mutex_lock(&directory->lock);
	r = card_copy(name_find(directory, owner, name, len), ret_card);
	(void)pthread_mutex_unlock(&directory->lock);
	return r;
}

bool directory_has_home(struct directory *directory, uint32_t owner, const char *home)
{
	const char *colon = strrchr(home, ':');
	const char *name = colon ? colon + 1 : home;
	const struct entry *entry;
	bool has;

	(void)pthread_mutex_lock(&directory->lock);
	entry = name_find(directory, owner, name, strlen(name));
	has = entry && entry->card.live && !strcmp(entry->card.home, home);
	(void)pthread_mutex_unlock(&directory->lock);
	return has;
}

int directory_group(struct directory *directory, uint32_t id, char *ret_group)
{
	const struct agent_card *chain[LIMIT_AGENT_DEPTH];
	unsigned depth = 0;
	char *at = ret_group;

	(void)pthread_mutex_lock(&directory->lock);
	while (id && depth < LIMIT_AGENT_DEPTH) {
		const struct entry *entry = id_find(directory, id);

		chain[depth] = entry ? &entry->card : NULL;
		id = entry ? entry->card.parent : 0;
		if (!chain[depth++])
			depth = 0;
	}
	for (unsigned i = depth; i-- > 0;)
		at += snprintf(at, LIMIT_AGENT_GROUP_BYTES - (size_t)(at - ret_group), "%s%u-%u",
			       at == ret_group ? "" : "/", chain[i]->id, chain[i]->incarnation);
	(void)pthread_mutex_unlock(&directory->lock);
	return depth ? 0 : DIRECTORY_E_UNKNOWN;
}

int directory_find_any(struct directory *directory, const char *name, size_t len,
		       struct agent_card *ret_card)
{
	const struct entry *found = NULL;
	bool several = false;

	(void)pthread_mutex_lock(&directory->lock);
	list_for_each (it, name_bucket(directory, name, len)) {
		const struct entry *entry = container_of(it, struct entry, by_name);

		if (strlen(entry->card.name) != len || memcmp(entry->card.name, name, len) != 0 ||
		    (found && found->card.live && !entry->card.live))
			continue;
		several = found && found->card.live == entry->card.live;
		found = entry;
	}
	if (found && !several)
		*ret_card = found->card;
	(void)pthread_mutex_unlock(&directory->lock);
	return several ? DIRECTORY_E_SEVERAL : found ? 0 : DIRECTORY_E_UNKNOWN;
}

struct directory *directory_free(struct directory *directory)
{
	if (!directory)
		return NULL;
	for (unsigned i = 0; i < BUCKETS; i++)
		list_for_each_safe (it, &directory->names[i])
			entry_free(directory, container_of(it, struct entry, by_name));
	free(directory);
	return NULL;
}

bool directory_descends(struct directory *directory, uint32_t id, uint32_t ancestor)
{
	struct entry *entry;

	(void)pthread_mutex_lock(&directory->lock);
	entry = id_find(directory, id);
	while (id != ancestor && entry && entry->card.parent) {
		id = entry->card.parent;
		entry = id_find(directory, id);
	}
	(void)pthread_mutex_unlock(&directory->lock);
	return id == ancestor;
}

unsigned directory_children(struct directory *directory, uint32_t parent, uint32_t *ids,
			    unsigned max)
{
	const struct entry *above;
	unsigned count = 0;

	(void)pthread_mutex_lock(&directory->lock);
	above = id_find(directory, parent);
	if (above && max > above->children)
		max = above->children;
	for (unsigned i = 0; i < BUCKETS && count < max; i++) {
		list_for_each (it, &directory->ids[i]) {
			const struct agent_card *card =
				&container_of(it, struct entry, by_id)->card;

			if (card->live && card->parent == parent && count < max)
				ids[count++] = card->id;
		}
	}
	(void)pthread_mutex_unlock(&directory->lock);
	return count;
}

unsigned directory_tied(struct directory *directory, uint32_t client, uint32_t *ids, unsigned max)
{
	unsigned count = 0;

	(void)pthread_mutex_lock(&directory->lock);
	for (unsigned i = 0; i < BUCKETS && count < max; i++) {
		list_for_each (it, &directory->ids[i]) {
			const struct agent_card *card =
				&container_of(it, struct entry, by_id)->card;

			if (card->live && card->tied == client && count < max)
				ids[count++] = card->id;
		}
	}
	(void)pthread_mutex_unlock(&directory->lock);
	return count;
}

unsigned directory_capped(struct directory *directory, uint32_t *ids, unsigned max)
{
	unsigned count = 0;

	(void)pthread_mutex_lock(&directory->lock);
	if (!max)
		count = directory->capped_count;
	for (unsigned i = 0; i < BUCKETS && count < max; i++) {
		list_for_each (it, &directory->ids[i]) {
			const struct agent_card *card =
				&container_of(it, struct entry, by_id)->card;

			if (card->live && card->workspace_bytes && count < max)
				ids[count++] = card->id;
		}
	}
	(void)pthread_mutex_unlock(&directory->lock);
	return count;
}

unsigned directory_live(struct directory *directory)
{
	unsigned count;

	(void)pthread_mutex_lock(&directory->lock);
	count = directory->live_count;
	(void)pthread_mutex_unlock(&directory->lock);
	return count;
}
