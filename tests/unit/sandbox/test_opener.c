/* SPDX-License-Identifier: MIT */

/*
 * Tests of sandbox/opener.c: regular files and nothing else, as the user and nobody else.
 */

#include "tests/unit/sandbox/fixture.h"

#include <linux/openat2.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "sandbox/opener.h"
#include "sandbox/packet.h"

struct files {
	struct fixture *fixture;
	char dir[32];
	int opener;
};

static int setup(void **state)
{
	static struct files files;

	if (fixture_setup(state))
		return -1;
	files.fixture = *state;
	strcpy(files.dir, "/tmp/clove-test-XXXXXX");
	if (!mkdtemp(files.dir) ||
	    opener_start(&files.fixture->launcher, getuid(), getgid(), NULL, 0, &files.opener))
		return -1;
	*state = &files;
	return 0;
}

static int teardown(void **state)
{
	struct files *f = *state;
	struct launch_spec spec = make_spec((const char *const[]){"rm", "-r", f->dir, NULL});

	assert_int_equal(run(f->fixture, &spec).status, 0);
	fd_close(f->opener);
	*state = f->fixture;
	return fixture_teardown(state);
}

static int open_as(int opener, const char *base, const char *path, int flags, uint64_t resolve,
		   int *ret_fd)
{
	struct open_request request = {
		.path = path,
		.path_len = strlen(path),
		.base = base,
		.flags = flags,
		.mode = 0640,
		.resolve = resolve,
	};

	return opener_open(opener, &request, ret_fd);
}

static void expect_result(struct files *f, const char *path, int flags, int result)
{
	int fd = -1;

	assert_int_equal(open_as(f->opener, f->dir, path, flags, 0, &fd), result);
	assert_int_equal(fd, -1);
}

static int expect_open(struct files *f, const char *path, int flags)
{
	int fd = -1;

	assert_int_equal(open_as(f->opener, f->dir, path, flags, 0, &fd), 0);
	assert_true(fd >= 0);
	return fd;
}

