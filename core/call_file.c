/* SPDX-License-Identifier: MIT */

/*
 * READ and WRITE: arguments in, an operation for the file threads, its result out
 */

#include <stdlib.h>
#include <string.h>

#include "core/agent.h"
#include "core/call.h"
#include "core/files.h"
#include "core/kernel.h"
#include "core/shard.h"
#include "ipc/pack.h"

enum {
	BOX_FDS = 2, /* the opener's socket, and what it opens */
};

static struct file_op *op_of(struct request *request)
{
	return container_of(request, struct file_op, request);
}

static bool op_call_off(struct request *request)
{
	struct file_op *op = op_of(request);

	return files_call_off(request->shard->kernel->files, op) || op->kind == FILE_READ;
}

static void op_start(struct file_op *op)
{
	if (files_submit(op->request.shard->kernel->files, op))
		request_finish(&op->request);
}

/* Places for as many of those parked as there may be. */
static void parked_start(struct conn *conn)
{
	while (conn->files < LIMIT_FILES_CONN && !list_empty(&conn->parked)) {
		struct file_op *op =
			container_of(list_shift(&conn->parked), struct file_op, parked);

		op->placed = true;
		conn->files++;
		op_start(op);
	}
}

static void op_unbound(struct request *request, struct conn *conn)
{
	struct file_op *op = op_of(request);

	conn->file_bytes -= op->wanted;
	if (!op->placed)
		return;
	conn->files--;
	parked_start(conn);
}

/* One that a thread has begun ends by itself; what was to be written by a client that left is written. */
static void op_abandon(struct request *request)
{
	struct file_op *op = op_of(request);

	if (op->kind == FILE_READ)
		(void)op_call_off(request);
	if (op->placed)
		return;
	list_unlink(&op->parked);
	if (atomic_load_explicit(&op->stage, memory_order_relaxed) == FILE_CALLED_OFF)
		request_finish(request);
	else
		op_start(op);
}

static void op_answer(struct request *request)
{
	struct file_op *op = op_of(request);
	struct conn *conn = request->conn;
	msgpack_packer *pk;

	if (op->fault.code) {
		conn_reply_error(conn, request->op, request->id, &op->fault);
		return;
	}
	pk = conn_begin(conn);
	if (op->kind == FILE_READ) {
		pack_map(pk, 4);
		pack_text(pk, "data");
		pack_bin(pk, op->data, op->done);
		pack_key_uint(pk, "size", op->size);
		pack_key_bool(pk, "eof", op->eof);
		pack_text(pk, "file");
		pack_array(pk, 2);
		pack_uint(pk, op->dev);
		pack_uint(pk, op->ino);
	} else {
		pack_map(pk, 2);
		pack_key_uint(pk, "bytes_written", op->done);
		pack_key_uint(pk, "size", op->size);
	}
	conn_end(conn, request->op, WIRE_FLAG_REPLY, request->id);
}

/* One that was not submitted, or is over. */
static void op_drop(struct shard *shard, struct file_op *op)
{
	(void)fd_close(op->box_opener);
	descriptors_keep(&shard->kernel->descriptors, &op->descriptors, 0);
	free(op->data);
	free(op);
}

static void op_free(struct request *request)
{
	struct file_op *op = op_of(request);

	files_uncharge(request->shard->kernel->files, op);
	op_drop(request->shard, op);
}

static size_t op_weight(struct request *request)
{
	const struct file_op *op = op_of(request);

	return op->data ? op->done : 0;
}

static void op_shed(struct request *request)
{
	struct file_op *op = op_of(request);

	free(op->data);
	op->data = NULL;
	(void)fault_set(&op->fault, WIRE_BUSY,
			"too many answers wait to be read; read them, then ask again");
}

static const struct request_type op_type = {
	.call_off = op_call_off,
	.abandon = op_abandon,
	.answer = op_answer,
	.free = op_free,
	.unbound = op_unbound,
	.weight = op_weight,
	.shed = op_shed,
};

/* An operation on the path that is argument 0. NULL with call->fault filled. */
static struct file_op *op_new(struct call *call, enum file_kind kind)
{
	uint32_t len;
	const uint8_t *path = call_bytes(call, 0, &len);
	struct shard *shard = call->conn->shard;
	struct file_op *op;
	uint64_t box_id;

