/* SPDX-License-Identifier: MIT */

/*
 * The rules of a spec
 *
 * The kernel asks them beforehand, for words to give its client; the launcher asks them of what it
 * unpacked, for it trusts nobody. What can only be known by trying (a directory that is not there, a
 * namespace that this system refuses) is no rule: it fails the launch at its step.
 */

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "sandbox/spec_priv.h"

int spec_refuse(struct spec_reason *reterr_reason, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(reterr_reason->text, sizeof(reterr_reason->text), format, ap);
	va_end(ap);
	return SPEC_E_REFUSED;
}

static size_t count(const char *const *strings)
{
	size_t n = 0;

	while (strings[n])
		n++;
	return n;
}

static int check_command(const struct launch_spec *spec, struct spec_reason *reterr_reason)
{
	if (!spec->argv[0] || !*spec->argv[0])
		return spec_refuse(reterr_reason, "argv names no program");
	if (count(spec->argv) > SPEC_ARGS_MAX)
		return spec_refuse(reterr_reason, "argv has more than %d entries", SPEC_ARGS_MAX);
	if (count(spec->env) > SPEC_ARGS_MAX)
		return spec_refuse(reterr_reason, "env has more than %d entries", SPEC_ARGS_MAX);
	for (size_t i = 0; spec->env[i]; i++)
		if (*spec->env[i] == '=' || !strchr(spec->env[i], '='))
			return spec_refuse(reterr_reason, "env[%zu] is not NAME=value", i);
	if (*spec->cwd != '/')
		return spec_refuse(reterr_reason, "cwd is not an absolute path");
	if (strlen(spec->cwd) > SPEC_PATH_MAX)
		return spec_refuse(reterr_reason, "cwd is longer than %d bytes", SPEC_PATH_MAX);
	if (spec->cwd_or_root > 1)
		return spec_refuse(reterr_reason, "cwd_or_root is neither 0 nor 1");
	if (spec->umask & ~(mode_t)0777)
		return spec_refuse(reterr_reason, "umask has bits outside 0777");
	return 0;
}

static int check_identity(const struct launch_spec *spec, struct spec_reason *reterr_reason)
{
	/* To setresuid() -1 means "leave as it is", which would be root. */
	if (spec->uid == (uid_t)-1 || spec->gid == (gid_t)-1)
		return spec_refuse(reterr_reason, "uid and gid cannot be -1");
	if (spec->n_groups > SPEC_GROUPS_MAX)
		return spec_refuse(reterr_reason, "groups has more than %d entries",
				   SPEC_GROUPS_MAX);
	for (size_t i = 0; i < spec->n_groups; i++)
		if (spec->groups[i] == (gid_t)-1)
			return spec_refuse(reterr_reason, "groups[%zu] is -1", i);
	return 0;
}

/* Letters, digits and @more, at most SPEC_NAME_MAX, no leading dot or dash. */
static bool is_name(const char *name, const char *more)
{
	size_t len = strlen(name);

	if (len > SPEC_NAME_MAX || *name == '.' || *name == '-')
		return false;
	for (; *name; name++)
		if (!((*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
		      (*name >= '0' && *name <= '9') || strchr(more, *name)))
			return false;
	return true;
}

/* True if @path is @dir or below it. */
static bool is_within(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return !strncmp(path, dir, n) && (path[n] == '\0' || path[n] == '/');
}

/* True for "/a" and "/a/b": what is mounted is what is written. */
static bool is_plain_path(const char *path)
{
	if (strlen(path) > SPEC_PATH_MAX || *path != '/')
		return false;
	while (*path == '/') {
		size_t n = strcspn(++path, "/");

		if (n == 0 || n > 255 || (n == 1 && path[0] == '.') ||
		    (n == 2 && path[0] == '.' && path[1] == '.'))
			return false;
		path += n;
	}
	return true;
}

/* What the box itself needs cannot be covered, nor can what the kernel fills in. */
static bool is_target(const char *target)
{
	static const char *const own[] = {"/usr",   "/bin",    "/sbin", "/lib", "/lib32",
					  "/lib64", "/libx32", "/etc",  "/tmp", "/workspace"};
	static const char *const closed[] = {"/proc", "/dev", "/sys"};

	if (!is_plain_path(target))
		return false;
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (!strcmp(target, own[i]))
			return false;
	for (size_t i = 0; i < sizeof(closed) / sizeof(closed[0]); i++)
		if (is_within(target, closed[i]))
			return false;
	return true;
}

unsigned spec_fds(const struct launch_spec *spec)
{
	const struct launch_box *box = &spec->box;
	unsigned n = 0;

	if (spec->kind != LAUNCH_AGENT)
		return 3;
	n += box->stdin_fd != SPEC_NO_FD;
	n += box->socket_fd != SPEC_NO_FD;
	n += box->report_fd != SPEC_NO_FD;
	n += box->log_fd != SPEC_NO_FD;
	n += box->workspace_fd != SPEC_NO_FD;
	return n + (unsigned)box->n_binds;
}

/* Every one of the first n indices is used, so none is used twice and none is left over. */
static int check_fds(const struct launch_spec *spec, struct spec_reason *reterr_reason)
{
	const struct launch_box *box = &spec->box;
	const uint32_t fixed[] = {box->stdin_fd, box->socket_fd, box->report_fd, box->log_fd,
				  box->workspace_fd};
	unsigned n = spec_fds(spec), n_used = 0;
	bool used[SPEC_FDS_MAX] = {false};

	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]) + box->n_binds; i++) {
		uint32_t fd = i < sizeof(fixed) / sizeof(fixed[0])
				      ? fixed[i]
				      : box->binds[i - sizeof(fixed) / sizeof(fixed[0])].fd;

		if (fd == SPEC_NO_FD && i < sizeof(fixed) / sizeof(fixed[0]))
			continue;
		if (fd >= n)
			return spec_refuse(reterr_reason, "%u descriptors, but index %u", n, fd);
		n_used += !used[fd];
		used[fd] = true;
	}
	if (n_used != n)
		return spec_refuse(reterr_reason, "a descriptor is used twice");
	if (box->report_fd == SPEC_NO_FD)
		return spec_refuse(reterr_reason, "no descriptor for the report");
	return 0;
}

