/* SPDX-License-Identifier: MIT */

/*
 * clove_kernel: from the command line to running cores, and back
 *
 * Order matters. The launcher comes first: it is exec'd with an empty environment while this process has
 * no thread, no key, no raised limit. Then the kernel takes its data directory and socket and gives up
 * its capabilities, before any thread starts: they belong to threads, not to the process. From then on
 * only the launcher is privileged. Core 0 starts last because it accepts clients.
 *
 * The main thread then waits for signals and for the launcher's end. SIGTERM or SIGINT drains, a second
 * one ends at once.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/agent_home.h"
#include "core/agent_table.h"
#include "core/base/cleanup.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/config.h"
#include "core/data_dir.h"
#include "core/directory.h"
#include "core/files.h"
#include "core/kernel.h"
#include "core/openers.h"
#include "core/shard.h"
#include "core/state.h"
#include "sandbox/cgroup.h"
#include "sandbox/launch.h"

/* A message for whoever typed the command, beside the log. */
#define FATAL(...)                                                   \
	do {                                                         \
		(void)fprintf(stderr, "clove_kernel: " __VA_ARGS__); \
		(void)fputc('\n', stderr);                           \
	} while (0)

enum {
	EXIT_USAGE = 2,
	ECHO_MS = 100,
	PRIORITY = -10, /* nice: about nine times the share of others */
	STRAYS_MS = 20, /* to the first look; each takes twice as long as the one before, up to: */
	STRAYS_MAX_MS = 1000,
	EPHEMERAL_WAIT_MS = 30000, /* to delete all that was made */
};

static uint64_t stopping_ns; /* when the first signal came; read by the handler of the second */

/* ---- process ---- */

/*
 * Descriptors 0 to 2 that were closed when we were started would become something else's: the log, and whatever
 * prints, would write into a client's connection.
 */
static bool stdio_open(void)
{
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return false;
	return true;
}

static int signals_open(void)
{
	sigset_t set;
	int fd;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	/* Blocked before any thread starts, so all inherit it and only the descriptor delivers. */
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return err_raise(-errno);
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	return fd < 0 ? err_raise(-errno) : fd;
}

/*
 * Agents that take all the processor they can get must not keep the others from being answered: threads that are
 * made from here on run before them. The launcher, and all that it starts, does not.
 */
static void priority_raise(void)
{
	CLEANUP(fd_closep) int fd = -1;
	int r = 0;

	if (setpriority(PRIO_PROCESS, 0, PRIORITY) < 0)
		r = errno;
	/* Where sessions share the processor, that of a service has it to itself; a terminal's is not ours. */
	if (!r && getsid(0) == getpid())
		fd = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && dprintf(fd, "%d", PRIORITY) < 0)
		r = errno;
	if (r)
		log_info("priority-normal", "reason=\"%s\"", strerror(r));
}

static int privileges_drop(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {0};

	bool dropped =
		!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !syscall(SYS_capset, &header, none);

#ifndef __SANITIZE_ADDRESS__ /* its leak check at exit must trace this process */
	dropped = dropped && !prctl(PR_SET_DUMPABLE, 0);
#endif
	if (dropped)
		return 0;
	FATAL("capabilities cannot be dropped: %s", strerror(errno));
	return -1;
}

/* ---- kernel ---- */

static int lanes_new(struct kernel *kernel)
{
	for (unsigned from = 0; from < kernel->core_count + LIMIT_SIDE_THREADS; from++) {
		for (unsigned to = 0; to < kernel->core_count; to++) {
			struct lane *lane = aligned_alloc(64, sizeof(struct lane));

			if (!lane)
				return err_raise(-ENOMEM);
			memset(lane, 0, sizeof(*lane));
			kernel->lanes[from][to] = lane;
		}
	}
	return 0;
}

