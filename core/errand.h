/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Errand: a request whose work is done in another core
 *
 * Embedded at the head of what it is about. The request stays with the core of its connection, the home;
 * the errand travels to the core that owns what it concerns, and back when the work is over,
 * which may be at once or much later. While it is away only the other core touches it, but for the
 * request, which only the home touches.
 */

#include "core/request.h"
#include "core/shard.h"

struct errand {
	struct request request;
	struct parcel parcel;
	struct parcel recall;
	struct fault fault; /* code 0: it went well */
	bool binding;       /* what it does elsewhere cannot be called off */
	/*
	 * At home, when nobody waits any more while it is away. May be NULL: it comes back some time.
	 */
	void (*abandon)(struct errand *errand);
	/* In the other core; errand_return() is owed. */
	void (*run)(struct errand *errand, struct shard *at);
	void (*answer)(struct errand *errand); /* at home: the reply, when there is no fault */
	void (*free)(struct errand *errand);
};

/* Binds it to @call with run, answer and free set. As request_start(). */
enum wire_error errand_start(struct errand *errand, struct call *call);

/* At home. */
void errand_send(struct errand *errand, struct shard *to);

/* In the core @at, or at home: sends it back, answers it and frees it. */
void errand_return(struct errand *errand, struct shard *at);
