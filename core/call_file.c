/* SPDX-License-Identifier: MIT */

/*
 * READ and WRITE: arguments in, a question for the user's opener, its answer out
 */

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/agent.h"
#include "core/call.h"
#include "core/files.h"
#include "core/kernel.h"
#include "core/shard.h"
#include "core/user.h"
#include "ipc/pack.h"

enum file_kind {
	FILE_READ,
	FILE_WRITE, /* truncates first */
	FILE_APPEND,
	FILE_PATCH, /* at the offset, of a file that exists */
};

enum file_stage {
	FILE_QUEUED,
	FILE_RUNNING,    /* the openers' thread has it: it will happen */
	FILE_CALLED_OFF, /* a core has it: it will not */
};

enum {
	BOX_FDS = 1, /* the socket of its opener */
};

struct file_op {
	struct request request;
	struct file_task task;
	struct list parked; /* in conn->parked, until there is a place for it */
	bool placed;        /* counts in conn->files */
	struct user *user;  /* a reference */
	enum file_kind kind;
	_Atomic uint32_t stage; /* enum file_stage; who moves it on from QUEUED, owns it */
	bool answered;
	uint64_t box_id; /* of the launch of the agent in whose box it is; 0: on the host */
	bool box_counted;
	uint32_t descriptors; /* of the kernel's budget */
	uint64_t offset;
	uint32_t length; /* bytes to read at most, or to write */
	uint8_t *data;   /* owned; what was read, or is to be written */
	size_t charged;  /* bytes counted by files_charge() */
	size_t wanted;   /* bytes counted in conn->file_bytes */

	/* results */
	struct fault fault; /* code 0: success */
	struct open_reply reply;

	uint32_t path_len;
	char path[];
};

static struct file_op *op_of(struct request *request)
{
	return container_of(request, struct file_op, request);
}

static struct file_op *op_of_task(struct file_task *task)
{
	return container_of(task, struct file_op, task);
}

/* ---- in the openers' thread ---- */

static bool op_ask(struct file_task *task, struct open_request *ret_request)
{
	static const int flags[] = {
		[FILE_READ] = O_RDONLY,
		[FILE_WRITE] = O_WRONLY | O_CREAT | O_TRUNC,
		[FILE_APPEND] = O_WRONLY | O_CREAT | O_APPEND,
		[FILE_PATCH] = O_WRONLY,
	};
	struct file_op *op = op_of_task(task);
	uint32_t stage = FILE_QUEUED;

	/* Pairs with call_off(): one of both gets it. The same question may be asked twice. */
	if (!atomic_compare_exchange_strong_explicit(&op->stage, &stage, FILE_RUNNING,
						     memory_order_acquire, memory_order_relaxed) &&
	    stage == FILE_CALLED_OFF)
		return false;
	*ret_request = (struct open_request){
		.kind = op->kind == FILE_READ ? OPEN_READ : OPEN_WRITE,
		.path = op->path,
		.path_len = op->path_len,
		.base = op->box_id ? AGENT_INSIDE_HOME : op->user->owner->home,
		.flags = flags[op->kind],
		.mode = 0666,
		.offset = op->offset,
		.length = op->length,
		.data = op->data,
		.into = -1,
	};
	return !op->answered;
}

/* Why there is no result. */
static void op_fault(struct file_op *op)
{
	struct fault *fault = &op->fault;
	const struct open_reply *reply = &op->reply;

	if (op->box_id && (reply->result == OPEN_E_GONE || reply->result == OPEN_E_MANY))
		(void)fault_set(fault, WIRE_BUSY,
				"the box lets no more files be opened now; try again");
	else if (reply->result == -EAGAIN)
		(void)fault_set(fault, WIRE_IO_ERROR,
				"%.120s: it has nothing to read now, and is not waited for",
				op->path);
	else if (reply->result < 0 && reply->done)
		(void)fault_set_os(fault, -reply->result, "%.100s: %u of %u bytes written",
				   op->path, reply->done, op->length);
	else
		(void)files_fault(fault, reply->result, "", op->path);
	if (op->kind != FILE_READ)
		fault->bytes_written = reply->done;
}

static void op_told(struct file_task *task, struct open_reply *reply, const uint8_t *window)
{
	struct file_op *op = op_of_task(task);
	struct kernel *kernel = task->shard->kernel;

	op->answered = true;
	op->reply = *reply;
	if (reply->result) {
		op_fault(op);
		return;
	}
	if (op->kind != FILE_READ)
		return;
	op->reply.done = reply->done < op->length ? reply->done : op->length;
	if (!files_charge(kernel, op->user, op->reply.done)) {
		(void)fault_set(&op->fault, WIRE_BUSY,
				"too much file content is in memory; try again");
		return;
	}
	op->charged = op->reply.done;
	op->data = malloc(op->reply.done ? op->reply.done : 1);
	if (op->data)
		memcpy(op->data, window, op->reply.done);
	else
		(void)fault_set(&op->fault, WIRE_BUSY, "no memory");
}

/* ---- in the core ---- */

static void op_uncharge(struct file_op *op, struct kernel *kernel)
{
	files_uncharge(kernel, op->user, op->charged);
	op->charged = 0;
}

/* Its box has no opener for it any more. */
static void box_leave(struct file_op *op, struct kernel *kernel)
{
	op->task.box = opener_close(op->task.box);
	descriptors_keep(&kernel->descriptors, &op->descriptors, 0);
	if (op->box_counted)
		(void)atomic_fetch_sub_explicit(&kernel->box_openers, 1, memory_order_relaxed);
	op->box_counted = false;
}

