/* SPDX-License-Identifier: MIT */

/*
 * Tests of sandbox/box_*.c: what a program sees in its box, and what it cannot do there
 */

#include "tests/unit/sandbox/box.h"

#include <sys/socket.h>

static void program_sees_its_box_and_nothing_of_the_host(void **state)
{
	expect_in_box(*state,
		      "id -u; id -g; id -un; hostname; pwd; echo $HOME; ls / | grep -v ^lib; "
		      "ls /proc/self/fd | wc -l; ls -d /proc/[0-9]* | wc -l",
		      "1000\n1000\nagent\nbox\n/workspace\n/workspace\n"
		      "bin\ndev\netc\nproc\nsbin\ntmp\nusr\nworkspace\n4\n3\n");
}

static void layers_name_what_is_in_force(void **state)
{
	struct fixture *f = *state;
	struct box *box = box_new_shell(true, "true"), *host = box_new_shell(false, "true");
	uint32_t expected = 1u << LAUNCH_LAYER_RLIMIT_MEMORY | 1u << LAUNCH_LAYER_RLIMIT_PIDS;
	struct launch_probe probe;

	for (int i = LAUNCH_LAYER_USER_NS; i <= LAUNCH_LAYER_SECCOMP; i++)
		expected |= 1u << i;
	expected &= ~(1u << (geteuid() ? LAUNCH_LAYER_NET_SHARED : LAUNCH_LAYER_NET_OWN));
	if (geteuid())
		expected &= ~(1u << LAUNCH_LAYER_OWN_UID);
	box->spec.box.limits.memory_bytes = 1 << 30;
	box->spec.box.limits.pids = 10;
	box_start(box, f->channel, BOX_ID);
	assert_int_equal(box->reply.layers, expected);
	assert_true(box->reply.landlock_abi >= 2);
	box_wait(box);
	box_free(box);

	box_start(host, f->channel, BOX_ID);
	assert_int_equal(host->reply.layers, 1u << LAUNCH_LAYER_NO_NEW_PRIVS);
	box_wait(host);
	box_free(host);

	assert_int_equal(launcher_probe(&f->launcher, &probe), 0);
	for (int i = 0; i < LAUNCH_LAYER_COUNT; i++) {
		if (expected & 1u << i && !probe.layers[i].on)
			fail_msg("%s is in force, yet off: %s",
				 launch_layer_name((enum launch_layer)i), probe.layers[i].reason);
		if (!probe.layers[i].on)
			assert_string_not_equal(probe.layers[i].reason, "");
	}
}

/* Python prints the name of the error of each attempt. */
#define ATTEMPTS                                                               \
	"import ctypes, errno, fcntl, os, socket\n"                            \
	"libc = ctypes.CDLL(None, use_errno=True)\n"                           \
	"def call(*a):\n"                                                      \
	"    if libc.syscall(*a) < 0: raise OSError(ctypes.get_errno(), '')\n" \
	"def attempt(f, *a):\n"                                                \
	"    try: f(*a); print('ok')\n"                                        \
	"    except OSError as e: print(errno.errorcode[e.errno])\n"

static void expect_attempts(struct fixture *f, struct box *box, const char *lines, const char *out)
{
	static char script[8192];
	const char *argv[] = {"/usr/bin/python3", "-ISc", script, NULL};

	(void)snprintf(script, sizeof(script), "%s%s", ATTEMPTS, lines);
	box->spec.argv = argv;
	box_expect_output(box, f->channel, out);
	box_free(box);
}

