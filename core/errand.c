/* SPDX-License-Identifier: MIT */

#include "core/errand.h"

static struct errand *errand_of(struct request *request)
{
	return container_of(request, struct errand, request);
}

static bool on_call_off(struct request *request)
{
	return !errand_of(request)->binding;
}

static void on_abandon(struct request *request)
{
	struct errand *errand = errand_of(request);

	if (errand->abandon)
		errand->abandon(errand);
}

static void on_answer(struct request *request)
{
	struct errand *errand = errand_of(request);

	if (errand->fault.code)
		conn_reply_error(request->conn, request->op, request->id, &errand->fault);
	else
		errand->answer(errand);
}

static void on_free(struct request *request)
{
	struct errand *errand = errand_of(request);

	list_unlink(&errand->recall.waiting);
	errand->free(errand);
}

static const struct request_type errand_type = {
	.call_off = on_call_off,
	.abandon = on_abandon,
	.answer = on_answer,
	.free = on_free,
};

enum wire_error errand_start(struct errand *errand, struct call *call)
{
	errand->fault.code = WIRE_OK;
	list_init(&errand->recall.waiting);
	return request_start(&errand->request, call, &errand_type);
}

static void arrive(struct shard *shard, void *arg, uint64_t value)
{
	struct errand *errand = arg;

	(void)value;
	errand->run(errand, shard);
}

static void come_home(struct shard *shard, void *arg, uint64_t value)
{
	struct errand *errand = arg;

	(void)shard;
	(void)value;
	request_finish(&errand->request);
}

static void lose(void *arg, uint64_t value)
{
	struct errand *errand = arg;

	(void)value;
	on_free(&errand->request);
}

void errand_send(struct errand *errand, struct shard *to)
{
	shard_send(errand->request.shard, to, &errand->parcel,
		   (struct lane_item){.deliver = arrive, .drop = lose, .arg = errand});
}

void errand_return(struct errand *errand, struct shard *at)
{
	shard_send(at, errand->request.shard, &errand->parcel,
		   (struct lane_item){.deliver = come_home, .drop = lose, .arg = errand});
}
