/* SPDX-License-Identifier: MIT */

#include "core/request.h"

#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/limits.h"
#include "core/shard.h"
#include "core/user.h"

static void unbind(struct request *request)
{
	struct conn *conn = request->conn;

	timer_unset(&request->shard->timers, &request->deadline);
	list_unlink(&request->link);
	conn->in_flight--;
	quota_give(conn->user->owner, QUOTA_REQUESTS);
	request->conn = NULL;
}

static void on_deadline(struct timer *timer)
{
	struct request *request = container_of(timer, struct request, deadline);

	request_abort(request, WIRE_TIMEOUT, "the deadline passed");
}

enum wire_error request_start(struct request *request, struct call *call,
			      const struct request_type *type)
{
	struct conn *conn = call->conn;
	struct shard *shard = conn->shard;

	*request = (struct request){
		.type = type,
		.shard = shard,
		.conn = conn,
		.id = call->id,
		.op = call->def->op,
	};
	if (conn->in_flight == LIMIT_IN_FLIGHT)
		return fault_set(&call->fault, WIRE_BUSY,
				 "%d requests of this connection are in flight; wait for one",
				 LIMIT_IN_FLIGHT);
	if (quota_take(shard->kernel->config, conn->user->owner, QUOTA_REQUESTS, &call->fault))
		return call->fault.code;
	if (call->deadline_ms &&
	    timer_set(&shard->timers, &request->deadline,
		      shard->now_ns + call->deadline_ms * CLOCK_NS_PER_MS, on_deadline)) {
		quota_give(conn->user->owner, QUOTA_REQUESTS);
		return fault_set(&call->fault, WIRE_BUSY, "no memory for a timer");
	}
	conn->in_flight++;
	list_append(&conn->requests, &request->link);
	return WIRE_OK;
}

void request_finish(struct request *request)
{
	struct conn *conn = request->conn;

	if (conn && !conn_has_room(conn)) {
		timer_unset(&request->shard->timers, &request->deadline);
		list_unlink(&request->link);
		list_append(&conn->held, &request->link);
		return;
	}
	if (conn) {
		struct shard *shard = request->shard;

		request->type->answer(request);
		unbind(request);
		request->type->free(request);
		shard_bound_output(shard);
		return;
	}
	request->type->free(request);
}

void request_abort(struct request *request, enum wire_error code, const char *message)
{
	struct fault fault;

	CHECK(request->conn);
	(void)fault_set(&fault, code, "%s", message);
	conn_reply_error(request->conn, request->op, request->id, &fault);
	unbind(request);
	request->type->abandon(request);
}

void request_release_held(struct conn *conn)
{
	while (!list_empty(&conn->held) && conn_has_room(conn))
		request_finish(container_of(conn->held.next, struct request, link));
}

void request_abandon_all(struct conn *conn)
{
	struct request *request;

	while (!list_empty(&conn->requests)) {
		request = container_of(conn->requests.next, struct request, link);
		unbind(request);
		request->type->abandon(request);
	}
	while (!list_empty(&conn->held)) {
		request = container_of(conn->held.next, struct request, link);
		unbind(request);
		request->type->free(request);
	}
}

struct request *request_find(struct conn *conn, uint64_t id)
{
	list_for_each (it, &conn->requests) {
		struct request *request = container_of(it, struct request, link);

		if (request->id == id)
			return request;
	}
	return NULL;
}
