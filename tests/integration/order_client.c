/* SPDX-License-Identifier: MIT */

/*
 * Clients that send without waiting, read with small pauses, and check that answers come whole and in order
 *
 *   order_client SOCKET CLIENTS REQUESTS
 *
 * Each client sends REQUESTS NOOPs, 2 to 600 KB long, as fast as the kernel takes them. Its reader pauses
 * now and then, so that the kernel's sends fall short while further answers are being made. In C, because a
 * slower reader leaves the kernel nothing to do but wait. Ends with 0 when every answer was right;
 * otherwise says what was wrong and ends with 1.
 */

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/frame.h"

enum {
	CLIENTS_MAX = 64,
	HEAD_BYTES = 5, /* of a bin32 */
	SIZE_MAX_BYTES = 600000,
	PAUSE_US = 3000,
	SILENCE_S = 20, /* then nothing more will come */
};

struct client {
	pthread_t writer, reader;
	unsigned number;
	uint64_t requests;
	int fd;
	bool ok;
};

/* The payload of request @id: mostly small, and sometimes more than a socket takes. */
static uint32_t size_of(const struct client *client, uint64_t id)
{
	uint32_t x = (uint32_t)(id * 2654435761u) ^ (client->number + 100);

	x ^= x >> 13;
	x *= 0x5bd1e995;
	x ^= x >> 15;
	switch (x % 16) {
	case 0:
		return 200000 + (x >> 8) % 60000;
	case 1:
		return 50000 + (x >> 8) % 50000;
	case 2:
		return 300000 + (x >> 8) % (SIZE_MAX_BYTES - 300000);
	default:
		return 2000 + (x >> 8) % 3000;
	}
}

static uint8_t fill_of(uint64_t id)
{
	return (uint8_t)(id * 7);
}

static void head_write(uint8_t *bytes, uint32_t len)
{
	bytes[0] = 0xc6;
	for (int i = 0; i < 4; i++)
		bytes[1 + i] = (uint8_t)(len >> (24 - 8 * i));
}

static bool send_all(int fd, const uint8_t *bytes, size_t len)
{
	while (len) {
		ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		bytes += n;
		len -= (size_t)n;
	}
	return true;
}

static bool recv_all(int fd, uint8_t *bytes, size_t len)
{
	while (len) {
		ssize_t n = recv(fd, bytes, len, 0);

		if (n <= 0)
			return false;
		bytes += n;
		len -= (size_t)n;
	}
	return true;
}

static void *write_requests(void *arg)
{
	struct client *client = arg;
	uint8_t *bytes = malloc(FRAME_HEADER_BYTES + 1 + HEAD_BYTES + SIZE_MAX_BYTES);

	for (uint64_t id = 1; bytes && id <= client->requests; id++) {
		uint32_t len = size_of(client, id);
		struct frame frame = {.body_len = 1 + HEAD_BYTES + len, .id = id};

		frame_write(bytes, &frame);
		bytes[FRAME_HEADER_BYTES] = 0x91;
		head_write(bytes + FRAME_HEADER_BYTES + 1, len);
		memset(bytes + FRAME_HEADER_BYTES + 1 + HEAD_BYTES, fill_of(id), len);
		if (!send_all(client->fd, bytes, FRAME_HEADER_BYTES + frame.body_len))
			break;
	}
	free(bytes);
	return NULL;
}

/* NULL when it is the answer to request @id, otherwise what is wrong. */
static const char *answer_read(const struct client *client, uint64_t id, uint8_t *bytes)
{
	uint32_t len = size_of(client, id);
	uint8_t header[FRAME_HEADER_BYTES], head[HEAD_BYTES];
	struct frame frame;

	if (!recv_all(client->fd, header, sizeof(header)))
		return "no answer, or the end";
	frame_read(header, &frame);
	if (frame.id != id || frame.op || frame.flags != 1 || frame.body_len != HEAD_BYTES + len)
		return "the answer is another's, or out of order";
	if (!recv_all(client->fd, bytes, frame.body_len))
		return "the end within an answer";
	head_write(head, len);
	if (memcmp(bytes, head, HEAD_BYTES) != 0)
		return "the answer has another length";
	for (uint32_t i = 0; i < len; i++)
		if (bytes[HEAD_BYTES + i] != fill_of(id))
			return "the answer has other bytes";
	return NULL;
}

static void *read_answers(void *arg)
{
	struct client *client = arg;
	uint8_t *bytes = malloc(HEAD_BYTES + SIZE_MAX_BYTES);
	unsigned seed = client->number;
	const char *wrong = bytes ? NULL : "no memory";

	for (uint64_t id = 1; !wrong && id <= client->requests; id++) {
		wrong = answer_read(client, id, bytes);
		if (wrong)
			printf("client %u, request %llu: %s\n", client->number,
			       (unsigned long long)id, wrong);
		if (rand_r(&seed) % 16 == 0)
			(void)usleep((useconds_t)rand_r(&seed) % PAUSE_US);
	}
	client->ok = !wrong;
	if (wrong)
		(void)shutdown(client->fd, SHUT_RDWR); /* ends the writer */
	free(bytes);
	return NULL;
}

static bool client_start(struct client *client, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval silence = {.tv_sec = SILENCE_S};

	if (strlen(path) >= sizeof(address.sun_path))
		return false;
	memcpy(address.sun_path, path, strlen(path) + 1);
	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return client->fd >= 0 &&
	       !setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof(silence)) &&
	       !connect(client->fd, (const struct sockaddr *)&address, sizeof(address)) &&
	       !pthread_create(&client->writer, NULL, write_requests, client) &&
	       !pthread_create(&client->reader, NULL, read_answers, client);
}

int main(int argc, char **argv)
{
	static struct client clients[CLIENTS_MAX];
	unsigned count = argc == 4 ? (unsigned)atoi(argv[2]) : 0;
	bool ok = true;

	if (!count || count > CLIENTS_MAX) {
		(void)fprintf(stderr, "usage: order_client SOCKET CLIENTS REQUESTS\n");
		return 2;
	}
	for (unsigned i = 0; i < count; i++) {
		clients[i] = (struct client){
			.number = i,
			.requests = strtoull(argv[3], NULL, 10),
		};
		if (!client_start(&clients[i], argv[1])) {
			(void)fprintf(stderr, "order_client: %s: %s\n", argv[1], strerror(errno));
			return 2;
		}
	}
	for (unsigned i = 0; i < count; i++) {
		(void)pthread_join(clients[i].reader, NULL);
		(void)pthread_join(clients[i].writer, NULL);
		(void)close(clients[i].fd);
		ok = ok && clients[i].ok;
	}
	return ok ? 0 : 1;
}
