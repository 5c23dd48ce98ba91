/* SPDX-License-Identifier: MIT */

/*
 * Tests of sandbox/cgroup_root.c, cgroup_place.c and cgroup_controllers.c: where the subtree goes, what
 * becomes of one that was left behind, and that nothing of anyone else's is touched.
 */

#include "tests/unit/sandbox/cgroup_fixture.h"

#include <sched.h>
#include <sys/resource.h>

static const struct cgroup_limits no_limits;

static struct cgroup_config config_of(struct cgroup_fixture *f, const char *id)
{
	return (struct cgroup_config){.id = id, .parent = f->parent};
}

static void expect_off(const struct cgroup_root *root, const char *why)
{
	for (unsigned i = 0; i < CGROUP_N_FEATURES; i++) {
		const struct cgroup_state *state = cgroup_state(root, i);

		EXPECT(!state->on);
		if (!strstr(state->why, why)) {
			(void)fprintf(stderr, "off because \"%s\", not because \"%s\"\n",
				      state->why, why);
			_exit(1);
		}
	}
	EXPECT(root->agents < 0);
}

static void expect_usable(struct cgroup_root *root)
{
	uint32_t enforced;
	int dirfd;
	pid_t pid;

	EXPECT(cgroup_state(root, CGROUP_GROUPS)->on);
	EXPECT(!cgroup_make(root, "a", &no_limits, &dirfd, &enforced));
	pid = start_in(dirfd, sleeper, NULL);
	EXPECT(pid > 0);
	EXPECT(!cgroup_kill(dirfd));
	EXPECT(killed(pid));
	EXPECT(await_empty(dirfd));
	(void)close(dirfd);
	EXPECT(!cgroup_remove(root, "a"));
}

/* The text after "0::". */
static void own_group(char *path, size_t size)
{
	char text[4096];
	const char *line;

	read_text("/proc/self", "cgroup", text, sizeof(text));
	line = strstr(text, "0::");
	(void)snprintf(path, size, "%s", line ? line + 3 : "");
	path[strcspn(path, "\n")] = '\0';
}

static void expect_own_group(const char *parent, const char *below)
{
	char expected[CGROUP_PATH_MAX + 64], own[CGROUP_PATH_MAX + 64];

	(void)snprintf(expected, sizeof(expected), "%s%s", parent, below);
	own_group(own, sizeof(own));
	if (strcmp(own, expected) != 0) {
		(void)fprintf(stderr, "in group %s, not in %s\n", own, expected);
		_exit(1);
	}
}

static void closing_ends_everything_and_leaves_nothing(void **state)
{
	struct cgroup_fixture *f = fixture_or_skip(state);
	struct cgroup_config config = config_of(f, "x");
	struct cgroup_root root;
	uint32_t enforced;
	pid_t pids[3];

	assert_int_equal(cgroup_open(&root, &config), 0);
	for (unsigned i = 0; i < 3; i++) {
		char name[] = {(char)('a' + i), '\0'};
		int dirfd;

		assert_int_equal(cgroup_make(&root, name, &no_limits, &dirfd, &enforced), 0);
		pids[i] = start_in(dirfd, sleeper, NULL);
		close(dirfd);
	}
	assert_int_equal(cgroup_remove(&root, "b"), CGROUP_E_BUSY); /* one in the list */
	cgroup_close(&root);
	for (unsigned i = 0; i < 3; i++)
		assert_true(killed(pids[i]));
	assert_int_equal(count_groups(f->path), 0);
	cgroup_close(&root);
	assert_int_equal(cgroup_make(&root, "a", &no_limits, NULL, &enforced), CGROUP_E_OFF);
	assert_int_equal(cgroup_remove(&root, "a"), CGROUP_E_OFF);
	assert_int_equal(cgroup_sweep(&root, 1), 0);
}

struct shared {
	struct cgroup_fixture *f;
	int ready[2], hold[2];
};

/* A Clove that has two agents, one frozen, and is killed. */
static void predecessor(void *arg)
{
	struct shared *shared = arg;
	struct cgroup_config config = config_of(shared->f, "x");
	struct cgroup_root root;
	uint32_t enforced;
	int a, b;

	EXPECT(!cgroup_open(&root, &config));
	EXPECT(!cgroup_make(&root, "a", &no_limits, &a, &enforced));
	EXPECT(!cgroup_make(&root, "b", &no_limits, &b, &enforced));
	EXPECT(!mkdirat(b, "inner", 0755));
	EXPECT(start_in(a, sleeper, NULL) > 0);
	EXPECT(start_in(b, sleeper, NULL) > 0);
	EXPECT(!cgroup_freeze(b, true));
	EXPECT(write(shared->ready[1], "r", 1) == 1);
	sleeper(NULL);
}

