/* SPDX-License-Identifier: MIT */

/*
 * Tests of sandbox/launch.c against a real launcher: signals, back-pressure, confusion
 */

#include "tests/unit/sandbox/fixture.h"

#include <sys/socket.h>
#include <sys/syscall.h>

#include "sandbox/packet.h"

/* A running shell whose descendants all hold the write end of @ret_out: its EOF is their end. */
static struct launch_reply start_shell(int channel, uint64_t id, const char *text, int *ret_out)
{
	struct launch_spec spec = make_spec(FIXTURE_SHELL(text));
	struct launch_reply reply;
	int out[2];

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	reply = launch_with(channel, id, &spec, out[1], out[1]);
	assert_int_equal(reply.type, LAUNCH_LAUNCHED);
	close(out[1]);
	*ret_out = out[0];
	return reply;
}

static void expect_line(int out, const char *line)
{
	char got[64] = "";

	await(out, POLLIN);
	assert_int_equal(read(out, got, strlen(line)), strlen(line));
	assert_string_equal(got, line);
}

static void expect_killed(int channel, uint64_t id, int signo, int error)
{
	struct launch_reply reply;

	assert_int_equal(launch_kill(channel, id, signo), 0);
	reply = next_reply(channel);
	assert_int_equal(reply.type, LAUNCH_KILLED);
	assert_int_equal(reply.id, id);
	assert_int_equal(reply.error, error);
	assert_int_equal(reply.pidfd, -1);
}

static void kill_reaches_the_background_children_too(void **state)
{
	struct fixture *f = *state;
	int out;
	struct launch_reply shell =
		start_shell(f->channel, 5, "sleep 1000 & echo up; sleep 1000", &out);
	siginfo_t info;

	expect_line(out, "up\n");
	expect_killed(f->channel, 5, SIGKILL, 0);
	info = reap(shell.pidfd);
	assert_int_equal(info.si_code, CLD_KILLED);
	assert_int_equal(info.si_status, SIGKILL);
	expect_end(out);
}

static void kill_reaches_the_group_of_an_exited_leader_until_it_is_reaped(void **state)
{
	struct fixture *f = *state;
	int out;
	struct launch_reply shell = start_shell(f->channel, 5, "sleep 1000 & exit 3", &out);

	await(shell.pidfd, POLLIN);
	expect_killed(f->channel, 5, SIGKILL, 0);
	expect_end(out);
	assert_int_equal(reap(shell.pidfd).si_status, 3);
	expect_killed(f->channel, 5, SIGKILL, ESRCH);
}

static void signal_arrives_as_sent(void **state)
{
	struct fixture *f = *state;
	int out;
	struct launch_reply shell = start_shell(
		f->channel, 5,
		"trap 'echo got; exit 9' USR1; echo up; while :; do sleep 0.01; done", &out);

	expect_line(out, "up\n");
	expect_killed(f->channel, 5, SIGUSR1, 0);
	/* Its sleep is of the same group and may report the signal. */
	assert_int_equal(reap(shell.pidfd).si_status, 9);
	close(out);
}

/* Asked for before the launch is answered, a signal must not be lost on the way to execve(). */
static void kill_right_behind_the_launch_is_not_lost(void **state)
{
	struct fixture *f = *state;
	struct launch_spec spec = make_spec((const char *const[]){"sleep", "1000", NULL});
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (uint64_t id = 0; id < 50; id++) {
		struct launch_reply a, b;

		assert_int_equal(launch_send(f->channel, id, &spec, (int[]){null, null, null}, 3),
				 0);
		assert_int_equal(launch_kill(f->channel, id, SIGTERM), 0);
		a = next_reply(f->channel);
		b = next_reply(f->channel);
		assert_int_equal(a.type == LAUNCH_KILLED ? a.error : b.error, 0);
		assert_int_equal(a.type + b.type, LAUNCH_KILLED + LAUNCH_LAUNCHED);
		assert_int_equal(reap(a.pidfd >= 0 ? a.pidfd : b.pidfd).si_status, SIGTERM);
	}
	close(null);
}

static void kill_of_what_is_not_there_says_so(void **state)
{
	struct fixture *f = *state;

	expect_killed(f->channel, 99, SIGKILL, ESRCH);
	run_shell(f, "true"); /* as id 1 */
	expect_killed(f->channel, 1, SIGKILL, ESRCH);
	expect_killed(f->channel, 1, 0, EINVAL);
	expect_killed(f->channel, 1, 65, EINVAL);
	expect_killed(f->channel, 1, -9, EINVAL);
}

static void id_is_free_again_only_once_reaped(void **state)
{
	struct fixture *f = *state;
	struct launch_spec spec = make_spec(FIXTURE_SHELL("true"));
	int out;
	struct launch_reply shell = start_shell(f->channel, 1, "sleep 1000", &out);
	struct result second = run(f, &spec);

	assert_int_equal(second.reply.type, LAUNCH_FAILED);
	assert_int_equal(second.reply.step, LAUNCH_STEP_MESSAGE);
	assert_int_equal(second.reply.error, EEXIST);
	assert_int_equal(second.reply.pid, 0);
	expect_killed(f->channel, 1, SIGKILL, 0);
	reap(shell.pidfd);
	close(out);
	assert_int_equal(run(f, &spec).reply.type, LAUNCH_LAUNCHED);
}

