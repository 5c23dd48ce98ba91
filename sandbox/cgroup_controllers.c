/* SPDX-License-Identifier: MIT */

/*
 * Switching controllers on for agents, and off again
 *
 * <base> is the group Clove was started in: limits that somebody put on it go on holding. Processes
 * and switched-on controllers exclude each other in a group (except at the top), so kernel and
 * launcher move below, into supervisor/. Where systemd runs, controllers are touched only in what it
 * has delegated: it would switch them off again at its next reload, and limits would be gone without
 * a word.
 */

#include "sandbox/cgroup_controllers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "sandbox/cgroup_priv.h"

#define SUPERVISOR "supervisor"

enum { MOVE_PASSES = 4 };

static int move_pid(pid_t pid, void *arg)
{
	const int *dirfd = arg;
	char text[16];

	(void)snprintf(text, sizeof(text), "%d", (int)pid);
	return cgroup_file_write(*dirfd, "cgroup.procs", text);
}

/* 0 or -errno. */
static int move_supervisors(struct cgroup_root *root, const struct cgroup_config *config)
{
	CLEANUP(fd_closep) int supervisor = -1;
	int r = 0;

	if (mkdirat(root->dir, SUPERVISOR, 0755) < 0 && errno != EEXIST)
		return -errno;
	supervisor = openat(root->dir, SUPERVISOR, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (supervisor < 0)
		return -errno;
	for (unsigned i = 0; !r && i < config->n_pids; i++) {
		r = move_pid(config->pids[i], &supervisor);
		if (r == -ESRCH) /* it has ended */
			r = 0;
	}
	return r;
}

static int first_pid(pid_t pid, void *arg)
{
	*(pid_t *)arg = pid;
	return 1;
}

static void explain(struct cgroup_root *root, const struct cgroup_place *place,
		    enum cgroup_feature feature, int dirfd, int error)
{
	char *why = root->states[feature].why, path[64], comm[32] = "?";
	pid_t pid = 0;

	if (error == EBUSY && dirfd == root->base &&
	    cgroup_file_each_pid(dirfd, first_pid, &pid) == 1) {
		(void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
		(void)cgroup_file_read(AT_FDCWD, path, comm, sizeof(comm));
		comm[strcspn(comm, "\n")] = '\0';
		(void)snprintf(why, CGROUP_WHY_MAX,
			       "%.128s holds other processes (%d, %s): start Clove in a unit or "
			       "scope of its own",
			       place->base, (int)pid, comm);
		return;
	}
	(void)snprintf(why, CGROUP_WHY_MAX, "cannot switch it on %s %.128s: %s",
		       dirfd == root->base ? "in" : "below", place->base, strerror(error));
}

static void switch_on(struct cgroup_root *root, const struct cgroup_place *place,
		      enum cgroup_feature feature)
{
	const char *name = cgroup_feature_name(feature);
	struct cgroup_state *state = &root->states[feature];
	int dirs[] = {root->base, root->dir, root->agents};
	char text[16];

	if (!cgroup_file_has_word(place->offered, name)) {
		if (cgroup_file_has_word(place->v1, feature == CGROUP_IO ? "blkio" : name))
			(void)snprintf(state->why, sizeof(state->why),
				       "cgroup v1 holds it: boot with cgroup_no_v1=all");
		else
			(void)snprintf(state->why, sizeof(state->why), "%.128s does not offer it",
				       place->base);
		return;
	}
	(void)snprintf(text, sizeof(text), "+%s", name);
	for (unsigned i = 0; i < sizeof(dirs) / sizeof(*dirs); i++) {
		int r = 0;

		if (i == 0 && cgroup_file_has_word(place->switched, name))
			continue;
		r = cgroup_file_write(dirs[i], "cgroup.subtree_control", text);
		if (r) {
			explain(root, place, feature, dirs[i], -r);
			return;
		}
		if (i == 0)
			root->base_on |= CGROUP_BIT(feature);
	}
	state->on = true;
}

void cgroup_controllers_start(struct cgroup_root *root, const struct cgroup_place *place,
			      const struct cgroup_config *config)
{
	int r = 0;

	if (place->delegated && !place->top)
		r = move_supervisors(root, config);
	for (unsigned i = CGROUP_MEMORY; i <= CGROUP_IO; i++) {
		char *why = root->states[i].why;

		if (!place->delegated)
			(void)snprintf(why, CGROUP_WHY_MAX,
				       "systemd has not delegated %.128s: start Clove in a unit or "
				       "scope with Delegate=yes",
				       place->base);
		else if (r)
			(void)snprintf(why, CGROUP_WHY_MAX,
				       "cannot move Clove's own processes below %.128s: %s",
				       place->base, strerror(-r));
		else
			switch_on(root, place, i);
	}
}

/* Whether @name is neither our subtree nor the group that the supervisor processes go back to. */
static int other_group(int dirfd, const char *name, void *arg)
{
	const struct cgroup_root *root = arg;
	struct stat group, origin;

	if (!strcmp(name, root->name))
		return 0;
	return fstatat(dirfd, name, &group, AT_SYMLINK_NOFOLLOW) < 0 ||
	       fstat(root->origin, &origin) < 0 || group.st_ino != origin.st_ino;
}

/* Before anyone moves back: a group that has controllers switched on takes no processes. */
static void switch_off(struct cgroup_root *root)
{
	bool shared = cgroup_file_each_child(root->base, other_group, root) != 0;

	for (unsigned i = CGROUP_MEMORY; i <= CGROUP_IO; i++) {
		char text[16];

		(void)snprintf(text, sizeof(text), "-%s", cgroup_feature_name(i));
		(void)cgroup_file_write(root->dir, "cgroup.subtree_control", text);
		if (!shared && (root->base_on & CGROUP_BIT(i)))
			(void)cgroup_file_write(root->base, "cgroup.subtree_control", text);
	}
}

static void move_back(struct cgroup_root *root)
{
	CLEANUP(fd_closep) int supervisor = -1;

	supervisor = openat(root->dir, SUPERVISOR, O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* The list of processes shifts while they are moved. */
	for (unsigned i = 0; supervisor >= 0 && i < MOVE_PASSES; i++)
		(void)cgroup_file_each_pid(supervisor, move_pid, &root->origin);
}

void cgroup_controllers_stop(struct cgroup_root *root)
{
	switch_off(root);
	move_back(root);
	(void)unlinkat(root->dir, SUPERVISOR, AT_REMOVEDIR);
}
