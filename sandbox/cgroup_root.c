/* SPDX-License-Identifier: MIT */

/*
 * cgroup v2: Clove's own subtree, from finding the hierarchy to leaving it as it was
 *
 * Three things tell a subtree left by a killed predecessor from one that is not to be touched: its name
 * has the id of the data directory; it bears a mark, which also remembers what was switched on in
 * <base>; and no living process locks it. The lock is a POSIX record lock on a file that nothing else
 * here opens: such a lock ends with its process and is not inherited by what the launcher clones.
 *
 * Whatever goes wrong is put into words and leaves groups or one controller off. Only what would go
 * wrong everywhere, no memory or no descriptors, is an error.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "sandbox/cgroup_controllers.h"
#include "sandbox/cgroup_place.h"
#include "sandbox/cgroup_priv.h"

#define MARK  "user.clove"
#define PROBE ".probe" /* no agent can be called so */

enum {
	LOCK_TRIES = 20,
	LOCK_PAUSE_MS = 10, /* a predecessor that was just killed needs a moment to let go */
};

/* Groups are off, and with them everything else. */
__attribute__((format(printf, 2, 3))) static int refuse(struct cgroup_root *root,
							const char *format, ...)
{
	struct cgroup_state state = {0};
	va_list args;

	va_start(args, format);
	(void)vsnprintf(state.why, sizeof(state.why), format, args);
	va_end(args);
	for (unsigned i = 0; i < CGROUP_N_FEATURES; i++)
		root->states[i] = state;
	return CGROUP_E_OFF;
}

/* The same for a system call that failed, unless it would fail anywhere. */
static int refuse_errno(struct cgroup_root *root, int error, const char *what, const char *path)
{
	if (error == EMFILE || error == ENFILE || error == ENOMEM)
		return err_raise(-error);
	return refuse(root, "cannot %s %s: %s", what, path, strerror(error));
}

static int open_base(struct cgroup_root *root, const struct cgroup_place *place)
{
	struct statfs fs;

	root->base = open(place->base, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root->base < 0 || fstatfs(root->base, &fs) < 0)
		return refuse_errno(root, errno, "open", place->base);
	if (fs.f_type != CGROUP2_SUPER_MAGIC)
		return refuse(root, "%s is not a cgroup2 group", place->base);
	root->origin = open(place->origin, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root->origin < 0)
		return refuse_errno(root, errno, "open", place->origin);
	return 0;
}

static int write_mark(struct cgroup_root *root)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%x", root->base_on);

	return fsetxattr(root->dir, MARK, text, (size_t)len, 0) < 0 ? -errno : 0;
}

/* Whether this is a subtree of ours, made by a Clove that is no more. */
static int take_over(struct cgroup_root *root)
{
	struct stat st;
	char text[16];
	ssize_t len;

	if (fstat(root->dir, &st) < 0)
		return refuse_errno(root, errno, "look at", root->path);
	len = fgetxattr(root->dir, MARK, text, sizeof(text) - 1);
	if (len < 0 || st.st_uid != geteuid())
		return refuse(root, "%s was not made by Clove, or by another user: remove it",
			      root->path);
	text[len] = '\0';
	root->base_on = (uint32_t)strtoul(text, NULL, 16);
	return 0;
}

static int lock(struct cgroup_root *root)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	root->lock = openat(root->dir, "cgroup.max.depth", O_RDWR | O_CLOEXEC);
	if (root->lock < 0)
		return refuse_errno(root, errno, "write in", root->path);
	for (unsigned i = 0; i < LOCK_TRIES; i++) {
		if (!fcntl(root->lock, F_SETLK, &lock))
			return 0;
		(void)usleep(LOCK_PAUSE_MS * 1000);
	}
	(void)fcntl(root->lock, F_GETLK, &lock);
	return refuse(root, "%s is used by another Clove, process %d", root->path, (int)lock.l_pid);
}

