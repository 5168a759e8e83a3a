/* What the programs need of the kernel's types. The loader finds out where each
 * field is on the kernel that runs, so only names and kinds count here. */
#ifndef PORTHOLE_KERNEL_H
#define PORTHOLE_KERNEL_H

typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __le16;
typedef __u16 __be16;
typedef __u32 __le32;
typedef __u32 __be32;
typedef __u64 __le64;
typedef __u64 __be64;
typedef __u32 __wsum;
typedef __u16 __sum16;

#define bool _Bool
#define true 1
#define false 0

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_HASH_OF_MAPS = 13,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
};

enum {
	BPF_F_NO_PREALLOC = 1,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
	BPF_RB_NO_WAKEUP = 1,
	BPF_RB_FORCE_WAKEUP = 2,
	BPF_RB_AVAIL_DATA = 0,
};

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_endian.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node {
	__u64 id;
};

struct cgroup;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct cgroup {
	struct cgroup_subsys_state self;
	int level;
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct ns_common {
	unsigned int inum;
};

struct pid_namespace {
	struct ns_common ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

struct mm_struct {
	unsigned long arg_start, arg_end;
};

struct signal_struct {
	int group_exit_code;
};

struct thread_info {
	__u32 status;
};

struct task_struct {
	struct thread_info thread_info;
	int pid, tgid;
	__u64 start_boottime;
	int exit_code;
	char comm[16];
	struct css_set *cgroups;
	struct mm_struct *mm;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct signal_struct *signal;
};

struct kernel_siginfo {
	int si_signo, si_errno, si_code;
};

struct sock_cgroup_data {
	struct cgroup *cgroup;
};

struct in6_addr {
	union {
		__u8 u6_addr8[16];
	} in6_u;
};

struct sock_common {
	__be32 skc_daddr, skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	struct in6_addr skc_v6_daddr, skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
	struct sock_cgroup_data sk_cgrp_data;
	__u16 sk_protocol;
	int sk_err;
};

struct linux_binprm {
	const char *filename;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long bp, bx, r10, r9, r8, ax, cx, dx, si, di, orig_ax;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 regs[31];
	__u64 orig_x0;
	int syscallno;
};
#endif

#pragma clang attribute pop

/* A place is where a task is below a group: the group next below it, and the one
 * below that. */
struct place {
	__u64 group; /* cgroup id; 0: the task is elsewhere */
	__u64 part;
};

#define DEPTH 16

/* place_of_group finds where a group is below another. That other itself is
 * elsewhere. */
static __always_inline struct place place_of_group(struct cgroup *group, __u64 parent)
{
	struct place at = {}, nowhere = {};

	for (int i = 0; i < DEPTH && group; i++) {
		__u64 id = BPF_CORE_READ(group, kn, id);

		if (id == parent)
			return at;
		at.part = at.group;
		at.group = id;
		group = BPF_CORE_READ(group, self.parent, cgroup);
	}
	return nowhere;
}

static __always_inline struct place place_below(struct task_struct *task, __u64 parent)
{
	return place_of_group(BPF_CORE_READ(task, cgroups, dfl_cgrp), parent);
}

/* Namespaces of processes are nested no deeper. */
#define PID_DEPTH 32

/* Numbers of one process. */
struct numbers {
	int seen;   /* in the namespace of whoever asks; 0: not to be seen from there */
	int inside; /* in its own namespace */
};

/* numbers_in takes them apart; inum names the namespace of whoever asks. */
static __always_inline struct numbers numbers_in(struct pid *pid, unsigned int inum)
{
	unsigned int level = BPF_CORE_READ(pid, level);
	struct numbers out = {};

	for (unsigned int i = 0; i < PID_DEPTH && i <= level; i++) {
		struct upid *at = (void *)pid + bpf_core_field_offset(pid->numbers) + i * bpf_core_type_size(struct upid);

		out.inside = BPF_CORE_READ(at, nr);
		if (BPF_CORE_READ(at, ns, ns.inum) == inum)
			out.seen = out.inside;
	}
	return out;
}

/* number_beside is the number of a process in the namespace that another one has of
 * its own; 0: it is not to be seen from there. */
static __always_inline int number_beside(struct pid *pid, struct pid *other)
{
	unsigned int level = BPF_CORE_READ(other, level);
	struct upid *own = (void *)other + bpf_core_field_offset(other->numbers) + level * bpf_core_type_size(struct upid);

	return numbers_in(pid, BPF_CORE_READ(own, ns, ns.inum)).seen;
}

/* addresses_of puts the own and the other address of a connection into 16 bytes
 * each, and gives the family. */
static __always_inline __u16 addresses_of(const struct sock *sk, void *own, void *other)
{
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	if (family == 2) {
		__u32 a = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr), b = BPF_CORE_READ(sk, __sk_common.skc_daddr);

		__builtin_memcpy(own, &a, 4);
		__builtin_memcpy(other, &b, 4);
	} else {
		struct in6_addr a = BPF_CORE_READ(sk, __sk_common.skc_v6_rcv_saddr), b = BPF_CORE_READ(sk, __sk_common.skc_v6_daddr);

		__builtin_memcpy(own, &a, 16);
		__builtin_memcpy(other, &b, 16);
	}
	return family;
}

/* numbers_of finds the numbers of a task's process. */
static __always_inline struct numbers numbers_of(struct task_struct *task, unsigned int inum)
{
	return numbers_in(BPF_CORE_READ(task, group_leader, thread_pid), inum);
}

#endif
