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
 * A launched process is a child of the kernel, which alone reaps it, when its pidfd has polled readable or
 * waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) says that it has ended.
 * Of an agent that child is the init of its box: the program's own end is in its struct
 * launch_report. The kernel never waits for "any child", never ignores SIGCHLD, and does not reap a
 * process between launch_signal() and its KILLED reply: until then the process id must not get a
 * new meaning.
 *
 * A launcher that dies may leave processes whose reply was never sent. With it dead, and every channel read
 * to its end, a child that no reply named is one of those: the kernel kills and reaps it by its process id.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "sandbox/spec.h"

enum {
	LAUNCH_WHY_MAX = 192,
};

enum {
	LAUNCH_E_BUSY = 1, /* the launcher lags behind: read replies, try again when writable */
	LAUNCH_E_TOO_BIG,  /* the spec does not fit into a message */
	LAUNCH_E_GONE,     /* no launcher at the other end; every child of the channel is killed */
	LAUNCH_E_EMPTY,    /* no reply to read */
};

/* Where a launch failed. Each step is fatal: no layer that was asked for is left out in silence. */
#define LAUNCH_STEPS(X)                                                                      \
	X(NONE, "none")                                                                      \
	X(MESSAGE, "message")         /* request malformed, or id in use */                  \
	X(DESCRIPTORS, "descriptors") /* not as many as the spec names, or no room */        \
	X(SPEC, "spec")               /* refused; the reply's reason says why */             \
	X(LIMIT, "limit")             /* EAGAIN: too many live processes */                  \
	X(PREPARE, "prepare")         /* memory or descriptors of the launcher */            \
	X(LAYER, "layer")             /* this system cannot; the reply's reason says what */ \
	X(CGROUP, "cgroup")           /* the group cannot be made */                         \
	X(LIMITS, "limits")           /* LAUNCH_BOX_LIMITS, and one of them does not hold */ \
	X(BOX, "box")                 /* ENTER: ESRCH, no such agent is running */           \
	X(CLONE, "clone")                                                                    \
	X(ID_MAP, "id-map")                                                                  \
	X(SIGNALS, "signals")                                                                \
	X(SESSION, "session")                                                                \
	X(RLIMITS, "rlimits")                                                                \
	X(GROUPS, "groups")                                                                  \
	X(GID, "gid")                                                                        \
	X(UID, "uid")                                                                        \
	X(STDIO, "stdio")                                                                    \
	X(LOGS, "logs")                                                                      \
	X(HOSTNAME, "hostname")                                                              \
	X(LOOPBACK, "loopback")                                                              \
	X(MOUNT_ROOT, "mount-root")                                                          \
	X(MOUNT_USR, "mount-usr")                                                            \
	X(MOUNT_ETC, "mount-etc")                                                            \
	X(MOUNT_DEV, "mount-dev")                                                            \
	X(MOUNT_PROC, "mount-proc")                                                          \
	X(MOUNT_TMP, "mount-tmp")                                                            \
	X(MOUNT_WORKSPACE, "mount-workspace")                                                \
	X(MOUNT_BINDS, "mount-binds")                                                        \
	X(PIVOT_ROOT, "pivot-root")                                                          \
	X(FORK, "fork")                                                                      \
	X(NAMESPACES, "namespaces") /* ENTER: setns() */                                     \
	X(NICE, "nice")                                                                      \
	X(CAPABILITIES, "capabilities")                                                      \
	X(NO_NEW_PRIVS, "no-new-privs")                                                      \
	X(LANDLOCK, "landlock")                                                              \
	X(SECCOMP, "seccomp")                                                                \
	X(CWD, "cwd")                                                                        \
	X(EXEC, "exec")

#define LAUNCH_STEP_ENUM(name, text) LAUNCH_STEP_##name,
enum launch_step { LAUNCH_STEPS(LAUNCH_STEP_ENUM) };
#undef LAUNCH_STEP_ENUM

const char *launch_step_name(enum launch_step step);

/*
 * What confines a process, or could: bit 1 << LAUNCH_LAYER_x of the layers of a launch says that it
 * is in force there, the entry of launcher_probe() whether this host can do it.
 */
