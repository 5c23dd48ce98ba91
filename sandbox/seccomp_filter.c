/* SPDX-License-Identifier: MIT */

/*
 * System call filters: two programs in one
 *
 *   prologue   by hand: architecture, and the calls whose arguments decide
 *   table      by libseccomp: a binary tree over the numbers of the calls that are simply allowed,
 *              or simply refused with EPERM; everything else, future calls included, is ENOSYS
 *
 * The arguments are ours because libseccomp cannot say "everything but these two": ioctl() takes
 * 32 bits of a 64-bit register, so a rule that compares 64 is walked around with a bit above. The
 * tree is libseccomp's because the kernel runs a new filter once for every system call number, to
 * learn which it may allow without asking: a tree makes that ten times cheaper than a list.
 *
 * Programs of another architecture (i386 by int 0x80, x32 by its number bit) are killed, not
 * refused: nothing in a box is built for them, so whoever calls there looks for a way around.
 *
 * clone3() is ENOSYS: its flags lie in memory, which no filter reads, and every C library falls back
 * to clone(). openat2() is ENOSYS for the same reason: it could make a set-user-id file. io_uring is ENOSYS: it opens
 * sockets behind the filter's back.
 *
 * socketpair() gives stream and seqpacket sockets only. A datagram one can be sent elsewhere: with
 * an address, to an abstract socket of another box in the same empty network. For the same reason
 * bind() and connect() are refused where socket() is.
 */

#include "sandbox/seccomp_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "sandbox/seccomp_table.h"

#if defined(__x86_64__)
#define ARCH_NATIVE AUDIT_ARCH_X86_64
#define X32_BIT     0x40000000u
#elif defined(__aarch64__)
#define ARCH_NATIVE AUDIT_ARCH_AARCH64
#else
#error "no system call filter for this architecture yet"
#endif

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#ifndef CLONE_NEWCGROUP
#define CLONE_NEWCGROUP 0x02000000
#endif
#define CLONE_NAMESPACES                                                               \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | \
	 CLONE_NEWPID | CLONE_NEWNET)

#define REFUSE(error) (SECCOMP_RET_ERRNO | (error))
/* Little endian: the lower half, which is all that the kernel takes of an int. */
#define ARG(i) ((unsigned)(offsetof(struct seccomp_data, args) + 8 * (i)))

enum {
	PROLOGUE_MAX = 160,
	TMPFILE_BIT = 020000000, /* of O_TMPFILE, which is a directory's flag besides */
	TYPE_MASK = 0xf,         /* of socket(): the rest are flags */
	PROTO_TCP = 6,
	PROTO_UDP = 17,
};

struct prologue {
	struct sock_filter insns[PROLOGUE_MAX];
	unsigned short n;
};

static void emit(struct prologue *p, struct sock_filter insn)
{
	CHECK(p->n < PROLOGUE_MAX);
	p->insns[p->n++] = insn;
}

static void load(struct prologue *p, unsigned offset)
{
	emit(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset));
}

static void ret(struct prologue *p, unsigned action)
{
	emit(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

/* If the value at hand is @k, then @action. */
static void ret_if(struct prologue *p, unsigned k, unsigned action)
{
	emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, 0, 1));
	ret(p, action);
}

/* What follows, up to block_end(), is for the value @k alone, and must not run on beyond it. */
static unsigned short block_begin(struct prologue *p, unsigned k)
{
	emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, 0, 0));
	return (unsigned short)(p->n - 1);
}

static void block_end(struct prologue *p, unsigned short begin)
{
	p->insns[begin].jf = (__u8)(p->n - begin - 1);
}

static void emit_arch(struct prologue *p)
{
	load(p, offsetof(struct seccomp_data, arch));
	emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH_NATIVE, 1, 0));
	ret(p, SECCOMP_RET_KILL_PROCESS);
	load(p, offsetof(struct seccomp_data, nr));
#ifdef X32_BIT
	emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1));
	ret(p, SECCOMP_RET_KILL_PROCESS);
#endif
}

static void emit_clone(struct prologue *p)
{
	unsigned short block = block_begin(p, SYS_clone);

	load(p, ARG(0));
	emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_NAMESPACES, 0, 1));
	ret(p, REFUSE(EPERM));
	ret(p, SECCOMP_RET_ALLOW);
	block_end(p, block);
}