static void op_done(struct file_task *task)
{
	struct file_op *op = op_of_task(task);

	/* What is left of it is a result now. */
	if (op->kind != FILE_READ || !op->reply.done) {
		free(op->data);
		op->data = NULL;
	}
	op_uncharge(op, task->shard->kernel);
	box_leave(op, task->shard->kernel);
	request_finish(&op->request);
}

static void op_free(struct request *request);

static void op_lost(struct file_task *task)
{
	op_free(&op_of_task(task)->request);
}

/* An opener in the box, for this operation alone. WIRE_OK, or WIRE_BUSY with op->fault filled. */
static enum wire_error box_enter(struct file_op *op)
{
	struct shard *shard = op->request.shard;
	_Atomic uint32_t *count = &shard->kernel->box_openers;

	op->box_counted = true;
	if (atomic_fetch_add_explicit(count, 1, memory_order_relaxed) >= LIMIT_BOX_OPENERS)
		return fault_set(&op->fault, WIRE_BUSY, "boxes have %d files in work; try again",
				 LIMIT_BOX_OPENERS);
	if (!descriptors_take(&shard->kernel->descriptors, &op->descriptors, BOX_FDS))
		return fault_set(&op->fault, WIRE_BUSY, "no descriptors left; try again");
	if (!channel_is_open(shard) ||
	    opener_start_in_box(shard->channel.fd, op->box_id, &op->task.box))
		return fault_set(&op->fault, WIRE_BUSY, "the launcher lags behind; try again");
	return WIRE_OK;
}

static void op_start(struct file_op *op)
{
	struct shard *shard = op->request.shard;

	if ((op->box_id && box_enter(op)) || files_submit(shard, op->user, &op->task, &op->fault)) {
		box_leave(op, shard->kernel);
		op_uncharge(op, shard->kernel);
		request_finish(&op->request);
	}
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

/* True when it had not begun, and now never will. */
static bool call_off(struct file_op *op)
{
	uint32_t stage = FILE_QUEUED;

	/* Pairs with op_ask(). */
	if (!atomic_compare_exchange_strong_explicit(&op->stage, &stage, FILE_CALLED_OFF,
						     memory_order_relaxed, memory_order_relaxed))
		return false;
	op_uncharge(op, op->request.shard->kernel);
	free(op->data);
	op->data = NULL;
	return true;
}

static bool op_call_off(struct request *request)
{
	struct file_op *op = op_of(request);

	return call_off(op) || op->kind == FILE_READ;
}

/* One that an opener has begun ends by itself; what was to be written by a client that left is written. */
static void op_abandon(struct request *request)
{
	struct file_op *op = op_of(request);

	if (op->kind == FILE_READ)
		(void)call_off(op);
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
		pack_bin(pk, op->data, op->reply.done);
		pack_key_uint(pk, "size", op->reply.size);
		pack_key_bool(pk, "eof", op->reply.eof);
		pack_text(pk, "file");
		pack_array(pk, 2);
		pack_uint(pk, op->reply.dev);
		pack_uint(pk, op->reply.ino);
	} else {
		pack_map(pk, 2);
		pack_key_uint(pk, "bytes_written", op->reply.done);
		pack_key_uint(pk, "size", op->reply.size);
	}
	conn_end(conn, request->op, WIRE_FLAG_REPLY, request->id);
}

/* Also one that was not submitted. */
static void op_drop(struct file_op *op, struct kernel *kernel)
{
	op_uncharge(op, kernel);
	box_leave(op, kernel);
	(void)user_unref(op->user);
	free(op->data);
	free(op);
}

static void op_free(struct request *request)
{
	op_drop(op_of(request), request->shard->kernel);
}

static size_t op_weight(struct request *request)
{
	const struct file_op *op = op_of(request);

	return op->data ? op->reply.done : 0;
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
	op->box_id =
		box_id; /* what is named in a box is looked for there, and opened as its agent could itself */
	op->user = user_ref(call->conn->user);
	op->path_len = len;
	memcpy(op->path, path, len);
	op->task.ask = op_ask;
	op->task.told = op_told;
	op->task.done = op_done;
	op->task.drop = op_lost;
	return op;
}

static enum wire_error op_submit(struct call *call, struct file_op *op)
{
	struct shard *shard = call->conn->shard;
	struct conn *conn = call->conn;
	enum wire_error code = request_start(&op->request, call, &op_type);

	if (code) {
		op_drop(op, shard->kernel);
		return code;
	}
	if (op->kind != FILE_READ) {
		if (!files_charge_share(shard->kernel, op->user, conn->file_bytes, op->length)) {
			(void)fault_set(&op->fault, WIRE_BUSY,
					"too much file content is in memory; try again");
			request_finish(&op->request);
			return WIRE_OK;
		}
		op->charged = op->wanted = op->length;
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
		op_drop(op, call->conn->shard->kernel);
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
	op->offset = kind == FILE_PATCH ? call_uint(call, 3, 0) : 0;
	op->length = len;
	op->data = malloc(len ? len : 1);
	if (!op->data || op->offset > INT64_MAX - FRAME_PAYLOAD_MAX) {
		bool memory = op->data;

		op_drop(op, call->conn->shard->kernel);
		return memory ? fault_set(&call->fault, WIRE_INVALID_ARGUMENT, "offset: too large")
			      : fault_set(&call->fault, WIRE_BUSY, "no memory");
	}
	memcpy(op->data, data, len);
	return op_submit(call, op);
}
