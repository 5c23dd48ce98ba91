/* SPDX-License-Identifier: MIT */

/*
 * Tests of sandbox/opener.c and opener_serve.c: regular files and nothing else, as the user and nobody
 * else.
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
	struct opener *opener;
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
	(void)opener_close(f->opener);
	*state = f->fixture;
	return fixture_teardown(state);
}

/* Sends and waits. What opener_send() or opener_recv() say, or the reply's result. */
static int ask(struct opener *opener, const struct open_request *request,
	       struct open_reply *ret_reply)
{
	int r = opener_send(opener, request);

	while (!r) {
		await(opener->sock, POLLIN);
		r = opener_recv(opener, ret_reply);
		if (!r)
			return ret_reply->result;
		if (r == OPEN_E_WAIT)
			r = 0;
	}
	return r;
}

static int open_as(struct opener *opener, const char *base, const char *path, int flags,
		   uint64_t resolve, int *ret_fd)
{
	struct open_request request = {
		.path = path,
		.path_len = strlen(path),
		.base = base,
		.flags = flags,
		.mode = 0640,
		.resolve = resolve,
		.into = -1,
	};
	struct open_reply reply = {.fd = -1};
	int r = ask(opener, &request, &reply);

	if (!r)
		*ret_fd = reply.fd;
	return r;
}

/* Starts one and has it open something: 0, or why it is of no use. */
static int start_and_open(const struct launcher *launcher, uid_t uid, struct opener **ret_opener)
{
	int fd = -1, r = opener_start(launcher, uid, getgid(), NULL, 0, ret_opener);

	if (!r)
		r = open_as(*ret_opener, "/", "etc/passwd", O_RDONLY, 0, &fd);
	(void)fd_close(fd);
	if (r)
		*ret_opener = opener_close(*ret_opener);
	return r;
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
	assert_int_equal(fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE), O_NONBLOCK | O_WRONLY);
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
	struct open_reply reply;
	int fd = -1;

	write_file(f, "note", "text");
	assert_int_equal(ask(f->opener, &request, &reply), -EINVAL);
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
	struct packet_opened opened;
	struct packet answer = {.body = &opened, .body_max = sizeof(opened)};

	if (!f->opener->ready)
		expect_result(f, "none", O_RDONLY, -ENOENT);
	assert_int_equal(packet_send(f->opener->sock, &head, body, len, fds, n_fds, 0), 0);
	assert_int_equal(packet_recv(f->opener->sock, &answer, 0), 0);
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
	struct opener *first = f->opener;
	int before = count_fds(getpid());

	/* An opener that keeps one of a hundred has no room for the rest. */
	assert_int_equal(prlimit(launcher, RLIMIT_NOFILE, NULL, &limit), 0);
	low.rlim_max = limit.rlim_max;
	assert_int_equal(prlimit(launcher, RLIMIT_NOFILE, &low, NULL), 0);
	assert_int_equal(start_and_open(&f->fixture->launcher, getuid(), &f->opener), 0);
	assert_int_equal(prlimit(launcher, RLIMIT_NOFILE, &limit, NULL), 0);
	write_file(f, "note", "text");
	for (unsigned i = 0; i < 100; i++) {
		close(expect_open(f, "note", O_RDONLY));
		expect_result(f, ".", O_RDONLY, -EISDIR);
		expect_result(f, "/dev/null", O_RDONLY, OPEN_E_NOT_REGULAR);
		expect_result(f, "note", O_WRONLY | O_CREAT | O_EXCL, -EEXIST);
		expect_bad_message(f, NULL, 0, (int[]){STDERR_FILENO}, 1);
	}
	(void)opener_close(first);
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
	struct opener *opener;
	int fd = -1;

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
	(void)opener_close(opener);
}

static void opener_has_its_users_rights_only(void **state)
{
	const gid_t group = 4243;
	struct files *f = *state;
	struct opener *opener;
	struct stat st;
	int fd = -1;

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
	(void)opener_close(opener);
}