#define LAUNCH_LAYERS(X)                                                                        \
	X(USER_NS, "user-namespace")                                                            \
	X(MOUNT_NS, "mount-namespace")                                                          \
	X(PID_NS, "pid-namespace")                                                              \
	X(IPC_NS, "ipc-namespace")                                                              \
	X(UTS_NS, "uts-namespace")                                                              \
	X(CGROUP_NS, "cgroup-namespace")                                                        \
	X(NET_SHARED, "shared-empty-network") /* one namespace without any interface up */      \
	X(NET_OWN, "own-network")                                                               \
	X(ROOT, "own-root")             /* pivot_root(), the old root detached */               \
	X(PROC_SUBSET, "proc-subset")   /* subset=pid,hidepid=2, not just masked */             \
	X(OWN_UID, "own-uid")           /* ids other than the launcher's */                     \
	X(CAPABILITIES, "capabilities") /* none, and none to get back */                        \
	X(NO_NEW_PRIVS, "no-new-privs")                                                         \
	X(LANDLOCK, "landlock")                                                                 \
	X(SECCOMP, "seccomp")                                                                   \
	X(RLIMIT_MEMORY, "rlimit-memory") /* stands in for the cgroup: of each process */       \
	X(RLIMIT_PIDS, "rlimit-pids")     /* stands in for the cgroup: of the uid in the box */ \
	X(CGROUP_MEMORY, "cgroup-memory")                                                       \
	X(CGROUP_CPU, "cgroup-cpu")                                                             \
	X(CGROUP_PIDS, "cgroup-pids")                                                           \
	X(CGROUP_IO, "cgroup-io")                                                               \
	X(CGROUP_KILL, "cgroup-kill")                                                           \
	X(CGROUP_FREEZE, "cgroup-freeze")                                                       \
	X(WORKSPACE_QUOTA, "workspace-quota") /* tried with each workspace; a project quota */

#define LAUNCH_LAYER_ENUM(name, text) LAUNCH_LAYER_##name,
enum launch_layer { LAUNCH_LAYERS(LAUNCH_LAYER_ENUM) LAUNCH_LAYER_COUNT };
#undef LAUNCH_LAYER_ENUM

const char *launch_layer_name(enum launch_layer layer);

/*
 * The end of an agent's program, as its init saw it: the last message on the socket named by report_fd. It is
 * there before the init's pidfd polls readable. None by then: the box was killed from outside.
 */
enum launch_report_flags {
	LAUNCH_REPORT_ENDED = 1 << 0, /* the box was told to end, by a signal or a lost launcher */
	LAUNCH_REPORT_CORE = 1 << 1,  /* the signal would have dumped core */
	LAUNCH_REPORT_LEFT = 1 << 2,  /* processes outlived the program and were killed */
};

struct launch_report {
	int32_t code;   /* of exit(); 0 after a signal */
	int32_t signal; /* that killed the program; 0 after exit() */
	uint32_t flags; /* LAUNCH_REPORT_ */
	uint32_t reserved;
	uint64_t
		log_bytes_lost; /* a full disk, a directory that went away, a rotation that failed */
};

/* What an init tells the kernel: a further connection of its agent, or its report. */
struct launch_news {
	int connection; /* the kernel's end of a stream, the caller's, close-on-exec; -1: the report */
	struct launch_report report;
};

enum launch_reply_type {
	LAUNCH_LAUNCHED = 1, /* the program runs: execve() succeeded */
	LAUNCH_FAILED,       /* with a pid, that process is to be reaped all the same */
	LAUNCH_KILLED,       /* the answer to launch_signal(): error 0 or ESRCH */
};

struct launch_reply {
	enum launch_reply_type type;
	enum launch_step step; /* of FAILED */
	uint64_t id;           /* as sent; 0 if the launcher could not read it */
	pid_t pid;             /* to reap: of an agent, its init; 0 if no process was made */
	pid_t program;         /* of LAUNCHED: the program; of PLAIN and ENTER the same as pid */
	uint32_t layers;       /* of LAUNCHED: bits 1 << LAUNCH_LAYER_x in force */
	uint32_t landlock_abi; /* of LAUNCHED: 0 without Landlock */
	uint64_t unmapped;     /* of LAUNCHED: bit i, binds[i] has not its owner's rights */
	/*
	 * Owned by the caller, close-on-exec. -1 if no process was made, or if the kernel had no
	 * descriptor left: as the process is its child, pidfd_open(pid) is then still safe.
	 */
	int pidfd;
	int error;                    /* errno of FAILED and KILLED */
	char reason[SPEC_REASON_MAX]; /* words for the steps SPEC and LAYER, otherwise "" */
};