static int make_dir(struct cgroup_root *root, const struct cgroup_place *place)
{
	bool made = !mkdirat(root->base, root->name, 0755);
	int r = 0;

	if (!made && (errno == EACCES || errno == EPERM))
		return refuse(root,
			      "%s is not delegated to user %u: start Clove in a unit or scope "
			      "with Delegate=yes",
			      place->base, (unsigned)geteuid());
	if (!made && errno != EEXIST)
		return refuse_errno(root, errno, "make a group in", place->base);

	root->dir = openat(root->base, root->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (root->dir < 0) {
		r = refuse_errno(root, errno, "open", root->path);
	} else if (!made) {
		r = take_over(root);
		if (!r)
			r = lock(root);
	} else {
		/* The mark comes last: nobody takes over what is not locked yet. */
		r = lock(root);
		if (!r) {
			r = write_mark(root);
			if (r)
				r = refuse_errno(root, -r, "mark", root->path);
		}
	}
	if (r && made)
		(void)unlinkat(root->base, root->name, AT_REMOVEDIR);
	return r;
}

static int remove_agent(int dirfd, const char *name, void *arg)
{
	struct cgroup_root *root = arg;

	/* A name that is too long for the list is none of ours. */
	if (cgroup_file_remove_tree(dirfd, name) == -EBUSY && strlen(name) <= CGROUP_NAME_MAX)
		return cgroup_retire(root, name);
	return 0;
}

/* Ends what is in agents/, waits for it, removes the groups or keeps their names for a sweep. */
static int clear_agents(struct cgroup_root *root)
{
	struct cgroup_events events = {0};
	int r;

	(void)cgroup_events(root->agents, &events);
	if (events.populated) {
		(void)cgroup_kill(root->agents);
		(void)cgroup_file_wait_empty(root->agents, CGROUP_WAIT_MS);
	}
	r = cgroup_file_each_child(root->agents, remove_agent, root);
	return r < 0 ? err_raise(r) : 0;
}

static int make_agents(struct cgroup_root *root)
{
	static const struct cgroup_limits none;
	uint32_t enforced;

	for (unsigned n = 0; n < 2; n++) {
		bool made = !mkdirat(root->dir, "agents", 0755);

		if (!made && errno != EEXIST)
			return refuse_errno(root, errno, "make a group in", root->path);
		root->agents = openat(root->dir, "agents", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (root->agents < 0)
			return refuse_errno(root, errno, "open agents in", root->path);
		if (made)
			return 0;
		if (clear_agents(root) < 0)
			return -ENOMEM;
		/* Made anew, it has none of the settings of its predecessor. */
		if (root->n_retired || unlinkat(root->dir, "agents", AT_REMOVEDIR) < 0)
			break;
		root->agents = fd_close(root->agents);
	}
	(void)cgroup_freeze(root->agents, false);
	(void)cgroup_limit(root->agents, &none, &enforced);
	return 0;
}

/* Starts a process in a group, as a launch would. 0 or -errno. */
static int probe_clone(int dirfd)
{
	struct clone_args args = {.flags = CLONE_INTO_CGROUP};
	pid_t pid;

	args.cgroup = (unsigned)dirfd;
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));

	if (pid == 0)
		(void)syscall(SYS_exit_group, 0);
	if (pid < 0)
		return -errno;
	while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
		;
	return 0;
}

static int probe(struct cgroup_root *root)
{
	CLEANUP(fd_closep) int dirfd = -1;
	int r;

	if (mkdirat(root->agents, PROBE, 0755) < 0 && errno != EEXIST)
		return refuse_errno(root, errno, "make a group in", root->path);
	dirfd = openat(root->agents, PROBE, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return refuse_errno(root, errno, "open a group in", root->path);
	r = probe_clone(dirfd);
	if (r)
		r = refuse_errno(root, -r, "start a process in a group of", root->path);

	if (root->states[CGROUP_MEMORY].on && faccessat(dirfd, "memory.swap.max", F_OK, 0) < 0 &&
	    !access("/proc/swaps", F_OK))
		(void)snprintf(root->states[CGROUP_MEMORY].why, CGROUP_WHY_MAX,
			       "what an agent has in swap is not counted: no memory.swap.max");
	return remove_agent(root->agents, PROBE, root) ? -ENOMEM : r;
}

static void find_features(struct cgroup_root *root)
{
	struct cgroup_state *freeze = &root->states[CGROUP_FREEZE];
	struct cgroup_state *kill = &root->states[CGROUP_KILL];

	root->states[CGROUP_GROUPS].on = true;
	freeze->on = !faccessat(root->agents, "cgroup.freeze", F_OK, 0);
	if (!freeze->on)
		(void)snprintf(freeze->why, sizeof(freeze->why), "it takes Linux 5.2");
	kill->on = !faccessat(root->agents, "cgroup.kill", F_OK, 0);
	if (!kill->on)
		(void)snprintf(kill->why, sizeof(kill->why),
			       "it takes Linux 5.14; a group is frozen and signalled instead");
}

static void remove_subtree(struct cgroup_root *root)
{
	if (root->agents >= 0) {
		(void)clear_agents(root);
		(void)unlinkat(root->dir, "agents", AT_REMOVEDIR);
	}
	cgroup_controllers_stop(root);
	(void)unlinkat(root->base, root->name, AT_REMOVEDIR);
}

/* Without the lock, nothing in the subtree is ours. */
static void release(struct cgroup_root *root, bool locked)
{
	if (locked)
		remove_subtree(root);
	root->agents = fd_close(root->agents);
	(void)cgroup_sweep(root, root->n_retired);
	root->lock = fd_close(root->lock);
	root->dir = fd_close(root->dir);
	root->origin = fd_close(root->origin);
	root->base = fd_close(root->base);
}

void cgroup_init(struct cgroup_root *root)
{
	*root = (struct cgroup_root){.base = -1, .dir = -1, .agents = -1, .origin = -1, .lock = -1};
	list_init(&root->retired);
}

int cgroup_open(struct cgroup_root *root, const struct cgroup_config *config)
{
	struct cgroup_place place;
	bool locked = false;
	int r;

	CHECK(cgroup_name_is_valid(config->id));
	cgroup_init(root);
	(void)snprintf(root->name, sizeof(root->name), "clove-%s", config->id);

	r = cgroup_place_find(&place, root->name, config->parent);
	if (r == CGROUP_E_OFF)
		(void)refuse(root, "%s", place.why);
	if (!r)
		r = open_base(root, &place);
	if (!r) {
		cgroup_place_look(&place, root->base, config->parent != NULL);
		(void)snprintf(root->path, sizeof(root->path), "%s/%s", place.base, root->name);
		r = make_dir(root, &place);
		locked = !r;
	}
	if (!r)
		r = make_agents(root);
	if (!r) {
		cgroup_controllers_start(root, &place, config);
		(void)write_mark(root);
		find_features(root);
		r = probe(root);
	}
	if (r)
		release(root, locked);
	return r == CGROUP_E_OFF ? 0 : err_trace(r);
}

void cgroup_close(struct cgroup_root *root)
{
	release(root, root->agents >= 0);
}
