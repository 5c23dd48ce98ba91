/* SPDX-License-Identifier: MIT */

/*
 * Tests of sandbox/cgroup.c: what a group can do without any controller. They run on the hierarchy of
 * this machine, and once more in a virtual machine (tests/vm).
 */

#include "tests/unit/sandbox/cgroup_fixture.h"

#include <sys/eventfd.h>

static const struct cgroup_limits no_limits;

/* A group with a process in it that does nothing. */
static int make_sleeping(struct cgroup_fixture *f, const char *name, pid_t *ret_pid)
{
	uint32_t enforced;
	int dirfd;

	assert_int_equal(cgroup_make(&f->root, name, &no_limits, &dirfd, &enforced), 0);
	assert_int_equal(enforced, 0);
	*ret_pid = start_in(dirfd, sleeper, NULL);
	assert_true(*ret_pid > 0);
	return dirfd;
}

static void expect_removed(struct cgroup_fixture *f, const char *name, int dirfd)
{
	assert_true(await_empty(dirfd));
	close(dirfd);
	assert_int_equal(cgroup_remove(&f->root, name), 0);
	assert_false(group_exists(f->root.path, name));
}

static void names_that_could_lead_elsewhere_are_refused(void **state)
{
	static const char *const names[] = {
		"",
		".",
		"..",
		"a/",
		"/a",
		"a//b",
		"a/../b",
		"self",
		"files",
		"a/self",
		"memory.max",
		"a\n",
		"\xc3\xa9",
		"a b",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	};
	struct cgroup_fixture *f = fixture_or_skip(state);
	uint32_t enforced;
	int dirfd;

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		assert_int_equal(cgroup_make(&f->root, names[i], &no_limits, &dirfd, &enforced),
				 CGROUP_E_NAME);
		assert_int_equal(cgroup_find(&f->root, names[i], &dirfd), CGROUP_E_NAME);
		assert_int_equal(cgroup_remove(&f->root, names[i]), CGROUP_E_NAME);
	}
}

static void a_process_starts_inside_its_group(void **state)
{
	struct cgroup_fixture *f = fixture_or_skip(state);
	char procs[64], path[CGROUP_PATH_MAX + 128];
	struct cgroup_events events;
	pid_t pid;
	int dirfd = make_sleeping(f, "agent-1", &pid);

	(void)snprintf(path, sizeof(path), "%s/agents/agent-1", f->root.path);
	read_text(path, "cgroup.procs", procs, sizeof(procs));
	assert_int_equal(atoi(procs), pid);
	assert_int_equal(cgroup_events(dirfd, &events), 0);
	assert_true(events.populated);
	assert_false(events.frozen);

	assert_int_equal(cgroup_kill(dirfd), 0);
	assert_true(killed(pid));
	assert_true(await_empty(dirfd));
	assert_int_equal(cgroup_events(dirfd, &events), 0);
	assert_false(events.populated);
	close(dirfd);
	assert_int_equal(cgroup_remove(&f->root, "agent-1"), 0);
	assert_true(access(path, F_OK) < 0);
}

/* The group of an agent, one inside it, and a process in the leaf of each. */
struct pair {
	int outer, inner, outer_leaf, inner_leaf;
	pid_t outer_pid, inner_pid;
};

static struct pair make_pair(struct cgroup_fixture *f)
{
	struct pair p;
	uint32_t enforced;

	assert_int_equal(cgroup_make(&f->root, "a", &no_limits, &p.outer, &enforced), 0);
	assert_int_equal(cgroup_leaf(p.outer, CGROUP_SELF, &p.outer_leaf), 0);
	p.outer_pid = start_in(p.outer_leaf, sleeper, NULL);
	assert_int_equal(cgroup_make(&f->root, "a/b", &no_limits, &p.inner, &enforced), 0);
	assert_int_equal(cgroup_leaf(p.inner, CGROUP_SELF, &p.inner_leaf), 0);
	p.inner_pid = start_in(p.inner_leaf, sleeper, NULL);
	assert_true(p.outer_pid > 0 && p.inner_pid > 0);
	return p;
}

static void close_pair(const struct pair *p)
{
	close(p->outer);
	close(p->inner);
	close(p->outer_leaf);
	close(p->inner_leaf);
}