static int kernel_build(struct kernel *kernel)
{
	int r = users_new(kernel, &kernel->users);

	if (!r)
		kernel->user = users_own(kernel->users);
	if (!r)
		r = agent_table_new(kernel->core_count, &kernel->agents);
	if (!r)
		r = directory_new(&kernel->directory);
	if (!r)
		r = lanes_new(kernel);
	for (unsigned i = 0; !r && i < kernel->core_count; i++)
		r = shard_new(kernel, i, &kernel->shards[i]);
	if (!r)
		r = files_start(kernel, &kernel->files);
	if (!r)
		r = openers_start(kernel, &kernel->openers);
	if (!r)
		r = users_start(kernel->users);
	if (!r && state_open(kernel))
		return -1; /* it has complained */
	if (!r && getrandom(&kernel->epoch, sizeof(kernel->epoch), 0) != sizeof(kernel->epoch))
		r = err_raise(-EIO);
	kernel->epoch >>= 1; /* fits the signed integers of every client language */
	if (r)
		FATAL("the kernel cannot be built: %s%s", strerror(-r),
		      r == -EMFILE ? "; raise the limit of open files (ulimit -n)" : "");
	return err_trace(r);
}

static void kernel_free(struct kernel *kernel)
{
	for (unsigned i = 0; i < kernel->core_count; i++)
		kernel->shards[i] = shard_free(kernel->shards[i]);
	for (unsigned from = 0; from < kernel->core_count + LIMIT_SIDE_THREADS; from++)
		for (unsigned to = 0; to < kernel->core_count; to++)
			free(kernel->lanes[from][to]);
	kernel->agents = agent_table_free(kernel->agents);
	kernel->directory = directory_free(kernel->directory);
	agent_homes_forget(kernel);
	kernel->data_fd = fd_close(kernel->data_fd);
	kernel->agents_fd = fd_close(kernel->agents_fd);
	kernel->groups_fd = fd_close(kernel->groups_fd);
	kernel->trash_fd = fd_close(kernel->trash_fd);
	kernel->listen_fd = fd_close(kernel->listen_fd);
	strays_deinit(&kernel->strays);
	kernel->users = users_free(kernel->users);
}

static int io_choose(struct kernel *kernel)
{
	if (loop_probe(kernel->config->io, &kernel->io)) {
		FATAL("--io uring: %s; try --io auto", kernel->io.reason);
		return -1;
	}
	log_info("io-chosen", "backend=%s reason=\"%s\"", loop_backend_name(kernel->io.backend),
		 kernel->io.reason);
	return 0;
}

/* Under --ephemeral: a data directory of this run alone. */
static int ephemeral_make(struct config *config)
{
	const char *place = getenv("TMPDIR");
	char *path;

	if (!config->ephemeral)
		return 0;
	if (asprintf(&path, "%s/clove-XXXXXX", place && *place == '/' ? place : "/tmp") < 0)
		return err_raise(-ENOMEM);
	if (!mkdtemp(path)) {
		FATAL("%s: %s; name a directory you may write with TMPDIR", path, strerror(errno));
		free(path);
		return -1;
	}
	free(config->data_dir);
	config->data_dir = path;
	return 0;
}

/* What agents' uids own in it only the launcher may delete. */
static void ephemeral_remove(const struct kernel *kernel)
{
	struct pollfd done = {.events = POLLIN};

	if (!kernel->config->ephemeral || kernel->data_fd < 0)
		return;
	if (!launcher_remove(kernel->launcher, kernel->data_fd, &done.fd)) {
		(void)poll(&done, 1, EPHEMERAL_WAIT_MS);
		(void)close(done.fd);
	}
	if (rmdir(kernel->config->data_dir))
		log_warn("data-left", "path=\"%s\" reason=\"%s\"", kernel->config->data_dir,
			 strerror(errno));
}

static int data_open(struct kernel *kernel, int *ret_lock)
{
	const struct config *config = kernel->config;
	int r = data_dir_open(config->data_dir, &kernel->data_fd, ret_lock);

	if (!r)
		r = agent_homes_scan(kernel);
	if (!r)
		r = agent_trash_open(kernel);
	if (r == DATA_DIR_E_LOCKED)
		FATAL("%s: another kernel uses this data directory; stop it or give --data-dir",
		      config->data_dir);
	else if (r == DATA_DIR_E_FOREIGN)
		FATAL("%s: must belong to this user and be closed to others (chmod 700), or give --data-dir",
		      config->data_dir);
	else if (r)
		FATAL("%s: %s; give a directory you may write with --data-dir", config->data_dir,
		      strerror(-r));
	return r;
}

