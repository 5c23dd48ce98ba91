/* SPDX-License-Identifier: MIT */

/*
 * Tests of sandbox/launcher.c: its limits, and that who dies takes along
 * what it started, and nothing else.
 */

#include "tests/unit/sandbox/fixture.h"

#include <sys/resource.h>

#include "sandbox/opener.h"

/* A shell with a background child, both holding @out; answers "up" when they run. */
static struct launch_reply start_sleepers(int channel, uint64_t id, int out[2])
{
	struct launch_spec spec = make_spec(FIXTURE_SHELL("sleep 1000 & echo up; sleep 1000"));
	struct launch_reply reply;
	char up[3];

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	reply = launch_with(channel, id, &spec, out[1], out[1]);
	out[1] = fd_close(out[1]);
	await(out[0], POLLIN);
	assert_int_equal(read(out[0], up, sizeof(up)), 3);
	return reply;
}

static void closing_a_channel_ends_its_children_only(void **state)
{
	struct fixture *f = *state;
	int channel, a[2], b[2];
	struct launch_reply ours, theirs;

	assert_int_equal(launcher_channel(&f->launcher, &channel), 0);
	ours = start_sleepers(f->channel, 1, a);
	theirs = start_sleepers(channel, 1, b); /* the same id, on another channel */
	close(channel);
	expect_end(b[0]);
	assert_int_equal(reap(theirs.pidfd).si_status, SIGKILL);

	struct pollfd still = {.fd = ours.pidfd, .events = POLLIN};
	assert_int_equal(poll(&still, 1, 0), 0);
	assert_int_equal(launch_kill(f->channel, 1, SIGTERM), 0);
	assert_int_equal(next_reply(f->channel).error, 0);
	assert_int_equal(reap(ours.pidfd).si_status, SIGTERM);
	expect_end(a[0]);
}

static void closing_the_control_socket_ends_everything(void **state)
{
	struct fixture f;
	struct launch_reply reply;
	struct opener *opener;
	struct open_reply answer;
	int out[2];

	(void)state;
	assert_int_equal(launcher_start(CLOVE_LAUNCHER, &f.launcher), 0);
	assert_int_equal(launcher_channel(&f.launcher, &f.channel), 0);
	assert_int_equal(opener_start(&f.launcher, getuid(), getgid(), NULL, 0, &opener), 0);
	reply = start_sleepers(f.channel, 1, out);
	launcher_stop(&f.launcher);
	expect_end(out[0]);
	do {
		await(opener->sock, POLLIN);
	} while (opener_recv(opener, &answer) == OPEN_E_WAIT);
	assert_int_equal(opener_recv(opener, &answer), OPEN_E_GONE);
	opener = opener_close(opener);
	assert_int_equal(reap(reply.pidfd).si_status, SIGKILL);

	struct launch_reply none;
	assert_int_equal(launch_recv(f.channel, &none), LAUNCH_E_GONE);
	assert_int_equal(launch_kill(f.channel, 1, SIGKILL), LAUNCH_E_GONE);
	close(f.channel);
}

/* A kernel that is killed cannot close anything in good order. */
static void killed_kernel_takes_everything_along(void **state)
{
	int out[2], up[2];
	pid_t kernel;
	char byte;

	(void)state;
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(pipe2(up, O_CLOEXEC), 0);
	kernel = fork();
	assert_true(kernel >= 0);
	if (kernel == 0) {
		struct launch_spec spec =
			make_spec(FIXTURE_SHELL("sleep 1000 & echo up; sleep 1000"));
		struct fixture f;

		if (launcher_start(CLOVE_LAUNCHER, &f.launcher) ||
		    launcher_channel(&f.launcher, &f.channel) ||
		    launch_send(f.channel, 1, &spec, (int[]){out[0], out[1], up[1]}, 3))
			_exit(1);
		for (;;)
			pause();
	}
	close(out[1]);
	close(up[1]);
	await(out[0], POLLIN);
	assert_int_equal(read(out[0], &byte, 1), 1);
	assert_int_equal(kill(kernel, SIGKILL), 0);
	assert_int_equal(waitpid(kernel, NULL, 0), kernel);
	/* Held by shell and sleep; the kernel's and the launcher's copies went with them. */
	expect_end(up[0]);
	read_all(out[0], (char[64]){0}, 64);
}