static pid_t start_predecessor(struct shared *shared)
{
	pid_t pid;
	char byte;

	assert_int_equal(pipe2(shared->ready, O_CLOEXEC), 0);
	/* The last of its processes to go closes the other end. */
	assert_int_equal(pipe2(shared->hold, O_CLOEXEC), 0);
	pid = start_in(-1, predecessor, shared);
	close(shared->ready[1]);
	close(shared->hold[1]);
	assert_int_equal(read(shared->ready[0], &byte, 1), 1);
	close(shared->ready[0]);
	return pid;
}

static void leftovers_of_a_killed_predecessor_are_ended_and_removed(void **state)
{
	struct cgroup_fixture *f = fixture_or_skip(state);
	struct cgroup_config config = config_of(f, "x");
	struct shared shared = {.f = f};
	pid_t pid = start_predecessor(&shared);
	struct cgroup_root root;
	char byte;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_true(killed(pid));
	assert_true(group_exists(f->path, "clove-x/agents/b/inner"));

	assert_int_equal(cgroup_open(&root, &config), 0);
	assert_int_equal(read(shared.hold[0], &byte, 1), 0);
	close(shared.hold[0]);
	assert_int_equal(cgroup_sweep(&root, 10), 0);
	assert_false(group_exists(f->path, "clove-x/agents/a"));
	assert_false(group_exists(f->path, "clove-x/agents/b"));
	expect_usable(&root);
	cgroup_close(&root);
	assert_int_equal(count_groups(f->path), 0);
}

static void a_living_predecessor_is_left_alone(void **state)
{
	struct cgroup_fixture *f = fixture_or_skip(state);
	struct cgroup_config config = config_of(f, "x");
	struct shared shared = {.f = f};
	pid_t pid = start_predecessor(&shared);
	struct pollfd p = {.fd = shared.hold[0], .events = POLLIN};
	struct cgroup_root root;
	char why[64];

	assert_int_equal(cgroup_open(&root, &config), 0);
	(void)snprintf(why, sizeof(why), "used by another Clove, process %d", (int)pid);
	expect_off(&root, why);
	cgroup_close(&root);
	assert_int_equal(poll(&p, 1, 50), 0);
	assert_true(group_exists(f->path, "clove-x/agents/a"));
	assert_true(group_exists(f->path, "clove-x/agents/b/inner"));

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_true(killed(pid));
	assert_int_equal(cgroup_open(&root, &config), 0);
	assert_true(root.agents >= 0);
	cgroup_close(&root);
	assert_int_equal(poll(&p, 1, CGROUP_HANG_MS), 1);
	close(shared.hold[0]);
}

static void a_group_that_only_has_the_name_is_left_alone(void **state)
{
	struct cgroup_fixture *f = fixture_or_skip(state);
	struct cgroup_config config = config_of(f, "x");
	char path[CGROUP_PATH_MAX + 64];
	struct cgroup_root root;
	pid_t pid;
	int dirfd;

	(void)snprintf(path, sizeof(path), "%s/clove-x", f->path);
	assert_int_equal(mkdir(path, 0755), 0);
	(void)snprintf(path, sizeof(path), "%s/clove-x/agents", f->path);
	assert_int_equal(mkdir(path, 0755), 0);
	dirfd = open(path, O_PATH | O_CLOEXEC);
	pid = start_in(dirfd, sleeper, NULL);

	assert_int_equal(cgroup_open(&root, &config), 0);
	expect_off(&root, "was not made by Clove");
	cgroup_close(&root);
	assert_true(alive(pid));
	assert_true(group_exists(f->path, "clove-x/agents"));

	/* Of another user it is not ours either, whatever it says. */
	(void)snprintf(path, sizeof(path), "%s/clove-x", f->path);
	assert_int_equal(setxattr(path, "user.clove", "0", 1, 0), 0);
	assert_int_equal(chown(path, 4242, 4242), 0);
	assert_int_equal(cgroup_open(&root, &config), 0);
	expect_off(&root, "by another user");
	assert_true(alive(pid));

	assert_int_equal(cgroup_kill(dirfd), 0);
	assert_true(killed(pid));
	assert_true(await_empty(dirfd));
	close(dirfd);
	assert_int_equal(chown(path, 0, 0), 0);
	assert_int_equal(cgroup_open(&root, &config), 0);
	assert_true(root.agents >= 0);
	cgroup_close(&root);
}