static void sockets_are_refused_but_pairs_work(void **state)
{
	expect_attempts(*state, box_new(NULL),
			"for f in (1, 2, 10, 16, 17, 38, 40): attempt(socket.socket, f, 1)\n"
			"attempt(socket.socket, 2, 2)\n"
			"attempt(socket.socketpair)\n"
			"attempt(socket.socketpair, 1, 5)\n"
			"attempt(socket.socketpair, 1, 2)\n"
			"a, b = socket.socketpair()\n"
			"attempt(a.bind, '\\0name'); attempt(a.connect, '\\0name')\n"
			"a.send(b'x'); print(b.recv(1))\n",
			"EAFNOSUPPORT\nEAFNOSUPPORT\nEAFNOSUPPORT\nEAFNOSUPPORT\nEAFNOSUPPORT\n"
			"EAFNOSUPPORT\nEAFNOSUPPORT\nEAFNOSUPPORT\nok\nok\nEACCES\nEACCES\nEACCES\n"
			"b'x'\n");
}

static void loopback_is_up_and_leads_nowhere(void **state)
{
	struct box *box = box_new(NULL);

	box->spec.box.net = LAUNCH_NET_LOOPBACK;
	box->spec.box.seccomp = LAUNCH_SECCOMP_LOOPBACK;
	expect_attempts(*state, box,
			"s = socket.create_server(('127.0.0.1', 0))\n"
			"c = socket.create_connection(s.getsockname()); print('up')\n"
			"u = socket.socket(2, 2)\n"
			"attempt(u.connect, ('192.0.2.1', 53))\n"
			"attempt(socket.socket, 1, 1)\n"
			"attempt(socket.socket, 16, 3)\n"
			"attempt(socket.socket, 2, 3)\n"
			"attempt(socket.socket, 2, 1, 262)\n",
			"up\nENETUNREACH\nEAFNOSUPPORT\nEAFNOSUPPORT\nEACCES\nEPROTONOSUPPORT\n");
}

#if defined(__x86_64__)
static void calls_that_lead_out_are_refused(void **state)
{
	expect_attempts(*state, box_new(NULL),
			"attempt(call, 272, 0x10000000)\n"                   /* unshare user */
			"attempt(call, 56, 0x10000011, 0, 0, 0, 0)\n"        /* clone user */
			"attempt(call, 56, 0x20011 | 1 << 32, 0, 0, 0, 0)\n" /* clone mount */
			"attempt(call, 435, 0, 0)\n"                         /* clone3 */
			"attempt(call, 308, 0, 0)\n"                         /* setns */
			"attempt(call, 165, 0, 0, 0, 0, 0)\n"                /* mount */
			"attempt(call, 166, b'/tmp', 0)\n"                   /* umount2 */
			"attempt(call, 428, -100, b'/', 1)\n"                /* open_tree */
			"attempt(call, 430, b'tmpfs', 0)\n"                  /* fsopen */
			"attempt(call, 161, b'/tmp')\n"                      /* chroot */
			"attempt(call, 155, b'.', b'.')\n"                   /* pivot_root */
			"attempt(call, 101, 0, 0, 0, 0)\n"                   /* ptrace */
			"attempt(call, 310, 1, 0, 0, 0, 0, 0)\n"             /* process_vm_readv */
			"attempt(call, 425, 1, 0)\n"                         /* io_uring_setup */
			"attempt(call, 321, 0, 0, 0)\n"                      /* bpf */
			"attempt(call, 298, 0, 0, 0, 0, 0)\n"                /* perf_event_open */
			"attempt(call, 323, 0)\n"                            /* userfaultfd */
			"attempt(call, 250, 0, 0, 0)\n"                      /* keyctl */
			"attempt(call, 135, 8)\n"                            /* personality */
			"attempt(call, 304, 0, 0, 0)\n"                      /* open_by_handle_at */
			"attempt(call, 246, 0, 0, 0, 0)\n"                   /* kexec_load */
			"attempt(call, 16, 0, 0x5412, b'x')\n"               /* ioctl TIOCSTI */
			"attempt(call, 16, 0, 0x5412 | 1 << 32, b'x')\n"
			"attempt(call, 16, 0, 0x541c, b'x')\n" /* TIOCLINUX */
			"attempt(call, 438, 1, 0, 0)\n"        /* pidfd_getfd */
			"attempt(os.mknod, '/tmp/null', 0o20666, os.makedev(1, 3))\n",
			"EPERM\nEPERM\nEPERM\nENOSYS\nEPERM\nEPERM\nEPERM\nEPERM\nEPERM\nEPERM\n"
			"EPERM\nEPERM\nEPERM\nENOSYS\nEPERM\nEPERM\nEPERM\nEPERM\nEPERM\nEPERM\n"
			"EPERM\nEPERM\nEPERM\nEPERM\nEPERM\nEACCES\n");
}