struct launcher {
	pid_t pid;
	int pidfd;   /* readable when the launcher died */
	int control; /* every thread may use it: one message is one sendmsg() */
};

/*
 * Starts the launcher at @path, NULL: the one beside this program, and waits until it is ready. Makes SIGCHLD
 * default. 0 or -errno: -ENOENT if it is not there, -ESTALE if it was built from another version.
 */
int launcher_start(const char *path, struct launcher *ret_launcher);

/* Closes the control socket, which ends every child, and reaps the launcher. */
void launcher_stop(struct launcher *launcher);

/* After its pidfd has polled readable: collects the dead launcher. launcher_stop() is still owed. */
void launcher_reap(struct launcher *launcher);

/* Waits for the launcher's answer. 0, LAUNCH_E_GONE or -errno (-EAGAIN: too many channels). */
int launcher_channel(const struct launcher *launcher, int *ret_channel);

/*
 * Has the launcher keep agents in groups of cgroup v2, if this host can: their own subtree, named after
 * @id, below @parent (from the top of the hierarchy) or, if that is NULL, below the group this process
 * is in. Before the first launch. What a kernel of the same id left there is killed. The probe tells
 * what came of it. @ret_agents: an O_PATH descriptor of the group of all agents, for cgroup_find_at(),
 * the caller's; -1 without groups. 0, LAUNCH_E_GONE or -errno.
 */
int launcher_cgroups(const struct launcher *launcher, const char *id, const char *parent,
		     int *ret_agents);

/*
 * Has everything in the directory @dir deleted, by a process with the launcher's rights and in its own time; see
 * remover.h. @ret_done: a socket that becomes readable when it is over, the caller's. 0, LAUNCH_E_GONE or -errno.
 */
int launcher_remove(const struct launcher *launcher, int dir, int *ret_done);

/* What the launcher found out in its first moments, by trying, about what this host can do. */
struct launch_probe {
	struct {
		uint32_t on;
		char reason[LAUNCH_WHY_MAX]; /* why not; or more about what there is, as an ABI */
	} layers[LAUNCH_LAYER_COUNT];
};

/* Waits for the launcher's answer. 0, LAUNCH_E_GONE or -errno. */
int launcher_probe(const struct launcher *launcher, struct launch_probe *ret_probe);

/*
 * Asks for a process; @id names it on this channel until it is reaped, and to whoever enters its box on all
 * channels: those of agents must differ. PLAIN and ENTER take three
 * descriptors, which become 0, 1 and 2; AGENT those that its box names. They stay the caller's, who
 * may close them on return. Exactly one reply LAUNCHED or FAILED follows a 0. Otherwise
 * LAUNCH_E_BUSY, LAUNCH_E_TOO_BIG, LAUNCH_E_GONE or -errno.
 */
int launch_send(int channel, uint64_t id, const struct launch_spec *spec, const int *fds,
		unsigned n_fds);

/*
 * Signals @id. One reply KILLED follows a 0. Otherwise LAUNCH_E_BUSY, LAUNCH_E_GONE, -errno.
 *
 * PLAIN, ENTER: its process group, until the process is reaped: background children too, also
 * after it has exited. @whole_tree makes no difference.
 * AGENT: the program, or with @whole_tree every process of its box, commands entered included:
 * SIGSTOP and SIGCONT then pause and resume. SIGKILL always ends the whole box.
 */
int launch_signal(int channel, uint64_t id, int signo, bool whole_tree);

/* launch_signal() of the whole tree. */
int launch_kill(int channel, uint64_t id, int signo);

/* 0, LAUNCH_E_EMPTY, LAUNCH_E_GONE or -errno. */
int launch_recv(int channel, struct launch_reply *ret_reply);

/*
 * For report_fd: the kernel's end and the init's, both close-on-exec. It holds some twenty connections that
 * have not been taken. 0 or -errno.
 */
int launch_report_open(int *ret_ours, int *ret_inits);

/*
 * The next from an init; its agent can have connections sent, and nothing else. Does not wait. 0,
 * LAUNCH_E_EMPTY, LAUNCH_E_GONE, or -errno: a message that is lost, as its descriptor found no room.
 */
int launch_report_recv(int report, struct launch_news *ret_news);