static void two_of_them_do_not_see_each_other(void **state)
{
	struct cgroup_fixture *f = fixture_or_skip(state);
	struct cgroup_config one = config_of(f, "one"), two = config_of(f, "two");
	struct cgroup_root a, b;
	uint32_t enforced;
	int dirfd, again;
	pid_t pid;

	assert_int_equal(cgroup_open(&a, &one), 0);
	assert_int_equal(cgroup_open(&b, &two), 0);
	assert_int_equal(cgroup_make(&a, "x", &no_limits, &dirfd, &enforced), 0);
	pid = start_in(dirfd, sleeper, NULL);
	assert_int_equal(cgroup_find(&b, "x", &again), CGROUP_E_GONE);
	cgroup_close(&b);
	assert_true(alive(pid));
	for (unsigned i = CGROUP_MEMORY; i <= CGROUP_IO; i++) {
		char switched[256];

		read_text(f->path, "cgroup.subtree_control", switched, sizeof(switched));
		if (cgroup_state(&a, i)->on)
			assert_non_null(strstr(switched, cgroup_feature_name(i)));
	}
	expect_usable(&a);
	cgroup_close(&a);
	assert_true(killed(pid));
	close(dirfd);
}

/* In a group of its own, as a service manager would start it. */
static void enter(struct cgroup_fixture *f)
{
	EXPECT(write_text(f->path, "cgroup.procs", "0"));
}

static void start_and_stop_in_own_group(void *arg)
{
	static const pid_t self = 0;
	struct cgroup_fixture *f = arg;
	struct cgroup_config config = {.id = "x", .pids = &self, .n_pids = 1};
	struct cgroup_root root;
	char switched[256];

	enter(f);
	EXPECT(!cgroup_open(&root, &config));
	expect_own_group(f->parent, "/clove-x/supervisor");
	expect_usable(&root);
	EXPECT(cgroup_state(&root, CGROUP_MEMORY)->on == f->controllers);
	cgroup_close(&root);
	expect_own_group(f->parent, "");
	EXPECT(count_groups(f->path) == 0);
	read_text(f->path, "cgroup.subtree_control", switched, sizeof(switched));
	EXPECT(!strcmp(switched, "\n") || !strcmp(switched, ""));
}

static void supervisors_move_out_of_the_way_and_back(void **state)
{
	in_child(start_and_stop_in_own_group, fixture_or_skip(state));
}

/* The launcher was killed; another one starts, where the kernel is. */
static void start_again_in_supervisor(void *arg)
{
	static const pid_t self = 0;
	struct cgroup_fixture *f = arg;
	struct cgroup_config config = {.id = "x", .pids = &self, .n_pids = 1};
	struct cgroup_root root;

	enter(f);
	if (fork() == 0) {
		pid_t both[] = {0, getppid()};

		config.pids = both;
		config.n_pids = 2;
		EXPECT(!cgroup_open(&root, &config));
		(void)raise(SIGKILL);
	}
	(void)wait_for(-1);
	expect_own_group(f->parent, "/clove-x/supervisor");
	EXPECT(!cgroup_open(&root, &config));
	EXPECT(!strncmp(root.path, f->path, strlen(f->path)));
	EXPECT(!strcmp(root.path + strlen(f->path), "/clove-x"));
	expect_usable(&root);
	EXPECT(cgroup_state(&root, CGROUP_MEMORY)->on == f->controllers);
	cgroup_close(&root);
	expect_own_group(f->parent, "");
	EXPECT(count_groups(f->path) == 0);
}

static void a_second_launcher_finds_the_subtree_again(void **state)
{
	in_child(start_again_in_supervisor, fixture_or_skip(state));
}

