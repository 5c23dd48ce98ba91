/* SPDX-License-Identifier: MIT */

#include <inttypes.h>
#include <stdio.h>
#include <sys/socket.h>

#include "core/base/clock.h"
#include "ipc/frame.h"
#include "ipc/pack.h"
#include "sdk/cli/json.h"
#include "sdk/cli/output.h"
#include "sdk/cli/printable.h"
#include "sdk/cli/put.h"
#include "sdk/cli/session.h"
#include "sdk/cli/status.h"

static struct ping_options {
	unsigned format;
} options;

static const struct flag flags[] = {
	{"format", 0, FLAG_CHOICE, offsetof(struct ping_options, format), OUTPUT_FORMATS,
	 "for people or for programs (table)"},
	{0},
};

/* What HELLO says of the kernel, and what is measured. */
struct pong {
	struct buf hello;
	pid_t pid; /* of the kernel; 0 unknown */
	double round_trip_us;
};

static void pong_deinit(struct pong *pong)
{
	buf_deinit(&pong->hello);
}

static int pong_get(const struct settings *settings, struct pong *pong)
{
	CLEANUP(clove_closep) struct clove *clove = NULL;
	CLEANUP(buf_deinit) struct buf args = {0};
	struct clove_frame frame;
	msgpack_packer pk;
	struct ucred server;
	socklen_t len = sizeof(server);
	uint64_t start_ns;

	if (session_open(settings, &clove))
		return SESSION_E_FAILED;
	msgpack_packer_init(&pk, &args, put_packed);
	pack_array(&pk, 3);
	pack_uint(&pk, FRAME_VERSION);
	pack_uint(&pk, FRAME_VERSION);
	pack_text(&pk, "clove " CLOVE_VERSION);
	if (session_call(settings, clove, WIRE_OP_HELLO, &args, &frame))
		return SESSION_E_FAILED;
	put_bytes(&pong->hello, frame.body, frame.body_len);
	/* Who listens: the process that called listen(), if it is in this one's namespace of pids. */
	if (!getsockopt(clove_fd(clove), SOL_SOCKET, SO_PEERCRED, &server, &len))
		pong->pid = server.pid;
	start_ns = clock_now_ns();
	if (session_call(settings, clove, WIRE_OP_NOOP, NULL, &frame))
		return SESSION_E_FAILED;
	pong->round_trip_us = (double)(clock_now_ns() - start_ns) / 1000;
	return 0;
}

static int json_print(const struct settings *settings, const struct pong *pong)
{
	CLEANUP(buf_deinit) struct buf text = {0};
	const char *path = clove_socket_path(settings->socket);
	char numbers[96];

	put_text(&text, "{\n  \"socket\": ");
	if (path)
		json_put_string(&text, path, strlen(path));
	else
		put_text(&text, "null");
	(void)snprintf(numbers, sizeof(numbers), ",\n  \"pid\": %d,\n  \"round_trip_us\": %.1f,\n",
		       (int)pong->pid, pong->round_trip_us);
	put_text(&text, numbers);
	put_text(&text, "  \"hello\": ");
	if (json_put(&text, cursor_make(pong->hello.data, pong->hello.len), 1))
		return CLOVE_E_BROKEN;
	put_text(&text, "\n}\n");
	output_print(&text);
	return 0;
}

static int text_print(const struct settings *settings, const struct pong *pong)
{
	struct cursor hello = cursor_make(pong->hello.data, pong->hello.len);
	const char *path = clove_socket_path(settings->socket);
	CLEANUP(buf_deinit) struct buf text = {0};
	uint64_t protocol, epoch, uptime_ms;
	const uint8_t *version, *io;
	uint32_t version_len, io_len;
	bool sandbox;
	char line[160];

	if (clove_map_bytes(hello, "version", &version, &version_len) ||
	    clove_map_bytes(hello, "io", &io, &io_len) ||
	    clove_map_uint(hello, "protocol", &protocol) ||
	    clove_map_uint(hello, "epoch", &epoch) ||
	    clove_map_uint(hello, "uptime_ms", &uptime_ms) ||
	    clove_map_bool(hello, "sandbox", &sandbox))
		return CLOVE_E_BROKEN;
	put_text(&text, "socket      ");
	printable_put(&text, path ? path : "CLOVE_FD", strlen(path ? path : "CLOVE_FD"));
	put_text(&text, "\nkernel      ");
	printable_put(&text, version, version_len);
	(void)snprintf(line, sizeof(line),
		       ", protocol %" PRIu64 "\npid         %d\nepoch       %" PRIu64
		       "\nuptime      %" PRIu64 ".%03" PRIu64 " s\nio          ",
		       protocol, (int)pong->pid, epoch, uptime_ms / 1000, uptime_ms % 1000);
	put_text(&text, line);
	printable_put(&text, io, io_len);
	put_text(
		&text,
		sandbox ? "\nsandbox     on\n"
			: "\nsandbox     off: agents may do what their owner may (--no-sandbox)\n");
	(void)snprintf(line, sizeof(line), "round trip  %.1f us\n", pong->round_trip_us);
	put_text(&text, line);
	output_print(&text);
	return 0;
}

static int run(const struct settings *settings, char **operands, int count)
{
	CLEANUP(pong_deinit) struct pong pong = {0};

	(void)operands;
	(void)count;
	if (pong_get(settings, &pong))
		return STATUS_FAILED;
	if (options.format == OUTPUT_JSON ? json_print(settings, &pong)
					  : text_print(settings, &pong)) {
		session_not_understood();
		return STATUS_FAILED;
	}
	return STATUS_OK;
}

const struct command command_ping = {
	.name = "ping",
	.summary = "Check that a kernel answers, and print what it is",
	.text = "What protects an agent is said when it starts, and by clove inspect.\n",
	.examples = "  clove ping\n"
		    "  clove ping --format json | jq .round_trip_us\n",
	.flags = flags,
	.options = &options,
	.run = run,
};
