/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What an agent's options become for the launcher; used by agent.c only
 */

#include "core/agent.h"

/* Makes the connection and the socket for the report, and asks the launcher. 0, or -1 with agent->fault filled. */
int agent_launch(struct agent *agent);

/* What a FAILED means to whoever asked for the agent: fills agent->fault. */
void agent_launch_fault(struct agent *agent, const struct launch_reply *reply);

/* Back from the launcher, in agent.c. */
void agent_answered(struct agent *agent, struct launch_reply *reply);
void agent_unsent(struct agent *agent); /* agent->fault is filled */
void agent_signalled(struct agent *agent, int error);
void agent_lost(struct agent *agent);

/* How an agent ended, as WAIT answers. */
void agent_end_pack(uint32_t id, const char *name, const struct agent_end *end, msgpack_packer *pk);
