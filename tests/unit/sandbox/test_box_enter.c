/* SPDX-License-Identifier: MIT */

/*
 * Tests of sandbox/enter.c: commands in the box of a running agent
 */

#include "tests/unit/sandbox/box.h"

static struct launch_spec enter_spec(const char *const *argv, uint64_t box_id)
{
	struct launch_spec spec = make_spec(argv);

	spec.kind = LAUNCH_ENTER;
	spec.cwd = "/";
	spec.box_id = box_id;
	return spec;
}

/* run() launches under id 1. */
static struct box *start_sleeper(struct fixture *f, bool sandboxed, uint64_t id)
{
	struct box *box = box_new_shell(sandboxed, "exec sleep 1000");

	box_start(box, f->channel, id);
	return box;
}

static void end(struct fixture *f, struct box *box, uint64_t id)
{
	assert_int_equal(launch_kill(f->channel, id, SIGKILL), 0);
	assert_int_equal(next_reply(f->channel).error, 0);
	reap(box->reply.pidfd);
	box_free(box);
}

static void read_namespaces(pid_t pid, char *text, size_t size)
{
	static const char *const names[] = {"user", "mnt", "pid", "ipc", "uts", "cgroup", "net"};
	size_t len = 0;

	for (size_t i = 0; i < 7; i++) {
		char path[64];
		ssize_t n;

		(void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, names[i]);
		n = readlink(path, text + len, size - len - 2);
		assert_true(n > 0);
		len += (size_t)n;
		text[len++] = '\n';
	}
	text[len] = '\0';
}

static void command_sees_what_the_agent_sees(void **state)
{
	struct fixture *f = *state;
	struct box *box = start_sleeper(f, true, 7);
	struct launch_spec spec =
		enter_spec(FIXTURE_SHELL("for n in user mnt pid ipc uts cgroup net; do "
					 "readlink /proc/self/ns/$n; done"),
			   7);
	char namespaces[1024];
	struct result result;

	read_namespaces(box->reply.program, namespaces, sizeof(namespaces));
	result = run(f, &spec);
	assert_int_equal(result.reply.type, LAUNCH_LAUNCHED);
	assert_string_equal(result.out, namespaces);
	assert_string_equal(result.err, "");

	spec = enter_spec(FIXTURE_SHELL("id -un; hostname; ls /workspace /proc | grep -c ."), 7);
	spec.cwd = "/workspace";
	result = run(f, &spec);
	assert_memory_equal(result.out, "agent\nbox\n", 10);
	end(f, box, 7);
}

static void command_is_as_confined_as_the_agent(void **state)
{
	static const char what[] = "grep -E '^(Uid|Gid|Cap|NoNewPrivs|Seccomp|Groups)' "
				   "/proc/self/status; ulimit -n; ulimit -v; nice";
	struct fixture *f = *state;
	struct box *box = box_new_shell(true, "grep -E '^(Uid|Gid|Cap|NoNewPrivs|Seccomp|Groups)' "
					      "/proc/self/status; ulimit -n; ulimit -v; nice; "
					      "exec sleep 1000");
	struct launch_spec spec = enter_spec(FIXTURE_SHELL(what), 7);
	char expected[4096] = "";
	struct result result;

	box->spec.box.rlimits.nofile = 100;
	box->spec.box.rlimits.as_bytes = 1 << 30;
	box->spec.box.nice = 3;
	box_start(box, f->channel, 7);
	for (int i = 0; i < FIXTURE_HANG_MS / 10 && !strstr(expected, "\n3\n"); i++) {
		box_read_log(box, "stdout.log", expected, sizeof(expected));
		usleep(10000);
	}
	result = run(f, &spec);
	assert_int_equal(result.reply.layers, box->reply.layers);
	assert_int_equal(result.reply.landlock_abi, box->reply.landlock_abi);
	assert_string_equal(result.out, expected);
	assert_non_null(strstr(expected, "CapEff:\t0000000000000000"));
	end(f, box, 7);
}