static void dead_launcher_is_noticed(void **state)
{
	struct launch_spec spec = make_spec(FIXTURE_SHELL("true"));
	struct fixture f;
	struct launch_reply reply;
	struct opener *opener;
	int channel = -1;

	(void)state;
	assert_int_equal(launcher_start(CLOVE_LAUNCHER, &f.launcher), 0);
	assert_int_equal(launcher_channel(&f.launcher, &f.channel), 0);
	/* An opener lives on, but holds no copy of the launcher's end of the channel. */
	assert_int_equal(opener_start(&f.launcher, getuid(), getgid(), NULL, 0, &opener), 0);
	assert_int_equal(kill(f.launcher.pid, SIGKILL), 0);
	await(f.launcher.pidfd, POLLIN);
	assert_int_equal(launch_send(f.channel, 1, &spec, (int[]){0, 1, 2}, 3), LAUNCH_E_GONE);
	assert_int_equal(launch_recv(f.channel, &reply), LAUNCH_E_GONE);
	assert_int_equal(launcher_channel(&f.launcher, &channel), LAUNCH_E_GONE);
	opener = opener_close(opener);
	close(f.channel);
	launcher_stop(&f.launcher);
}

/* A descriptor that the kernel, or a library in it, opened without O_CLOEXEC. */
static void launcher_keeps_no_descriptor_of_the_kernel(void **state)
{
	struct fixture f;
	int ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(launcher_start(CLOVE_LAUNCHER, &f.launcher), 0);
	close(ends[1]);
	expect_end(ends[0]);
	launcher_stop(&f.launcher);
}

/* Ctrl-C and a service manager's SIGTERM reach every process; what to do is the kernel's choice. */
static void launcher_outlives_signals_meant_for_the_kernel(void **state)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		assert_int_equal(kill(f->launcher.pid, signals[i]), 0);
	assert_string_equal(run_shell(f, "echo well").out, "well\n");
}

static void launcher_has_no_environment_and_cannot_be_looked_into(void **state)
{
	struct fixture *f = *state;
	char path[64], text[4096];
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/environ", (int)f->launcher.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (geteuid() != 0) {
		assert_int_equal(fd, -1);
		assert_int_equal(errno, EACCES);
		return;
	}
	assert_int_equal(read(fd, text, sizeof(text)), 0);
	close(fd);
}

