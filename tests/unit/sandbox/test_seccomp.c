/* SPDX-License-Identifier: MIT */

/*
 * Tests of sandbox/seccomp_filter.c: each verdict, by running the program as the kernel would
 *
 * For calls without a say of their arguments, libseccomp's own program over the same lists is the reference.
 * That the kernel takes the filters and what they keep from a program is in tests/escape.
 */

#include "tests/unit/testing.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/seccomp_filter.h"
#include "sandbox/seccomp_table.h"

#define REFUSED(error) (SECCOMP_RET_ERRNO | (error))

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#else
#define ARCH AUDIT_ARCH_AARCH64
#endif

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

enum {
	NUMBERS = 5000,
	STEPS_MAX = 40, /* beyond that it is no tree */
};

/* The verdict of @filter. Fails for what the kernel would not take, and for a program that runs long. */
static uint32_t judge(const struct seccomp_filter *filter, const struct seccomp_data *data,
		      unsigned steps_max)
{
	uint32_t a = 0;
	unsigned at = 0;

	for (unsigned steps = 0; steps < steps_max; steps++) {
		const struct sock_filter *insn = &filter->insns[at];
		bool yes = false;

		assert_true(at < filter->n);
		at++;
		switch (insn->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			assert_true(insn->k % 4 == 0 && insn->k < sizeof(*data));
			memcpy(&a, (const char *)data + insn->k, sizeof(a));
			continue;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= insn->k;
			continue;
		case BPF_RET | BPF_K:
			return insn->k;
		case BPF_JMP | BPF_JA:
			at += insn->k;
			continue;
		case BPF_JMP | BPF_JEQ | BPF_K:
			yes = a == insn->k;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			yes = a >= insn->k;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			yes = a > insn->k;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			yes = a & insn->k;
			break;
		default:
			fail_msg("instruction %u: code %#x", at - 1, insn->code);
		}
		at += yes ? insn->jt : insn->jf;
	}
	fail_msg("call %d takes more than %u steps", data->nr, steps_max);
	return 0;
}

static uint32_t verdict(const struct seccomp_filter *filter, int nr, uint64_t arg0, uint64_t arg1,
			uint64_t arg2, uint64_t arg3)
{
	const struct seccomp_data data = {
		.nr = nr,
		.arch = ARCH,
		.args = {arg0, arg1, arg2, arg3},
	};

	return judge(filter, &data, STEPS_MAX);
}

static struct seccomp_filter build(enum launch_seccomp variant)
{
	struct seccomp_filter filter;

	assert_int_equal(seccomp_filter_build(variant, &filter), 0);
	return filter;
}

static void list(scmp_filter_ctx ctx, uint32_t action, const char *const *names)
{
	for (; *names; names++) {
		int nr = seccomp_syscall_resolve_name(*names);

		if (nr >= 0)
			assert_int_equal(seccomp_rule_add(ctx, action, nr, 0), 0);
	}
}

/* What libseccomp makes of the lists. */
static struct seccomp_filter reference(enum launch_seccomp variant)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	int fd = memfd_create("reference", MFD_CLOEXEC);
	struct seccomp_filter filter;
	struct stat st;

	assert_non_null(ctx);
	list(ctx, SCMP_ACT_ALLOW, seccomp_allowed);
	list(ctx, SCMP_ACT_ERRNO(EPERM), seccomp_refused);
	list(ctx, variant == LAUNCH_SECCOMP_STANDARD ? SCMP_ACT_ERRNO(EACCES) : SCMP_ACT_ALLOW,
	     seccomp_network);
	assert_int_equal(seccomp_export_bpf(ctx, fd), 0);
	seccomp_release(ctx);
	assert_int_equal(fstat(fd, &st), 0);
	filter.insns = malloc((size_t)st.st_size);
	filter.n = (unsigned short)((size_t)st.st_size / sizeof(*filter.insns));
	assert_int_equal(pread(fd, filter.insns, (size_t)st.st_size, 0), st.st_size);
	(void)close(fd);
	return filter;
}

static bool depends_on_arguments(int nr)
{
	static const int calls[] = {
#ifdef SYS_open
		SYS_open,    SYS_creat,     SYS_chmod,  SYS_mknod,
#endif
		SYS_clone,   SYS_ioctl,     SYS_fchmod, SYS_fchmodat, SYS_fchmodat2,
		SYS_mknodat, SYS_prlimit64, SYS_openat, SYS_socket,   SYS_socketpair,
	};

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (calls[i] == nr)
			return true;
	return false;
}