/* An x32 call, and one through the 32-bit gate by hand-made machine code. */
static void calls_of_other_architectures_kill(void **state)
{
	static const char *const scripts[] = {
		"import ctypes; ctypes.CDLL(None).syscall(0x40000000 | 39)",
		"import ctypes, mmap\n"
		"m = mmap.mmap(-1, 4096, prot=7)\n"
		"m.write(b'\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3')\n"
		"ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof("
		"ctypes.c_char.from_buffer(m)))()\n",
	};
	struct fixture *f = *state;

	for (int i = 0; i < 2; i++) {
		const char *const argv[] = {"/usr/bin/python3", "-ISc", scripts[i], NULL};
		struct box *box = box_new(argv);

		box_start(box, f->channel, BOX_ID);
		assert_int_equal(box_wait(box).signal, SIGSYS);
		box_free(box);
	}
}
#endif

static void only_own_places_can_be_written(void **state)
{
	static const char paths[] =
		"for p in ('/x', '/usr/x', '/etc/passwd', '/dev/x', '/bin/sh', '/proc/x', "
		"'/etc/x', '/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/tmp/x', "
		"'/workspace/x', '/dev/shm/x', '/dev/null'):\n"
		"    attempt(open, p, 'w')\n";

	/* Without Landlock it is the mounts that say no. */
	for (int i = 0; i < 2; i++) {
		struct box *box = box_new(NULL);

		if (i == 0) {
			box->spec.box.flags &= ~(uint32_t)LAUNCH_BOX_LANDLOCK;
			expect_attempts(*state, box, paths,
					"EROFS\nEROFS\nEROFS\nEROFS\nEROFS\nENOENT\nEROFS\nENOENT\n"
					"ENOENT\nok\nok\nok\nok\n");
		} else {
			expect_attempts(*state, box, paths,
					"EROFS\nEROFS\nEROFS\nEROFS\nEROFS\nENOENT\nEROFS\nENOENT\n"
					"ENOENT\nok\nok\nok\nok\n");
		}
	}
}

/* A directory of the host whose descriptor got in: Landlock is what is left to say no. */
static void landlock_holds_where_a_descriptor_leaked(void **state)
{
	struct fixture *f = *state;

	for (int landlock = 0; landlock < 2; landlock++) {
		struct box *box = box_new(NULL);

		box->spec.box.socket_fd = box_add_fd(box, open("/", O_PATH | O_DIRECTORY));
		if (!landlock)
			box->spec.box.flags &= ~(uint32_t)LAUNCH_BOX_LANDLOCK;
		expect_attempts(f, box, "attempt(lambda: os.open('etc/passwd', 0, dir_fd=3))\n",
				landlock ? "EACCES\n" : "ok\n");
	}
}

static void init_cannot_be_seen_or_touched(void **state)
{
	expect_attempts(*state, box_new(NULL),
			"attempt(os.kill, 1, 9)\n"
			"attempt(os.listdir, '/proc/1')\n"
			"attempt(open, '/proc/1/mem')\n"
			"attempt(os.setuid, 0)\n"
			"attempt(os.setgroups, [0])\n"
			"attempt(os.chown, '/tmp', 0, 0)\n"
			"attempt(os.nice, -1)\n",
			"EPERM\nENOENT\nENOENT\nEINVAL\nEPERM\nEINVAL\nEPERM\n");
}

