/* SPDX-License-Identifier: MIT */

/*
 * Tests of sandbox/box_init.c: how a box begins, is told things, and ends
 */

#include "tests/unit/sandbox/box.h"

/* Output of a box that must not be waited for by its end. */
static void await_log(const struct box *box, const char *name, const char *expected)
{
	char got[4096] = "";

	for (int i = 0; i < FIXTURE_HANG_MS / 10; i++) {
		box_read_log(box, name, got, sizeof(got));
		if (!strcmp(got, expected))
			return;
		usleep(10000);
	}
	fail_msg("%s holds \"%s\", not \"%s\"", name, got, expected);
}

static void expect_reply(int channel, uint64_t id, int error)
{
	struct launch_reply reply = next_reply(channel);

	assert_int_equal(reply.type, LAUNCH_KILLED);
	assert_int_equal(reply.id, id);
	assert_int_equal(reply.error, error);
}

static void send_signal(struct fixture *f, int signo, bool whole_tree)
{
	assert_int_equal(launch_signal(f->channel, BOX_ID, signo, whole_tree), 0);
	expect_reply(f->channel, BOX_ID, 0);
}

static void run_kinds(struct fixture *f, const char *script, int code, int signo, uint32_t flags)
{
	for (int kind = 0; kind < 2; kind++) {
		struct box *box = box_new_shell(kind, script);
		struct launch_report report;

		box_start(box, f->channel, BOX_ID);
		report = box_wait(box);
		assert_int_equal(report.code, code);
		assert_int_equal(report.signal, signo);
		assert_int_equal(report.flags, flags);
		assert_int_equal(report.log_bytes_lost, 0);
		box_free(box);
	}
}

static void report_tells_how_the_program_ended(void **state)
{
	run_kinds(*state, "exit 0", 0, 0, 0);
	run_kinds(*state, "exit 201", 201, 0, 0);
	run_kinds(*state, "kill -9 $$", 0, SIGKILL, 0);
	run_kinds(*state, "kill -SEGV $$", 0, SIGSEGV, 0);
	run_kinds(*state, "sleep 1000 & exit 4", 4, 0, LAUNCH_REPORT_LEFT);
}

static void program_pid_is_the_hosts(void **state)
{
	struct fixture *f = *state;

	for (int kind = 0; kind < 2; kind++) {
		const char *const argv[] = {"sleep", "1000", NULL};
		struct box *box = kind ? box_new(argv) : box_new_plain(argv);

		box_start(box, f->channel, BOX_ID);
		assert_int_not_equal(box->reply.program, box->reply.pid);
		assert_int_equal(kill(box->reply.program, SIGTERM), 0);
		assert_int_equal(box_wait(box).signal, SIGTERM);
		box_free(box);
	}
}

static void signal_reaches_the_program_or_the_tree(void **state)
{
	static const char script[] = "trap 'echo got; exit 9' USR1; "
				     "sh -c 'trap \"echo child\" USR1; echo up; "
				     "while :; do sleep 0.01; done' & while :; do sleep 0.01; done";
	struct fixture *f = *state;

	for (int kind = 0; kind < 2; kind++) {
		struct box *box = box_new_shell(kind, script);

		box_start(box, f->channel, BOX_ID);
		await_log(box, "stdout.log", "up\n");
		send_signal(f, SIGUSR1, false);
		assert_int_equal(box_wait(box).code, 9);
		await_log(box, "stdout.log", "up\ngot\n");
		box_free(box);
	}
}

static void signal_to_the_tree_reaches_grandchildren(void **state)
{
	static const char script[] = "import os, signal\n"
				     "def got(*a): os.write(1, b'got\\n'); os._exit(0)\n"
				     "signal.signal(signal.SIGUSR1, lambda *a: None)\n"
				     "if os.fork() == 0:\n"
				     "    if os.fork() == 0:\n"
				     "        signal.signal(signal.SIGUSR1, got)\n"
				     "        os.write(1, b'up\\n')\n"
				     "        while True: signal.pause()\n"
				     "    os.wait(); os._exit(0)\n"
				     "os.wait(); os._exit(6)\n";
	struct fixture *f = *state;

	for (int kind = 0; kind < 2; kind++) {
		const char *const argv[] = {"/usr/bin/python3", "-ISc", script, NULL};
		struct box *box = kind ? box_new(argv) : box_new_plain(argv);

		box_start(box, f->channel, BOX_ID);
		await_log(box, "stdout.log", "up\n");
		send_signal(f, SIGUSR1, true);
		assert_int_equal(box_wait(box).code, 6);
		await_log(box, "stdout.log", "up\ngot\n");
		box_free(box);
	}
}

/* The launcher was in the boxes' network for a moment. */
static void commands_after_a_box_have_the_hosts_network(void **state)
{
	struct fixture *f = *state;
	struct box *box = box_new_shell(true, "true");
	char expected[64] = "";
	struct result result;

	assert_true(readlink("/proc/self/ns/net", expected, sizeof(expected) - 2) > 0);
	(void)strcat(expected, "\n");
	box_start(box, f->channel, BOX_ID);
	box_wait(box);
	box_free(box);
	result = run_shell(f, "readlink /proc/self/ns/net");
	assert_string_equal(result.out, expected);
}