static void run_delegated(void *arg)
{
	static const struct cgroup_limits limits = {
		.memory_bytes = 32 << 20, .cpu_quota_us = 50000, .pids = 20};
	static const pid_t self = 0;
	struct cgroup_fixture *f = arg;
	struct cgroup_config config = {.id = "x", .pids = &self, .n_pids = 1};
	struct cgroup_root root;
	uint32_t enforced;
	int dirfd;

	enter(f);
	EXPECT(!setresgid(4242, 4242, 4242) && !setresuid(4242, 4242, 4242));
	EXPECT(!cgroup_open(&root, &config));
	expect_own_group(f->parent, "/clove-x/supervisor");
	expect_usable(&root);
	EXPECT(!cgroup_make(&root, "b", &limits, &dirfd, &enforced));
	EXPECT(enforced == (f->controllers ? cgroup_asked(&limits) : 0));
	(void)close(dirfd);
	cgroup_close(&root);
	EXPECT(count_groups(f->path) == 0);
}

static void another_user_works_in_a_delegated_group(void **state)
{
	static const char *const files[] = {"", "cgroup.procs", "cgroup.subtree_control",
					    "cgroup.threads"};
	struct cgroup_fixture *f = fixture_or_skip(state);
	char path[CGROUP_PATH_MAX + 64];

	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", f->path, files[i]);
		assert_int_equal(chown(path, 4242, 4242), 0);
	}
	in_child(run_delegated, f);
}

static void run_undelegated(void *arg)
{
	struct cgroup_fixture *f = arg;
	struct cgroup_config config = {.id = "x"};
	struct cgroup_root root;

	enter(f);
	EXPECT(!setresgid(4242, 4242, 4242) && !setresuid(4242, 4242, 4242));
	EXPECT(!cgroup_open(&root, &config));
	expect_off(&root, "is not delegated to user 4242");
	cgroup_close(&root);
}

static void another_user_without_delegation_is_told_so(void **state)
{
	in_child(run_undelegated, fixture_or_skip(state));
}

