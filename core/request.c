/* SPDX-License-Identifier: MIT */

#include "core/request.h"

#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/fair.h"
#include "core/limits.h"
#include "core/shard.h"
#include "core/user.h"

static void unbind(struct request *request)
{
	struct conn *conn = request->conn;

	timer_unset(&request->shard->timers, &request->deadline);
	list_unlink(&request->link);
	conn->in_flight--;
	conn->held_bytes -= request->held;
	request->shard->held_bytes -= request->held;
	quota_uncharge(conn->user->owner, request->held);
	request->held = 0;
	quota_give(conn->user->owner, QUOTA_REQUESTS);
	request->conn = NULL;
	if (request->type->unbound)
		request->type->unbound(request, conn);
	conn_rest(conn);
}

void request_abort(struct request *request, const struct fault *fault)
{
	CHECK(request->conn);
	conn_reply_error(request->conn, request->op, request->id, fault);
	unbind(request);
	request->type->abandon(request);
}

static bool call_off(struct request *request)
{
	return !request->type->call_off || request->type->call_off(request);
}

static void on_deadline(struct timer *timer)
{
	struct request *request = container_of(timer, struct request, deadline);
	struct fault fault;

	if (call_off(request)) {
		(void)fault_set(&fault, WIRE_TIMEOUT, "the deadline passed");
	} else {
		(void)fault_set(&fault, WIRE_TIMEOUT,
				"the deadline passed; the call goes on, its outcome is unknown");
		fault.outcome_unknown = true;
	}
	request_abort(request, &fault);
}

bool request_cancel(struct request *request)
{
	struct fault fault;

	CHECK(request->conn);
	if (!call_off(request))
		return false;
	(void)fault_set(&fault, WIRE_CANCELLED, "ended by CANCEL");
	request_abort(request, &fault);
	return true;
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
	if (call->has_deadline && !call->deadline_ms)
		return fault_set(&call->fault, WIRE_TIMEOUT,
				 "the answer would have to be waited for, and the deadline is 0");
	if (quota_take(shard->kernel->config, conn->user->owner, QUOTA_REQUESTS, &call->fault))
		return call->fault.code;
	if (call->has_deadline &&
	    timer_set(&shard->timers, &request->deadline,
		      shard->now_ns + call->deadline_ms * CLOCK_NS_PER_MS, on_deadline)) {
		quota_give(conn->user->owner, QUOTA_REQUESTS);
		return fault_set(&call->fault, WIRE_BUSY, "no memory for a timer");
	}
	conn->in_flight++;
	list_append(&conn->requests, &request->link);
	return WIRE_OK;
}

/* Until the client has read what came before. */
static void hold(struct request *request)
{
	const struct request_type *type = request->type;
	struct shard *shard = request->shard;
	struct conn *conn = request->conn;
	size_t weight;

	timer_unset(&shard->timers, &request->deadline);
	request->stalled = false;
	list_unlink(&request->link);
	list_append(&conn->held, &request->link);
	if (!type->weight)
		return;
	weight = type->weight(request);
	if (!fair_share(conn->held_bytes, weight, shard->held_bytes, LIMIT_HELD_CORE_BYTES) ||
	    !quota_charge(conn->user->owner, weight)) {
		type->shed(request);
		return;
	}
	request->held = weight;
	conn->held_bytes += request->held;
	shard->held_bytes += request->held;
}

void request_finish(struct request *request)
{
	struct conn *conn = request->conn;

	if (conn && !conn_has_room(conn)) {
		hold(request);
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

void request_release_held(struct conn *conn)
{
	while (!list_empty(&conn->held) && conn_has_room(conn)) {
		struct request *request = container_of(conn->held.next, struct request, link);

		if (!request->stalled) {
			request_finish(request);
			continue;
		}
		request->stalled = false;
		list_unlink(&request->link);
		list_append(&conn->requests, &request->link);
		request->type->resume(request);
	}
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
		if (request->stalled)
			request->type->abandon(request);
		else
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
	list_for_each (it, &conn->held) {
		struct request *request = container_of(it, struct request, link);

		if (request->id == id && request->stalled)
			return request;
	}
	return NULL;
}

void request_stall(struct request *request)
{
	if (request->stalled)
		return;
	request->stalled = true;
	list_unlink(&request->link);
	list_append(&request->conn->held, &request->link);
}

static struct request *stream_of(struct list *requests)
{
	list_for_each (it, requests) {
		struct request *request = container_of(it, struct request, link);

		if (request->type->resume &&
		    (request->stalled || requests == &request->conn->requests))
			return request;
	}
	return NULL;
}

void request_end_streams(struct conn *conn)
{
	struct request *request;
	struct fault fault;

	(void)fault_set(&fault, WIRE_SHUTTING_DOWN, "the kernel is stopping");
	while ((request = stream_of(&conn->requests)) || (request = stream_of(&conn->held)))
		request_abort(request, &fault);
}