/* More at once than the launcher looks at between two launches. */
static void ids_of_the_reaped_can_be_used_at_once(void **state)
{
	struct fixture *f = *state;
	struct launch_spec spec = make_spec((const char *const[]){"true", NULL});
	int pidfds[40];

	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 40; i++) {
			/* The first id of the second round is the last to be looked at. */
			struct launch_reply reply =
				launch_with(f->channel, round ? i : 39 - i, &spec, 1, 2);

			assert_int_equal(reply.type, LAUNCH_LAUNCHED);
			pidfds[i] = reply.pidfd;
			await(reply.pidfd, POLLIN);
		}
		for (unsigned i = 0; i < 40; i++)
			reap(pidfds[i]);
	}
}

static void many_children_leave_neither_zombies_nor_descriptors(void **state)
{
	struct fixture *f = *state;
	struct launch_spec spec = make_spec((const char *const[]){"true", NULL});
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int before = count_fds(f->launcher.pid);
	unsigned n_sent = 0, n_done = 0;

	while (n_done < 300) {
		int r = n_sent == 300 ? LAUNCH_E_BUSY
				      : launch_send(f->channel, n_sent, &spec,
						    (int[]){null, null, null}, 3);
		struct launch_reply reply;

		n_sent += r == 0;
		if (r == 0)
			continue;
		assert_int_equal(r, LAUNCH_E_BUSY);
		reply = next_reply(f->channel);
		assert_int_equal(reply.type, LAUNCH_LAUNCHED);
		assert_int_equal(reap(reply.pidfd).si_status, 0);
		n_done++;
	}
	close(null);
	/* The launcher forgets the reaped within its next sweeps. Teardown looks for zombies. */
	for (unsigned i = 0; i < 600 && count_fds(f->launcher.pid) != before; i++)
		usleep(100000);
	assert_int_equal(count_fds(f->launcher.pid), before);
}

static void full_channel_loses_no_reply(void **state)
{
	struct fixture *f = *state;
	unsigned n_sent = 0, n_busy = 0;

	/* Replies are not read: the launcher stops reading, then this side is told to wait. */
	while (n_busy < 3) {
		int r = launch_kill(f->channel, n_sent, SIGKILL);

		if (r == 0) {
			n_sent++;
			continue;
		}
		assert_int_equal(r, LAUNCH_E_BUSY);
		n_busy++;
		usleep(10000);
	}
	for (unsigned i = 0; i < n_sent; i++) {
		struct launch_reply reply = next_reply(f->channel);

		assert_int_equal(reply.id, i);
		assert_int_equal(reply.error, ESRCH);
	}
	struct launch_reply none;
	assert_int_equal(launch_recv(f->channel, &none), LAUNCH_E_EMPTY);
	assert_string_equal(run_shell(f, "echo well").out, "well\n");
}

/* Processes that become known while the channel is full are reported too. */
static void full_channel_loses_no_pidfd(void **state)
{
	struct fixture *f = *state;
	struct launch_spec spec = make_spec((const char *const[]){"true", NULL});
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	unsigned n_kills = 0, n_launched = 0;

	for (uint64_t id = 1; id <= 20; id++)
		assert_int_equal(launch_send(f->channel, id, &spec, (int[]){null, null, null}, 3),
				 0);
	while (launch_kill(f->channel, 0, SIGKILL) == 0)
		n_kills++;
	for (unsigned i = 0; i < n_kills + 20; i++) {
		struct launch_reply reply = next_reply(f->channel);

		if (reply.type == LAUNCH_LAUNCHED) {
			assert_int_equal(reap(reply.pidfd).si_pid, reply.pid);
			n_launched++;
		}
	}
	assert_int_equal(n_launched, 20);
	close(null);
}

static void refused_spec_comes_back_with_words(void **state)
{
	struct fixture *f = *state;
	struct launch_spec spec = make_spec(FIXTURE_SHELL("true"));
	struct result r;

	spec.kind = (enum launch_kind)9;
	r = run(f, &spec);
	assert_int_equal(r.reply.type, LAUNCH_FAILED);
	assert_int_equal(r.reply.step, LAUNCH_STEP_SPEC);
	assert_int_equal(r.reply.error, EINVAL);
	assert_string_equal(r.reply.reason, "kind 9 is not known");
}

static void spec_above_the_message_limit_is_not_sent(void **state)
{
	struct fixture *f = *state;
	static char large[SPEC_BYTES_MAX];
	struct launch_spec spec = make_spec((const char *const[]){"true", large, NULL});

	memset(large, 'x', sizeof(large) - 1);
	assert_int_equal(launch_send(f->channel, 1, &spec, (int[]){0, 1, 2}, 3), LAUNCH_E_TOO_BIG);
	large[SPEC_BYTES_MAX - 2000] = '\0'; /* with room for a few hundred groups */
	assert_int_equal(run(f, &spec).reply.type, LAUNCH_LAUNCHED);
}

