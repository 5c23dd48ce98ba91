/* SPDX-License-Identifier: MIT */

/*
 * The init's messages come on a socket of its own, which no process of the agent can write to; but how many
 * connections come, and how fast, the agent decides. So few are taken at a time, as of any connection's frames,
 * and the socket holds few: above that the box itself refuses. What the agent may not have is turned away as
 * clients are, by an error frame on the new connection that says why.
 */

#include "core/agent_conn.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "core/conn.h"
#include "core/shard.h"
#include "sandbox/launch.h"

enum {
	NEWS_LEFT_MAX = 256, /* the socket holds fewer */
};

/* 0, LAUNCH_E_EMPTY, LAUNCH_E_GONE, or -errno when one was lost. */
static int news_take(struct agent *agent, struct launch_news *ret_news)
{
	int r = launch_report_recv(agent->news.fd, ret_news);

	if (r || ret_news->connection >= 0)
		return r;
	agent->report = ret_news->report;
	agent->reported = true;
	return 0;
}

static void on_news(struct loop_source *source)
{
	struct agent *agent = container_of(source, struct agent, news);
	struct launch_news news;

	for (unsigned n = 0; n < LIMIT_AGENT_CONNECTIONS; n++) {
		int r = news_take(agent, &news);

		if (r == LAUNCH_E_GONE)
			return;
		if (r == LAUNCH_E_EMPTY)
			break;
		if (!r && news.connection >= 0)
			conn_open_further(agent, news.connection);
	}
	loop_want_ready(agent->shard->loop, source);
}

static const struct loop_handler news_handler = {.ready = on_news};

/* The kernel's end does not block; the program's is an ordinary one. */
static int first_open(struct agent *agent)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return err_raise(-errno);
	agent->child_fds[1] = pair[1];
	return err_trace(conn_open_agent(agent, pair[0]));
}

int agent_conn_open(struct agent *agent)
{
	CLEANUP(fd_closep) int ours = -1;
	int r = first_open(agent);

	if (!r)
		r = launch_report_open(&ours, &agent->child_fds[2]);
	if (!r)
		r = loop_add(agent->shard->loop, &agent->news, ours, &news_handler);
	if (r)
		return err_trace(r);
	loop_want_ready(agent->shard->loop, &agent->news);
	ours = -1; /* the source's */
	return 0;
}

void agent_conn_drop(struct agent *agent)
{
	struct list *it;
	int fd = agent->news.fd;

	while ((it = list_shift(&agent->conns))) {
		struct conn *conn = container_of(it, struct conn, of_agent);

		conn->spawned = NULL;
		conn->agent = NULL; /* the entry is the agent's */
		conn_doom(conn);
	}
	if (loop_has(&agent->news)) {
		loop_remove(agent->shard->loop, &agent->news);
		(void)close(fd);
	}
	agent->reported = false;
}

unsigned agent_conn_count(const struct agent *agent)
{
	unsigned count = 0;

	list_for_each (it, &agent->conns)
		count += !container_of(it, struct conn, of_agent)->doomed;
	return count;
}

const struct launch_report *agent_conn_report(struct agent *agent)
{
	struct launch_news news = {.connection = -1};

	for (unsigned n = 0; n < NEWS_LEFT_MAX && loop_has(&agent->news); n++) {
		int r = news_take(agent, &news);

		if (r > 0)
			break;
		/* Whoever asked for it has ended. */
		if (!r)
			(void)fd_close(news.connection);
	}
	return agent->reported ? &agent->report : NULL;
}
