/* SPDX-License-Identifier: MIT */

/*
 * Tests of sandbox/plain.c through a real launcher: what a command gets, and where it fails.
 */

#include "tests/unit/sandbox/fixture.h"

#include <sys/resource.h>
#include <sys/stat.h>

static void exit_code_and_both_outputs_come_back_apart(void **state)
{
	struct result r = run_shell(*state, "echo out; echo err >&2; exit 7");

	assert_int_equal(r.reply.type, LAUNCH_LAUNCHED);
	assert_int_equal(r.code, CLD_EXITED);
	assert_int_equal(r.status, 7);
	assert_string_equal(r.out, "out\n");
	assert_string_equal(r.err, "err\n");
}

static void death_by_signal_is_seen_as_such(void **state)
{
	struct result r = run_shell(*state, "kill -TERM $$; echo survived");

	assert_int_equal(r.code, CLD_KILLED);
	assert_int_equal(r.status, SIGTERM);
	assert_string_equal(r.out, "");
}

static void stdin_is_the_first_descriptor(void **state)
{
	struct fixture *f = *state;
	struct launch_spec spec = make_spec((const char *const[]){"cat", NULL});
	int in[2], out[2];
	char text[16];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(launch_send(f->channel, 1, &spec, (int[]){in[0], out[1], out[1]}, 3), 0);
	close(in[0]);
	close(out[1]);
	assert_int_equal(write(in[1], "hello", 5), 5);
	close(in[1]);
	read_all(out[0], text, sizeof(text));
	assert_string_equal(text, "hello");
	reap(next_reply(f->channel).pidfd);
}

static void environment_is_the_specs_and_no_more(void **state)
{
	const char *const env[] = {"A=1", FIXTURE_PATH, "B=x y", NULL};
	struct launch_spec spec = make_spec((const char *const[]){"env", NULL});

	spec.env = env;
	assert_string_equal(run(*state, &spec).out, "A=1\n" FIXTURE_PATH "\nB=x y\n");
}

static void cwd_and_umask_are_the_specs(void **state)
{
	struct launch_spec spec = make_spec(FIXTURE_SHELL("pwd; umask"));

	spec.cwd = "/usr/bin";
	spec.umask = 0137;
	assert_string_equal(run(*state, &spec).out, "/usr/bin\n0137\n");
}

static void command_is_the_kernels_child_and_leads_a_session(void **state)
{
	struct result r =
		run_shell(*state, "read pid comm st parent group session rest </proc/$$/stat;"
				  "echo $parent $group $session");
	char expected[64];

	(void)snprintf(expected, sizeof(expected), "%d %d %d\n", (int)getpid(), (int)r.reply.pid,
		       (int)r.reply.pid);
	assert_string_equal(r.out, expected);
}

static void signals_are_default_and_unblocked(void **state)
{
	struct result r = run_shell(*state, "grep -E 'Sig(Blk|Ign)' /proc/self/status");

	assert_string_equal(r.out, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

static void no_descriptor_but_the_three_arrives(void **state)
{
	/* 3 is the directory that ls reads. */
	assert_string_equal(run_shell(*state, "ls /proc/self/fd").out, "0\n1\n2\n3\n");
}

static void soft_limits_are_those_the_launcher_was_started_with(void **state)
{
	struct rlimit core, nofile, low;
	char expected[64];
	struct fixture f;
	struct result r;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_CORE, &core), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &nofile), 0);
	low = (struct rlimit){300, nofile.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	low = (struct rlimit){core.rlim_max < 4096 ? core.rlim_max : 4096, core.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_CORE, &low), 0);
	assert_int_equal(launcher_start(CLOVE_LAUNCHER, &f.launcher), 0);
	assert_int_equal(setrlimit(RLIMIT_CORE, &core), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &nofile), 0);

	assert_int_equal(launcher_channel(&f.launcher, &f.channel), 0);
	r = run_shell(&f, "ulimit -S -n; ulimit -S -c"); /* which counts in blocks of 512 */
#ifdef __SANITIZE_ADDRESS__ /* whose runtime, in the launcher, forbids core files before main() */
	low.rlim_cur = 0;
#endif
	(void)snprintf(expected, sizeof(expected), "300\n%u\n", (unsigned)low.rlim_cur / 512);
	assert_string_equal(r.out, expected);

	/* For itself it wants no core file, and all the descriptors it can have. */
	assert_int_equal(prlimit(f.launcher.pid, RLIMIT_CORE, NULL, &low), 0);
	assert_int_equal(low.rlim_cur, 0);
	assert_int_equal(prlimit(f.launcher.pid, RLIMIT_NOFILE, NULL, &low), 0);
	assert_int_equal(low.rlim_cur, nofile.rlim_max);
	close(f.channel);
	launcher_stop(&f.launcher);
}

static void expect_failed(struct fixture *f, const struct launch_spec *spec, enum launch_step step,
			  int error)
{
	struct result r = run(f, spec);

	assert_int_equal(r.reply.type, LAUNCH_FAILED);
	assert_string_equal(launch_step_name(r.reply.step), launch_step_name(step));
	assert_int_equal(r.reply.error, error);
	assert_int_equal(r.code, CLD_EXITED);
	assert_int_equal(r.status, 127);
}

