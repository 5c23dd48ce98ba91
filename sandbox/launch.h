/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The kernel's side of the launcher: start it, ask it for processes, read its answers
 *
 * launcher_start() runs before the kernel has threads, keys or a raised RLIMIT_NOFILE: commands get
 * the soft limits of that moment. Then every core takes a channel of its own; requests go out and
 * replies come in on it without blocking, and it can be polled like any socket. A channel belongs
 * to one thread. Closing it ends the commands launched on it; the end of the kernel ends them all.
 *
 * A launched process is a child of the kernel, which alone reaps it:
 * waitid(P_PIDFD, pidfd, &info, WEXITED | WNOHANG | __WALL) after the pidfd has polled readable.
 * The kernel never waits for "any child", never ignores SIGCHLD, and does not reap a process
 * between launch_kill() and its KILLED reply: until then the process id must not get a new meaning.
 */

#include <stdint.h>
#include <sys/types.h>

#include "sandbox/spec.h"

enum {
	LAUNCH_E_BUSY = 1, /* the launcher lags behind: read replies, try again when writable */
	LAUNCH_E_TOO_BIG,  /* the spec does not fit into a message */
	LAUNCH_E_GONE,     /* no launcher at the other end; every child of the channel is killed */
	LAUNCH_E_EMPTY,    /* no reply to read */
};

/* Where a launch failed. */
#define LAUNCH_STEPS(X)                                                           \
	X(NONE, "none")                                                           \
	X(MESSAGE, "message")         /* request malformed, or id in use */       \
	X(DESCRIPTORS, "descriptors") /* not three, or no room for them */        \
	X(SPEC, "spec")               /* refused; the reply's reason says why */  \
	X(LIMIT, "limit")             /* EAGAIN: too many live processes */       \
	X(PREPARE, "prepare")         /* memory or descriptors of the launcher */ \
	X(CLONE, "clone")                                                         \
	X(SIGNALS, "signals")                                                     \
	X(SESSION, "session")                                                     \
	X(RLIMITS, "rlimits")                                                     \
	X(GROUPS, "groups")                                                       \
	X(GID, "gid")                                                             \
	X(UID, "uid")                                                             \
	X(STDIO, "stdio")                                                         \
	X(CWD, "cwd")                                                             \
	X(EXEC, "exec")

#define LAUNCH_STEP_ENUM(name, text) LAUNCH_STEP_##name,
enum launch_step { LAUNCH_STEPS(LAUNCH_STEP_ENUM) };
#undef LAUNCH_STEP_ENUM

const char *launch_step_name(enum launch_step step);

enum launch_reply_type {
	LAUNCH_LAUNCHED = 1, /* the program runs: execve() succeeded */
	LAUNCH_FAILED,       /* with a pid, that process is to be reaped all the same */
	LAUNCH_KILLED,       /* the answer to launch_kill(): error 0 or ESRCH */
};

struct launch_reply {
	enum launch_reply_type type;
	enum launch_step step; /* of FAILED */
	uint64_t id;           /* as sent; 0 if the launcher could not read it */
	pid_t pid;             /* 0 if no process was made */
	/*
	 * Owned by the caller, close-on-exec. -1 if no process was made, or if the kernel had no
	 * descriptor left: as the process is its child, pidfd_open(pid) is then still safe.
	 */
	int pidfd;
	int error;                    /* errno of FAILED and KILLED */
	char reason[SPEC_REASON_MAX]; /* words for step SPEC, otherwise "" */
};

struct launcher {
	pid_t pid;
	int pidfd;   /* readable when the launcher died */
	int control; /* every thread may use it: one message is one sendmsg() */
};

/*
 * Starts /proc/self/exe as "clove-launcher", whose main() must call launcher_main(), and waits
 * until it is ready. Makes SIGCHLD default. 0 or -errno.
 */
int launcher_start(struct launcher *ret_launcher);

/* Closes the control socket, which ends every child, and reaps the launcher. */
void launcher_stop(struct launcher *launcher);

/* After its pidfd has polled readable: collects the dead launcher. launcher_stop() is still owed. */
void launcher_reap(struct launcher *launcher);

/* Waits for the launcher's answer. 0, LAUNCH_E_GONE or -errno (-EAGAIN: too many channels). */
int launcher_channel(const struct launcher *launcher, int *ret_channel);

/*
 * Asks for a process; @id names it on this channel until it is reaped. The @fds become 0, 1 and 2
 * of the process and stay the caller's, who may close them on return. Exactly one reply LAUNCHED or
 * FAILED follows a 0. Otherwise LAUNCH_E_BUSY, LAUNCH_E_TOO_BIG, LAUNCH_E_GONE or -errno.
 */
int launch_send(int channel, uint64_t id, const struct launch_spec *spec, const int fds[3]);

/*
 * Signals the process group of @id, until the process is reaped: its background children too, also
 * after it has exited. One reply KILLED follows a 0. Otherwise LAUNCH_E_BUSY, LAUNCH_E_GONE,
 * -errno.
 */
int launch_kill(int channel, uint64_t id, int signo);

/* 0, LAUNCH_E_EMPTY, LAUNCH_E_GONE or -errno. */
int launch_recv(int channel, struct launch_reply *ret_reply);