/* After the data directory: whoever has its lock owns the groups that go by it. */
static int groups_open(struct kernel *kernel)
{
	struct stat st;
	char id[CGROUP_NAME_MAX];
	int r = fstat(kernel->data_fd, &st) ? -errno : 0;

	(void)snprintf(id, sizeof(id), "%llx-%llx", (unsigned long long)st.st_dev,
		       (unsigned long long)st.st_ino);
	if (!r)
		r = launcher_cgroups(kernel->launcher, id, kernel->config->cgroup,
				     &kernel->groups_fd);
	if (!r)
		r = launcher_probe(kernel->launcher, &kernel->probe);
	if (r)
		FATAL("the launcher cannot set up agents' cgroups: %s",
		      r > 0 ? "it has ended" : strerror(-r));
	if (!r && kernel->config->require_limits && kernel->groups_fd < 0)
		log_warn("limits-unavailable", "effect=\"no agent can be started\"");
	return r;
}

static int socket_open(struct kernel *kernel)
{
	const char *path = kernel->config->socket_path;
	int r = listener_bind(path, kernel->config->socket_mode, &kernel->listen_fd,
			      &kernel->socket_file);

	if (r == LISTENER_E_LIVE)
		FATAL("%s: a kernel is already listening there; stop it or give --socket", path);
	else if (r == LISTENER_E_NOT_SOCKET)
		FATAL("%s: exists and is not a socket; remove it or give --socket", path);
	else if (r == LISTENER_E_FOREIGN)
		FATAL("%s: the socket of another user; give another path with --socket", path);
	else if (r == LISTENER_E_EXPOSED)
		FATAL("%s: others could replace a socket there: its directory must belong to root or this user, and if all may write there be sticky, as /tmp is; give another path with --socket",
		      path);
	else if (r == LISTENER_E_TOO_LONG)
		FATAL("%s: a socket path may have 107 bytes; give a shorter --socket", path);
	else if (r)
		FATAL("%s: %s; give another path with --socket", path, strerror(-r));
	return r;
}

static int cores_start(struct kernel *kernel)
{
	for (unsigned i = kernel->core_count; i-- > 0;) {
		int r = shard_start(kernel->shards[i]);

		if (r) {
			FATAL("core %u: %s", i, strerror(-r));
			return r;
		}
	}
	return 0;
}

static void drain(struct kernel *kernel)
{
	atomic_store(&kernel->draining, true);
	for (unsigned i = 0; i < kernel->core_count; i++)
		loop_wake(NULL, kernel->shards[i]->loop);
}

/* Returns when the first signal has come and the cores have ended. */
static void supervise(struct kernel *kernel, int signal_fd)
{
	struct pollfd fds[2] = {
		{.fd = signal_fd, .events = POLLIN},
		{.fd = kernel->launcher->pidfd, .events = POLLIN},
	};
	struct signalfd_siginfo info;
	int strays_ms = -1; /* to the next look for strays; -1: none */

	for (;;) {
		int n = poll(fds, 2, strays_ms);

		if (strays_ms > 0 && strays_end(kernel, false))
			strays_ms = -1;
		else if (strays_ms > 0 && strays_ms < STRAYS_MAX_MS)
			strays_ms *= 2;
		if (n <= 0)
			continue;
		if (fds[1].revents) {
			log_error("launcher-died",
				  "effect=\"no command can be started until a restart\"");
			atomic_store(&kernel->launcher_alive, false);
			launcher_reap(kernel->launcher);
			/* The inits see it too, but for those that are paused. Commands run on. */
			if (kernel->groups_fd >= 0)
				cgroup_kill_numbered(kernel->groups_fd);
			fds[1].fd = -1;
			strays_ms = STRAYS_MS;
		}
		if (fds[0].revents && read(signal_fd, &info, sizeof(info)) == sizeof(info)) {
			log_info("stopping", "signal=%u drain_ms=%d", info.ssi_signo,
				 LIMIT_DRAIN_MS);
			return;
		}
	}
}

/*
 * The second signal is "now", unless it is the first one's echo: timeout(1), for one, signals its child and
 * then the group.
 */
static void on_second_signal(int signo)
{
	if (clock_now_ns() - stopping_ns < ECHO_MS * CLOCK_NS_PER_MS)
		return;
	(void)signal(signo, SIG_DFL);
	(void)raise(signo);
}