static void missing_command_fails_at_exec(void **state)
{
	struct launch_spec spec = make_spec((const char *const[]){"/no/such/command", NULL});

	expect_failed(*state, &spec, LAUNCH_STEP_EXEC, ENOENT);
	spec.argv = (const char *const[]){"no-such-command", NULL};
	expect_failed(*state, &spec, LAUNCH_STEP_EXEC, ENOENT);
	spec.argv = (const char *const[]){"/etc", NULL};
	expect_failed(*state, &spec, LAUNCH_STEP_EXEC, EACCES);
}

static void bad_cwd_fails_at_cwd(void **state)
{
	struct launch_spec spec = make_spec(FIXTURE_SHELL("true"));

	spec.cwd = "/no/such/directory";
	expect_failed(*state, &spec, LAUNCH_STEP_CWD, ENOENT);
	spec.cwd = "/etc/passwd";
	expect_failed(*state, &spec, LAUNCH_STEP_CWD, ENOTDIR);
}

static void write_script(const char *dir, const char *name, const char *text, mode_t mode)
{
	char path[128];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

/*
 * Lookup is by the command's PATH, not the kernel's; and what cannot be run is not given to a
 * shell.
 */
static void program_is_looked_up_in_the_specs_path(void **state)
{
	char dir[] = "/tmp/clove-test-XXXXXX", path[128], first[64];
	const char *env[] = {path, NULL};
	struct launch_spec spec = make_spec((const char *const[]){"clove-only-here", NULL});

	assert_non_null(mkdtemp(dir));
	(void)snprintf(first, sizeof(first), "%s/first", dir);
	assert_int_equal(mkdir(first, 0700), 0);
	(void)snprintf(path, sizeof(path), "PATH=/etc/passwd:/nowhere:%s:%s", first, dir);
	spec.env = env;
	write_script(dir, "clove-only-here", "#!/bin/sh\necho found\n", 0700);
	write_script(first, "clove-only-here", "not this one", 0600);
	write_script(first, "clove-not-executable", "#!/bin/sh\n", 0600);
	write_script(dir, "clove-no-interpreter", "echo not a program\n", 0700);
	assert_string_equal(run(*state, &spec).out, "found\n");

	spec.argv = (const char *const[]){"clove-no-interpreter", NULL};
	expect_failed(*state, &spec, LAUNCH_STEP_EXEC, ENOEXEC);
	spec.argv = (const char *const[]){"clove-not-executable", NULL};
	expect_failed(*state, &spec, LAUNCH_STEP_EXEC, EACCES);
	spec.argv = (const char *const[]){"sh", "-c", "exit 0", NULL};
	expect_failed(*state, &spec, LAUNCH_STEP_EXEC, ENOENT);

	/* An empty entry is the working directory. */
	spec.argv = (const char *const[]){"clove-only-here", NULL};
	spec.cwd = dir;
	env[0] = "PATH=/usr/bin:";
	assert_string_equal(run(*state, &spec).out, "found\n");

	spec = make_spec((const char *const[]){"rm", "-r", dir, NULL});
	assert_int_equal(run(*state, &spec).status, 0);
}

static void command_of_another_user_has_exactly_its_ids(void **state)
{
	const gid_t groups[] = {4243, 4244};
	struct launch_spec spec = make_spec(
		FIXTURE_SHELL("grep -E '^(Uid|Gid|Groups|CapEff|CapPrm)' /proc/self/status"));

	if (geteuid() != 0)
		skip();
	spec.uid = 4242;
	spec.gid = 4243;
	spec.groups = groups;
	spec.n_groups = 2;
	assert_string_equal(run(*state, &spec).out, "Uid:\t4242\t4242\t4242\t4242\n"
						    "Gid:\t4243\t4243\t4243\t4243\n"
						    "Groups:\t4243 4244 \n"
						    "CapPrm:\t0000000000000000\n"
						    "CapEff:\t0000000000000000\n");

	/* The directory is entered as the user, not as root. */
	char dir[] = "/tmp/clove-test-XXXXXX";
	assert_non_null(mkdtemp(dir));
	spec.cwd = dir;
	expect_failed(*state, &spec, LAUNCH_STEP_CWD, EACCES);
	assert_int_equal(rmdir(dir), 0);
}

static void launcher_without_root_refuses_another_user(void **state)
{
	struct launch_spec spec = make_spec(FIXTURE_SHELL("true"));

	if (geteuid() == 0)
		skip();
	spec.uid = 0;
	expect_failed(*state, &spec, LAUNCH_STEP_UID, EPERM);
	spec.gid = 0;
	expect_failed(*state, &spec, LAUNCH_STEP_GID, EPERM);
}

#define PLAIN_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PLAIN_TEST(exit_code_and_both_outputs_come_back_apart),
		PLAIN_TEST(death_by_signal_is_seen_as_such),
		PLAIN_TEST(stdin_is_the_first_descriptor),
		PLAIN_TEST(environment_is_the_specs_and_no_more),
		PLAIN_TEST(cwd_and_umask_are_the_specs),
		PLAIN_TEST(command_is_the_kernels_child_and_leads_a_session),
		PLAIN_TEST(signals_are_default_and_unblocked),
		PLAIN_TEST(no_descriptor_but_the_three_arrives),
		cmocka_unit_test(soft_limits_are_those_the_launcher_was_started_with),
		PLAIN_TEST(missing_command_fails_at_exec),
		PLAIN_TEST(bad_cwd_fails_at_cwd),
		PLAIN_TEST(program_is_looked_up_in_the_specs_path),
		PLAIN_TEST(command_of_another_user_has_exactly_its_ids),
		PLAIN_TEST(launcher_without_root_refuses_another_user),
	};

	return cmocka_run_group_tests_name("plain", tests, NULL, NULL);
}