static void a_leaf_is_ended_without_what_was_started_from_it(void **state)
{
	struct cgroup_fixture *f = fixture_or_skip(state);
	struct pair p = make_pair(f);
	int again;

	assert_true(group_exists(f->root.path, "agents/a/b/self"));
	assert_int_equal(cgroup_leaf(p.outer, CGROUP_SELF, &again), 0); /* the same, not a second */
	close(again);
	assert_int_equal(cgroup_kill(p.outer_leaf), 0);
	assert_true(killed(p.outer_pid));
	assert_true(alive(p.inner_pid));
	assert_true(await_empty(p.outer_leaf));
	/* There is still somebody in it, whose own group goes first. */
	assert_int_equal(cgroup_remove(&f->root, "a"), CGROUP_E_BUSY);
	assert_true(group_exists(f->root.path, "agents/a/b/self"));
	assert_int_equal(cgroup_kill(p.inner_leaf), 0);
	assert_true(killed(p.inner_pid));
	assert_true(await_empty(p.outer));
	assert_int_equal(cgroup_remove(&f->root, "a/b"), 0);
	assert_int_equal(cgroup_sweep(&f->root, 10), 0);
	assert_false(group_exists(f->root.path, "agents/a"));
	close_pair(&p);
}

static void a_group_is_ended_with_all_that_was_started_from_it(void **state)
{
	struct cgroup_fixture *f = fixture_or_skip(state);
	struct pair p = make_pair(f);

	assert_int_equal(cgroup_kill(p.outer), 0);
	assert_true(killed(p.outer_pid));
	assert_true(killed(p.inner_pid));
	assert_true(await_empty(p.outer));
	close_pair(&p);
	assert_int_equal(cgroup_remove(&f->root, "a"), 0);
	assert_false(group_exists(f->root.path, "agents/a"));
}

static void a_group_needs_the_one_above(void **state)
{
	struct cgroup_fixture *f = fixture_or_skip(state);
	uint32_t enforced;
	int dirfd;

	assert_int_equal(cgroup_make(&f->root, "a/b", &no_limits, &dirfd, &enforced),
			 CGROUP_E_GONE);
	assert_false(group_exists(f->root.path, "agents/a"));
}

static void a_name_is_taken_until_it_is_removed(void **state)
{
	struct cgroup_fixture *f = fixture_or_skip(state);
	struct stat made, found;
	uint32_t enforced;
	int dirfd, again;

	assert_int_equal(cgroup_find(&f->root, "a", &dirfd), CGROUP_E_GONE);
	assert_int_equal(cgroup_make(&f->root, "a", &no_limits, &dirfd, &enforced), 0);
	assert_int_equal(cgroup_make(&f->root, "a", &no_limits, &again, &enforced),
			 CGROUP_E_EXISTS);
	assert_int_equal(cgroup_find(&f->root, "a", &again), 0);
	assert_int_equal(fcntl(dirfd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(again, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fstat(dirfd, &made), 0);
	assert_int_equal(fstat(again, &found), 0);
	assert_int_equal(made.st_ino, found.st_ino);
	close(again);
	close(dirfd);
	assert_int_equal(cgroup_remove(&f->root, "a"), 0);
	assert_int_equal(cgroup_remove(&f->root, "a"), 0); /* there is none */
	assert_int_equal(cgroup_make(&f->root, "a", &no_limits, &dirfd, &enforced), 0);
	close(dirfd);
	assert_int_equal(cgroup_remove(&f->root, "a"), 0);
}

/* Counts in @arg as long as it runs. */
static void counter(void *arg)
{
	for (uint64_t one = 1;; (void)usleep(1000))
		(void)!write(*(int *)arg, &one, sizeof(one));
}

static void a_frozen_group_says_so_and_stands_still(void **state)
{
	struct cgroup_fixture *f = fixture_or_skip(state);
	int watch, dirfd, count = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct pollfd p = {.fd = count, .events = POLLIN};
	struct cgroup_events events;
	uint32_t enforced;
	uint64_t n;
	pid_t pid;

	assert_int_equal(cgroup_make(&f->root, "a", &no_limits, &dirfd, &enforced), 0);
	pid = start_in(dirfd, counter, &count);
	assert_int_equal(poll(&p, 1, CGROUP_HANG_MS), 1);

	assert_int_equal(cgroup_watch(dirfd, &watch), 0);
	assert_int_equal(cgroup_freeze(dirfd, true), 0);
	assert_true(await_state(watch, true, true));
	assert_int_equal(cgroup_events(dirfd, &events), 0);
	assert_true(events.frozen);
	(void)!read(count, &n, sizeof(n));
	assert_int_equal(poll(&p, 1, 50), 0);

	assert_int_equal(cgroup_freeze(dirfd, false), 0);
	assert_true(await_state(watch, true, false));
	assert_int_equal(poll(&p, 1, CGROUP_HANG_MS), 1);

	/* Dead or alive makes no difference to who is killed. */
	assert_int_equal(cgroup_freeze(dirfd, true), 0);
	assert_int_equal(cgroup_kill(dirfd), 0);
	assert_true(killed(pid));
	close(watch);
	close(count);
	assert_int_equal(cgroup_freeze(dirfd, false), 0);
	expect_removed(f, "a", dirfd);
}

/* Twenty processes: half of them in sessions of their own, orphaned, each holding @arg. */
static void family(void *arg)
{
	for (unsigned i = 0; i < 10; i++) {
		if (fork() == 0) {
			(void)setsid();
			if (fork() == 0)
				(void)signal(SIGTERM, SIG_IGN);
			else
				_exit(0);
			sleeper(arg);
		}
		if (fork() == 0)
			sleeper(arg);
	}
	sleeper(arg);
}

/* Everything that holds the other end has gone, whoever its parent was. */
static void expect_hang_up(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&p, 1, CGROUP_HANG_MS), 1);
	assert_true(p.revents & POLLHUP);
	close(fd);
}

