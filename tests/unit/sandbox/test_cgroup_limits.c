/* SPDX-License-Identifier: MIT */

/*
 * Tests of the limits of sandbox/cgroup.c: that they hold, and are counted. They take a machine whose
 * controllers are with cgroup v2, which tests/vm provides.
 */

#include "tests/unit/sandbox/cgroup_fixture.h"

#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sysmacros.h>

static const struct cgroup_limits no_limits;

static struct cgroup_fixture *controllers_or_skip(void **state)
{
	struct cgroup_fixture *f = fixture_or_skip(state);

	if (!f->controllers) {
		print_message("skipped: the controllers are not with cgroup v2 here\n");
		skip();
	}
	return f;
}

/* Makes a group in which every limit asked for is enforced. */
static int make(struct cgroup_fixture *f, const char *name, struct cgroup_limits limits)
{
	uint32_t enforced;
	int dirfd;

	assert_int_equal(cgroup_make(&f->root, name, &limits, &dirfd, &enforced), 0);
	assert_int_equal(enforced, cgroup_asked(&limits));
	return dirfd;
}

static void expect_file(int dirfd, const char *file, const char *expected)
{
	char text[256];

	assert_int_equal(cgroup_file_read(dirfd, file, text, sizeof(text)), 0);
	text[strcspn(text, "\n")] = '\0';
	assert_string_equal(text, expected);
}

static void unmake(struct cgroup_fixture *f, const char *name, int dirfd)
{
	assert_true(await_empty(dirfd));
	close(dirfd);
	assert_int_equal(cgroup_remove(&f->root, name), 0);
}

static void every_limit_reaches_the_kernel_and_can_be_lifted(void **state)
{
	struct cgroup_fixture *f = controllers_or_skip(state);
	struct cgroup_limits limits = {.memory_bytes = 64 << 20, .cpu_quota_us = 20000, .pids = 10};
	int dirfd = make(f, "a", limits);
	uint32_t enforced;

	expect_file(dirfd, "memory.max", "67108864");
	expect_file(dirfd, "memory.swap.max", "0");
	expect_file(dirfd, "memory.oom.group", "1");
	expect_file(dirfd, "cpu.max", "20000 100000");
	expect_file(dirfd, "pids.max", "10");

	limits = (struct cgroup_limits){.cpu_quota_us = 250000};
	assert_int_equal(cgroup_limit(dirfd, &limits, &enforced), 0);
	assert_int_equal(enforced, CGROUP_BIT(CGROUP_CPU));
	expect_file(dirfd, "memory.max", "max");
	expect_file(dirfd, "memory.swap.max", "max");
	expect_file(dirfd, "cpu.max", "250000 100000");
	expect_file(dirfd, "pids.max", "max");
	unmake(f, "a", dirfd);
}

/* The other limits hold, and this one is not claimed. */
static void a_limit_the_kernel_refuses_is_missing(void **state)
{
	static const struct cgroup_limits limits = {
		.cpu_quota_us = 10, .pids = 5, .io_read_bytes = 1 << 20};
	struct cgroup_fixture *f = controllers_or_skip(state);
	struct cgroup_limits on_no_disk = limits;
	struct stat st;
	uint32_t enforced;
	int dirfd;

	assert_int_equal(cgroup_make(&f->root, "a", &limits, &dirfd, &enforced), 0);
	assert_int_equal(enforced, CGROUP_BIT(CGROUP_PIDS));
	assert_int_equal(stat("/dev/shm", &st), 0);
	on_no_disk.io_dev = st.st_dev;
	assert_int_equal(cgroup_limit(dirfd, &on_no_disk, &enforced), 0);
	assert_int_equal(enforced, CGROUP_BIT(CGROUP_PIDS));
	unmake(f, "a", dirfd);
}

/* Uses @arg MiB. */
static void eater(void *arg)
{
	size_t size = *(const size_t *)arg << 20;
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		_exit(2);
	for (size_t i = 0; i < size; i += 4096)
		*(volatile char *)(memory + i) = 1;
}

