/* SPDX-License-Identifier: MIT */

/*
 * Redis: PING, bare or with a payload to echo, in RESP2
 *
 * The server answers in order and every answer has the same bytes, so verifying is comparing the
 * stream with these bytes over and over. @matched is how far into the current answer that is.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "perf/protocol.h"

struct dialogue {
	int fd;
	struct buf request, answer; /* one of each */
	struct buf out;
	size_t matched;
};

static struct dialogue *redis_dialogue_free(struct dialogue *d)
{
	if (!d)
		return NULL;
	d->fd = fd_close(d->fd);
	buf_deinit(&d->request);
	buf_deinit(&d->answer);
	buf_deinit(&d->out);
	free(d);
	return NULL;
}

static void redis_dialogue_freep(struct dialogue **d)
{
	*d = redis_dialogue_free(*d);
}

static int put_text(struct buf *buf, const char *text)
{
	return err_trace(buf_append(buf, text, strlen(text)));
}

/* "$3\r\nxxx\r\n" */
static int put_payload(struct buf *buf, uint32_t size)
{
	char head[16];
	int r;

	(void)snprintf(head, sizeof(head), "$%u\r\n", size);
	r = put_text(buf, head);
	if (!r)
		r = buf_reserve(buf, size);
	if (r)
		return err_trace(r);
	memset(buf->data + buf->len, 'x', size);
	buf->len += size;
	return put_text(buf, "\r\n");
}

static int redis_dialogue_new(int fd, uint32_t size, struct dialogue **ret_dialogue)
{
	CLEANUP(redis_dialogue_freep) struct dialogue *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return err_raise(-ENOMEM);
	d->fd = -1;
	r = put_text(&d->request, size ? "*2\r\n$4\r\nPING\r\n" : "*1\r\n$4\r\nPING\r\n");
	if (!r && size)
		r = put_payload(&d->request, size);
	if (!r)
		r = size ? put_payload(&d->answer, size) : put_text(&d->answer, "+PONG\r\n");
	if (r)
		return err_trace(r);
	d->fd = fd;
	*ret_dialogue = TAKE(d);
	return 0;
}

static int redis_put(struct dialogue *d, uint32_t count)
{
	int r = 0;

	for (uint32_t i = 0; i < count && !r; i++)
		r = buf_append(&d->out, d->request.data, d->request.len);
	return err_trace(r);
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

static int redis_hear(struct dialogue *d, const uint8_t *bytes, size_t len, uint32_t *ret_replies)
{
	uint32_t replies = 0;
	size_t n;

	while (len) {
		n = d->answer.len - d->matched;
		if (n > len)
			n = len;
		if (memcmp(d->answer.data + d->matched, bytes, n)) {
			(void)fprintf(stderr, "perf_load: redis: unexpected reply: %.*s\n",
				      len < 80 ? (int)len : 80, (const char *)bytes);
			return PROTOCOL_E_WRONG;
		}
		bytes += n;
		len -= n;
		d->matched += n;
		if (d->matched == d->answer.len) {
			d->matched = 0;
			replies++;
		}
	}
	*ret_replies = replies;
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
