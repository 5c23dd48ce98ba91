/* SPDX-License-Identifier: MIT */

/*
 * Tests of sandbox/box_door.c: who knocks gets a connection, and what else comes through harms nobody
 */

#include "tests/unit/sandbox/box.h"

#include <sys/socket.h>

/* ask(): a connection, or an errno. The head is that of sandbox/packet.h. */
static const char asking[] = "import os, socket, struct, sys, time\n"
			     "door = socket.socket(fileno=os.dup(4))\n"
			     "def knock(fds, data=struct.pack('<IiQ', 64, 0, 0)):\n"
			     "    socket.send_fds(door, [data], fds)\n"
			     "def pair():\n"
			     "    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
			     "def answer(mine):\n"
			     "    data, fds, _, _ = socket.recv_fds(mine, 64, 4)\n"
			     "    if not data: return 'end'\n"
			     "    op, error, rest = struct.unpack('<IiQ', data)\n"
			     "    assert (op, rest, len(fds)) == (64, 0, 0 if error else 1)\n"
			     "    return error or socket.socket(fileno=fds[0])\n"
			     "def ask():\n"
			     "    mine, theirs = pair()\n"
			     "    knock([theirs.fileno()])\n"
			     "    theirs.close()\n"
			     "    return answer(mine)\n"
			     "def say(*words):\n"
			     "    print(*words, flush=True)\n";

/* A box whose program runs @text after the above; its own connection ends nowhere. */
static struct box *box_new_asker(bool sandboxed, const char *text)
{
	static char script[8192];
	static const char *const argv[] = {"/usr/bin/python3", "-ISc", script, NULL};
	struct box *box = sandboxed ? box_new(argv) : box_new_plain(argv);

	(void)snprintf(script, sizeof(script), "%s%s", asking, text);
	box->spec.box.socket_fd = box_add_fd(box, open("/dev/null", O_RDWR | O_CLOEXEC));
	return box;
}

static int next_connection(const struct box *box)
{
	struct launch_news news;

	await(box->report, POLLIN);
	assert_int_equal(launch_report_recv(box->report, &news), 0);
	assert_true(news.connection >= 0);
	return news.connection;
}

/* The connections that wait for the kernel, closed. */
static unsigned drop_connections(const struct box *box)
{
	struct launch_news news;
	unsigned n = 0;

	for (; launch_report_recv(box->report, &news) == 0; n++) {
		assert_true(news.connection >= 0);
		close(news.connection);
	}
	return n;
}

/* Takes and closes connections until the report comes. */
static struct launch_report take_all(const struct box *box)
{
	struct launch_news news;

	do {
		await(box->report, POLLIN);
		assert_int_equal(launch_report_recv(box->report, &news), 0);
		(void)fd_close(news.connection);
	} while (news.connection >= 0);
	return news.report;
}

static void expect_log(struct box *box, const char *out)
{
	char got[4096], errors[4096];

	box_read_log(box, "stdout.log", got, sizeof(got));
	box_read_log(box, "stderr.log", errors, sizeof(errors));
	if (strcmp(got, out))
		fail_msg("out: %s\nerr: %s\nexpected: %s", got, errors, out);
}

static void every_process_gets_a_connection_of_its_own(void **state)
{
	struct fixture *f = *state;

	for (int kind = 0; kind < 2; kind++) {
		struct box *box = box_new_asker(kind, "child = os.fork()\n"
						      "mine = ask()\n"
						      "mine.sendall(b'p' if child else b'c')\n"
						      "assert mine.recv(9) == b'hello'\n"
						      "if child: os.wait()\n"
						      "else: os._exit(0)\n"
						      "say('both')\n");
		struct launch_report report;
		int connections[2];
		char said[2];

		box_start(box, f->channel, BOX_ID);
		for (int i = 0; i < 2; i++) {
			connections[i] = next_connection(box);
			await(connections[i], POLLIN);
			assert_int_equal(read(connections[i], &said[i], 1), 1);
		}
		assert_int_equal(said[0] + said[1], 'p' + 'c');
		for (int i = 0; i < 2; i++)
			assert_int_equal(write(connections[i], "hello", 5), 5);
		report = box_wait(box);
		expect_log(box, "both\n");
		assert_int_equal(report.code, 0);
		/* Who looks after the door is nobody that the program left behind. */
		assert_int_equal(report.flags, 0);
		close(connections[0]);
		close(connections[1]);
		box_free(box);
	}
}