static void too_much_memory_ends_the_whole_group_and_no_other(void **state)
{
	struct cgroup_fixture *f = controllers_or_skip(state);
	struct cgroup_limits limits = {.memory_bytes = 32 << 20};
	int a = make(f, "a", limits), b = make(f, "b", limits);
	size_t little = 4, much = 256;
	struct cgroup_events events;
	struct cgroup_stats stats;
	pid_t bystander, hungry, other;

	bystander = start_in(a, sleeper, NULL);
	other = start_in(b, sleeper, NULL);
	assert_int_equal(wait_for(start_in(a, eater, &little)), 0);
	assert_int_equal(cgroup_stats(a, &stats), 0);
	assert_in_range(stats.memory_bytes, 0, 32 << 20);
	assert_int_equal(cgroup_events(a, &events), 0);
	assert_int_equal(events.oom_kill, 0);

	hungry = start_in(a, eater, &much);
	assert_true(killed(hungry));
	assert_true(killed(bystander));
	assert_true(await_empty(a));
	assert_int_equal(cgroup_events(a, &events), 0);
	assert_in_range(events.oom_kill, 2, 3); /* the first victim may count twice */
	assert_true(alive(other));
	assert_int_equal(cgroup_events(b, &events), 0);
	assert_int_equal(events.oom_kill, 0);
	assert_int_equal(cgroup_kill(b), 0);
	assert_true(killed(other));
	unmake(f, "a", a);
	unmake(f, "b", b);
}

/* One agent of two goes, as a whole, and agents without a limit have one together. */
static void a_limit_for_all_agents_together_ends_one_of_them(void **state)
{
	struct cgroup_fixture *f = controllers_or_skip(state);
	struct cgroup_limits limits = {.memory_bytes = 48 << 20};
	int a = make(f, "a", no_limits), b = make(f, "b", no_limits);
	size_t much = 256;
	uint32_t enforced;
	struct cgroup_events events;
	pid_t bystander, other;

	assert_int_equal(cgroup_limit(f->root.agents, &limits, &enforced), 0);
	assert_int_equal(enforced, CGROUP_BIT(CGROUP_MEMORY));
	bystander = start_in(a, sleeper, NULL);
	other = start_in(b, sleeper, NULL);
	assert_true(killed(start_in(a, eater, &much)));
	assert_true(killed(bystander));
	assert_true(alive(other));
	assert_int_equal(cgroup_events(a, &events), 0);
	assert_in_range(events.oom_kill, 2, 3); /* the first victim may count twice */
	assert_int_equal(cgroup_kill(b), 0);
	assert_true(killed(other));
	unmake(f, "a", a);
	unmake(f, "b", b);
}

static void spinner(void *arg)
{
	(void)arg;
	for (volatile unsigned n = 0;; n++)
		;
}

static uint64_t throttled(int dirfd)
{
	char text[CGROUP_TEXT_MAX];
	uint64_t n = 0;

	assert_int_equal(cgroup_file_read(dirfd, "cpu.stat", text, sizeof(text)), 0);
	assert_true(cgroup_file_field(text, "nr_throttled", &n));
	return n;
}

static void a_cpu_quota_throttles_until_it_is_lifted(void **state)
{
	struct cgroup_fixture *f = controllers_or_skip(state);
	int a = make(f, "a", (struct cgroup_limits){.cpu_quota_us = 10000});
	int b = make(f, "b", no_limits);
	pid_t slow = start_in(a, spinner, NULL), free_one = start_in(b, spinner, NULL);
	struct cgroup_stats stats = {0};
	uint32_t enforced;
	uint64_t n;

	while (throttled(a) < 3)
		(void)usleep(10000);
	assert_int_equal(throttled(b), 0);

	assert_int_equal(cgroup_limit(a, &no_limits, &enforced), 0);
	assert_int_equal(cgroup_stats(a, &stats), 0);
	n = throttled(a);
	/* Twenty quotas later it has not been held up again, but perhaps once by the old one. */
	for (uint64_t from = stats.cpu_us; stats.cpu_us < from + 200000; (void)usleep(10000))
		assert_int_equal(cgroup_stats(a, &stats), 0);
	assert_in_range(throttled(a), n, n + 1);
	assert_int_equal(cgroup_kill(a), 0);
	assert_int_equal(cgroup_kill(b), 0);
	assert_true(killed(slow));
	assert_true(killed(free_one));
	unmake(f, "a", a);
	unmake(f, "b", b);
}

/* Forks until it may not, and reports how often it could. */
static void forker(void *arg)
{
	int n = 0;

	while (n < 100) {
		pid_t pid = fork();

		if (pid == 0)
			sleeper(NULL);
		if (pid < 0)
			break;
		n++;
	}
	n = n < 100 && errno == EAGAIN ? n : -1;
	(void)!write(*(const int *)arg, &n, sizeof(n));
	sleeper(NULL);
}

