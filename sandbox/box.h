/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Inside a box, between the clone of its init and the program's execve()
 *
 *   launcher --clone--> init  builds the box, starts the program, looks after it     box_init.c
 *                        |    root and mounts                          box_root.c, box_files.c
 *                        |    output into files                                      box_log.c
 *                        |    signals to all, where no namespace holds them         box_tree.c
 *                        +--fork--> keeper  further connections, while asked for   box_door.c
 *                        +--vfork--> program  last steps, execve()                box_program.c
 *   launcher --clone--> waiter --fork--> command  the same last steps                  enter.c
 *
 * Nothing here allocates or logs. Functions return 0 or -errno.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "sandbox/host.h"
#include "sandbox/launch.h"

enum {
	BOX_UID = 1000, /* of programs, as they see it; gid too */
	BOX_SOCKET_FD = 3,
	BOX_DOOR_FD = 4,
	BOX_RW_PATHS_MAX = 3 + SPEC_BINDS_MAX,
};

/* What a box sends on its status socket: the program is about to run, or a step failed. */
struct box_status {
	uint32_t
		step; /* LAUNCH_STEP_NONE, from the program itself, whose credentials tell its pid */
	int32_t error;
	uint32_t layers; /* bits of LAUNCH_LAYER_ */
	uint32_t landlock_abi;
};

/* What the launcher tells an init on the lifeline. */
enum box_order_type {
	BOX_GO = 1, /* the user namespace has its ids */
	BOX_SIGNAL, /* to the program */
	BOX_SIGNAL_ALL,
};

struct box_order {
	uint32_t type;
	int32_t signo;
};

/*
 * How the processes of a box are confined. The launcher keeps it as long as the box lives, for the
 * commands that enter it. One block.
 */
struct box_terms {
	uint32_t flags, seccomp, net, nice;
	uid_t uid; /* on the host */
	gid_t gid;
	const gid_t *groups;
	size_t n_groups;
	struct launch_rlimits rlimits;
	struct launch_limits limits;
	uint64_t unmapped; /* bit i: binds[i] is shown with the ids it has */
	uint32_t layers;   /* in force before the box builds itself: those of the cgroup */
	const char *const *rw_paths; /* ends with NULL */
	const char *cgroup;          /* its group; "": none */
};

/* What the steps of a program need. */
struct box_program {
	const struct launch_spec *spec;
	const struct box_terms *terms;
	const struct host *host;
	int fds[3];   /* to become 0, 1, 2; above BOX_SOCKET_FD */
	int socket;   /* to become BOX_SOCKET_FD, or -1 */
	int door;     /* to become BOX_DOOR_FD, or -1; above it */
	int status;   /* close-on-exec; a socket of box_status */
	bool entered; /* by a command, which stays in the session of its waiter */
	uint32_t layers;
	struct rlimit nofile; /* as the launcher was started with */
};

struct box_job {
	const struct launch_spec *spec;
	const struct box_terms *terms;
	const struct host *host;
	int *fds; /* as indexed by the spec; those mounted are detached mounts under root */
	int status, lifeline;
	struct rlimit nofile;
};

/* An opener in a box: @namespaces is a pidfd of a process there. Both descriptors are above 4. */
_Noreturn void box_opener_run(int sock, int namespaces);

_Noreturn void box_init(const struct box_job *job);

/* Both ends of a door, close-on-exec and above BOX_DOOR_FD. 0 or -errno. */
int box_door_open(int *ret_ours, int *ret_programs);
/* In a fork of @init, which has seen that somebody knocks. BOX_DOOR_ENDED: nobody ever will again. */
_Noreturn void box_door_keep(int door, int report, pid_t init);

enum {
	BOX_DOOR_ENDED = 1, /* exit code of a keeper */
};

/*
 * The last steps, in the program's own process: session to execve(). Ends with _exit(127) after
 * telling which step failed.
 */
_Noreturn void box_program_run(struct box_program *program);
void box_status_send(int status, const struct box_status *message);

/* Capabilities, for good: bounding set, ambient set, and all that are held. */
int box_drop_capabilities(void);
int box_no_new_privs(void);
/* All descriptors from 3 on but @keep, which gets sorted. */
int box_close_others(int *keep, size_t n_keep);

/* One call for each step of building the root; @root is a directory descriptor. */
struct box_root {
	const struct box_job *job;
	int fd;
	bool proc_subset;
};

int box_root_mount(struct box_root *root);
int box_root_usr(struct box_root *root);
int box_root_proc(struct box_root *root);
int box_root_tmp(struct box_root *root);
int box_root_workspace(struct box_root *root);
int box_root_binds(struct box_root *root);
int box_root_pivot(struct box_root *root);
int box_root_etc(struct box_root *root);
int box_root_dev(struct box_root *root);

/*
 * A mount of the directory or file behind @fd, detached, with @attributes (MOUNT_ATTR_) and private.
 * The launcher makes it when it is root, in its own mount namespace, where @fd comes from; an init
 * of the same user finds it again by its path. A descriptor or -errno.
 */
int box_bind_open(int fd, uint64_t attributes);
/* As box_bind_open(), with ids mapped as in the user namespace @ids; -EINVAL: not by this file system. */
int box_bind_open_mapped(int fd, uint64_t attributes, int ids);
int box_bind_reopen(int fd, uint64_t attributes);
uint64_t box_bind_attributes(const struct launch_bind *bind);
int box_bind_path(int dir, const char *path, uint64_t attributes);
/* Mounts @tree, taking it, on @name below @root, made if it is not there. */
int box_attach(int tree, int root, const char *name);

struct box_log {
	int dir; /* -1: thrown away */
	int file;
	const char *name, *previous;
	uint64_t bytes, bytes_max; /* of one file */
	uint64_t lost;
};

int box_log_open(struct box_log *log, int dir, const char *name, const char *previous,
		 uint64_t bytes_max);
void box_log_write(struct box_log *log, const void *bytes, size_t n);

/* Signals every descendant of this process, once. The number it reached. */
unsigned box_tree_signal(int signo);
/* True if @pid is, or a moment ago was, a child of @parent. */
bool box_is_child(pid_t pid, pid_t parent);