static void inherited_ignored_sigchld_does_not_lose_exit_codes(void **state)
{
	struct fixture f;

	(void)state;
	assert_true(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
	assert_int_equal(launcher_start(CLOVE_LAUNCHER, &f.launcher), 0);
	assert_int_equal(launcher_channel(&f.launcher, &f.channel), 0);
	assert_int_equal(run_shell(&f, "exit 5").status, 5);
	close(f.channel);
	launcher_stop(&f.launcher);
}

static void channels_are_bounded(void **state)
{
	struct fixture *f = *state;
	int channels[63], extra = -1;

	for (unsigned i = 0; i < 63; i++) {
		assert_int_equal(launcher_channel(&f->launcher, &channels[i]), 0);
		assert_true(fcntl(channels[i], F_GETFL) & O_NONBLOCK);
	}
	assert_int_equal(launcher_channel(&f->launcher, &extra), -EAGAIN);
	assert_int_equal(extra, -1);
	for (unsigned i = 0; i < 63; i++)
		close(channels[i]);
	while (launcher_channel(&f->launcher, &extra))
		usleep(10000);
	close(extra);
}

static void launcher_out_of_descriptors_tells_the_caller(void **state)
{
	struct fixture *f = *state;
	struct launch_spec spec = make_spec(FIXTURE_SHELL("true"));
	struct rlimit before;

	assert_int_equal(prlimit(f->launcher.pid, RLIMIT_NOFILE, NULL, &before), 0);
	/*
	 * It has 0 to 5, as root two networks more: nothing fits, then not all three, then they fit
	 * but no status pipe.
	 */
	rlim_t own = geteuid() == 0 ? 8 : 6;

	for (rlim_t fds = own; fds <= own + 4; fds++) {
		struct rlimit low = {fds, before.rlim_max};
		struct result r;

		assert_int_equal(prlimit(f->launcher.pid, RLIMIT_NOFILE, &low, NULL), 0);
		r = run(f, &spec);
		assert_int_equal(r.reply.type, LAUNCH_FAILED);
		assert_int_equal(r.reply.error, EMFILE);
		assert_int_equal(r.reply.step,
				 fds < own + 3 ? LAUNCH_STEP_DESCRIPTORS : LAUNCH_STEP_PREPARE);
	}
	assert_int_equal(prlimit(f->launcher.pid, RLIMIT_NOFILE, &before, NULL), 0);
	assert_int_equal(run(f, &spec).reply.type, LAUNCH_LAUNCHED);
}

/* What an opener says at first, or why there is none. */
static int refusal(const struct launcher *launcher, uid_t uid, gid_t gid, const gid_t *groups,
		   size_t n_groups)
{
	struct opener *opener = NULL;
	struct open_reply reply;
	int r = opener_start(launcher, uid, gid, groups, n_groups, &opener);

	while (!r || r == OPEN_E_WAIT) {
		await(opener->sock, POLLIN);
		r = opener_recv(opener, &reply);
	}
	(void)opener_close(opener);
	return r;
}

static void opener_nobody_may_have_is_refused(void **state)
{
	const gid_t nobody = (gid_t)-1;
	struct fixture *f = *state;

	assert_int_equal(refusal(&f->launcher, (uid_t)-1, 0, NULL, 0), -EINVAL);
	assert_int_equal(refusal(&f->launcher, 0, (gid_t)-1, NULL, 0), -EINVAL);
	assert_int_equal(refusal(&f->launcher, 0, 0, &nobody, 1), -EINVAL);
	if (geteuid() != 0)
		assert_int_equal(refusal(&f->launcher, 0, getgid(), NULL, 0), -EPERM);
}

/*
 * In a process of its own, because a lowered hard limit stays. The exit status is the line that
 * failed.
 */
#define REQUIRE(cond)                           \
	do {                                    \
		if (!(cond))                    \
			_exit(__LINE__ & 0xff); \
	} while (0)

static _Noreturn void fill_launcher(void)
{
	struct launch_spec spec = make_spec((const char *const[]){"sleep", "1000", NULL});
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), pidfds[20];
	/* Reserved, two for each of an eighth as many openers, three for each of 20 children, one to spare. */
	struct rlimit limit = {333 + 130 + 61, 333 + 130 + 61};
	struct launch_reply reply;
	struct fixture f;

	REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	REQUIRE(launcher_start(CLOVE_LAUNCHER, &f.launcher) == 0);
	REQUIRE(launcher_channel(&f.launcher, &f.channel) == 0);
	for (unsigned id = 0; id < 20; id++) {
		reply = launch_with(f.channel, id, &spec, null, null);
		REQUIRE(reply.type == LAUNCH_LAUNCHED);
		pidfds[id] = reply.pidfd;
	}
	reply = launch_with(f.channel, 20, &spec, null, null);
	REQUIRE(reply.type == LAUNCH_FAILED && reply.step == LAUNCH_STEP_LIMIT);
	REQUIRE(reply.error == EAGAIN && reply.pidfd == -1);

	/* One that has exited still counts, until it is reaped. */
	REQUIRE(launch_kill(f.channel, 0, SIGKILL) == 0 && next_reply(f.channel).error == 0);
	await(pidfds[0], POLLIN);
	reply = launch_with(f.channel, 20, &spec, null, null);
	REQUIRE(reply.type == LAUNCH_FAILED && reply.step == LAUNCH_STEP_LIMIT);
	reap(pidfds[0]);
	reply = launch_with(f.channel, 20, &spec, null, null);
	REQUIRE(reply.type == LAUNCH_LAUNCHED);
	launcher_stop(&f.launcher);
	_exit(0);
}

static void live_children_are_bounded(void **state)
{
	pid_t pid = fork();
	int status;

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0)
		fill_launcher();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define LAUNCHER_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LAUNCHER_TEST(closing_a_channel_ends_its_children_only),
		cmocka_unit_test(closing_the_control_socket_ends_everything),
		cmocka_unit_test(killed_kernel_takes_everything_along),
		cmocka_unit_test(dead_launcher_is_noticed),
		cmocka_unit_test(launcher_keeps_no_descriptor_of_the_kernel),
		LAUNCHER_TEST(launcher_outlives_signals_meant_for_the_kernel),
		LAUNCHER_TEST(launcher_has_no_environment_and_cannot_be_looked_into),
		cmocka_unit_test(inherited_ignored_sigchld_does_not_lose_exit_codes),
		LAUNCHER_TEST(channels_are_bounded),
		LAUNCHER_TEST(launcher_out_of_descriptors_tells_the_caller),
		LAUNCHER_TEST(opener_nobody_may_have_is_refused),
		cmocka_unit_test(live_children_are_bounded),
	};

	return cmocka_run_group_tests_name("launcher_limits", tests, NULL, NULL);
}