static void kill_family(struct cgroup_fixture *f, int (*kill_fn)(int dirfd), bool below)
{
	int ends[2], dirfd, inner = -1;
	uint32_t enforced;
	pid_t pid;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(cgroup_make(&f->root, "a", &no_limits, &dirfd, &enforced), 0);
	if (below) {
		assert_int_equal(mkdirat(dirfd, "inner", 0755), 0);
		inner = openat(dirfd, "inner", O_PATH | O_CLOEXEC);
	}
	pid = start_in(below ? inner : dirfd, family, NULL);
	assert_true(pid > 0);
	close(ends[1]);
	assert_int_equal(kill_fn(dirfd), 0);
	assert_true(killed(pid));
	expect_hang_up(ends[0]);
	(void)fd_close(inner);
	expect_removed(f, "a", dirfd);
}

static void kill_takes_the_whole_family(void **state)
{
	struct cgroup_fixture *f = fixture_or_skip(state);

	for (unsigned i = 0; i < 20; i++) /* at another moment of its forking each time */
		kill_family(f, cgroup_kill, i % 2);
}

static void kill_by_signal_takes_the_whole_family(void **state)
{
	struct cgroup_fixture *f = fixture_or_skip(state);

	for (unsigned i = 0; i < 20; i++)
		kill_family(f, cgroup_kill_by_signal, i % 2);
}

static void kill_leaves_other_groups_alone(void **state)
{
	struct cgroup_fixture *f = fixture_or_skip(state);
	pid_t ours, theirs;
	int a = make_sleeping(f, "a", &ours), b = make_sleeping(f, "b", &theirs);

	assert_int_equal(cgroup_kill(a), 0);
	assert_true(killed(ours));
	assert_true(alive(theirs));
	expect_removed(f, "a", a);
	assert_int_equal(cgroup_kill_by_signal(b), 0);
	assert_true(killed(theirs));
	expect_removed(f, "b", b);
}

static void a_group_in_use_is_removed_by_a_later_sweep(void **state)
{
	struct cgroup_fixture *f = fixture_or_skip(state);
	uint32_t enforced;
	pid_t pid, other;
	int a = make_sleeping(f, "a", &pid), b = make_sleeping(f, "b", &other), again;

	assert_int_equal(cgroup_remove(&f->root, "a"), CGROUP_E_BUSY);
	assert_int_equal(cgroup_remove(&f->root, "a"), CGROUP_E_BUSY); /* kept once */
	assert_int_equal(cgroup_remove(&f->root, "b"), CGROUP_E_BUSY);
	assert_int_equal(cgroup_make(&f->root, "a", &no_limits, &again, &enforced),
			 CGROUP_E_EXISTS);
	assert_int_equal(cgroup_sweep(&f->root, 10), 2);

	assert_int_equal(cgroup_kill(b), 0);
	assert_true(killed(other));
	assert_true(await_empty(b));
	assert_int_equal(cgroup_sweep(&f->root, 1), 2); /* the turn of a, which stays */
	assert_int_equal(cgroup_sweep(&f->root, 1), 1);
	assert_int_equal(cgroup_find(&f->root, "b", &again), CGROUP_E_GONE);

	/* A name that has become free meanwhile need not wait for a sweep. */
	assert_int_equal(cgroup_kill(a), 0);
	assert_true(killed(pid));
	assert_true(await_empty(a));
	assert_int_equal(cgroup_make(&f->root, "a", &no_limits, &again, &enforced), 0);
	assert_int_equal(cgroup_sweep(&f->root, 10), 0);
	assert_true(group_exists(f->root.path, "agents/a"));
	close(b);
	close(a);
	close(again);
	assert_int_equal(cgroup_remove(&f->root, "a"), 0);
}