static void forks_beyond_the_limit_fail_and_are_counted(void **state)
{
	struct cgroup_fixture *f = controllers_or_skip(state);
	struct cgroup_limits limits = {.pids = 10};
	int dirfd = make(f, "a", limits), ends[2], n = 0;
	struct cgroup_events events;
	struct cgroup_stats stats;
	uint32_t enforced;
	pid_t pid;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid = start_in(dirfd, forker, &ends[1]);
	assert_int_equal(read(ends[0], &n, sizeof(n)), sizeof(n));
	assert_int_equal(n, 9);
	assert_int_equal(cgroup_events(dirfd, &events), 0);
	assert_int_equal(events.pids_max, 1);
	assert_int_equal(cgroup_stats(dirfd, &stats), 0);
	assert_int_equal(stats.pids, 10);

	/* Clone itself is held to it, and can again once there is room. */
	assert_int_equal(start_in(dirfd, sleeper, NULL), -1);
	assert_int_equal(errno, EAGAIN);
	limits.pids = 11;
	assert_int_equal(cgroup_limit(dirfd, &limits, &enforced), 0);
	assert_int_equal(enforced, CGROUP_BIT(CGROUP_PIDS));
	pid_t eleventh = start_in(dirfd, sleeper, NULL);
	assert_true(eleventh > 0);
	assert_int_equal(cgroup_kill(dirfd), 0);
	assert_true(killed(pid));
	assert_true(killed(eleventh));
	close(ends[0]);
	close(ends[1]);
	unmake(f, "a", dirfd);
}

static int leaf_of(int dirfd)
{
	int leaf;

	assert_int_equal(cgroup_leaf(dirfd, CGROUP_SELF, &leaf), 0);
	return leaf;
}

/* Its own limit would allow more. */
static void what_an_agent_starts_counts_for_its_limits_too(void **state)
{
	struct cgroup_fixture *f = controllers_or_skip(state);
	int outer = make(f, "a", (struct cgroup_limits){.pids = 10}), leaf = leaf_of(outer);
	int inner, inner_leaf, ends[2], n = 0;
	struct cgroup_stats stats;
	pid_t first, pid;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	first = start_in(leaf, sleeper, NULL);
	inner = make(f, "a/b", (struct cgroup_limits){.pids = 50, .memory_bytes = 32 << 20});
	inner_leaf = leaf_of(inner);
	pid = start_in(inner_leaf, forker, &ends[1]);
	assert_int_equal(read(ends[0], &n, sizeof(n)), sizeof(n));
	assert_int_equal(n, 8);
	assert_int_equal(cgroup_stats(outer, &stats), 0);
	assert_int_equal(stats.pids, 10);
	assert_int_equal(cgroup_kill(outer), 0);
	assert_true(killed(pid));
	assert_true(killed(first));
	assert_true(await_empty(outer));
	close(ends[0]);
	close(ends[1]);
	close(leaf);
	close(inner_leaf);
	close(inner);
	unmake(f, "a", outer);
}

static uint64_t oom_kills(int dirfd)
{
	uint64_t kills;

	assert_int_equal(cgroup_oom_kills(dirfd, &kills), 0);
	return kills;
}

static void who_ran_out_of_memory_is_told_apart(void **state)
{
	struct cgroup_fixture *f = controllers_or_skip(state);
	int outer = make(f, "a", (struct cgroup_limits){.memory_bytes = 64 << 20});
	int leaf = leaf_of(outer), inner, inner_leaf;
	size_t much = 256;
	pid_t first = start_in(leaf, sleeper, NULL);

	inner = make(f, "a/b", (struct cgroup_limits){.memory_bytes = 16 << 20});
	inner_leaf = leaf_of(inner);
	assert_int_equal(oom_kills(inner), 0);
	assert_true(killed(start_in(inner_leaf, eater, &much)));
	assert_true(await_empty(inner));
	assert_true(oom_kills(inner) > 0);
	assert_int_equal(oom_kills(outer), 0);
	assert_true(alive(first));

	/* With controllers handed down its own are counted in the leaf. */
	assert_true(killed(start_in(leaf, eater, &much)));
	assert_true(killed(first));
	assert_true(await_empty(outer));
	assert_true(oom_kills(outer) > 0);
	close(leaf);
	close(inner_leaf);
	close(inner);
	unmake(f, "a", outer);
}

/* A loop device of 1 MiB with one partition. -1 and a reason where there are none. */
static int make_partitioned_disk(dev_t *ret_disk, dev_t *ret_partition)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), disk, file;
	struct loop_config config = {.info.lo_flags = LO_FLAGS_PARTSCAN | LO_FLAGS_AUTOCLEAR};
	unsigned char table[512] = {0};
	char path[64];
	struct stat st;

	(void)snprintf(path, sizeof(path), "/dev/loop%d",
		       control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE));
	(void)fd_close(control);
	disk = open(path, O_RDWR | O_CLOEXEC);
	file = memfd_create("disk", MFD_CLOEXEC);
	/* The first of four entries: type 0x83, sectors 64 to 1087. */
	table[446 + 4] = 0x83;
	table[446 + 8] = 64;
	table[446 + 13] = 4;
	table[510] = 0x55;
	table[511] = 0xaa;
	config.fd = (unsigned)file;
	if (ftruncate(file, 1 << 20) < 0 || pwrite(file, table, sizeof(table), 0) < 0 ||
	    ioctl(disk, LOOP_CONFIGURE, &config) < 0) {
		print_message("skipped: no loop device: %s\n", strerror(errno));
		(void)fd_close(file);
		return fd_close(disk);
	}
	close(file);
	assert_int_equal(fstat(disk, &st), 0);
	*ret_disk = st.st_rdev;
	(void)snprintf(path + strlen(path), sizeof(path) - strlen(path), "p1");
	assert_int_equal(stat(path, &st), 0);
	*ret_partition = st.st_rdev;
	return disk;
}

