/* SPDX-License-Identifier: MIT */

#include "core/user.h"

#include <errno.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/base/cleanup.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/conn.h"
#include "core/kernel.h"
#include "core/shard.h"

enum {
	BUCKETS = 256,
	IDLE_MAX = 256, /* owners kept that nobody uses */
	FRESH_S = 60,   /* one that nobody used for longer is looked up again */
	PASSWD_BYTES = 16 << 10,
	STOP_WAIT_MS = 300,
	LANE_FULL_NS = 1000000,
};

struct users {
	struct kernel *kernel;
	struct user *own;
	pthread_t thread;
	bool started;

	pthread_mutex_t lock; /* of all below, and of owners and users but their atomics */
	pthread_cond_t changed;
	struct list buckets[BUCKETS];
	struct list idle, asked;
	unsigned idle_count;
	bool stopping;
};

/* ---- the user database ---- */

/* What to show and where to start. 0 or -ENOMEM; a database that does not answer has no entry. */
static int entry_read(uid_t uid, char **ret_name, char **ret_home)
{
	CLEANUP(freep) char *text = malloc(PASSWD_BYTES);
	CLEANUP(freep) char *name = NULL;
	struct passwd passwd, *found = NULL;
	char number[16];
	char *home;

	if (!text)
		return -ENOMEM;
	(void)snprintf(number, sizeof(number), "%u", (unsigned)uid);
	if (getpwuid_r(uid, &passwd, text, PASSWD_BYTES, &found))
		found = NULL;
	name = strdup(found ? passwd.pw_name : number);
	home = strdup(found && *passwd.pw_dir == '/' ? passwd.pw_dir : "/");
	if (!name || !home) {
		free(home);
		return -ENOMEM;
	}
	*ret_name = TAKE(name);
	*ret_home = home;
	return 0;
}

/* ---- owners, all under the lock ---- */

static struct owner *owner_find(struct users *users, uint32_t uid)
{
	list_for_each (it, &users->buckets[uid % BUCKETS]) {
		struct owner *owner = container_of(it, struct owner, link);

		if (owner->uid == uid)
			return owner;
	}
	return NULL;
}

static void owner_free(struct owner *owner)
{
	CHECK(list_empty(&owner->users));
	list_unlink(&owner->link);
	list_unlink(&owner->idle);
	list_unlink(&owner->asked);
	free(owner->name);
	free(owner->home);
	free(owner);
}

static void owner_ask(struct users *users, struct owner *owner)
{
	atomic_store_explicit(&owner->known, false, memory_order_relaxed);
	if (list_empty(&owner->asked))
		list_append(&users->asked, &owner->asked);
	(void)pthread_cond_signal(&users->changed);
}

static struct owner *owner_new(struct users *users, uint32_t uid)
{
	struct owner *owner = calloc(1, sizeof(*owner));

	if (!owner)
		return NULL;
	owner->table = users;
	owner->uid = uid;
	owner->is_operator = uid == 0 || uid == geteuid();
	list_init(&owner->idle);
	list_init(&owner->asked);
	list_init(&owner->users);
	list_append(&users->buckets[uid % BUCKETS], &owner->link);
	return owner;
}

/* One that is being looked up stays: the thread has it in hand. */
static void owner_rest(struct users *users, struct owner *owner)
{
	list_append(&users->idle, &owner->idle);
	users->idle_count++;
	list_for_each_safe (it, &users->idle) {
		struct owner *oldest = container_of(it, struct owner, idle);

		if (users->idle_count <= IDLE_MAX)
			break;
		if (!atomic_load_explicit(&oldest->known, memory_order_relaxed))
			continue;
		users->idle_count--;
		owner_free(oldest);
	}
}

static struct owner *owner_use(struct users *users, uint32_t uid)
{
	struct owner *owner = owner_find(users, uid);
	bool is_new = !owner;

	if (is_new)
		owner = owner_new(users, uid);
	if (owner && !list_empty(&owner->idle)) {
		list_unlink(&owner->idle);
		users->idle_count--;
	}
	if (owner && list_empty(&owner->users) &&
	    (is_new || (atomic_load_explicit(&owner->known, memory_order_relaxed) &&
			clock_now_ns() - owner->looked_up_ns > FRESH_S * CLOCK_NS_PER_S)))
		owner_ask(users, owner);
	return owner;
}

/* ---- users ---- */

static struct user *user_find(struct owner *owner, gid_t gid, const gid_t *groups,
			      size_t group_count)
{
	list_for_each (it, &owner->users) {
		struct user *user = container_of(it, struct user, link);

		if (user->gid == gid && user->group_count == group_count &&
		    (!group_count || !memcmp(user->groups, groups, group_count * sizeof(*groups))))
			return user;
	}
	return NULL;
}

static struct user *user_new(struct owner *owner, gid_t gid, const gid_t *groups,
			     size_t group_count)
{
	struct user *user = calloc(1, sizeof(*user));

	if (!user)
		return NULL;
	user->groups = malloc(group_count ? group_count * sizeof(*groups) : 1);
	if (!user->groups) {
		free(user);
		return NULL;
	}
	if (group_count)
		memcpy(user->groups, groups, group_count * sizeof(*groups));
	user->group_count = group_count;
	user->owner = owner;
	user->uid = owner->uid;
	user->gid = gid;
	list_append(&owner->users, &user->link);
	return user;
}

