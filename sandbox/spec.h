/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What to launch, and its form on the wire to the launcher
 *
 * The kernel fills a struct launch_spec with borrowed memory and sends it; the launcher unpacks its
 * own copy. Both judge it by the same rules, so spec_check() tells a caller beforehand, in words,
 * what the launcher would refuse.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/base/buf.h"
#include "core/base/cleanup.h"

enum {
	SPEC_E_REFUSED = 1, /* the reason says why */
	SPEC_E_TOO_BIG,     /* more than SPEC_BYTES_MAX when packed */
};

enum {
	SPEC_BYTES_MAX = 64 * 1024 - 64, /* with its packet head below the 64 KiB of a message */
	SPEC_ARGS_MAX = 4096,            /* of argv, and of env */
	SPEC_GROUPS_MAX = 1024,
	SPEC_PATH_MAX = 4095,
	SPEC_REASON_MAX = 96,
	SPEC_FDS_MAX = 96, /* sent with one spec */
	SPEC_BINDS_MAX = 64,
	SPEC_NAME_MAX = 63, /* of a host name */
	SPEC_CGROUP_MAX = 255,
	SPEC_LOG_BYTES_MIN = 8192,
	SPEC_NOFILE_MIN = 16, /* what the last steps before execve() open fits */
};

enum launch_kind {
	LAUNCH_PLAIN = 1, /* a command of its user, confined by nothing but its uid */
	LAUNCH_AGENT,     /* a program in a box of its own, under an init that looks after it */
	LAUNCH_ENTER, /* a command inside the box of a running agent, confined as that agent is */
};

/*
 * What a box is made of. A box without LAUNCH_BOX_NAMESPACES is no sandbox: the program runs on the
 * host as its uid, under an init that ends its whole tree, collects its output and reports its end.
 */
enum launch_box_flags {
	LAUNCH_BOX_NAMESPACES = 1 << 0, /* user, mount, pid, ipc, uts, cgroup; a root of its own */
	LAUNCH_BOX_LANDLOCK = 1 << 1,   /* where the system has it; layers tell */
	LAUNCH_BOX_LIMITS = 1 << 2,     /* not without a cgroup for every limit that is asked for */
};

/* What network a box with namespaces sees. The other kind of box has the host's. */
enum launch_net {
	LAUNCH_NET_HOST = 0, /* the host's: a trusted program */
	LAUNCH_NET_EMPTY, /* none; one namespace shared by all where root allows it, else its own */
	LAUNCH_NET_OWN,   /* none, in a namespace of its own */
	LAUNCH_NET_LOOPBACK, /* its own, with lo up */
};

enum launch_seccomp {
	LAUNCH_SECCOMP_NONE = 0,
	LAUNCH_SECCOMP_STANDARD, /* allow-list, no socket() at all; socketpair() works */
	LAUNCH_SECCOMP_LOOPBACK, /* and TCP and UDP over IPv4 and IPv6 */
	LAUNCH_SECCOMP_TRUSTED, /* and AF_UNIX and netlink routing, for programs on the host's network */
};

/* A file or directory from outside. */
enum launch_bind_flags {
	LAUNCH_BIND_RW = 1 << 0,     /* otherwise read-only, with all that is mounted below it */
	LAUNCH_BIND_NOEXEC = 1 << 1, /* otherwise its programs can be run */
	LAUNCH_BIND_OWNER = 1 << 2,  /* what belongs to bind_uid and bind_gid is the program's */
	LAUNCH_BIND_ALL = (1 << 3) - 1,
};

struct launch_bind {
	uint32_t fd;        /* index; an O_PATH descriptor, opened by whoever may see the file */
	uint32_t flags;     /* LAUNCH_BIND_ */
	const char *target; /* absolute path inside; no "..", ".", "//"; not below /proc or /dev */
};

/* 0 means no limit. Never above what the launcher itself was started with. */
struct launch_rlimits {
	uint64_t nofile, nproc, fsize_bytes, as_bytes; /* core dumps are always off */
};

/* 0 means no limit. By cgroup where there is one, else what rlimits can do; layers tell which. */
struct launch_limits {
	uint64_t memory_bytes;
	uint64_t cpu_quota_us; /* in every 100,000 us, of all cores together */
	uint64_t pids;
	uint64_t io_read_bytes, io_write_bytes; /* per second, of the disk with the workspace */
};

#define SPEC_NO_FD UINT32_MAX /* an index that names no descriptor */

