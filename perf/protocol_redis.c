/* SPDX-License-Identifier: MIT */

/*
 * Redis in RESP2: PING, bare or with a payload to echo, SET and GET
 *
 * The server answers in order, and what it answers is known beforehand. So verifying is comparing the stream with
 * @answer, the one that is due now; @matched is how far into it that is.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/base/check.h"
#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "perf/protocol.h"

struct dialogue {
	int fd;
	struct work *work;
	struct ask due[PROTOCOL_PIPELINE_MAX]; /* of the batch, in order */
	uint32_t due_count, answered;
	struct buf answer;
	struct buf out;
	size_t matched;
};

static struct dialogue *redis_dialogue_free(struct dialogue *d)
{
	if (!d)
		return NULL;
	d->fd = fd_close(d->fd);
	buf_deinit(&d->answer);
	buf_deinit(&d->out);
	free(d);
	return NULL;
}

static int put_text(struct buf *buf, const char *text)
{
	return err_trace(buf_append(buf, text, strlen(text)));
}

/* "$3\r\n" and room for as many bytes and "\r\n", to be filled with put_end(). */
static int put_begin(struct buf *buf, uint32_t size)
{
	char head[16];
	int r;

	(void)snprintf(head, sizeof(head), "$%u\r\n", size);
	r = put_text(buf, head);
	if (r)
		return r;
	return err_trace(buf_reserve(buf, (size_t)size + 2));
}

static void put_end(struct buf *buf, uint32_t size)
{
	memcpy(buf->data + buf->len + size, "\r\n", 2);
	buf->len += (size_t)size + 2;
}

static int put_payload(struct buf *buf, uint32_t size)
{
	int r = put_begin(buf, size);

	if (r)
		return r;
	memset(buf->data + buf->len, 'x', size);
	put_end(buf, size);
	return 0;
}

static int put_key(struct buf *buf, const struct work *work, uint64_t key)
{
	int r = put_begin(buf, WORK_KEY_BYTES);

	if (r)
		return r;
	work_write_key(work, key, buf->data + buf->len);
	put_end(buf, WORK_KEY_BYTES);
	return 0;
}

static int put_value(struct buf *buf, const struct work *work, uint64_t key)
{
	int r = put_begin(buf, work->size);

	if (r)
		return r;
	work_write_value(work, key, buf->data + buf->len);
	put_end(buf, work->size);
	return 0;
}

static int redis_dialogue_new(int fd, struct work *work, struct dialogue **ret_dialogue)
{
	struct dialogue *d = calloc(1, sizeof(*d));

	if (!d)
		return err_raise(-ENOMEM);
	d->fd = fd;
	d->work = work;
	*ret_dialogue = d;
	return 0;
}

static int put_ask(struct buf *out, const struct work *work, const struct ask *ask)
{
	int r = 0;

	switch (ask->kind) {
	case ASK_ECHO:
		r = put_text(out, work->size ? "*2\r\n$4\r\nPING\r\n" : "*1\r\n$4\r\nPING\r\n");
		if (!r && work->size)
			r = put_payload(out, work->size);
		break;
	case ASK_STORE:
		r = put_text(out, "*3\r\n$3\r\nSET\r\n");
		if (!r)
			r = put_key(out, work, ask->key);
		if (!r)
			r = put_value(out, work, ask->key);
		break;
	case ASK_FETCH:
		r = put_text(out, "*2\r\n$3\r\nGET\r\n");
		if (!r)
			r = put_key(out, work, ask->key);
		break;
	}
	return r;
}

/* Into @answer, which keeps its memory. */
static int expect(struct dialogue *d, const struct ask *ask)
{
	d->answer.len = 0;
	d->matched = 0;
	switch (ask->kind) {
	case ASK_ECHO:
		return d->work->size ? put_payload(&d->answer, d->work->size)
				     : put_text(&d->answer, "+PONG\r\n");
	case ASK_STORE:
		return put_text(&d->answer, "+OK\r\n");
	case ASK_FETCH:
		return put_value(&d->answer, d->work, ask->key);
	}
	return 0;
}

static int redis_put(struct dialogue *d, const struct ask *asks, uint32_t count)
{
	int r = 0;

	CHECK(count && count <= PROTOCOL_PIPELINE_MAX && d->answered == d->due_count);
	memcpy(d->due, asks, count * sizeof(*asks));
	d->due_count = count;
	d->answered = 0;
	for (uint32_t i = 0; i < count && !r; i++)
		r = put_ask(&d->out, d->work, &asks[i]);
	return r ? r : expect(d, &d->due[0]);
}

static const uint8_t *redis_output(const struct dialogue *d, size_t *ret_len)
{
	*ret_len = buf_unread(&d->out);
	return *ret_len ? buf_head(&d->out) : NULL;
}

static void redis_sent(struct dialogue *d, size_t len)
{
	buf_consume(&d->out, len);
}

static int report_wrong(const uint8_t *bytes, size_t len)
{
	(void)fprintf(stderr, "perf_load: redis: unexpected reply: %.*s\n",
		      len < 80 ? (int)len : 80, (const char *)bytes);
	return PROTOCOL_E_WRONG;
}

static int redis_hear(struct dialogue *d, const uint8_t *bytes, size_t len, struct heard *ret_heard)
{
	uint32_t replies = 0;
	size_t n;
	int r;

	while (len) {
		n = d->answer.len - d->matched;
		if (n > len)
			n = len;
		if (d->answered == d->due_count || memcmp(d->answer.data + d->matched, bytes, n))
			return report_wrong(bytes, len);
		bytes += n;
		len -= n;
		d->matched += n;
		if (d->matched < d->answer.len)
			continue;
		replies++;
		if (++d->answered == d->due_count)
			continue;
		r = expect(d, &d->due[d->answered]);
		if (r)
			return r;
	}
	*ret_heard = (struct heard){.replies = replies};
	return 0;
}

static int redis_ask_io(int fd, char ret_io[PROTOCOL_IO_BYTES])
{
	static const char question[] = "INFO server\r\n", key[] = "multiplexing_api:";
	CLEANUP(fd_closep) int own = fd;
	const char *value = NULL;
	char text[16 << 10];
	size_t len = 0;
	ssize_t n;

	if (send(own, question, sizeof(question) - 1, MSG_NOSIGNAL) != sizeof(question) - 1)
		return err_raise(-errno);
	while (!value || !strchr(value, '\r')) {
		n = recv(own, text + len, sizeof(text) - 1 - len, 0);
		if (n <= 0) {
			(void)fprintf(stderr, "perf_load: redis: no useful answer to INFO\n");
			return PROTOCOL_E_WRONG;
		}
		len += (size_t)n;
		text[len] = 0;
		value = strstr(text, key);
	}
	value += sizeof(key) - 1;
	(void)snprintf(ret_io, PROTOCOL_IO_BYTES, "%.*s", (int)strcspn(value, "\r"), value);
	return 0;
}

const struct protocol protocol_redis = {
	.name = "redis",
	.ask_io = redis_ask_io,
	.dialogue_new = redis_dialogue_new,
	.dialogue_free = redis_dialogue_free,
	.put = redis_put,
	.output = redis_output,
	.output_sent = redis_sent,
	.input = redis_hear,
};
