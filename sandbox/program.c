/* SPDX-License-Identifier: MIT */

#include "sandbox/program.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* Of a command whose environment has no PATH; the C library's choice. */
#define PATH_DEFAULT "/bin:/usr/bin"

int program_reset_signals(void)
{
	struct sigaction action = {.sa_handler = SIG_DFL};
	sigset_t none;

	/* Refused for SIGKILL, SIGSTOP and the C library's own, which nobody can have changed. */
	for (int signo = 1; signo < NSIG; signo++)
		(void)sigaction(signo, &action, NULL);
	(void)sigemptyset(&none);
	return sigprocmask(SIG_SETMASK, &none, NULL) < 0 ? -errno : 0;
}

static int exec_file(const char *file, const struct launch_spec *spec)
{
	/* execve() does not write through these, though its type says so. */
	(void)execve(file, (char *const *)(uintptr_t)spec->argv,
		     (char *const *)(uintptr_t)spec->env);
	return -errno;
}

static const char *path_of(const struct launch_spec *spec)
{
	for (size_t i = 0; spec->env[i]; i++)
		if (!strncmp(spec->env[i], "PATH=", 5))
			return spec->env[i] + 5;
	return PATH_DEFAULT;
}

int program_enter_cwd(const struct launch_spec *spec)
{
	if (!chdir(spec->cwd) || (spec->cwd_or_root && !chdir("/")))
		return 0;
	return -errno;
}

/* Like execvp(), but by the command's PATH, and without handing what it cannot run to a shell. */
int program_exec(const struct launch_spec *spec)
{
	const char *name = spec->argv[0];
	size_t name_len = strlen(name);
	int result = -ENOENT;

	if (strchr(name, '/'))
		return exec_file(name, spec);
	for (const char *dir = path_of(spec), *next; dir; dir = next) {
		char file[SPEC_PATH_MAX + 1];
		size_t dir_len = (size_t)(strchrnul(dir, ':') - dir);
		int r;

		next = dir[dir_len] ? dir + dir_len + 1 : NULL;
		if (dir_len + 1 + name_len >= sizeof(file))
			continue;
		/* An empty entry is the working directory. */
		memcpy(file, dir, dir_len);
		if (dir_len)
			file[dir_len++] = '/';
		memcpy(file + dir_len, name, name_len + 1);

		r = exec_file(file, spec);
		if (r == -EACCES)
			result = r;
		else if (r != -ENOENT && r != -ENOTDIR)
			return r;
	}
	return result;
}