static void the_connection_belongs_to_the_program_alone(void **state)
{
	struct fixture *f = *state;

	for (int kind = 0; kind < 2; kind++) {
		struct box *box =
			box_new_asker(kind, "say(os.environ['CLOVE_PID'] == str(os.getpid()))\n");

		box_start(box, f->channel, BOX_ID);
		assert_int_equal(box_wait(box).code, 0);
		expect_log(box, "True\n");
		box_free(box);
	}
}

/* What the kernel has not taken is bounded, and above it the box refuses. */
static void more_than_the_kernel_takes_is_refused(void **state)
{
	struct fixture *f = *state;
	struct box *box =
		box_new_asker(true, "held = [ask() for _ in range(100)]\n"
				    "got = [h for h in held if h not in (11,)]\n"
				    "say(10 <= len(got) <= 40, len(held) - len(got) > 0)\n"
				    "sys.stdin.read(1)\n"
				    "say(ask() != 11)\n");
	int input[2];

	assert_int_equal(pipe2(input, O_CLOEXEC), 0);
	box->spec.box.stdin_fd = box_add_fd(box, input[0]);
	box_start(box, f->channel, BOX_ID);
	for (char got[64] = ""; !*got; usleep(10000))
		box_read_log(box, "stdout.log", got, sizeof(got));
	assert_in_range(drop_connections(box), 10, 40);
	close(input[1]);
	close(next_connection(box));
	assert_int_equal(box_wait(box).code, 0);
	expect_log(box, "True True\nTrue\n");
	box_free(box);
}

static void what_is_no_question_gets_no_connection(void **state)
{
	struct fixture *f = *state;

	for (int kind = 0; kind < 2; kind++) {
		struct box *box = box_new_asker(
			kind,
			"reader, writer = os.pipe()\n"
			"folder = os.open('/', os.O_RDONLY)\n"
			"place = os.open('/', os.O_PATH)\n"
			"stream, other = socket.socketpair()\n"
			"for fds in ([], [reader], [folder], [place], [stream.fileno()], [4], [3],\n"
			"            [reader, writer, folder], [reader] * 253):\n"
			"    knock(fds)\n"
			"    knock(fds, b'')\n"
			"    knock(fds, b'x' * 10000)\n"
			"mine, theirs = pair()\n"
			"mine.close()\n"
			"knock([theirs.fileno()])\n"
			"mine, theirs = pair()\n"
			"knock([theirs.fileno(), reader])\n"
			"say(answer(mine))\n"
			"knock([theirs.fileno()], bytes(16))\n"
			"say(answer(mine))\n"
			"knock([theirs.fileno()], b'short')\n"
			"theirs.close()\n"
			"say(answer(mine))\n"
			"say(type(ask()).__name__)\n");

		box_start(box, f->channel, BOX_ID);
		/* To the door itself, of a peer that had gone, and of the last. */
		close(next_connection(box));
		close(next_connection(box));
		close(next_connection(box));
		assert_int_equal(box_wait(box).code, 0);
		expect_log(box, "22\n22\nend\nsocket\n");
		box_free(box);
	}
}

/* Nothing reads what was asked for; thousands of questions, whose answers nobody awaits. */
static void a_flood_keeps_nobody_from_orders_and_reaping(void **state)
{
	struct fixture *f = *state;

	for (int kind = 0; kind < 2; kind++) {
		struct box *box =
			box_new_asker(kind, "mine, theirs = pair()\n"
					    "for i in range(3000): knock([theirs.fileno()])\n"
					    "if os.fork() == 0:\n"
					    "    if os.fork() == 0: os._exit(0)\n"
					    "    os._exit(0)\n"
					    "os.wait()\n"
					    "say('flooded')\n"
					    "while True: knock([theirs.fileno()])\n");

		box_start(box, f->channel, BOX_ID);
		for (char got[64] = ""; !*got; usleep(10000))
			box_read_log(box, "stdout.log", got, sizeof(got));
		assert_int_equal(launch_signal(f->channel, BOX_ID, SIGTERM, false), 0);
		assert_int_equal(next_reply(f->channel).type, LAUNCH_KILLED);
		assert_int_equal(take_all(box).signal, SIGTERM);
		await(box->reply.pidfd, POLLIN);
		(void)reap(box->reply.pidfd);
		box_free(box);
	}
}