/* The limits of another process: the init has the same user and no say in it. */
static void emit_prlimit(struct prologue *p)
{
	unsigned short block = block_begin(p, SYS_prlimit64);

	load(p, ARG(0));
	ret_if(p, 0, SECCOMP_RET_ALLOW);
	ret(p, REFUSE(EPERM));
	block_end(p, block);
}

/*
 * Workspaces and binds lie on the host's disks, where these bits would mean something: the file's owner
 * there may be the user of the agent, or root.
 */
static void emit_setid(struct prologue *p, unsigned mode_arg)
{
	load(p, ARG(mode_arg));
	emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, S_ISUID | S_ISGID, 0, 1));
	ret(p, REFUSE(EPERM));
	ret(p, SECCOMP_RET_ALLOW);
}

static void emit_chmod(struct prologue *p, unsigned nr, unsigned mode_arg)
{
	unsigned short block = block_begin(p, nr);

	emit_setid(p, mode_arg);
	block_end(p, block);
}

/* The mode of open() is there only if a file may be made. openat2() has it in memory, and is ENOSYS. */
static void emit_open(struct prologue *p, unsigned nr, unsigned flags_arg)
{
	unsigned short block = block_begin(p, nr);

	load(p, ARG(flags_arg));
	emit(p,
	     (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_CREAT | TMPFILE_BIT, 1, 0));
	ret(p, SECCOMP_RET_ALLOW);
	emit_setid(p, flags_arg + 1);
	block_end(p, block);
}

/* Typing into a terminal that is shared with somebody outside. */
static void emit_ioctl(struct prologue *p)
{
	unsigned short block = block_begin(p, SYS_ioctl);

	load(p, ARG(1));
	ret_if(p, TIOCSTI, REFUSE(EPERM));
	ret_if(p, TIOCLINUX, REFUSE(EPERM));
	ret(p, SECCOMP_RET_ALLOW);
	block_end(p, block);
}

static void emit_socketpair(struct prologue *p, enum launch_seccomp variant)
{
	unsigned short block = block_begin(p, SYS_socketpair);

	load(p, ARG(1));
	emit(p, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, TYPE_MASK));
	ret_if(p, SOCK_STREAM, SECCOMP_RET_ALLOW);
	ret_if(p, SOCK_SEQPACKET, SECCOMP_RET_ALLOW);
	if (variant == LAUNCH_SECCOMP_TRUSTED)
		ret_if(p, SOCK_DGRAM, SECCOMP_RET_ALLOW);
	ret(p, REFUSE(EACCES));
	block_end(p, block);
}

/* Of the internet families: TCP and UDP, by their own numbers or by 0. MPTCP passes by Landlock. */
static void emit_internet(struct prologue *p, unsigned family)
{
	static const struct {
		unsigned type, protocol;
	} kinds[] = {{SOCK_STREAM, PROTO_TCP}, {SOCK_DGRAM, PROTO_UDP}};
	unsigned short block = block_begin(p, family);

	load(p, ARG(1));
	emit(p, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, TYPE_MASK));
	for (unsigned i = 0; i < 2; i++) {
		unsigned short inner = block_begin(p, kinds[i].type);

		load(p, ARG(2));
		ret_if(p, 0, SECCOMP_RET_ALLOW);
		ret_if(p, kinds[i].protocol, SECCOMP_RET_ALLOW);
		ret(p, REFUSE(EPROTONOSUPPORT));
		block_end(p, inner);
	}
	ret(p, REFUSE(EACCES));
	block_end(p, block);
}

static void emit_socket(struct prologue *p, enum launch_seccomp variant)
{
	unsigned short block = block_begin(p, SYS_socket), netlink;

	if (variant != LAUNCH_SECCOMP_STANDARD) {
		load(p, ARG(0));
		emit_internet(p, AF_INET);
		emit_internet(p, AF_INET6);
	}
	if (variant == LAUNCH_SECCOMP_TRUSTED) {
		ret_if(p, AF_UNIX, SECCOMP_RET_ALLOW);
		netlink = block_begin(p, AF_NETLINK); /* getaddrinfo() asks it for addresses */
		load(p, ARG(2));
		ret_if(p, 0, SECCOMP_RET_ALLOW);
		ret(p, REFUSE(EAFNOSUPPORT));
		block_end(p, netlink);
	}
	ret(p, REFUSE(EAFNOSUPPORT));
	block_end(p, block);
}