/*
 * The box of a LAUNCH_AGENT. Descriptors are indices into those sent with the spec, each of which
 * must be named by exactly one index.
 *
 * Inside, the program is uid and gid 1000, "agent", with HOME as its environment says. It finds
 * /usr (with /bin, /lib, /sbin as on the host), a generated /etc, a minimal /dev, its own /proc, a
 * private /tmp, /workspace, and the binds; nothing else of the host.
 */
struct launch_box {
	uint32_t flags;   /* LAUNCH_BOX_ */
	uint32_t net;     /* enum launch_net */
	uint32_t seccomp; /* enum launch_seccomp */
	uint32_t nice;    /* 0 to 19, added to the launcher's */
	const char *hostname;

	uint32_t stdin_fd; /* 0 of the program; SPEC_NO_FD: /dev/null */
	/* 3 of the program: its connection to the kernel, with the door for further ones as 4; or SPEC_NO_FD */
	uint32_t socket_fd;
	uint32_t report_fd; /* the init's end of launch_report_open() */
	/*
	 * Directory for stdout.log and stderr.log and one predecessor of each, *.log.1. With namespaces
	 * the init writes there as the box's uid, which must be allowed to; without, as the launcher.
	 * SPEC_NO_FD: output is thrown away.
	 */
	uint32_t log_fd;
	uint64_t log_bytes; /* of one stream with its predecessor; at least SPEC_LOG_BYTES_MIN */

	uint32_t workspace_fd;    /* directory to appear as /workspace; SPEC_NO_FD: one in memory */
	uint64_t workspace_bytes; /* of the one in memory, else 0 */
	uint64_t workspace_quota; /* of the directory, if a project quota can hold it; else 0 */
	uint64_t tmp_bytes;       /* of /tmp; /dev/shm has as much again */

	const struct launch_bind *binds; /* mounted in this order */
	size_t n_binds;
	/*
	 * Whose rights binds with LAUNCH_BIND_OWNER give, where the launcher is root: their files are
	 * the program's, by an idmapped mount, and files it makes are theirs. A file system that
	 * cannot do this is left as it is for reading, which the reply tells, and refused for writing.
	 */
	uid_t bind_uid;
	gid_t bind_gid;

	struct launch_rlimits rlimits;
	struct launch_limits limits;
	/*
	 * The agent's group, where there are groups: NAME, or that of the agent whose limits hold for it
	 * as well, a slash and NAME. Names are of letters, digits, - and _. "": none.
	 */
	const char *cgroup;
};

struct launch_spec {
	enum launch_kind kind;
	/* argv[0] without a slash is looked up in env's PATH, inside the box if there is one. */
	const char *const *argv; /* ends with NULL */
	const char *const *env;  /* "NAME=value", ends with NULL; nothing is added to it */
	const char *cwd;         /* absolute; as the program sees it; entered as its user */
	uint32_t cwd_or_root;    /* 1: a cwd that cannot be entered is /, as it was nobody's wish */
	mode_t umask;
	/*
	 * The identity on the host, of PLAIN and AGENT. Agents that must not reach one another need
	 * different uids. A launcher without root has but its own ids, and keeps its groups.
	 */
	uid_t uid;
	gid_t gid;
	const gid_t *groups; /* exactly these */
	size_t n_groups;

	struct launch_box box; /* of AGENT */
	uint64_t box_id;       /* of ENTER: id of the agent, whatever channel it was launched on */
};

struct spec_reason {
	char text[SPEC_REASON_MAX]; /* for a human; ends with NUL */
};

/* 0 or SPEC_E_REFUSED with the reason. */
int spec_check(const struct launch_spec *spec, struct spec_reason *reterr_reason);

/* How many descriptors go with @spec. */
unsigned spec_fds(const struct launch_spec *spec);

/* Appends @spec, which need not have been checked. 0, SPEC_E_TOO_BIG or -ENOMEM. */
int spec_pack(const struct launch_spec *spec, struct buf *message);

/*
 * 0, SPEC_E_REFUSED with the reason, or -ENOMEM. The spec is one block that holds all its
 * strings.
 */
int spec_unpack(const void *bytes, size_t len, struct launch_spec **ret_spec,
		struct spec_reason *reterr_reason);
struct launch_spec *spec_free(struct launch_spec *spec);
DEFINE_CLEANUP(struct launch_spec *, spec_free);