/* @wanted as in /proc: 'T' is stopped, 'S' sleeps. */
static bool is_in_state(pid_t pid, char wanted)
{
	char path[64], text[512] = "";
	FILE *file;
	size_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	n = fread(text, 1, sizeof(text) - 1, file);
	(void)fclose(file);
	return n > 0 && strrchr(text, ')')[2] == wanted;
}

static void await_state(pid_t pid, char wanted)
{
	for (int i = 0; !is_in_state(pid, wanted); i++) {
		assert_true(i < FIXTURE_HANG_MS / 10);
		usleep(10000);
	}
}

/* One process: a shell that waits in vfork() for a stopped child would not show as stopped. */
static void box_can_be_paused_and_resumed(void **state)
{
	struct fixture *f = *state;

	for (int kind = 0; kind < 2; kind++) {
		struct box *box = box_new_shell(kind, "exec sleep 1000");

		box_start(box, f->channel, BOX_ID);
		send_signal(f, SIGSTOP, true);
		await_state(box->reply.program, 'T');
		send_signal(f, SIGCONT, true);
		await_state(box->reply.program, 'S');
		send_signal(f, SIGTERM, false);
		assert_int_equal(box_wait(box).signal, SIGTERM);
		box_free(box);
	}
}

/* 200 processes in sessions of their own, each orphaned twice over. */
static const char scattering[] =
	"import os,time\n"
	"for i in range(200):\n"
	"    if os.fork() == 0:\n"
	"        os.setsid()\n"
	"        if os.fork() == 0:\n"
	"            os.setsid(); open('%s', 'a').write('x'); time.sleep(1000)\n"
	"        os._exit(0)\n"
	"while os.path.getsize('%s') < 200: time.sleep(0.01)\n"
	"print('up', flush=True); time.sleep(1000)\n";

static unsigned count_processes_of(const char *mark)
{
	char command[256];
	unsigned n = 0;
	FILE *pipe;

	(void)snprintf(command, sizeof(command), "pgrep -cf %s", mark);
	pipe = popen(command, "re");
	assert_non_null(pipe);
	assert_int_equal(fscanf(pipe, "%u", &n), 1);
	(void)pclose(pipe);
	return n;
}

static void scattered_tree_ends_as_one(void **state)
{
	struct fixture *f = *state;

	for (int kind = 0; kind < 2; kind++) {
		char script[1024], file[96];
		const char *const argv[] = {"/usr/bin/python3", "-ISc", script, NULL};
		struct box *box = kind ? box_new(argv) : box_new_plain(argv);

		(void)snprintf(file, sizeof(file), "%s/scattered", kind ? "/tmp" : box->dir);
		(void)snprintf(script, sizeof(script), scattering, file, file);
		box_start(box, f->channel, BOX_ID);
		await_log(box, "stdout.log", "up\n");
		assert_in_range(count_processes_of("scattered"), 201, 204);
		send_signal(f, SIGKILL, true);
		if (kind) {
			/* PID 1 was killed from outside: nobody could write a report. */
			assert_int_equal(reap(box->reply.pidfd).si_status, SIGKILL);
			expect_end(dup(box->report));
		} else {
			struct launch_report report = box_wait(box);

			assert_int_equal(report.signal, SIGKILL);
			assert_int_equal(report.flags, LAUNCH_REPORT_ENDED);
		}
		assert_in_range(count_processes_of("scattered"), 0, 2); /* the shell that asks */
		box_free(box);
	}
}

static void box_ends_with_its_channel(void **state)
{
	struct fixture *f = *state;

	for (int kind = 0; kind < 2; kind++) {
		struct box *box = box_new_shell(kind, "echo up; setsid sleep 1000");
		int channel;

		assert_int_equal(launcher_channel(&f->launcher, &channel), 0);
		box_start(box, channel, BOX_ID);
		await_log(box, "stdout.log", "up\n");
		close(channel);
		(void)reap(box->reply.pidfd);
		assert_int_equal(kill(box->reply.program, 0), -1);
		box_free(box);
	}
}

/* Nobody is left to kill anything: the inits see it on their lifelines. */
static void box_ends_with_a_killed_launcher(void **state)
{
	struct fixture f;

	(void)state;
	for (int kind = 0; kind < 2; kind++) {
		struct box *box = box_new_shell(kind, "echo up; setsid sleep 1000");
		struct launch_report report;

		assert_int_equal(launcher_start(CLOVE_LAUNCHER, &f.launcher), 0);
		assert_int_equal(launcher_channel(&f.launcher, &f.channel), 0);
		box_start(box, f.channel, BOX_ID);
		await_log(box, "stdout.log", "up\n");
		assert_int_equal(kill(f.launcher.pid, SIGKILL), 0);
		report = box_wait(box);
		assert_int_equal(report.signal, SIGKILL);
		assert_int_equal(report.flags, LAUNCH_REPORT_ENDED);
		assert_int_equal(kill(box->reply.program, 0), -1);
		launcher_stop(&f.launcher);
		close(f.channel);
		box_free(box);
	}
}

