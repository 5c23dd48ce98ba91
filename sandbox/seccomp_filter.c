/* SPDX-License-Identifier: MIT */

/*
 * System call filters
 *
 *   architecture   others are killed
 *   tree           binary, over ranges of numbers with one verdict
 *   returns        allowed, refused
 *   blocks         for the calls whose arguments decide
 *
 * A call in no list, future ones included, is ENOSYS.
 *
 * libseccomp knows the numbers; the program is ours. It cannot say "everything but these two": ioctl() takes 32
 * bits of a 64-bit register, so a rule that compares 64 is walked around with a bit above. And its tree has a leaf for each call,
 * where there are fewer ranges: the kernel translates each new filter, and runs it once for every number to learn which it
 * may allow without asking.
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
	CALLS = 1024, /* numbers from there on are ENOSYS */
	BLOCKS_MAX = 16,
	RETURNS_MAX = 8,
	FILTER_MAX = 512,
	TMPFILE_BIT = 020000000, /* of O_TMPFILE, which is a directory's flag besides */
	TYPE_MASK = 0xf,         /* of socket(): the rest are flags */
	PROTO_TCP = 6,
	PROTO_UDP = 17,
};

struct program {
	struct sock_filter insns[FILTER_MAX];
	unsigned n;
	uint32_t verdicts
		[CALLS]; /* SECCOMP_RET_..., or the number of a block, which is below all of those */
	unsigned blocks[BLOCKS_MAX]; /* where each begins; from 1 */
	unsigned block_count;
	uint32_t returns[RETURNS_MAX]; /* every other verdict, once */
	unsigned returns_at, return_count;
};

static void emit(struct program *p, struct sock_filter insn)
{
	CHECK(p->n < FILTER_MAX);
	p->insns[p->n++] = insn;
}

static void load(struct program *p, unsigned offset)
{
	emit(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset));
}

static void ret(struct program *p, unsigned action)
{
	emit(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

/* If the value at hand is @k, then @action. */
static void ret_if(struct program *p, unsigned k, unsigned action)
{
	emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, 0, 1));
	ret(p, action);
}

/* What follows, up to case_end(), is for the value @k alone, and must not run on beyond it. */
static unsigned case_begin(struct program *p, unsigned k)
{
	emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, 0, 0));
	return p->n - 1;
}

static void case_end(struct program *p, unsigned begin)
{
	CHECK(p->n - begin - 1 <= UINT8_MAX);
	p->insns[begin].jf = (__u8)(p->n - begin - 1);
}

/* What follows decides about the calls it is given to with block_for(). It ends with a verdict in every case. */
static void block_begin(struct program *p)
{
	CHECK(p->block_count < BLOCKS_MAX - 1);
	p->blocks[++p->block_count] = p->n;
}

static void block_for(struct program *p, unsigned nr)
{
	CHECK(nr < CALLS);
	p->verdicts[nr] = p->block_count;
}

static void emit_arch(struct program *p)
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

static void emit_clone(struct program *p)
{
	block_begin(p);
	block_for(p, SYS_clone);
	load(p, ARG(0));
	emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_NAMESPACES, 0, 1));
	ret(p, REFUSE(EPERM));
	ret(p, SECCOMP_RET_ALLOW);
}

/* The limits of another process: the init has the same user and no say in it. */
static void emit_prlimit(struct program *p)
{
	block_begin(p);
	block_for(p, SYS_prlimit64);
	load(p, ARG(0));
	ret_if(p, 0, SECCOMP_RET_ALLOW);
	ret(p, REFUSE(EPERM));
}

/*
 * Workspaces and binds lie on the host's disks, where these bits would mean something: the file's owner
 * there may be the user of the agent, or root.
 */
static void emit_setid(struct program *p, unsigned mode_arg)
{
	load(p, ARG(mode_arg));
	emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, S_ISUID | S_ISGID, 0, 1));
	ret(p, REFUSE(EPERM));
	ret(p, SECCOMP_RET_ALLOW);
}