static void lists_are_kept_for_every_number(void **state)
{
	static const enum launch_seccomp variants[] = {
		LAUNCH_SECCOMP_STANDARD, LAUNCH_SECCOMP_LOOPBACK, LAUNCH_SECCOMP_TRUSTED};
	(void)state;
	for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
		struct seccomp_filter ours = build(variants[i]), theirs = reference(variants[i]);
		unsigned allowed = 0, refused = 0;

		for (int nr = 0; nr < NUMBERS; nr++) {
			struct seccomp_data data = {.nr = nr, .arch = ARCH};
			uint32_t is = judge(&ours, &data, STEPS_MAX);

			if (depends_on_arguments(nr))
				continue;
			assert_int_equal(is, judge(&theirs, &data, NUMBERS));
			allowed += is == SECCOMP_RET_ALLOW;
			refused += is != SECCOMP_RET_ALLOW;
		}
		assert_true(allowed > 200 && refused > NUMBERS - 500);
		print_message("%u instructions, libseccomp %u: %u calls allowed\n", ours.n,
			      theirs.n, allowed);
		free(ours.insns);
		free(theirs.insns);
	}
}

static void other_architectures_are_killed(void **state)
{
	struct seccomp_filter filter = build(LAUNCH_SECCOMP_TRUSTED);
	struct seccomp_data data = {.nr = 0, .arch = AUDIT_ARCH_I386};

	(void)state;
	assert_int_equal(judge(&filter, &data, STEPS_MAX), SECCOMP_RET_KILL_PROCESS);
#if defined(__x86_64__)
	data.arch = ARCH;
	data.nr = 0x40000000; /* x32 */
	assert_int_equal(judge(&filter, &data, STEPS_MAX), SECCOMP_RET_KILL_PROCESS);
	data.nr = -1;
	assert_int_equal(judge(&filter, &data, STEPS_MAX), SECCOMP_RET_KILL_PROCESS);
#endif
	free(filter.insns);
}