static void own_mounts(void)
{
	EXPECT(!unshare(CLONE_NEWNS));
	EXPECT(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
}

/* What sd_booted(3) looks for. */
static void pretend_systemd(void)
{
	own_mounts();
	EXPECT(!mount("run", "/run", "tmpfs", 0, NULL));
	EXPECT(!mkdir("/run/systemd", 0755) && !mkdir("/run/systemd/system", 0755));
}

static void run_under_systemd(void *arg)
{
	static const pid_t self = 0;
	struct cgroup_fixture *f = arg;
	struct cgroup_config config = {.id = "x", .pids = &self, .n_pids = 1};
	struct cgroup_root root;

	pretend_systemd();
	enter(f);
	EXPECT(!cgroup_open(&root, &config));
	expect_own_group(f->parent, "");
	expect_usable(&root);
	for (unsigned i = CGROUP_MEMORY; i <= CGROUP_IO; i++)
		EXPECT(strstr(cgroup_state(&root, i)->why, "systemd has not delegated"));
	cgroup_close(&root);
	EXPECT(count_groups(f->path) == 0);

	EXPECT(!setxattr(f->path, "user.delegate", "1", 1, 0));
	EXPECT(!cgroup_open(&root, &config));
	expect_own_group(f->parent, "/clove-x/supervisor");
	EXPECT(cgroup_state(&root, CGROUP_MEMORY)->on == f->controllers);
	cgroup_close(&root);
	expect_own_group(f->parent, "");
}

static void systemd_must_have_delegated_the_controllers(void **state)
{
	in_child(run_under_systemd, fixture_or_skip(state));
}

static void run_in_subgroup(void *arg)
{
	static const pid_t self = 0;
	struct cgroup_fixture *f = arg;
	struct cgroup_config config = {.id = "x", .pids = &self, .n_pids = 1};
	char path[CGROUP_PATH_MAX + 64];
	struct cgroup_root root;

	pretend_systemd();
	EXPECT(!setxattr(f->path, "user.delegate", "1", 1, 0));
	(void)snprintf(path, sizeof(path), "%s/main", f->path);
	EXPECT(!mkdir(path, 0755));
	EXPECT(write_text(path, "cgroup.procs", "0"));
	EXPECT(!cgroup_open(&root, &config));
	expect_own_group(f->parent, "/clove-x/supervisor");
	EXPECT(cgroup_state(&root, CGROUP_MEMORY)->on == f->controllers);
	cgroup_close(&root);
	expect_own_group(f->parent, "/main");
	enter(f);
	EXPECT(!rmdir(path));
}

static void a_delegated_subgroup_gives_way_to_its_parent(void **state)
{
	in_child(run_in_subgroup, fixture_or_skip(state));
}

static void run_where_groups_cannot_be_seen(void *arg)
{
	struct cgroup_fixture *f = arg;
	struct cgroup_config config = {.id = "x"};
	const char *top = hierarchy();
	char path[CGROUP_PATH_MAX + 64];
	struct cgroup_root root;

	own_mounts();
	enter(f);
	(void)snprintf(path, sizeof(path), "%s/elsewhere", f->path);
	EXPECT(!mkdir(path, 0755));
	EXPECT(!mount(path, "/mnt", NULL, MS_BIND, NULL));
	EXPECT(!umount2(top, MNT_DETACH));
	EXPECT(!cgroup_open(&root, &config));
	expect_off(&root, "no cgroup2 mount shows");
	EXPECT(!umount2("/mnt", MNT_DETACH));
	EXPECT(!cgroup_open(&root, &config));
	expect_off(&root, "no cgroup2 hierarchy is mounted");
	cgroup_close(&root);
}

static void without_a_hierarchy_it_says_so(void **state)
{
	struct cgroup_fixture *f = fixture_or_skip(state);
	char path[CGROUP_PATH_MAX + 64];

	in_child(run_where_groups_cannot_be_seen, f);
	(void)snprintf(path, sizeof(path), "%s/elsewhere", f->path);
	assert_int_equal(rmdir(path), 0);
}

static void run_read_only(void *arg)
{
	struct cgroup_fixture *f = arg;
	struct cgroup_config config = {.id = "x"};
	struct cgroup_root root;

	own_mounts();
	enter(f);
	EXPECT(!mount(NULL, hierarchy(), NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
	EXPECT(!cgroup_open(&root, &config));
	expect_off(&root, "Read-only file system");
	cgroup_close(&root);
}

static void a_read_only_hierarchy_is_named(void **state)
{
	in_child(run_read_only, fixture_or_skip(state));
}

/* Fails at each place where a descriptor is needed, one after the other. */
static void without_descriptors_it_fails_and_leaves_nothing(void **state)
{
	struct cgroup_fixture *f = fixture_or_skip(state);
	struct cgroup_config config = config_of(f, "x");
	struct cgroup_root root;
	struct rlimit before, few;
	int first = dup(0), r = -EMFILE;
	unsigned failures = 0;

	close(first);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = before;
	for (few.rlim_cur = (rlim_t)first; r == -EMFILE; few.rlim_cur++) {
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
		r = cgroup_open(&root, &config);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
		if (r) {
			failures++;
			assert_int_equal(count_open(), f->n_fds);
		}
		if (r && group_exists(f->path, "clove-x")) {
			/* Removing takes a descriptor as well; then the next start does it. */
			struct cgroup_root next;

			assert_int_equal(cgroup_open(&next, &config), 0);
			assert_true(next.agents >= 0);
			cgroup_close(&next);
		}
		assert_true(r == 0 || !group_exists(f->path, "clove-x"));
	}
	assert_int_equal(r, 0);
	assert_in_range(failures, 4, 20);
	expect_usable(&root);
	cgroup_close(&root);
}

#define CGROUP_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_init, fixture_deinit)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CGROUP_TEST(closing_ends_everything_and_leaves_nothing),
		CGROUP_TEST(leftovers_of_a_killed_predecessor_are_ended_and_removed),
		CGROUP_TEST(a_living_predecessor_is_left_alone),
		CGROUP_TEST(a_group_that_only_has_the_name_is_left_alone),
		CGROUP_TEST(two_of_them_do_not_see_each_other),
		CGROUP_TEST(supervisors_move_out_of_the_way_and_back),
		CGROUP_TEST(a_second_launcher_finds_the_subtree_again),
		CGROUP_TEST(another_user_works_in_a_delegated_group),
		CGROUP_TEST(another_user_without_delegation_is_told_so),
		CGROUP_TEST(systemd_must_have_delegated_the_controllers),
		CGROUP_TEST(a_delegated_subgroup_gives_way_to_its_parent),
		CGROUP_TEST(without_a_hierarchy_it_says_so),
		CGROUP_TEST(a_read_only_hierarchy_is_named),
		CGROUP_TEST(without_descriptors_it_fails_and_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