static void signals_unblock(void)
{
	struct sigaction action = {.sa_handler = on_second_signal, .sa_flags = SA_RESTART};
	sigset_t set;

	stopping_ns = clock_now_ns();
	(void)sigaction(SIGTERM, &action, NULL);
	(void)sigaction(SIGINT, &action, NULL);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigprocmask(SIG_UNBLOCK, &set, NULL);
}

/* What agents will be confined by, and what is missing for it on this host. */
static void sandbox_report(const struct kernel *kernel)
{
	if (!kernel->config->sandbox)
		log_warn("sandbox-off", "effect=\"agents may do what this user may do\"");
	for (unsigned i = 0; kernel->config->sandbox && i < LAUNCH_LAYER_COUNT; i++)
		if (!kernel->probe.layers[i].on)
			log_info("layer-off", "layer=%s reason=\"%s\"",
				 launch_layer_name((enum launch_layer)i),
				 kernel->probe.layers[i].reason);
}

static int kernel_run(struct kernel *kernel, int signal_fd)
{
	bool threads_ended;

	sandbox_report(kernel);
	if (cores_start(kernel)) {
		listener_unbind(kernel->config->socket_path, &kernel->socket_file);
		return EXIT_FAILURE;
	}
	log_info("ready", "version=%s socket=\"%s\" cores=%u io=%s uid=%u pid=%d", CLOVE_VERSION,
		 kernel->config->socket_path, kernel->core_count,
		 loop_backend_name(kernel->io.backend), kernel->user->uid, getpid());
	supervise(kernel, signal_fd);
	signals_unblock();
	drain(kernel);
	for (unsigned i = 0; i < kernel->core_count; i++)
		shard_join(kernel->shards[i]);
	shards_drop_sent(kernel);
	state_close(kernel);
	if (!atomic_load(&kernel->launcher_alive))
		(void)strays_end(kernel, true);
	listener_unbind(kernel->config->socket_path, &kernel->socket_file);
	/* Openers and file threads ask the launcher for things: it goes after them. */
	openers_stop(kernel->openers);
	threads_ended = files_stop(kernel->files);
	threads_ended = users_stop(kernel->users) && threads_ended;
	ephemeral_remove(kernel);
	launcher_stop(kernel->launcher);
	log_info("stopped", "epoch=%llu", (unsigned long long)kernel->epoch);
	/* A thread that hangs in a file system or a user database still uses the kernel's memory: leave it be. */
	if (!threads_ended)
		_exit(EXIT_SUCCESS);
	kernel_free(kernel);
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	CLEANUP(config_deinit) struct config config = {0};
	CLEANUP(fd_closep) int lock = -1, signal_fd = -1;
	struct launcher launcher;
	struct kernel kernel = {.config = &config,
				.launcher = &launcher,
				.launcher_alive = true,
				.data_fd = -1,
				.agents_fd = -1,
				.groups_fd = -1,
				.trash_fd = -1,
				.homes_lock = PTHREAD_MUTEX_INITIALIZER,
				.strays = {.lock = PTHREAD_MUTEX_INITIALIZER}};
	int r;

	if (!stdio_open())
		return EXIT_FAILURE;
	r = config_read(&config, argc, argv);
	if (r)
		return r == CONFIG_E_EXIT ? EXIT_SUCCESS : EXIT_USAGE;
	log_init("", config.log_level);
	r = launcher_start(NULL, &launcher);
	if (r) {
		FATAL("clove-launcher, which belongs beside this program, cannot be started: %s. Build or install both together",
		      strerror(-r));
		return EXIT_FAILURE;
	}
	/* A reader of the log that goes away, a file that may not grow: errors, not the end. Children start anew. */
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGXFSZ, SIG_IGN);
	kernel.core_count = config.cores;
	kernel.start_ns = clock_now_ns();
	descriptors_init(&kernel.descriptors);
	signal_fd = signals_open();
	priority_raise();
	if (signal_fd < 0 || ephemeral_make(&config) || data_open(&kernel, &lock) ||
	    groups_open(&kernel) || socket_open(&kernel) || privileges_drop() ||
	    io_choose(&kernel) || kernel_build(&kernel)) {
		ephemeral_remove(&kernel);
		listener_unbind(config.socket_path, &kernel.socket_file);
		return EXIT_FAILURE;
	}
	return kernel_run(&kernel, signal_fd);
}