/* Each socket has one holder, whatever was forked in between: or closing it would end nobody. */
static void openers_end_with_their_socket_and_are_reaped(void **state)
{
	struct files *f = *state;
	struct launcher *launcher = &f->fixture->launcher;
	unsigned n = geteuid() == 0 ? 256 : 8;
	struct opener *openers[256], *extra = NULL;
	char path[64], children[4096];
	int fd = -1, r;

	/* Eight of a user, 256 in all; one is the fixture's. */
	expect_result(f, "none", O_RDONLY, -ENOENT);
	for (unsigned i = 1; i < n; i++)
		assert_int_equal(
			start_and_open(launcher, i < 8 ? getuid() : 10000 + i / 8, &openers[i]), 0);
	assert_int_equal(start_and_open(launcher, getuid(), &extra), OPEN_E_MANY);
	openers[1] = opener_close(openers[1]);
	while ((r = start_and_open(launcher, getuid(), &openers[1])) == OPEN_E_MANY)
		usleep(10000);
	assert_int_equal(r, 0);
	if (n == 256)
		assert_int_equal(start_and_open(launcher, 20000, &extra), OPEN_E_MANY);
	for (unsigned i = 1; i < n; i++)
		(void)opener_close(openers[i]);

	/* Only the one of the fixture remains, not even a zombie. */
	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)launcher->pid,
		       (int)launcher->pid);
	for (unsigned i = 0; i < 600; i++) {
		read_all(open(path, O_RDONLY | O_CLOEXEC), children, sizeof(children));
		if (strchr(children, ' ') == strrchr(children, ' '))
			break;
		usleep(100000);
	}
	assert_ptr_equal(strchr(children, ' '), strrchr(children, ' '));

	/* A user may kill its opener. Another can be had. */
	assert_int_equal(kill((pid_t)strtol(children, NULL, 10), SIGKILL), 0);
	assert_int_equal(open_as(f->opener, "/", "etc/passwd", O_RDONLY, 0, &fd), OPEN_E_GONE);
	assert_int_equal(start_and_open(launcher, getuid(), &extra), 0);
	(void)opener_close(extra);
}

/* Number of the only child of @pid. */
static pid_t only_child(pid_t pid)
{
	char path[64], text[256];

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	read_all(open(path, O_RDONLY | O_CLOEXEC), text, sizeof(text));
	return (pid_t)strtol(text, NULL, 10);
}

/* Its user may stop it, or have it wait in a file system: it is killed all the same. */
static void closed_opener_is_killed_even_if_stopped(void **state)
{
	struct files *f = *state;
	struct open_request request = {.path = "none", .path_len = 4, .base = f->dir, .into = -1};
	struct open_reply reply;
	pid_t pid;

	expect_result(f, "none", O_RDONLY, -ENOENT);
	pid = only_child(f->fixture->launcher.pid);
	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(opener_send(f->opener, &request), 0);
	assert_int_equal(opener_recv(f->opener, &reply), OPEN_E_WAIT);
	f->opener = opener_close(f->opener);
	for (unsigned i = 0; i < 6000 && kill(pid, 0) == 0; i++)
		usleep(10000);
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(
		opener_start(&f->fixture->launcher, getuid(), getgid(), NULL, 0, &f->opener), 0);
	write_file(f, "note", "text");
}

static struct open_request contents(const char *path, enum open_kind kind, int flags)
{
	return (struct open_request){
		.kind = kind,
		.path = path,
		.path_len = strlen(path),
		.base = "/",
		.flags = flags,
		.mode = 0640,
		.length = OPENER_WINDOW_BYTES,
		.into = -1,
	};
}