static void build_prologue(struct prologue *p, enum launch_seccomp variant)
{
	emit_arch(p);
	emit_clone(p);
	emit_prlimit(p);
#ifdef SYS_chmod
	emit_chmod(p, SYS_chmod, 1);
#endif
	emit_chmod(p, SYS_fchmod, 1);
	emit_chmod(p, SYS_fchmodat, 2);
	emit_chmod(p, SYS_fchmodat2, 2);
#ifdef SYS_open
	emit_open(p, SYS_open, 1);
	emit_chmod(p, SYS_creat, 1);
	emit_chmod(p, SYS_mknod, 1);
#endif
	emit_open(p, SYS_openat, 2);
	emit_chmod(p, SYS_mknodat, 2);
	emit_ioctl(p);
	emit_socketpair(p, variant);
	emit_socket(p, variant);
}

/* Names that this libseccomp or this architecture lacks are left out: they end at the default. */
static int add_names(scmp_filter_ctx ctx, uint32_t action, const char *const *names)
{
	for (; *names; names++) {
		int nr = seccomp_syscall_resolve_name(*names), r;

		if (nr < 0)
			continue;
		r = seccomp_rule_add(ctx, action, nr, 0);
		if (r)
			return r;
	}
	return 0;
}

static int build_table(scmp_filter_ctx ctx, enum launch_seccomp variant)
{
	int r;

	r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (!r)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (!r)
		r = add_names(ctx, SCMP_ACT_ALLOW, seccomp_allowed);
	if (!r)
		r = add_names(ctx, SCMP_ACT_ERRNO(EPERM), seccomp_refused);
	if (!r)
		r = add_names(ctx,
			      variant == LAUNCH_SECCOMP_STANDARD ? SCMP_ACT_ERRNO(EACCES)
								 : SCMP_ACT_ALLOW,
			      seccomp_network);
	return r;
}

/* The bytes of the table's program in a file in memory. A descriptor or -errno. */
static int export_table(enum launch_seccomp variant)
{
	CLEANUP(fd_closep) int fd = memfd_create("filter", MFD_CLOEXEC);
	scmp_filter_ctx ctx;
	int r;

	if (fd < 0)
		return -errno;
	ctx = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	if (!ctx)
		return -ENOMEM;
	r = build_table(ctx, variant);
	if (!r)
		r = seccomp_export_bpf(ctx, fd);
	seccomp_release(ctx);
	return r ? r : TAKE_FD(fd);
}

int seccomp_filter_build(enum launch_seccomp variant, struct seccomp_filter *ret_filter)
{
	CLEANUP(freep) struct sock_filter *insns = NULL;
	CLEANUP(fd_closep) int table = -1;
	struct prologue prologue = {.n = 0};
	size_t bytes, head;
	struct stat st;

	build_prologue(&prologue, variant);
	table = export_table(variant);
	if (table < 0)
		return err_raise(table);
	if (fstat(table, &st) < 0)
		return err_raise(-errno);
	head = prologue.n * sizeof(*insns);
	bytes = head + (size_t)st.st_size;
	if (bytes > BPF_MAXINSNS * sizeof(*insns))
		return err_raise(-E2BIG);
	insns = malloc(bytes);
	if (!insns)
		return err_raise(-ENOMEM);
	memcpy(insns, prologue.insns, head);
	if (pread(table, insns + prologue.n, (size_t)st.st_size, 0) != st.st_size)
		return err_raise(-EIO);
	ret_filter->insns = TAKE(insns);
	ret_filter->n = (unsigned short)(bytes / sizeof(*insns));
	return 0;
}

int seccomp_filter_install(const struct seccomp_filter *filter)
{
	struct sock_fprog program = {.len = filter->n, .filter = filter->insns};

	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0 ? -errno : 0;
}