	if (call_box(call, kind == FILE_READ ? 3 : 4, &box_id))
		return NULL;
	if (!len || len > LIMIT_PATH_BYTES || memchr(path, 0, len)) {
		(void)fault_set(&call->fault, WIRE_INVALID_ARGUMENT,
				"path: 1 to %d bytes without NUL", LIMIT_PATH_BYTES);
		return NULL;
	}
	op = calloc(1, sizeof(*op) + len + 1);
	if (!op) {
		(void)fault_set(&call->fault, WIRE_BUSY, "no memory");
		return NULL;
	}
	op->kind = kind;
	op->path_len = len;
	op->box_opener = -1;
	memcpy(op->path, path, len);
	/* What is named in a box is looked for there, and opened as its agent could itself. */
	if (!box_id)
		return op;
	if (!descriptors_take(&shard->kernel->descriptors, &op->descriptors, BOX_FDS))
		(void)fault_set(&call->fault, WIRE_BUSY, "no descriptors left; try again");
	else if (!channel_is_open(shard) ||
		 opener_start_in_box(shard->channel.fd, box_id, &op->box_opener))
		(void)fault_set(&call->fault, WIRE_BUSY, "the launcher lags behind; try again");
	else
		return op;
	op_drop(shard, op);
	return NULL;
}

static enum wire_error op_submit(struct call *call, struct file_op *op)
{
	struct shard *shard = call->conn->shard;
	struct conn *conn = call->conn;
	enum wire_error code = request_start(&op->request, call, &op_type);

	if (code) {
		op_drop(shard, op);
		return code;
	}
	if (op->kind != FILE_READ) {
		if (!files_charge(shard->kernel->files, op, conn->file_bytes)) {
			(void)fault_set(&op->fault, WIRE_BUSY,
					"too much file content is in memory; try again");
			request_finish(&op->request);
			return WIRE_OK;
		}
		op->wanted = op->length;
		conn->file_bytes += op->wanted;
	}
	list_append(&conn->parked, &op->parked);
	parked_start(conn);
	return WIRE_OK;
}

enum wire_error call_read(struct call *call)
{
	uint64_t length = call_uint(call, 2, FRAME_PAYLOAD_MAX);
	struct file_op *op = op_new(call, FILE_READ);

	if (!op)
		return call->fault.code;
	op->offset = call_uint(call, 1, 0);
	op->length = length < FRAME_PAYLOAD_MAX ? (uint32_t)length : FRAME_PAYLOAD_MAX;
	if (op->offset > INT64_MAX - FRAME_PAYLOAD_MAX) {
		op_drop(call->conn->shard, op);
		return fault_set(&call->fault, WIRE_INVALID_ARGUMENT, "offset: too large");
	}
	return op_submit(call, op);
}

/* Leaves @ret_kind alone when the argument is absent. */
static enum wire_error mode_read(struct call *call, enum file_kind *ret_kind)
{
	static const struct {
		const char *name;
		enum file_kind kind;
	} modes[] = {{"write", FILE_WRITE}, {"append", FILE_APPEND}, {"patch", FILE_PATCH}};
	uint32_t len;
	const uint8_t *mode = call_bytes(call, 2, &len);

	if (!mode)
		return WIRE_OK;
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (len != strlen(modes[i].name) || memcmp(mode, modes[i].name, len))
			continue;
		*ret_kind = modes[i].kind;
		return WIRE_OK;
	}
	return fault_set(&call->fault, WIRE_INVALID_ARGUMENT,
			 "mode must be \"write\", \"append\" or \"patch\"");
}

enum wire_error call_write(struct call *call)
{
	enum file_kind kind = FILE_WRITE;
	struct file_op *op;
	const uint8_t *data;
	uint32_t len;

	if (mode_read(call, &kind))
		return call->fault.code;
	data = call_bytes(call, 1, &len);
	if (len > FRAME_PAYLOAD_MAX)
		return fault_set(
			&call->fault, WIRE_TOO_LARGE,
			"data: at most %d bytes a call; write the rest with mode patch or append",
			FRAME_PAYLOAD_MAX);
	op = op_new(call, kind);
	if (!op)
		return call->fault.code;
	op->offset = call_uint(call, 3, 0);
	op->length = len;
	op->data = malloc(len ? len : 1);
	if (!op->data || op->offset > INT64_MAX - FRAME_PAYLOAD_MAX) {
		bool memory = op->data;

		op_drop(call->conn->shard, op);
		return memory ? fault_set(&call->fault, WIRE_INVALID_ARGUMENT, "offset: too large")
			      : fault_set(&call->fault, WIRE_BUSY, "no memory");
	}
	memcpy(op->data, data, len);
	return op_submit(call, op);
}