static int check_sandbox(const struct launch_spec *spec, struct spec_reason *reterr_reason)
{
	const struct launch_box *box = &spec->box;

	if (spec->uid == 0 || spec->gid == 0)
		return spec_refuse(reterr_reason, "a sandbox cannot be root's");
	if (!*box->hostname || !is_name(box->hostname, "-."))
		return spec_refuse(reterr_reason,
				   "hostname is not 1 to %d letters, digits, - and .",
				   SPEC_NAME_MAX);
	if (!box->tmp_bytes)
		return spec_refuse(reterr_reason, "tmp_bytes is 0");
	if ((box->workspace_fd == SPEC_NO_FD) != (box->workspace_bytes != 0))
		return spec_refuse(reterr_reason, "workspace is neither a directory nor in memory");
	if (box->workspace_quota && box->workspace_fd == SPEC_NO_FD)
		return spec_refuse(reterr_reason, "workspace_quota without a directory");
	/* All boxes in it share its abstract sockets: only a filter without socket() keeps them apart. */
	if (box->net == LAUNCH_NET_EMPTY && box->seccomp != LAUNCH_SECCOMP_STANDARD)
		return spec_refuse(reterr_reason, "the empty network needs the standard filter");
	if (box->bind_uid == (uid_t)-1 || box->bind_gid == (gid_t)-1)
		return spec_refuse(reterr_reason, "bind_uid and bind_gid cannot be -1");
	for (size_t i = 0; i < box->n_binds; i++) {
		if (!is_target(box->binds[i].target))
			return spec_refuse(reterr_reason, "binds[%zu] cannot go there", i);
		if (box->binds[i].flags & ~(uint32_t)LAUNCH_BIND_ALL)
			return spec_refuse(reterr_reason, "binds[%zu] has unknown flags", i);
	}
	return 0;
}

static int check_host_box(const struct launch_box *box, struct spec_reason *reterr_reason)
{
	if (box->flags & ~(uint32_t)LAUNCH_BOX_LIMITS || box->net != LAUNCH_NET_HOST ||
	    box->seccomp != LAUNCH_SECCOMP_NONE || box->n_binds ||
	    box->workspace_fd != SPEC_NO_FD || box->workspace_bytes || box->workspace_quota ||
	    box->tmp_bytes || box->bind_uid || box->bind_gid || *box->hostname)
		return spec_refuse(reterr_reason,
				   "part of a sandbox is asked for without namespaces");
	return 0;
}

static int check_box(const struct launch_spec *spec, struct spec_reason *reterr_reason)
{
	const struct launch_box *box = &spec->box;
	int r;

	if (box->flags &
	    ~(uint32_t)(LAUNCH_BOX_NAMESPACES | LAUNCH_BOX_LANDLOCK | LAUNCH_BOX_LIMITS))
		return spec_refuse(reterr_reason, "flags has unknown bits");
	if (box->net > LAUNCH_NET_LOOPBACK)
		return spec_refuse(reterr_reason, "net %u is not known", box->net);
	if (box->seccomp > LAUNCH_SECCOMP_TRUSTED)
		return spec_refuse(reterr_reason, "seccomp %u is not known", box->seccomp);
	if (box->nice > 19)
		return spec_refuse(reterr_reason, "nice is above 19");
	if (box->rlimits.nofile && box->rlimits.nofile < SPEC_NOFILE_MIN)
		return spec_refuse(reterr_reason, "nofile is below %d", SPEC_NOFILE_MIN);
	if (box->n_binds > SPEC_BINDS_MAX)
		return spec_refuse(reterr_reason, "more than %d binds", SPEC_BINDS_MAX);
	if (box->log_fd == SPEC_NO_FD ? box->log_bytes != 0 : box->log_bytes < SPEC_LOG_BYTES_MIN)
		return spec_refuse(reterr_reason, "log_bytes is less than %d", SPEC_LOG_BYTES_MIN);
	if (strlen(box->cgroup) > SPEC_CGROUP_MAX)
		return spec_refuse(reterr_reason, "cgroup is longer than %d", SPEC_CGROUP_MAX);
	if (box->limits.cpu_quota_us && box->limits.cpu_quota_us < 1000)
		return spec_refuse(reterr_reason, "cpu_quota_us is below 1000");
	r = check_fds(spec, reterr_reason);
	if (r)
		return r;
	if (box->flags & LAUNCH_BOX_NAMESPACES)
		return check_sandbox(spec, reterr_reason);
	return check_host_box(box, reterr_reason);
}

int spec_check(const struct launch_spec *spec, struct spec_reason *reterr_reason)
{
	int r;

	if (spec->kind < LAUNCH_PLAIN || spec->kind > LAUNCH_ENTER)
		return spec_refuse(reterr_reason, "kind %d is not known", (int)spec->kind);
	r = check_command(spec, reterr_reason);
	if (!r && spec->kind != LAUNCH_ENTER)
		r = check_identity(spec, reterr_reason);
	if (!r && spec->kind == LAUNCH_AGENT)
		r = check_box(spec, reterr_reason);
	return r;
}