/*
 * Closing the last descriptor of a connection that lingers takes as long as whoever set it so likes. It is the
 * keeper who waits: the init obeys.
 */
static void a_descriptor_that_is_slow_to_close_holds_up_the_door_alone(void **state)
{
	struct fixture *f = *state;
	struct box *box = box_new_asker(
		false,
		"listener = socket.create_server(('127.0.0.1', 0))\n"
		"held = []\n"
		"def stuck():\n"
		"    slow = socket.create_connection(listener.getsockname())\n"
		"    held.append(listener.accept()[0])\n"
		"    slow.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 600))\n"
		"    slow.setblocking(False)\n"
		"    try:\n"
		"        while True: slow.send(bytes(1 << 16))\n"
		"    except BlockingIOError: pass\n"
		"    reader, writer = os.pipe()\n"
		"    if os.fork() == 0:\n"
		"        os.read(reader, 1)\n"
		"        knock([slow.fileno()])\n"
		"        os._exit(0)\n" /* which does not linger */
		"    slow.close()\n"
		"    os.write(writer, b'x')\n"
		"    os.wait()\n"
		"    mine, theirs = pair()\n"
		"    knock([theirs.fileno()])\n"
		"    theirs.close()\n"
		"    mine.settimeout(0.5)\n"
		"    try: answer(mine)\n"
		"    except TimeoutError: return True\n"
		"while not stuck(): pass\n" /* the child closed it later than the keeper */
		"say('stuck')\n"
		"time.sleep(1000)\n");

	box_start(box, f->channel, BOX_ID);
	for (char got[64] = ""; !*got; usleep(10000))
		box_read_log(box, "stdout.log", got, sizeof(got));
	assert_int_equal(launch_kill(f->channel, BOX_ID, SIGKILL), 0);
	assert_int_equal(next_reply(f->channel).type, LAUNCH_KILLED);
	assert_int_equal(take_all(box).signal, SIGKILL);
	await(box->reply.pidfd, POLLIN);
	(void)reap(box->reply.pidfd);
	box_free(box);
}

static void a_keeper_that_was_killed_has_a_successor(void **state)
{
	struct fixture *f = *state;
	struct box *box = box_new_asker(true, "ask()\n"
					      "killed = 0\n"
					      "for pid in set(range(2, 100)) - {os.getpid()}:\n"
					      "    try: os.kill(pid, 9)\n"
					      "    except ProcessLookupError: continue\n"
					      "    killed += 1\n"
					      "say(killed, type(ask()).__name__)\n");

	/* It would keep signals within the program's own tree. */
	box->spec.box.flags &= ~(uint32_t)LAUNCH_BOX_LANDLOCK;
	box_start(box, f->channel, BOX_ID);
	close(next_connection(box));
	close(next_connection(box));
	assert_int_equal(box_wait(box).code, 0);
	expect_log(box, "1 socket\n");
	box_free(box);
}

#define DOOR_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOOR_TEST(every_process_gets_a_connection_of_its_own),
		DOOR_TEST(the_connection_belongs_to_the_program_alone),
		DOOR_TEST(more_than_the_kernel_takes_is_refused),
		DOOR_TEST(what_is_no_question_gets_no_connection),
		DOOR_TEST(a_flood_keeps_nobody_from_orders_and_reaping),
		DOOR_TEST(a_descriptor_that_is_slow_to_close_holds_up_the_door_alone),
		DOOR_TEST(a_keeper_that_was_killed_has_a_successor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