static void arguments_decide(void **state)
{
	const uint64_t above = UINT64_C(1) << 32; /* what the kernel does not look at */
	struct seccomp_filter filter = build(LAUNCH_SECCOMP_STANDARD), *f = &filter;

	(void)state;
	assert_int_equal(verdict(f, SYS_clone, CLONE_VM | CLONE_THREAD, 0, 0, 0),
			 SECCOMP_RET_ALLOW);
	assert_int_equal(verdict(f, SYS_clone, CLONE_NEWUSER, 0, 0, 0), REFUSED(EPERM));
	assert_int_equal(verdict(f, SYS_clone, CLONE_VM | CLONE_NEWNET, 0, 0, 0), REFUSED(EPERM));
	assert_int_equal(verdict(f, SYS_prlimit64, 0, 0, 0, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(verdict(f, SYS_prlimit64, above, 0, 0, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(verdict(f, SYS_prlimit64, 1, 0, 0, 0), REFUSED(EPERM));
	assert_int_equal(verdict(f, SYS_ioctl, 0, TCGETS, 0, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(verdict(f, SYS_ioctl, 0, TIOCSTI, 0, 0), REFUSED(EPERM));
	assert_int_equal(verdict(f, SYS_ioctl, 0, above | TIOCSTI, 0, 0), REFUSED(EPERM));
	assert_int_equal(verdict(f, SYS_ioctl, 0, TIOCLINUX, 0, 0), REFUSED(EPERM));
	assert_int_equal(verdict(f, SYS_fchmod, 0, 0755, 0, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(verdict(f, SYS_fchmod, 0, 04755, 0, 0), REFUSED(EPERM));
	assert_int_equal(verdict(f, SYS_fchmodat, 04000, 04000, 0644, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(verdict(f, SYS_fchmodat, 0, 0, 02644, 0), REFUSED(EPERM));
	assert_int_equal(verdict(f, SYS_fchmodat2, 0, 0, 04644, 0), REFUSED(EPERM));
	assert_int_equal(verdict(f, SYS_mknodat, 0, 0, S_IFREG | 04644, 0), REFUSED(EPERM));
	assert_int_equal(verdict(f, SYS_mknodat, 0, 0, S_IFREG | 0644, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(verdict(f, SYS_openat, 0, 0, O_RDONLY, 04755), SECCOMP_RET_ALLOW);
	assert_int_equal(verdict(f, SYS_openat, 0, 0, O_CREAT, 04755), REFUSED(EPERM));
	assert_int_equal(verdict(f, SYS_openat, 0, 0, O_TMPFILE, 02755), REFUSED(EPERM));
	assert_int_equal(verdict(f, SYS_openat, 0, 0, O_CREAT, 0755), SECCOMP_RET_ALLOW);
	assert_int_equal(verdict(f, SYS_openat, 0, 0, O_DIRECTORY, 04755), SECCOMP_RET_ALLOW);
#if defined(__x86_64__)
	assert_int_equal(verdict(f, SYS_open, 0, O_CREAT, 04755, 0), REFUSED(EPERM));
	assert_int_equal(verdict(f, SYS_open, 0, O_CREAT, 0755, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(verdict(f, SYS_creat, 0, 02755, 0, 0), REFUSED(EPERM));
	assert_int_equal(verdict(f, SYS_chmod, 0, 04755, 0, 0), REFUSED(EPERM));
	assert_int_equal(verdict(f, SYS_mknod, 0, 04755, 0, 0), REFUSED(EPERM));
#endif
	free(filter.insns);
}

static uint32_t socket_verdict(enum launch_seccomp variant, int nr, int family, int type,
			       int protocol)
{
	struct seccomp_filter filter = build(variant);
	uint32_t is = verdict(&filter, nr, (uint64_t)family, (uint64_t)type, (uint64_t)protocol, 0);

	free(filter.insns);
	return is;
}

static void sockets_are_as_the_profile_says(void **state)
{
	const int flags = SOCK_CLOEXEC | SOCK_NONBLOCK;
	static const enum launch_seccomp standard = LAUNCH_SECCOMP_STANDARD,
					 loopback = LAUNCH_SECCOMP_LOOPBACK,
					 trusted = LAUNCH_SECCOMP_TRUSTED;

	(void)state;
#define SOCKET(variant, family, type, protocol) \
	socket_verdict(variant, SYS_socket, family, type, protocol)
	assert_int_equal(SOCKET(standard, AF_INET, SOCK_STREAM, 0), REFUSED(EAFNOSUPPORT));
	assert_int_equal(SOCKET(standard, AF_UNIX, SOCK_STREAM, 0), REFUSED(EAFNOSUPPORT));
	assert_int_equal(SOCKET(loopback, AF_INET, SOCK_STREAM | flags, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(SOCKET(loopback, AF_INET6, SOCK_DGRAM, 17), SECCOMP_RET_ALLOW);
	assert_int_equal(SOCKET(loopback, AF_INET, SOCK_STREAM, 262), REFUSED(EPROTONOSUPPORT));
	assert_int_equal(SOCKET(loopback, AF_INET, SOCK_RAW, 0), REFUSED(EACCES));
	assert_int_equal(SOCKET(loopback, AF_UNIX, SOCK_STREAM, 0), REFUSED(EAFNOSUPPORT));
	assert_int_equal(SOCKET(loopback, AF_NETLINK, SOCK_RAW, 0), REFUSED(EAFNOSUPPORT));
	assert_int_equal(SOCKET(trusted, AF_UNIX, SOCK_DGRAM, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(SOCKET(trusted, AF_NETLINK, SOCK_RAW, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(SOCKET(trusted, AF_NETLINK, SOCK_RAW, 16), REFUSED(EAFNOSUPPORT));
	assert_int_equal(SOCKET(trusted, AF_ALG, SOCK_SEQPACKET, 0), REFUSED(EAFNOSUPPORT));
	assert_int_equal(SOCKET(trusted, AF_VSOCK, SOCK_STREAM, 0), REFUSED(EAFNOSUPPORT));
#undef SOCKET
#define PAIR(variant, type) socket_verdict(variant, SYS_socketpair, AF_UNIX, type, 0)
	assert_int_equal(PAIR(standard, SOCK_STREAM | flags), SECCOMP_RET_ALLOW);
	assert_int_equal(PAIR(standard, SOCK_SEQPACKET), SECCOMP_RET_ALLOW);
	assert_int_equal(PAIR(standard, SOCK_DGRAM), REFUSED(EACCES));
	assert_int_equal(PAIR(loopback, SOCK_DGRAM | flags), REFUSED(EACCES));
	assert_int_equal(PAIR(trusted, SOCK_DGRAM), SECCOMP_RET_ALLOW);
#undef PAIR
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_are_kept_for_every_number),
		cmocka_unit_test(other_architectures_are_killed),
		cmocka_unit_test(arguments_decide),
		cmocka_unit_test(sockets_are_as_the_profile_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