static void contents_travel_through_the_window(void **state)
{
	struct files *f = *state;
	struct open_request q = contents(in_dir(f, "note"), OPEN_WRITE, O_WRONLY | O_CREAT);
	struct open_reply reply;

	q.data = "0123456789";
	q.length = 10;
	assert_int_equal(ask(f->opener, &q, &reply), 0);
	assert_int_equal(reply.done, 10);
	assert_int_equal(reply.size, 10);
	q.flags = O_WRONLY;
	q.data = "xy";
	q.length = 2;
	q.offset = 4;
	assert_int_equal(ask(f->opener, &q, &reply), 0);
	q.flags = O_WRONLY | O_APPEND;
	assert_int_equal(ask(f->opener, &q, &reply), 0);
	assert_int_equal(reply.size, 12);
	expect_text(f, "note", "0123xy6789xy");

	q = contents(in_dir(f, "note"), OPEN_READ, O_RDONLY);
	assert_int_equal(ask(f->opener, &q, &reply), 0);
	assert_int_equal(reply.done, 12);
	assert_true(reply.eof && reply.fd == -1);
	assert_memory_equal(f->opener->window, "0123xy6789xy", 12);
	q.offset = 3;
	q.length = 4;
	assert_int_equal(ask(f->opener, &q, &reply), 0);
	assert_memory_equal(f->opener->window, "3xy6", 4);
	assert_false(reply.eof);
	opener_trim(f->opener);
	assert_int_equal(ask(f->opener, &q, &reply), 0);
	q.length = OPENER_WINDOW_BYTES + 1;
	assert_int_equal(opener_send(f->opener, &q), -EINVAL);
	q = contents(in_dir(f, "note"), OPEN_WRITE, O_RDONLY);
	q.data = "";
	q.length = 0;
	assert_int_equal(ask(f->opener, &q, &reply), -EINVAL);
	q = contents(in_dir(f, "note"), OPEN_READ, O_RDWR);
	assert_int_equal(ask(f->opener, &q, &reply), -EINVAL);
}

static void file_is_copied_and_link_is_read(void **state)
{
	struct files *f = *state;
	struct open_request q;
	struct open_reply reply;
	char got[64];

	write_file(f, "note", "text");
	assert_int_equal(symlink("note", in_dir(f, "link")), 0);
	q = contents(in_dir(f, "link"), OPEN_COPY, O_RDONLY);
	q.into = open(in_dir(f, "copy"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	q.length = 4;
	assert_int_equal(ask(f->opener, &q, &reply), 0);
	assert_int_equal(reply.done, 4);
	assert_int_equal(lseek(q.into, 0, SEEK_SET), 0);
	q.length = 3;
	assert_int_equal(ask(f->opener, &q, &reply), -EFBIG);
	read_all(q.into, got, sizeof(got));
	assert_string_equal(got, "text");

	q = contents(in_dir(f, "link"), OPEN_LINK, O_RDONLY);
	assert_int_equal(ask(f->opener, &q, &reply), 0);
	assert_int_equal(reply.done, 4);
	assert_memory_equal(f->opener->window, "note", 4);
	q = contents(in_dir(f, "note"), OPEN_LINK, O_RDONLY);
	assert_int_equal(ask(f->opener, &q, &reply), -EINVAL);
	q = contents(in_dir(f, "absent"), OPEN_LINK, O_RDONLY);
	assert_int_equal(ask(f->opener, &q, &reply), -ENOENT);
}

/* A file that waits for something to happen: as a user, /proc/kmsg cannot even be opened. */
static void file_that_would_block_says_so(void **state)
{
	struct files *f = *state;
	struct open_request q = contents("/proc/kmsg", OPEN_READ, O_RDONLY);
	struct open_reply reply = {0};
	int r = 0;

	/* What is in it comes first, and need not end as the system goes on. */
	for (unsigned i = 0; i < 1000 && !r; i++)
		r = ask(f->opener, &q, &reply);
	assert_true(r == -EAGAIN || r == -EACCES || r == -EPERM || r == -ENOENT);
	write_file(f, "note", "text");
}

/* An answer to an earlier question is none to this one. */
static void answer_that_does_not_match_is_refused(void **state)
{
	struct files *f = *state;
	struct open_request q = contents("/etc/passwd", OPEN_READ, O_RDONLY);
	struct open_reply reply;
	int r = OPEN_E_WAIT;

	assert_int_equal(opener_send(f->opener, &q), 0);
	f->opener->last_id++;
	while (r == OPEN_E_WAIT) {
		await(f->opener->sock, POLLIN);
		r = opener_recv(f->opener, &reply);
	}
	assert_int_equal(r, -EBADMSG);
}

#define OPENER_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
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
		OPENER_TEST(closed_opener_is_killed_even_if_stopped),
		OPENER_TEST(contents_travel_through_the_window),
		OPENER_TEST(file_is_copied_and_link_is_read),
		OPENER_TEST(file_that_would_block_says_so),
		OPENER_TEST(answer_that_does_not_match_is_refused),
	};

	return cmocka_run_group_tests_name("opener", tests, NULL, NULL);
}