static void expect_garbled(struct fixture *f, uint64_t id, enum launch_step step)
{
	struct launch_reply reply = next_reply(f->channel);

	assert_int_equal(reply.type, LAUNCH_FAILED);
	assert_int_equal(reply.id, id);
	assert_string_equal(launch_step_name(reply.step), launch_step_name(step));
	assert_int_equal(reply.error, EBADMSG);
	assert_int_equal(reply.pidfd, -1);
}

static void send_packet(int sock, uint32_t op, const void *body, size_t len, unsigned n_fds)
{
	const struct packet_head head = {.op = op, .id = 7, .arg = SIGKILL};
	int fds[253];

	for (unsigned i = 0; i < n_fds; i++)
		fds[i] = STDERR_FILENO;
	assert_int_equal(packet_send(sock, &head, body, len, fds, n_fds, 0), 0);
}

static void garbage_is_refused_and_leaves_no_descriptor(void **state)
{
	static const uint8_t junk[SPEC_BYTES_MAX + 1000];
	static const struct packet_head channel_head = {.op = PACKET_CHANNEL};
	struct fixture *f = *state;
	int before = count_fds(f->launcher.pid);
	struct launch_spec command = make_spec(FIXTURE_SHELL("true"));
	CLEANUP(buf_deinit) struct buf spec = {0};

	assert_int_equal(spec_pack(&command, &spec), 0);
	assert_int_equal(send(f->channel, "x", 1, 0), 1);
	expect_garbled(f, 0, LAUNCH_STEP_MESSAGE);
	send_packet(f->channel, 12345, NULL, 0, 3);
	expect_garbled(f, 7, LAUNCH_STEP_MESSAGE);
	send_packet(f->channel, PACKET_CHANNEL, NULL, 0, 1);
	expect_garbled(f, 7, LAUNCH_STEP_MESSAGE);
	send_packet(f->channel, PACKET_LAUNCH, junk, sizeof(junk), 3);
	expect_garbled(f, 7, LAUNCH_STEP_MESSAGE);
	send_packet(f->channel, PACKET_SIGNAL, junk, 4, 0);
	expect_garbled(f, 7, LAUNCH_STEP_MESSAGE);
	send_packet(f->channel, PACKET_SIGNAL, NULL, 0, 1);
	expect_garbled(f, 7, LAUNCH_STEP_MESSAGE);
	for (unsigned n = 0; n < 6; n++) {
		if (n == 3)
			continue;
		send_packet(f->channel, PACKET_LAUNCH, spec.data, spec.len, n);
		expect_garbled(f, 7, LAUNCH_STEP_DESCRIPTORS);
	}
	send_packet(f->channel, PACKET_LAUNCH, spec.data, spec.len, 253);
	expect_garbled(f, 7, LAUNCH_STEP_DESCRIPTORS);

	/* Nobody waits for an answer on the control socket, which must survive all the same. */
	assert_int_equal(send(f->launcher.control, "x", 1, 0), 1);
	send_packet(f->launcher.control, PACKET_CHANNEL, NULL, 0, 1);
	send_packet(f->launcher.control, PACKET_CHANNEL, NULL, 0, 0);
	assert_int_equal(packet_send(f->launcher.control, &channel_head, NULL, 0,
				     (int[]){f->channel, f->channel}, 2, 0),
			 0);
	send_packet(f->launcher.control, PACKET_OPENER, junk, 8, 1);
	send_packet(f->launcher.control, 12345, junk, 8, 253);
	send_packet(f->launcher.control, PACKET_LAUNCH, junk, sizeof(junk), 3);

	int channel;
	assert_int_equal(launcher_channel(&f->launcher, &channel), 0);
	close(channel);
	assert_string_equal(run_shell(f, "echo well").out, "well\n");
	for (unsigned i = 0; i < 600 && count_fds(f->launcher.pid) != before; i++)
		usleep(100000);
	assert_int_equal(count_fds(f->launcher.pid), before);
}

#define LAUNCHER_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LAUNCHER_TEST(kill_reaches_the_background_children_too),
		LAUNCHER_TEST(kill_reaches_the_group_of_an_exited_leader_until_it_is_reaped),
		LAUNCHER_TEST(signal_arrives_as_sent),
		LAUNCHER_TEST(kill_right_behind_the_launch_is_not_lost),
		LAUNCHER_TEST(kill_of_what_is_not_there_says_so),
		LAUNCHER_TEST(id_is_free_again_only_once_reaped),
		LAUNCHER_TEST(ids_of_the_reaped_can_be_used_at_once),
		LAUNCHER_TEST(many_children_leave_neither_zombies_nor_descriptors),
		LAUNCHER_TEST(full_channel_loses_no_reply),
		LAUNCHER_TEST(full_channel_loses_no_pidfd),
		LAUNCHER_TEST(refused_spec_comes_back_with_words),
		LAUNCHER_TEST(spec_above_the_message_limit_is_not_sent),
		LAUNCHER_TEST(garbage_is_refused_and_leaves_no_descriptor),
	};

	return cmocka_run_group_tests_name("launcher", tests, NULL, NULL);
}
