/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Connections of a spawned agent: the one it starts with, and those its processes ask for at the door of its box
 *
 * All have its identity and its rights and live in its core. They end with its life; it does not end with any of
 * them. Used by agent.c, agent_launch.c and conn.c only.
 */

#include "core/agent.h"

/*
 * For a life that begins: the first connection, and the socket on which its init hands over others and reports. The
 * program's end and the init's are agent->child_fds[1] and [2]. 0 or -errno; what was opened then is the agent's.
 */
int agent_conn_open(struct agent *agent);

/* The life is over: its connections are closed at the end of the pass, and what its init may still say is not heard. */
void agent_conn_drop(struct agent *agent);

/* How many there are, without those that are about to be closed. */
unsigned agent_conn_count(const struct agent *agent);

/* When its init has ended: what it reported, the agent's; NULL for nothing. */
const struct launch_report *agent_conn_report(struct agent *agent);
