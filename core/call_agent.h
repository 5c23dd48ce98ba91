/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the calls that concern one agent share: whom they may concern, and the errand to its core
 */

#include "core/agent.h"
#include "core/call.h"

/* Finds the agent that argument @arg names, if the caller may know of it. Or a code with call->fault filled. */
enum wire_error agent_card_read(struct call *call, unsigned arg, struct agent_card *ret_card);

/* AGENT_NOT_FOUND into @errand. */
enum wire_error agent_gone(struct errand *errand, uint32_t id);

/*
 * An errand to the core of @card's agent, bound to @call, in an object that is zero so far. WIRE_OK, or a
 * code with call->fault filled, and @free has been called.
 */
enum wire_error agent_errand_init(struct agent_errand *errand, struct call *call,
				  const struct agent_card *card,
				  void (*run)(struct errand *errand, struct shard *at),
				  void (*free)(struct errand *errand));
void agent_errand_go(struct call *call, const struct agent_card *card, struct agent_errand *errand);