static void descriptors_of_a_removed_group_say_so(void **state)
{
	struct cgroup_fixture *f = fixture_or_skip(state);
	bool populated, frozen;
	struct cgroup_events events;
	struct cgroup_stats stats;
	uint32_t enforced;
	int dirfd, watch, again;

	assert_int_equal(cgroup_make(&f->root, "a", &no_limits, &dirfd, &enforced), 0);
	assert_int_equal(cgroup_watch(dirfd, &watch), 0);
	assert_int_equal(cgroup_remove(&f->root, "a"), 0);
	/* The name is not what counts. */
	assert_int_equal(cgroup_make(&f->root, "a", &no_limits, &again, &enforced), 0);

	assert_int_equal(cgroup_freeze(dirfd, true), CGROUP_E_GONE);
	assert_int_equal(cgroup_kill(dirfd), CGROUP_E_GONE);
	assert_int_equal(cgroup_kill_by_signal(dirfd), CGROUP_E_GONE);
	assert_int_equal(cgroup_limit(dirfd, &no_limits, &enforced), CGROUP_E_GONE);
	assert_int_equal(cgroup_events(dirfd, &events), CGROUP_E_GONE);
	assert_int_equal(cgroup_stats(dirfd, &stats), CGROUP_E_GONE);
	assert_int_equal(cgroup_watch_read(watch, &populated, &frozen), CGROUP_E_GONE);
	assert_int_equal(cgroup_watch(dirfd, &watch), CGROUP_E_GONE);
	close(watch);
	close(dirfd);
	close(again);
	assert_int_equal(cgroup_remove(&f->root, "a"), 0);
}

static void spinner(void *arg)
{
	for (;;)
		*(volatile unsigned *)arg += 1;
}

static void used_cpu_is_counted_without_a_controller(void **state)
{
	struct cgroup_fixture *f = fixture_or_skip(state);
	struct cgroup_stats stats = {0};
	unsigned n = 0;
	uint32_t enforced;
	pid_t pid;
	int dirfd;

	assert_int_equal(cgroup_make(&f->root, "a", &no_limits, &dirfd, &enforced), 0);
	pid = start_in(dirfd, spinner, &n);
	while (stats.cpu_us < 20000)
		assert_int_equal(cgroup_stats(dirfd, &stats), 0);
	assert_int_not_equal(stats.cpu_us, CGROUP_UNKNOWN);
	assert_int_equal(stats.memory_bytes != CGROUP_UNKNOWN,
			 cgroup_state(&f->root, CGROUP_MEMORY)->on);
	assert_int_equal(stats.pids, cgroup_state(&f->root, CGROUP_PIDS)->on ? 1 : CGROUP_UNKNOWN);
	assert_int_equal(cgroup_kill(dirfd), 0);
	assert_true(killed(pid));
	expect_removed(f, "a", dirfd);
}

static void each_limit_is_enforced_or_said_to_be_missing(void **state)
{
	static const struct cgroup_limits limits = {
		.memory_bytes = 64 << 20, .cpu_quota_us = 50000, .pids = 20};
	struct cgroup_fixture *f = fixture_or_skip(state);
	uint32_t enforced, after;
	int dirfd;

	assert_int_equal(cgroup_asked(&limits), CGROUP_BIT(CGROUP_MEMORY) | CGROUP_BIT(CGROUP_CPU) |
							CGROUP_BIT(CGROUP_PIDS));
	assert_int_equal(cgroup_make(&f->root, "a", &limits, &dirfd, &enforced), 0);
	for (unsigned i = CGROUP_MEMORY; i <= CGROUP_PIDS; i++) {
		const struct cgroup_state *feature = cgroup_state(&f->root, i);

		assert_int_equal(feature->on, !!(enforced & CGROUP_BIT(i)));
		if (!feature->on) {
			assert_string_not_equal(feature->why, "");
			print_message("%s: off: %s\n", cgroup_feature_name(i), feature->why);
		}
	}
	assert_int_equal(cgroup_limit(dirfd, &limits, &after), 0);
	assert_int_equal(after, enforced);
	close(dirfd);
	assert_int_equal(cgroup_remove(&f->root, "a"), 0);
}

#define CGROUP_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_open, fixture_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CGROUP_TEST(names_that_could_lead_elsewhere_are_refused),
		CGROUP_TEST(a_process_starts_inside_its_group),
		CGROUP_TEST(a_leaf_is_ended_without_what_was_started_from_it),
		CGROUP_TEST(a_group_is_ended_with_all_that_was_started_from_it),
		CGROUP_TEST(a_group_needs_the_one_above),
		CGROUP_TEST(a_name_is_taken_until_it_is_removed),
		CGROUP_TEST(a_frozen_group_says_so_and_stands_still),
		CGROUP_TEST(kill_takes_the_whole_family),
		CGROUP_TEST(kill_by_signal_takes_the_whole_family),
		CGROUP_TEST(kill_leaves_other_groups_alone),
		CGROUP_TEST(a_group_in_use_is_removed_by_a_later_sweep),
		CGROUP_TEST(descriptors_of_a_removed_group_say_so),
		CGROUP_TEST(used_cpu_is_counted_without_a_controller),
		CGROUP_TEST(each_limit_is_enforced_or_said_to_be_missing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
