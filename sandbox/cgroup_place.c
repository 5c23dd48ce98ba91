/* SPDX-License-Identifier: MIT */

/*
 * Where in the hierarchy Clove's subtree goes
 *
 *   our group                                 <base>
 *   /                                         the same: no systemd, or a container of our own
 *   .../clove.service, .../x.scope            the same
 *   .../clove.service/NAME                    .../clove.service, if delegated: DelegateSubgroup=NAME
 *   <base>/clove-<id>/supervisor              <base>: the launcher has been started again
 *
 * systemd marks what it delegates with an extended attribute. A process may be in a group that its
 * mounts do not show (another cgroup namespace, a bind mount): then there is no place.
 */

#include "sandbox/cgroup_place.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "sandbox/cgroup_priv.h"

static void close_streamp(FILE **file)
{
	if (*file)
		(void)fclose(*file);
}

/* Our group from the top of the hierarchy, and what v1 has: lines of number:controllers:path. */
static int read_own(char own[CGROUP_PATH_MAX], char *v1, size_t v1_size)
{
	CLEANUP(close_streamp) FILE *file = fopen("/proc/self/cgroup", "re");
	CLEANUP(freep) char *line = NULL;
	size_t size = 0, used = 0;

	own[0] = v1[0] = '\0';
	if (!file)
		return -errno;
	while (getline(&line, &size, file) > 0) {
		char *names = strchr(line, ':');
		char *path = names ? strchr(names + 1, ':') : NULL;

		if (!path)
			continue;
		*path++ = '\0';
		path[strcspn(path, "\n")] = '\0';
		if (!strncmp(line, "0:", 2))
			(void)snprintf(own, CGROUP_PATH_MAX, "%s", path);
		else if (used < v1_size)
			used += (size_t)snprintf(v1 + used, v1_size - used, "%s,", names + 1);
	}
	return 0;
}

/* mountinfo writes blanks and backslashes as \ and three octal digits. */
static void unescape(char *text)
{
	char *to = text;
	unsigned byte;

	for (const char *from = text; *from;) {
		if (*from == '\\' && sscanf(from + 1, "%3o", &byte) == 1) {
			*to++ = (char)byte;
			from += 4;
		} else {
			*to++ = *from++;
		}
	}
	*to = '\0';
}

/* Where @group is in the file system. 0, -ENOENT without a mount that shows it, or -errno. */
static int find_path(const char *group, char path[CGROUP_PATH_MAX], bool *ret_mounted)
{
	CLEANUP(close_streamp) FILE *file = fopen("/proc/self/mountinfo", "re");
	CLEANUP(freep) char *line = NULL;
	size_t size = 0;

	*ret_mounted = false;
	if (!file)
		return -errno;
	while (getline(&line, &size, file) > 0) {
		char top[CGROUP_PATH_MAX], mount[CGROUP_PATH_MAX];
		const char *type = strstr(line, " - ");
		const char *below;
		size_t len;

		if (!type || strncmp(type, " - cgroup2 ", 11) != 0 ||
		    sscanf(line, "%*s %*s %*s %511s %511s", top, mount) != 2)
			continue;
		*ret_mounted = true;
		unescape(top);
		unescape(mount);
		len = strcmp(top, "/") ? strlen(top) : 0;
		if (strncmp(group, top, len) != 0 || !strchr("/", group[len]))
			continue;
		below = strcmp(group + len, "/") ? group + len : "";
		if (snprintf(path, CGROUP_PATH_MAX, "%s%s", mount, below) < CGROUP_PATH_MAX)
			return 0;
	}
	return -ENOENT;
}

static bool is_delegated(const char *path)
{
	char value[8] = "";

	/* Others than root cannot see the first; systemd sets the second for them since 251. */
	return (getxattr(path, "trusted.delegate", value, sizeof(value)) > 0 ||
		getxattr(path, "user.delegate", value, sizeof(value)) > 0) &&
	       value[0] == '1';
}

static bool ends_with(const char *text, size_t len, const char *end)
{
	size_t end_len = strlen(end);

	return len >= end_len && !strncmp(text + len - end_len, end, end_len);
}

static void cut_last(char *path)
{
	char *slash = strrchr(path, '/');

	if (slash && slash != path)
		*slash = '\0';
}

/* From our own group to the one that is to hold the subtree. */
static void climb(struct cgroup_place *place, const char *name)
{
	char tail[CGROUP_PATH_MAX], *parent = tail;
	size_t len = strlen(place->base);

	(void)snprintf(tail, sizeof(tail), "/%s/supervisor", name);
	if (ends_with(place->base, len, tail)) {
		place->base[len - strlen(tail)] = '\0';
		(void)snprintf(place->origin, sizeof(place->origin), "%s", place->base);
		return;
	}
	if (is_delegated(place->base) || ends_with(place->base, len, ".service") ||
	    ends_with(place->base, len, ".scope") || ends_with(place->base, len, ".slice"))
		return;
	(void)snprintf(tail, sizeof(tail), "%s", place->base);
	cut_last(parent);
	if (is_delegated(parent))
		(void)snprintf(place->base, sizeof(place->base), "%s", parent);
}

int cgroup_place_find(struct cgroup_place *place, const char *name, const char *parent)
{
	char own[CGROUP_PATH_MAX];
	bool mounted;
	int r;

	*place = (struct cgroup_place){0};
	r = read_own(own, place->v1, sizeof(place->v1));
	if (!r)
		r = find_path(own, place->origin, &mounted);
	if (!r && parent)
		r = find_path(parent, place->base, &mounted);
	else if (!r)
		(void)snprintf(place->base, sizeof(place->base), "%s", place->origin);

	if (r == -EMFILE || r == -ENFILE || r == -ENOMEM)
		return err_raise(r);
	if (r) {
		(void)snprintf(place->why, sizeof(place->why),
			       r != -ENOENT ? "cannot read /proc/self/cgroup or mountinfo"
			       : !mounted   ? "no cgroup2 hierarchy is mounted"
					    : "no cgroup2 mount shows the group Clove is in");
		return CGROUP_E_OFF;
	}
	if (!parent)
		climb(place, name);
	return 0;
}

void cgroup_place_look(struct cgroup_place *place, int base, bool chosen)
{
	(void)cgroup_file_read(base, "cgroup.controllers", place->offered, sizeof(place->offered));
	(void)cgroup_file_read(base, "cgroup.subtree_control", place->switched,
			       sizeof(place->switched));
	place->top = faccessat(base, "cgroup.type", F_OK, 0) < 0;
	place->delegated =
		chosen || access("/run/systemd/system", F_OK) < 0 || is_delegated(place->base);
}