static void write_file(struct files *f, const char *name, const char *text)
{
	int fd = expect_open(f, name, O_WRONLY | O_CREAT | O_TRUNC);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void expect_text(struct files *f, const char *name, const char *text)
{
	char got[64];

	read_all(expect_open(f, name, O_RDONLY), got, sizeof(got));
	assert_string_equal(got, text);
}

static const char *in_dir(const struct files *f, const char *name)
{
	static char paths[2][128];
	static unsigned i;

	i ^= 1;
	(void)snprintf(paths[i], sizeof(paths[i]), "%s/%s", f->dir, name);
	return paths[i];
}

static void file_is_made_written_and_read(void **state)
{
	struct files *f = *state;
	struct stat st;
	int fd;

	write_file(f, "note", "first text");
	expect_text(f, "note", "first text");
	expect_text(f, in_dir(f, "note"), "first text");
	assert_int_equal(stat(in_dir(f, "note"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	write_file(f, "note", "second");
	expect_text(f, "note", "second");
	fd = expect_open(f, "note", O_WRONLY | O_APPEND);
	assert_int_equal(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE), O_WRONLY);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(write(fd, "+", 1), 1);
	close(fd);
	expect_text(f, "note", "second+");
	expect_result(f, "note", O_WRONLY | O_CREAT | O_EXCL, -EEXIST);
	expect_result(f, "absent", O_RDONLY, -ENOENT);
	expect_result(f, "", O_RDONLY, -ENOENT);
}

static void what_is_not_a_regular_file_is_refused(void **state)
{
	struct files *f = *state;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(mkdir(in_dir(f, "sub"), 0700), 0);
	expect_result(f, "sub", O_RDONLY, -EISDIR);
	expect_result(f, "sub", O_WRONLY, -EISDIR);
	expect_result(f, ".", O_RDONLY, -EISDIR);
	/* Nobody is at the other end of the FIFO: a blocking open would hang. */
	assert_int_equal(mkfifo(in_dir(f, "fifo"), 0600), 0);
	expect_result(f, "fifo", O_RDONLY, OPEN_E_NOT_REGULAR);
	expect_result(f, "fifo", O_WRONLY, OPEN_E_NOT_REGULAR);
	expect_result(f, "fifo", O_WRONLY | O_CREAT | O_TRUNC, OPEN_E_NOT_REGULAR);
	expect_result(f, "/dev/null", O_RDWR, OPEN_E_NOT_REGULAR);
	expect_result(f, "/dev/zero", O_WRONLY | O_TRUNC, OPEN_E_NOT_REGULAR);
	strcpy(address.sun_path, in_dir(f, "sock"));
	assert_int_equal(bind(sock, (struct sockaddr *)&address, sizeof(address)), 0);
	expect_result(f, "sock", O_RDWR, OPEN_E_NOT_REGULAR);
	close(sock);
}

static void symlinks_are_followed_as_asked(void **state)
{
	struct files *f = *state;
	int fd = -1;

	write_file(f, "note", "text");
	assert_int_equal(symlink("note", in_dir(f, "link")), 0);
	assert_int_equal(symlink("made", in_dir(f, "dangling")), 0);
	assert_int_equal(symlink("/etc/passwd", in_dir(f, "outside")), 0);
	expect_text(f, "link", "text");
	expect_result(f, "link", O_RDONLY | O_NOFOLLOW, -ELOOP);
	expect_result(f, "dangling", O_WRONLY | O_CREAT | O_EXCL, -EEXIST);
	expect_result(f, "dangling", O_WRONLY | O_CREAT | O_NOFOLLOW, -ELOOP);
	assert_int_equal(access(in_dir(f, "made"), F_OK), -1);
	write_file(f, "dangling", "through");
	expect_text(f, "made", "through");

	assert_int_equal(open_as(f->opener, f->dir, "outside", O_RDONLY, RESOLVE_BENEATH, &fd),
			 -EXDEV);
	assert_int_equal(open_as(f->opener, f->dir, "../x", O_RDONLY, RESOLVE_BENEATH, &fd),
			 -EXDEV);
	assert_int_equal(open_as(f->opener, f->dir, "/etc/passwd", O_RDONLY, RESOLVE_BENEATH, &fd),
			 -EXDEV);
	assert_int_equal(open_as(f->opener, f->dir, "/etc/passwd", O_RDONLY, RESOLVE_IN_ROOT, &fd),
			 -ENOENT);
	assert_int_equal(fd, -1);
}

/* Behind these are the root, the directory and the descriptors of the opener itself. */
static void magic_links_are_never_followed(void **state)
{
	struct files *f = *state;
	int fd = -1;

	expect_result(f, "/proc/self/root/etc/passwd", O_RDONLY, -ELOOP);
	expect_result(f, "/proc/self/cwd/etc/passwd", O_RDONLY, -ELOOP);
	expect_result(f, "/proc/self/fd/3", O_RDWR, -ELOOP);
	expect_result(f, "/proc/self/exe", O_RDONLY, -ELOOP);
	assert_int_equal(symlink("/proc/self/cwd/clove-made", in_dir(f, "magic")), 0);
	expect_result(f, "magic", O_WRONLY | O_CREAT, -ELOOP);
	assert_int_equal(open_as(f->opener, "/proc/self/root", "etc/passwd", O_RDONLY, 0, &fd),
			 -ELOOP);
}

static void request_that_is_not_one_is_refused(void **state)
{
	struct files *f = *state;
	struct open_request request = {.path = "note\0x", .path_len = 6, .base = f->dir};
	char path[SPEC_PATH_MAX + 2];
	int fd = -1;

	write_file(f, "note", "text");
	assert_int_equal(opener_open(f->opener, &request, &fd), -EINVAL);
	expect_result(f, "note", O_RDONLY | O_TRUNC, -EINVAL);
	expect_result(f, "absent", O_RDONLY | O_CREAT | O_TRUNC, -EINVAL);
	assert_int_equal(access(in_dir(f, "absent"), F_OK), -1);
	expect_result(f, "note", O_PATH | O_CREAT, -EINVAL);
	expect_result(f, "note", O_PATH | O_TRUNC, -EINVAL);
	expect_result(f, "sub", O_RDONLY | O_DIRECTORY, -EINVAL);
	expect_result(f, ".", O_RDWR | O_TMPFILE, -EINVAL);
	assert_int_equal(open_as(f->opener, NULL, "note", O_RDONLY, 0, &fd), -EINVAL);
	assert_int_equal(open_as(f->opener, "tmp", "note", O_RDONLY, 0, &fd), -EINVAL);
	assert_int_equal(open_as(f->opener, f->dir, "note", O_RDONLY, 1ull << 40, &fd), -EINVAL);
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	expect_result(f, path, O_RDONLY, -ENAMETOOLONG);
	assert_int_equal(fd, -1);
	expect_text(f, "note", "text");
}

static void expect_bad_message(struct files *f, const void *body, size_t len, const int *fds,
			       unsigned n_fds)
{
	const struct packet_head head = {.op = PACKET_OPEN};
	struct packet answer = {0};

	assert_int_equal(packet_send(f->opener, &head, body, len, fds, n_fds, 0), 0);
	assert_int_equal(packet_recv(f->opener, &answer, 0), 0);
	assert_int_equal(answer.head.op, PACKET_OPENED);
	assert_int_equal(answer.head.arg, -EBADMSG);
	assert_int_equal(answer.n_fds, 0);
}

/*
 * The opener, too, believes nothing: lengths that lie, a NUL inside, descriptors nobody asked
 * for.
 */
static void garbage_does_not_confuse_the_opener(void **state)
{
	struct {
		struct packet_open open;
		char bytes[16];
	} body = {.open = {.base_len = 4, .path_len = 4}, .bytes = "/tmp\0note"};
	const size_t len = sizeof(body.open) + 10;
	struct files *f = *state;

	expect_bad_message(f, NULL, 0, NULL, 0);
	expect_bad_message(f, &body, len - 1, NULL, 0);
	expect_bad_message(f, &body, len + 1, NULL, 0);
	expect_bad_message(f, &body, len, (int[]){STDERR_FILENO}, 1);
	body.bytes[7] = '\0';
	expect_bad_message(f, &body, len, NULL, 0);
	body.bytes[7] = 't';
	body.bytes[4] = 'x';
	expect_bad_message(f, &body, len, NULL, 0);
	body.open.base_len = UINT32_MAX;
	body.open.path_len = 10;
	expect_bad_message(f, &body, len, NULL, 0);
	write_file(f, "note", "text");
	expect_text(f, "note", "text");
}

static void many_opens_leave_no_descriptor_behind(void **state)
{
	struct files *f = *state;
	pid_t launcher = f->fixture->launcher.pid;
	struct rlimit limit, low = {.rlim_cur = 32};
	int before = count_fds(getpid()), first = f->opener;

	/* An opener that keeps one of a hundred has no room for the rest. */
	assert_int_equal(prlimit(launcher, RLIMIT_NOFILE, NULL, &limit), 0);
	low.rlim_max = limit.rlim_max;
	assert_int_equal(prlimit(launcher, RLIMIT_NOFILE, &low, NULL), 0);
	assert_int_equal(
		opener_start(&f->fixture->launcher, getuid(), getgid(), NULL, 0, &f->opener), 0);
	assert_int_equal(prlimit(launcher, RLIMIT_NOFILE, &limit, NULL), 0);
	write_file(f, "note", "text");
	for (unsigned i = 0; i < 100; i++) {
		close(expect_open(f, "note", O_RDONLY));
		expect_result(f, ".", O_RDONLY, -EISDIR);
		expect_result(f, "/dev/null", O_RDONLY, OPEN_E_NOT_REGULAR);
		expect_result(f, "note", O_WRONLY | O_CREAT | O_EXCL, -EEXIST);
		expect_bad_message(f, NULL, 0, (int[]){STDERR_FILENO}, 1);
	}
	close(first);
	assert_int_equal(count_fds(getpid()), before);
}

static void caller_out_of_descriptors_gets_emfile(void **state)
{
	struct files *f = *state;
	struct rlimit limit, low;
	int fd = -1, r;

	write_file(f, "note", "text");
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = (struct rlimit){(rlim_t)dup(0), limit.rlim_max};
	close((int)low.rlim_cur);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	r = open_as(f->opener, f->dir, "note", O_RDONLY, 0, &fd);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(r, -EMFILE);
	expect_text(f, "note", "text");
}

static void path_of_what_the_user_may_read_can_be_had(void **state)
{
	struct files *f = *state;
	const int path = O_PATH | O_NOFOLLOW;
	char byte;
	int fd;

	write_file(f, "note", "x");
	fd = expect_open(f, "note", path);
	assert_int_equal(read(fd, &byte, 1), -1);
	assert_int_equal(errno, EBADF);
	close(fd);
	close(expect_open(f, ".", path | O_RDWR));
	assert_int_equal(mkfifo(in_dir(f, "fifo"), 0600), 0);
	expect_result(f, "fifo", path, OPEN_E_NOT_REGULAR);
	expect_result(f, "/dev/null", path, OPEN_E_NOT_REGULAR);
	expect_result(f, "absent", path, -ENOENT);
}

static void path_of_what_the_user_may_not_read_cannot(void **state)
{
	struct files *f = *state;
	int opener, fd = -1;

	if (geteuid() != 0)
		skip();
	write_file(f, "secret", "x"); /* 0640 of root */
	write_file(f, "shown", "x");
	assert_int_equal(chmod(f->dir, 0755), 0);
	assert_int_equal(chmod(in_dir(f, "shown"), 0644), 0);
	assert_int_equal(opener_start(&f->fixture->launcher, 4242, 4242, NULL, 0, &opener), 0);
	assert_int_equal(open_as(opener, f->dir, "secret", O_PATH, 0, &fd), -EACCES);
	assert_int_equal(open_as(opener, f->dir, "shown", O_PATH | O_RDWR, 0, &fd), -EACCES);
	assert_int_equal(open_as(opener, f->dir, ".", O_PATH | O_RDWR, 0, &fd), -EACCES);
	assert_int_equal(open_as(opener, f->dir, "shown", O_PATH, 0, &fd), 0);
	close(fd);
	close(opener);
}

static void opener_has_its_users_rights_only(void **state)
{
	const gid_t group = 4243;
	struct files *f = *state;
	struct stat st;
	int opener, fd = -1;

	if (geteuid() != 0)
		skip();
	write_file(f, "secret", "x"); /* 0640 of root */
	write_file(f, "shared", "x");
	assert_int_equal(chmod(f->dir, 0777), 0);
	assert_int_equal(chown(in_dir(f, "shared"), 0, group), 0);
	assert_int_equal(opener_start(&f->fixture->launcher, 4242, 4242, &group, 1, &opener), 0);
	assert_int_equal(open_as(opener, f->dir, "secret", O_RDONLY, 0, &fd), -EACCES);
	assert_int_equal(open_as(opener, f->dir, "shared", O_RDONLY, 0, &fd), 0);
	close(fd);
	assert_int_equal(open_as(opener, f->dir, "shared", O_RDWR, 0, &fd), -EACCES);
	assert_int_equal(open_as(opener, f->dir, "own", O_WRONLY | O_CREAT, 0, &fd), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_uid, 4242);
	assert_int_equal(st.st_gid, 4242);
	close(fd);
	close(opener);
}

/* Each socket has one holder, whatever was forked in between: or closing it would end nobody. */
static void openers_end_with_their_socket_and_are_reaped(void **state)
{
	struct files *f = *state;
	struct launcher *launcher = &f->fixture->launcher;
	unsigned n = geteuid() == 0 ? 256 : 8;
	int openers[256], extra = -1;
	char path[64], children[4096];

	/* Eight of a user, 256 in all; one is the fixture's. */
	for (unsigned i = 1; i < n; i++)
		assert_int_equal(opener_start(launcher, i < 8 ? getuid() : 10000 + i / 8, getgid(),
					      NULL, 0, &openers[i]),
				 0);
	assert_int_equal(opener_start(launcher, getuid(), getgid(), NULL, 0, &extra), -EAGAIN);
	close(openers[1]);
	while (opener_start(launcher, getuid(), getgid(), NULL, 0, &openers[1]) == -EAGAIN)
		usleep(10000);
	if (n == 256)
		assert_int_equal(opener_start(launcher, 20000, getgid(), NULL, 0, &extra), -EAGAIN);
	for (unsigned i = 1; i < n; i++)
		close(openers[i]);

	/* Only the one of the fixture remains, not even a zombie. */
	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)launcher->pid,
		       (int)launcher->pid);
	for (unsigned i = 0; i < 600; i++) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		read_all(fd, children, sizeof(children));
		if (strchr(children, ' ') == strrchr(children, ' '))
			break;
		usleep(100000);
	}
	assert_ptr_equal(strchr(children, ' '), strrchr(children, ' '));

	/* A user may kill its opener. Another can be had. */
	assert_int_equal(kill((pid_t)strtol(children, NULL, 10), SIGKILL), 0);
	assert_int_equal(open_as(f->opener, "/", "etc/passwd", O_RDONLY, 0, &extra), OPEN_E_GONE);
	assert_int_equal(opener_start(launcher, getuid(), getgid(), NULL, 0, &extra), 0);
	close(extra);
}

#define OPENER_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		OPENER_TEST(file_is_made_written_and_read),
		OPENER_TEST(what_is_not_a_regular_file_is_refused),
		OPENER_TEST(symlinks_are_followed_as_asked),
		OPENER_TEST(magic_links_are_never_followed),
		OPENER_TEST(request_that_is_not_one_is_refused),
		OPENER_TEST(garbage_does_not_confuse_the_opener),
		OPENER_TEST(many_opens_leave_no_descriptor_behind),
		OPENER_TEST(caller_out_of_descriptors_gets_emfile),
		OPENER_TEST(path_of_what_the_user_may_read_can_be_had),
		OPENER_TEST(path_of_what_the_user_may_not_read_cannot),
		OPENER_TEST(opener_has_its_users_rights_only),
		OPENER_TEST(openers_end_with_their_socket_and_are_reaped),
	};

	(void)argc;
	fixture_launcher_main(argv);
	return cmocka_run_group_tests_name("opener", tests, NULL, NULL);
}