static void ordinary_programs_work(void **state)
{
	expect_attempts(
		*state, box_new(NULL),
		"import multiprocessing, subprocess, threading, tempfile\n"
		"def child(q): q.put(os.getpid() > 0)\n"
		"if __name__ == '__main__':\n"
		"    multiprocessing.set_start_method('fork')\n"
		"    q = multiprocessing.Queue()\n"
		"    p = multiprocessing.Process(target=child, args=(q,)); p.start()\n"
		"    print(q.get()); p.join()\n"
		"    ts = [threading.Thread(target=lambda: tempfile.mkdtemp()) for _ in range(9)]\n"
		"    for t in ts: t.start()\n"
		"    for t in ts: t.join()\n"
		"    print(subprocess.run(['bash', '-c', 'cat <(echo hi)'], capture_output=True)"
		".stdout)\n"
		"    os.makedirs('/workspace/a/b'); open('/workspace/a/f', 'w').close()\n"
		"    os.rename('/workspace/a/f', '/workspace/a/b/f'); os.mkfifo('/tmp/fifo')\n",
		"True\nb'hi\\n'\n");
}

static void limits_are_those_of_the_spec(void **state)
{
	struct fixture *f = *state;
	struct box *box = box_new_shell(
		true, "ulimit -n; ulimit -Hn; ulimit -f; ulimit -v; ulimit -c; ulimit -d; nice; "
		      "head -c 40000000 /dev/zero > /tmp/big; stat -c %s /tmp/big; "
		      "echo $(sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 1 & done' 2>&1 "
		      "| grep -c fork)");

	box->spec.box.rlimits = (struct launch_rlimits){
		.nofile = 64,
		.fsize_bytes = 100 << 20,
		.as_bytes = 1 << 30,
	};
	box->spec.box.limits.memory_bytes = 512 << 20;
	box->spec.box.limits.pids = 6;
	box->spec.box.nice = 5;
	box->spec.box.tmp_bytes = 1 << 20;
	box_expect_output(box, f->channel, "64\n64\n204800\n1048576\n0\n524288\n5\n1048576\n1\n");
	box_free(box);
}

static void binds_appear_where_they_were_asked_for(void **state)
{
	struct fixture *f = *state;
	struct box *box = box_new_shell(true, "cat /opt/a/b/in; cat /data; touch /opt/a/b/x; "
					      "echo out > /mnt/w/out; cat /mnt/w/out; ls /opt/a; "
					      "cat /workspace/sub/in");
	char path[128], target[144], text[4096];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/ro", box->dir);
	assert_int_equal(mkdir(path, 0755), 0);
	(void)snprintf(target, sizeof(target), "%s/in", path);
	fd = open(target, O_WRONLY | O_CREAT, 0644);
	assert_int_equal(write(fd, "in\n", 3), 3);
	close(fd);
	box_bind(box, path, "/opt/a/b", 0);
	box_bind(box, target, "/data", 0);
	box_bind(box, path, "/workspace/sub", 0);
	(void)snprintf(path, sizeof(path), "%s/rw", box->dir);
	close(open_dir(box->dir, "rw"));
	box_bind(box, path, "/mnt/w", LAUNCH_BIND_RW);
	box_expect_output(box, f->channel, "in\nin\nout\nb\nin\n");
	box_read_log(box, "stderr.log", text, sizeof(text));
	assert_non_null(strstr(text, "Read-only file system"));
	box_free(box);
}

/* What an earlier life of the agent left in its workspace must not lead a mount astray. */
static void link_in_the_workspace_is_no_place_to_mount(void **state)
{
	struct fixture *f = *state;
	struct box *box = box_new_shell(true, "true");
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/workspace/sub", box->dir);
	assert_int_equal(symlink("/etc", path), 0);
	box_bind(box, box->dir, "/workspace/sub/ssl", 0);
	box_expect_failure(box, f->channel, LAUNCH_STEP_MOUNT_BINDS, ENOTDIR);
	box_free(box);
}

static void workspace_can_be_in_memory(void **state)
{
	struct fixture *f = *state;
	struct box *box = box_new_shell(true, "head -c 9000000 /dev/zero > big; stat -c %s big");

	close(box->fds[--box->n_fds]);
	box->spec.box.workspace_fd = SPEC_NO_FD;
	box->spec.box.workspace_bytes = 8 << 20;
	box_expect_output(box, f->channel, "8388608\n");
	box_free(box);
}

