/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * State: the store as the kernel uses it
 *
 * Each core is one client of the store (store/store.h). A thread of the store that has something for a core
 * sets @due and wakes it; the core reaps in its pass, and hands what it wants written to the writer once, before
 * it waits.
 *
 * Who sees what: a key belongs to an owner and a scope. `global` is the owner's; `agent` that of one agent, by the
 * name of its home, so that what an agent starts never reaches what a namesake has left; `session` that of one
 * connection, and is deleted after it.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/list.h"
#include "core/call.h"
#include "core/limits.h"
#include "core/request.h"
#include "core/timer.h"
#include "store/store.h"

struct conn;
struct kernel;
struct owner;
struct shard;

/* What a core has of it. */
struct state {
	struct store_client *client;
	_Atomic bool due;  /* a thread of the store has something for this core */
	struct list drops; /* struct state_drop: spaces to empty, that the store had no room for */
	struct timer drop_retry;
	struct state_read *spare; /* for the next read; may be NULL */
};

/* In main, around the cores' lives. 0, or a complaint was printed. */
int state_open(struct kernel *kernel);
void state_close(struct kernel *kernel);

/* For the core's pass. */
void state_init(struct shard *shard);
void state_reap(struct shard *shard);
void state_flush(struct shard *shard);
bool state_is_due(const struct shard *shard);
void state_free(struct shard *shard);

/* The connection goes, and its session with it. */
void state_session_end(struct conn *conn);

/* ---- for the calls ---- */

enum {
	STATE_SCOPES_MAX = 3,
	STATE_NO_ARG = 0xff,
	/* What an op counts beside its bytes, so that the queue's two limits are reached together. */
	STATE_OP_COST = LIMIT_STATE_BYTES / LIMIT_STATE_QUEUE_OPS,
};

/* Where a key may be: one scope, or those that a call without one looks in, the nearest first. */
struct state_scopes {
	struct store_space spaces[STATE_SCOPES_MAX];
	uint64_t session; /* what the name of a session's space points to */
	uint32_t count;
};

/* Of argument @arg. For writing a session begins; absent means global, for reading all. */
enum wire_error state_scopes(struct call *call, unsigned arg, bool writing,
			     struct state_scopes *ret_scopes);
/* The same of a scope's name in an array. */
enum wire_error state_scope_named(struct call *call, const uint8_t *name, uint32_t len,
				  bool writing, struct state_scopes *ret_scopes);
const char *state_scope_name(enum store_scope scope);

/* Whether a key of @len bytes may be, with words if not. */
enum wire_error state_key_check(uint32_t len, struct fault *fault);
/* The same of what keys begin with, which may be empty. */
enum wire_error state_prefix_check(uint32_t len, struct fault *fault);

/* What the store said, as the client will read it; returns fault->code. @write may be NULL. */
enum wire_error state_fault(struct shard *shard, int r, const struct store_write *write,
			    struct fault *fault);

/* Memory that a request takes of what all share while it is at work. False, with @fault filled, for want of it. */
bool state_charge(struct conn *conn, size_t bytes, struct fault *fault);
void state_uncharge(struct shard *shard, struct owner *owner, size_t bytes);

/* Who pays for what @call writes; borrows the agent's name. */
enum wire_error state_payer(struct call *call, struct store_payer *ret_payer);

/* DELETE in the first of several scopes that has the key. */
enum wire_error state_delete_nearest(struct call *call, const struct state_scopes *scopes);

const char *state_given_name(enum store_given given);