static void an_io_limit_goes_to_the_disk_that_holds_the_partition(void **state)
{
	struct cgroup_fixture *f = controllers_or_skip(state);
	struct cgroup_limits limits = {.io_read_bytes = 1 << 20, .io_write_bytes = 2 << 20};
	dev_t whole = 0, partition = 0;
	int disk, a, b;
	char text[128];
	uint32_t enforced;

	if (!cgroup_state(&f->root, CGROUP_IO)->on) {
		print_message("skipped: io: %s\n", cgroup_state(&f->root, CGROUP_IO)->why);
		skip();
	}
	disk = make_partitioned_disk(&whole, &partition);
	if (disk < 0)
		skip();
	limits.io_dev = whole;
	a = make(f, "a", limits);
	(void)snprintf(text, sizeof(text), "%u:%u rbps=1048576 wbps=2097152 riops=max wiops=max",
		       major(whole), minor(whole));
	expect_file(a, "io.max", text);
	limits.io_dev = partition;
	limits.io_read_bytes = 0;
	b = make(f, "b", limits);
	(void)snprintf(text, sizeof(text), "%u:%u rbps=max wbps=2097152 riops=max wiops=max",
		       major(whole), minor(whole));
	expect_file(b, "io.max", text);
	limits.io_write_bytes = 0;
	assert_int_equal(cgroup_limit(b, &limits, &enforced), 0);
	expect_file(b, "io.max", "");
	close(disk);
	unmake(f, "a", a);
	unmake(f, "b", b);
}

static void run_with_a_shell(void *arg)
{
	static const pid_t self = 0;
	struct cgroup_fixture *f = arg;
	struct cgroup_config config = {.id = "x", .pids = &self, .n_pids = 1};
	struct cgroup_root root;
	char why[64];
	pid_t shell;

	EXPECT(write_text(f->path, "cgroup.procs", "0"));
	shell = fork();
	if (shell == 0) {
		(void)prctl(PR_SET_NAME, "some-shell");
		sleeper(NULL);
	}
	while (!cgroup_open(&root, &config) &&
	       !strstr(cgroup_state(&root, CGROUP_CPU)->why, "some"))
		cgroup_close(&root);
	(void)snprintf(why, sizeof(why), "other processes (%d, some-shell)", (int)shell);
	for (unsigned i = CGROUP_MEMORY; i <= CGROUP_IO; i++) {
		EXPECT(!cgroup_state(&root, i)->on);
		EXPECT(strstr(cgroup_state(&root, i)->why, why));
	}
	EXPECT(cgroup_state(&root, CGROUP_KILL)->on);
	cgroup_close(&root);
	EXPECT(!kill(shell, SIGKILL));
	EXPECT(killed(shell));
	EXPECT(!cgroup_open(&root, &config));
	EXPECT(cgroup_state(&root, CGROUP_CPU)->on);
	cgroup_close(&root);
}

static void other_processes_in_the_way_are_named(void **state)
{
	struct cgroup_fixture *f = controllers_or_skip(state);

	in_child(run_with_a_shell, f);
}

#define CGROUP_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_open, fixture_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CGROUP_TEST(every_limit_reaches_the_kernel_and_can_be_lifted),
		CGROUP_TEST(a_limit_the_kernel_refuses_is_missing),
		CGROUP_TEST(too_much_memory_ends_the_whole_group_and_no_other),
		CGROUP_TEST(a_limit_for_all_agents_together_ends_one_of_them),
		CGROUP_TEST(a_cpu_quota_throttles_until_it_is_lifted),
		CGROUP_TEST(forks_beyond_the_limit_fail_and_are_counted),
		CGROUP_TEST(what_an_agent_starts_counts_for_its_limits_too),
		CGROUP_TEST(who_ran_out_of_memory_is_told_apart),
		CGROUP_TEST(an_io_limit_goes_to_the_disk_that_holds_the_partition),
		cmocka_unit_test_setup_teardown(other_processes_in_the_way_are_named, fixture_init,
						fixture_deinit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