static uint64_t log_size(const struct box *box, const char *name)
{
	struct stat st;

	assert_int_equal(fstatat(box->log_dir, name, &st, 0), 0);
	return (uint64_t)st.st_size;
}

static void logs_are_bounded_and_keep_the_end(void **state)
{
	struct fixture *f = *state;
	struct box *box =
		box_new_shell(1, "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); "
				 "done; echo oops >&2");
	char text[16384];

	box->spec.box.log_bytes = 16384;
	box_start(box, f->channel, BOX_ID);
	assert_int_equal(box_wait(box).log_bytes_lost, 0);
	assert_int_equal(log_size(box, "stdout.log.1"), 8192);
	assert_in_range(log_size(box, "stdout.log"), 1, 8192);
	box_read_log(box, "stdout.log", text, sizeof(text));
	assert_string_equal(text + strlen(text) - 10, "line 2999\n");
	box_read_log(box, "stderr.log", text, sizeof(text));
	assert_string_equal(text, "oops\n");
	box_free(box);
}

static void logs_of_the_life_before_stay(void **state)
{
	struct fixture *f = *state;
	struct box *box = box_new_shell(0, "echo second");
	int fd = openat(box->log_dir, "stdout.log", O_WRONLY | O_CREAT, 0600);
	char text[64];

	assert_int_equal(write(fd, "first\n", 6), 6);
	close(fd);
	box_start(box, f->channel, BOX_ID);
	box_wait(box);
	box_read_log(box, "stdout.log", text, sizeof(text));
	assert_string_equal(text, "first\nsecond\n");
	box_free(box);
}

/* The first write succeeds into a file without a name; rotations find no directory. */
static void lost_log_directory_costs_bytes_and_nothing_else(void **state)
{
	struct fixture *f = *state;
	struct box *box = box_new_shell(1, "echo up; read x < /workspace/go; "
					   "head -c 100000 /dev/zero; exit 5");
	struct launch_report report;
	char path[128], command[300];
	int go;

	(void)snprintf(path, sizeof(path), "%s/workspace/go", box->dir);
	assert_int_equal(mkfifo(path, 0666), 0);
	assert_int_equal(chmod(path, 0666), 0);
	box->spec.box.log_bytes = 16384;
	box_start(box, f->channel, BOX_ID);
	await_log(box, "stdout.log", "up\n");
	(void)snprintf(command, sizeof(command), "rm -rf %s/log", box->dir);
	assert_int_equal(system(command), 0);
	go = open(path, O_WRONLY);
	assert_int_equal(write(go, "\n", 1), 1);
	close(go);
	report = box_wait(box);
	assert_int_equal(report.code, 5);
	assert_int_equal(report.log_bytes_lost, 100003);
	box_free(box);
}

static void many_boxes_leave_nothing(void **state)
{
	struct fixture *f = *state;
	int before = count_fds(f->launcher.pid), n = getenv("CLOVE_TEST_BOXES") ? 5000 : 1000;

	for (int i = 0; i < n; i++) {
		const char *const argv[] = {"/bin/true", NULL};
		struct box *box = box_new(argv);

		box_start(box, f->channel, (uint64_t)i);
		assert_int_equal(box_wait(box).code, 0);
		box_free(box);
	}
	/* What was reaped is forgotten by and by, with the next launches. */
	if (before >= 0)
		assert_in_range(count_fds(f->launcher.pid), before, before + 2 * 17);
}

static void kill_right_behind_the_launch_ends_the_box(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 40; i++) {
		const char *const argv[] = {"sleep", "1000", NULL};
		struct box *box = i % 2 ? box_new(argv) : box_new_plain(argv);
		struct launch_reply a, b;

		box_send(box, f->channel, BOX_ID);
		assert_int_equal(launch_kill(f->channel, BOX_ID, SIGKILL), 0);
		a = next_reply(f->channel);
		b = next_reply(f->channel);
		assert_int_equal(a.type == LAUNCH_KILLED ? a.error : b.error, 0);
		reap(a.pidfd >= 0 ? a.pidfd : b.pidfd);
		box_free(box);
	}
}

#define BOX_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOX_TEST(report_tells_how_the_program_ended),
		BOX_TEST(program_pid_is_the_hosts),
		BOX_TEST(signal_reaches_the_program_or_the_tree),
		BOX_TEST(signal_to_the_tree_reaches_grandchildren),
		BOX_TEST(commands_after_a_box_have_the_hosts_network),
		BOX_TEST(box_can_be_paused_and_resumed),
		BOX_TEST(scattered_tree_ends_as_one),
		BOX_TEST(box_ends_with_its_channel),
		cmocka_unit_test(box_ends_with_a_killed_launcher),
		BOX_TEST(logs_are_bounded_and_keep_the_end),
		BOX_TEST(logs_of_the_life_before_stay),
		BOX_TEST(lost_log_directory_costs_bytes_and_nothing_else),
		BOX_TEST(kill_right_behind_the_launch_ends_the_box),
		BOX_TEST(many_boxes_leave_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