static void exit_code_and_signal_of_a_command_are_its_own(void **state)
{
	struct fixture *f = *state;

	for (int kind = 0; kind < 2; kind++) {
		struct box *box = start_sleeper(f, kind, 7);
		struct launch_spec spec = enter_spec(FIXTURE_SHELL("exit 77"), 7);
		struct result result = run(f, &spec);

		assert_int_equal(result.code, CLD_EXITED);
		assert_int_equal(result.status, 77);
		spec = enter_spec(FIXTURE_SHELL("kill -ABRT $$"), 7);
		result = run(f, &spec);
		assert_int_equal(result.code, CLD_KILLED);
		assert_int_equal(result.status, SIGABRT);
		spec = enter_spec((const char *const[]){"/no/such", NULL}, 7);
		result = run(f, &spec);
		assert_int_equal(result.reply.type, LAUNCH_FAILED);
		assert_int_equal(result.reply.step, LAUNCH_STEP_EXEC);
		assert_int_equal(result.reply.error, ENOENT);
		end(f, box, 7);
	}
}

/* A command that runs until it is killed, holding @ret_out. */
static struct launch_reply start_command(struct fixture *f, uint64_t id, int *ret_out)
{
	struct launch_spec spec =
		enter_spec(FIXTURE_SHELL("sleep 1000 & echo up; wait; sleep 1000"), 7);
	struct launch_reply reply;
	int out[2];
	char up[3];

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	reply = launch_with(f->channel, id, &spec, out[1], out[1]);
	assert_int_equal(reply.type, LAUNCH_LAUNCHED);
	close(out[1]);
	await(out[0], POLLIN);
	assert_int_equal(read(out[0], up, 3), 3);
	*ret_out = out[0];
	return reply;
}

static void command_dies_with_its_box(void **state)
{
	struct fixture *f = *state;

	for (int kind = 0; kind < 2; kind++) {
		struct box *box = start_sleeper(f, kind, 7);
		int out;
		struct launch_reply command = start_command(f, 8, &out);

		end(f, box, 7);
		assert_int_equal(reap(command.pidfd).si_status, SIGKILL);
		expect_end(out);
	}
}

static void command_can_be_killed_alone(void **state)
{
	struct fixture *f = *state;

	for (int kind = 0; kind < 2; kind++) {
		static const int signals[] = {SIGKILL, SIGTERM};
		struct box *box = start_sleeper(f, kind, 7);

		for (int i = 0; i < 2; i++) {
			int out;
			struct launch_reply command = start_command(f, 8, &out);
			struct pollfd still = {.fd = box->reply.pidfd, .events = POLLIN};

			assert_int_equal(launch_kill(f->channel, 8, signals[i]), 0);
			assert_int_equal(next_reply(f->channel).error, 0);
			assert_int_equal(reap(command.pidfd).si_status, signals[i]);
			expect_end(out);
			assert_int_equal(poll(&still, 1, 0), 0);
		}
		end(f, box, 7);
	}
}

static void there_must_be_a_box(void **state)
{
	struct fixture *f = *state;
	struct launch_spec spec = enter_spec(FIXTURE_SHELL("true"), 7), plain;
	struct result result = run(f, &spec);
	struct box *box;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct launch_reply reply;

	assert_int_equal(result.reply.type, LAUNCH_FAILED);
	assert_int_equal(result.reply.step, LAUNCH_STEP_BOX);
	assert_int_equal(result.reply.error, ESRCH);
	assert_int_equal(result.reply.pid, 0);

	/* Neither is a command one, nor a box that has ended. */
	plain = make_spec((const char *const[]){"sleep", "1000", NULL});
	reply = launch_with(f->channel, 7, &plain, null, null);
	assert_int_equal(run(f, &spec).reply.step, LAUNCH_STEP_BOX);
	assert_int_equal(launch_kill(f->channel, 7, SIGKILL), 0);
	assert_int_equal(next_reply(f->channel).error, 0);
	reap(reply.pidfd);
	box = start_sleeper(f, true, 7);
	assert_int_equal(kill(box->reply.program, SIGKILL), 0);
	await(box->reply.pidfd, POLLIN);
	result = run(f, &spec);
	assert_int_equal(result.reply.type, LAUNCH_FAILED);
	assert_int_equal(result.reply.error, ESRCH);
	box_wait(box);
	box_free(box);
	close(null);
}

#define BOX_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOX_TEST(command_sees_what_the_agent_sees),
		BOX_TEST(command_is_as_confined_as_the_agent),
		BOX_TEST(exit_code_and_signal_of_a_command_are_its_own),
		BOX_TEST(command_dies_with_its_box),
		BOX_TEST(command_can_be_killed_alone),
		BOX_TEST(there_must_be_a_box),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