static void program_gets_its_connection_the_door_and_nothing_else(void **state)
{
	struct fixture *f = *state;
	struct box *box = box_new_shell(true, "ls /proc/self/fd | tr '\\n' ' '; read line <&3; "
					      "echo $line >&3");
	char text[64] = "";
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	box->spec.box.socket_fd = box_add_fd(box, pair[1]);
	assert_int_equal(write(pair[0], "hello\n", 6), 6);
	box_start(box, f->channel, BOX_ID);
	assert_int_equal(box_wait(box).code, 0);
	assert_int_equal(read(pair[0], text, sizeof(text)), 6);
	assert_string_equal(text, "hello\n");
	close(pair[0]);
	box_read_log(box, "stdout.log", text, sizeof(text));
	assert_string_equal(text, "0 1 2 3 4 5 "); /* the door, and the directory that ls reads */
	box_free(box);
}

static void failed_steps_are_named(void **state)
{
	struct fixture *f = *state;
	struct box *box = box_new((const char *const[]){"/no/such", NULL});

	box_expect_failure(box, f->channel, LAUNCH_STEP_EXEC, ENOENT);
	box_free(box);

	box = box_new_shell(true, "true");
	box->spec.cwd = "/no/such";
	box_expect_failure(box, f->channel, LAUNCH_STEP_CWD, ENOENT);
	box_free(box);

	box = box_new_shell(true, "true");
	box_bind(box, "/etc/passwd", "/workspace/a", 0);
	box_bind(box, "/etc/passwd", "/workspace/a/b", 0);
	box_expect_failure(box, f->channel, LAUNCH_STEP_MOUNT_BINDS, ENOTDIR);
	box_free(box);

	box = box_new_shell(true, "true");
	box_bind(box, "/etc/passwd", "/usr/no/such", 0);
	box_expect_failure(box, f->channel, LAUNCH_STEP_MOUNT_BINDS, ENOENT);
	box_free(box);

	/* Not a directory, and a directory that nobody may write to. */
	box = box_new_shell(true, "true");
	close(box->fds[1]);
	box->fds[1] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	box_expect_failure(box, f->channel, LAUNCH_STEP_LOGS, ENOTDIR);
	box_free(box);

	/* As many as named, but not a descriptor for each. */
	box = box_new_shell(true, "true");
	close(box->fds[--box->n_fds]);
	box_expect_failure(box, f->channel, LAUNCH_STEP_DESCRIPTORS, EBADMSG);
	box_free(box);

	if (geteuid() != 0) {
		box = box_new_shell(true, "true");
		box->spec.uid = 1;
		box_expect_failure(box, f->channel, LAUNCH_STEP_ID_MAP, EPERM);
		box_free(box);
	}
}

#define BOX_TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOX_TEST(program_sees_its_box_and_nothing_of_the_host),
		BOX_TEST(layers_name_what_is_in_force),
		BOX_TEST(sockets_are_refused_but_pairs_work),
		BOX_TEST(loopback_is_up_and_leads_nowhere),
#if defined(__x86_64__)
		BOX_TEST(calls_that_lead_out_are_refused),
		BOX_TEST(calls_of_other_architectures_kill),
#endif
		BOX_TEST(only_own_places_can_be_written),
		BOX_TEST(landlock_holds_where_a_descriptor_leaked),
		BOX_TEST(init_cannot_be_seen_or_touched),
		BOX_TEST(ordinary_programs_work),
		BOX_TEST(limits_are_those_of_the_spec),
		BOX_TEST(binds_appear_where_they_were_asked_for),
		BOX_TEST(link_in_the_workspace_is_no_place_to_mount),
		BOX_TEST(workspace_can_be_in_memory),
		BOX_TEST(program_gets_its_connection_the_door_and_nothing_else),
		BOX_TEST(failed_steps_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