static void emit_chmod(struct program *p)
{
	block_begin(p);
	block_for(p, SYS_fchmod);
#ifdef SYS_chmod
	block_for(p, SYS_chmod);
	block_for(p, SYS_creat);
	block_for(p, SYS_mknod);
#endif
	emit_setid(p, 1);
	block_begin(p);
	block_for(p, SYS_fchmodat);
	block_for(p, SYS_fchmodat2);
	block_for(p, SYS_mknodat);
	emit_setid(p, 2);
}

/* The mode of open() is there only if a file may be made. openat2() has it in memory, and is ENOSYS. */
static void emit_open(struct program *p, unsigned nr, unsigned flags_arg)
{
	block_begin(p);
	block_for(p, nr);
	load(p, ARG(flags_arg));
	emit(p,
	     (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_CREAT | TMPFILE_BIT, 1, 0));
	ret(p, SECCOMP_RET_ALLOW);
	emit_setid(p, flags_arg + 1);
}

/* Typing into a terminal that is shared with somebody outside. */
static void emit_ioctl(struct program *p)
{
	block_begin(p);
	block_for(p, SYS_ioctl);
	load(p, ARG(1));
	ret_if(p, TIOCSTI, REFUSE(EPERM));
	ret_if(p, TIOCLINUX, REFUSE(EPERM));
	ret(p, SECCOMP_RET_ALLOW);
}

static void emit_socketpair(struct program *p, enum launch_seccomp variant)
{
	block_begin(p);
	block_for(p, SYS_socketpair);
	load(p, ARG(1));
	emit(p, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, TYPE_MASK));
	ret_if(p, SOCK_STREAM, SECCOMP_RET_ALLOW);
	ret_if(p, SOCK_SEQPACKET, SECCOMP_RET_ALLOW);
	if (variant == LAUNCH_SECCOMP_TRUSTED)
		ret_if(p, SOCK_DGRAM, SECCOMP_RET_ALLOW);
	ret(p, REFUSE(EACCES));
}

/* Of the internet families: TCP and UDP, by their own numbers or by 0. MPTCP passes by Landlock. */
static void emit_internet(struct program *p, unsigned family)
{
	static const struct {
		unsigned type, protocol;
	} kinds[] = {{SOCK_STREAM, PROTO_TCP}, {SOCK_DGRAM, PROTO_UDP}};
	unsigned of_family = case_begin(p, family);

	load(p, ARG(1));
	emit(p, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, TYPE_MASK));
	for (unsigned i = 0; i < 2; i++) {
		unsigned of_type = case_begin(p, kinds[i].type);

		load(p, ARG(2));
		ret_if(p, 0, SECCOMP_RET_ALLOW);
		ret_if(p, kinds[i].protocol, SECCOMP_RET_ALLOW);
		ret(p, REFUSE(EPROTONOSUPPORT));
		case_end(p, of_type);
	}
	ret(p, REFUSE(EACCES));
	case_end(p, of_family);
}

static void emit_socket(struct program *p, enum launch_seccomp variant)
{
	unsigned netlink;

	block_begin(p);
	block_for(p, SYS_socket);
	if (variant != LAUNCH_SECCOMP_STANDARD) {
		load(p, ARG(0));
		emit_internet(p, AF_INET);
		emit_internet(p, AF_INET6);
	}
	if (variant == LAUNCH_SECCOMP_TRUSTED) {
		ret_if(p, AF_UNIX, SECCOMP_RET_ALLOW);
		netlink = case_begin(p, AF_NETLINK); /* getaddrinfo() asks it for addresses */
		load(p, ARG(2));
		ret_if(p, 0, SECCOMP_RET_ALLOW);
		ret(p, REFUSE(EAFNOSUPPORT));
		case_end(p, netlink);
	}
	ret(p, REFUSE(EAFNOSUPPORT));
}

static void emit_blocks(struct program *p, enum launch_seccomp variant)
{
	emit_clone(p);
	emit_prlimit(p);
	emit_chmod(p);
#ifdef SYS_open
	emit_open(p, SYS_open, 1);
#endif
	emit_open(p, SYS_openat, 2);
	emit_ioctl(p);
	emit_socketpair(p, variant);
	emit_socket(p, variant);
}

/* ---- the tree ---- */