struct user *user_get(struct users *users, uid_t uid, gid_t gid, const gid_t *groups,
		      size_t group_count)
{
	struct user *user = NULL;
	struct owner *owner;

	(void)pthread_mutex_lock(&users->lock);
	owner = owner_use(users, uid);
	if (owner) {
		user = user_find(owner, gid, groups, group_count);
		if (!user)
			user = user_new(owner, gid, groups, group_count);
		if (user)
			user->refs++;
		else if (list_empty(&owner->users))
			owner_rest(users, owner);
	}
	(void)pthread_mutex_unlock(&users->lock);
	return user;
}

struct user *user_ref(struct user *user)
{
	struct users *users = user->owner->table;

	(void)pthread_mutex_lock(&users->lock);
	user->refs++;
	(void)pthread_mutex_unlock(&users->lock);
	return user;
}

struct user *user_unref(struct user *user)
{
	struct users *users;

	if (!user)
		return NULL;
	users = user->owner->table;
	(void)pthread_mutex_lock(&users->lock);
	CHECK(user->refs > 0);
	if (!--user->refs) {
		list_unlink(&user->link);
		if (list_empty(&user->owner->users))
			owner_rest(users, user->owner);
		free(user->groups);
		free(user);
	}
	(void)pthread_mutex_unlock(&users->lock);
	return NULL;
}

struct user *users_own(struct users *users)
{
	return users->own;
}

/* ---- looking up ---- */

static void on_known(struct shard *shard, void *arg, uint64_t value)
{
	(void)arg;
	(void)value;
	conn_admit_known(shard);
}

/* Some connections of any core may be waiting for it. */
static void announce(struct kernel *kernel)
{
	const struct timespec pause = {.tv_nsec = LANE_FULL_NS};

	for (unsigned i = 0; i < kernel->core_count; i++) {
		struct lane *lane = kernel->lanes[kernel->core_count + LIMIT_FILE_THREADS][i];

		while (!lane_push(lane, (struct lane_item){.deliver = on_known})) {
			if (atomic_load_explicit(&kernel->draining, memory_order_relaxed))
				return;
			(void)nanosleep(&pause, NULL);
		}
		shard_wake(NULL, kernel->shards[i]);
	}
}

/* Called and left with the lock; without it in between. */
static void owner_look_up(struct users *users, struct owner *owner)
{
	char *name = NULL, *home = NULL;
	int r;

	(void)pthread_mutex_unlock(&users->lock);
	do {
		r = entry_read(owner->uid, &name, &home);
		if (r)
			(void)usleep(LANE_FULL_NS / 1000);
	} while (r);
	(void)pthread_mutex_lock(&users->lock);
	free(owner->name);
	free(owner->home);
	owner->name = name;
	owner->home = home;
	owner->looked_up_ns = clock_now_ns();
	/* Pairs with the acquire of whoever asks whether it is known: then the names are there. */
	atomic_store_explicit(&owner->known, true, memory_order_release);
}

static void *users_main(void *arg)
{
	struct users *users = arg;

	(void)prctl(PR_SET_NAME, "users");
	(void)pthread_mutex_lock(&users->lock);
	while (!users->stopping) {
		struct list *next = list_shift(&users->asked);

		if (!next) {
			(void)pthread_cond_wait(&users->changed, &users->lock);
			continue;
		}
		owner_look_up(users, container_of(next, struct owner, asked));
		(void)pthread_mutex_unlock(&users->lock);
		announce(users->kernel);
		(void)pthread_mutex_lock(&users->lock);
	}
	(void)pthread_mutex_unlock(&users->lock);
	return NULL;
}

/* ---- life ---- */

int users_new(struct kernel *kernel, struct users **ret_users)
{
	struct users *users = calloc(1, sizeof(*users));
	gid_t groups[SPEC_GROUPS_MAX];
	int count = getgroups(SPEC_GROUPS_MAX, groups);

	if (!users)
		return err_raise(-ENOMEM);
	users->kernel = kernel;
	(void)pthread_mutex_init(&users->lock, NULL);
	(void)pthread_cond_init(&users->changed, NULL);
	list_init(&users->idle);
	list_init(&users->asked);
	for (unsigned i = 0; i < BUCKETS; i++)
		list_init(&users->buckets[i]);
	users->own = user_get(users, geteuid(), getegid(), groups, count < 0 ? 0 : (size_t)count);
	if (!users->own) {
		(void)users_free(users);
		return err_raise(-ENOMEM);
	}
	(void)pthread_mutex_lock(&users->lock);
	owner_look_up(users, container_of(list_shift(&users->asked), struct owner, asked));
	(void)pthread_mutex_unlock(&users->lock);
	*ret_users = users;
	return 0;
}

struct users *users_free(struct users *users)
{
	if (!users)
		return NULL;
	users->own = user_unref(users->own);
	for (unsigned i = 0; i < BUCKETS; i++)
		list_for_each_safe (it, &users->buckets[i])
			owner_free(container_of(it, struct owner, link));
	free(users);
	return NULL;
}

int users_start(struct users *users)
{
	int r = pthread_create(&users->thread, NULL, users_main, users);

	users->started = !r;
	return r ? err_raise(-r) : 0;
}

bool users_stop(struct users *users)
{
	struct timespec until;

	if (!users->started)
		return true;
	(void)pthread_mutex_lock(&users->lock);
	users->stopping = true;
	(void)pthread_cond_signal(&users->changed);
	(void)pthread_mutex_unlock(&users->lock);
	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += STOP_WAIT_MS * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	return !pthread_timedjoin_np(users->thread, NULL, &until);
}