/* Names that this libseccomp or this architecture lacks are left out: they end at the default. */
static void set_verdicts(struct program *p, const char *const *names, uint32_t verdict)
{
	for (; *names; names++) {
		int nr = seccomp_syscall_resolve_name(*names);

		if (nr >= 0 && nr < CALLS)
			p->verdicts[nr] = verdict;
	}
}

/* Where @verdict is given: its return, or its block. */
static unsigned target_of(const struct program *p, uint32_t verdict)
{
	unsigned i = 0;

	if (verdict <= p->block_count)
		return p->blocks[verdict];
	while (p->returns[i] != verdict)
		CHECK(++i < p->return_count);
	return p->returns_at + i;
}

static __u8 distance(unsigned from, unsigned to)
{
	CHECK(to > from && to - from - 1 <= UINT8_MAX);
	return (__u8)(to - from - 1);
}

/* Over the ranges that begin at @starts[0] to [@count - 1]; the last has no end. Returns where it begins. */
static unsigned emit_tree(struct program *p, const uint16_t *starts, unsigned count)
{
	unsigned half = count / 2, node = p->n, below;

	if (count == 1)
		return target_of(p, p->verdicts[*starts]);
	emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, starts[half], 0, 0));
	below = emit_tree(p, starts, half);
	p->insns[node].jf = distance(node, below);
	below = emit_tree(p, starts + half, count - half);
	p->insns[node].jt = distance(node, below);
	return node;
}

static void add_return(struct program *p, uint32_t verdict)
{
	for (unsigned i = 0; i < p->return_count; i++)
		if (p->returns[i] == verdict)
			return;
	CHECK(p->return_count < RETURNS_MAX);
	p->returns[p->return_count++] = verdict;
}

static unsigned find_ranges(struct program *p, uint16_t *ret_starts)
{
	unsigned count = 0;

	for (unsigned nr = 0; nr < CALLS; nr++) {
		if (nr && p->verdicts[nr] == p->verdicts[nr - 1])
			continue;
		ret_starts[count++] = (uint16_t)nr;
		if (p->verdicts[nr] > p->block_count)
			add_return(p, p->verdicts[nr]);
	}
	return count;
}

int seccomp_filter_build(enum launch_seccomp variant, struct seccomp_filter *ret_filter)
{
	CLEANUP(freep) struct program *p = calloc(1, sizeof(*p));
	uint16_t starts[CALLS];
	unsigned count;

	if (!p)
		return err_raise(-ENOMEM);
	for (unsigned nr = 0; nr < CALLS; nr++)
		p->verdicts[nr] = REFUSE(ENOSYS);
	set_verdicts(p, seccomp_allowed, SECCOMP_RET_ALLOW);
	set_verdicts(p, seccomp_refused, REFUSE(EPERM));
	set_verdicts(p, seccomp_network,
		     variant == LAUNCH_SECCOMP_STANDARD ? REFUSE(EACCES) : SECCOMP_RET_ALLOW);

	CHECK(p->verdicts[CALLS - 1] ==
	      REFUSE(ENOSYS)); /* what the last range gives to all beyond */

	/* Jumps lead forward only, and the tree needs to know where: so the blocks are made twice. */
	emit_blocks(p, variant);
	count = find_ranges(p, starts);
	p->n = 0;
	emit_arch(p);
	p->returns_at = p->n + count - 1; /* a node between any two ranges */
	for (unsigned i = 1; i <= p->block_count; i++)
		p->blocks[i] += p->returns_at + p->return_count;
	(void)emit_tree(p, starts, count);
	CHECK(p->n == p->returns_at);
	for (unsigned i = 0; i < p->return_count; i++)
		ret(p, p->returns[i]);
	p->block_count = 0;
	emit_blocks(p, variant);

	ret_filter->insns = malloc(p->n * sizeof(p->insns[0]));
	if (!ret_filter->insns)
		return err_raise(-ENOMEM);
	memcpy(ret_filter->insns, p->insns, p->n * sizeof(p->insns[0]));
	ret_filter->n = (unsigned short)p->n;
	return 0;
}

int seccomp_filter_install(const struct seccomp_filter *filter)
{
	struct sock_fprog program = {.len = filter->n, .filter = filter->insns};

	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0 ? -errno : 0;
}
