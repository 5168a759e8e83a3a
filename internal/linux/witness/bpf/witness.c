/* Watches the processes of all containers: remembers who has sent the signals that
 * end them, and tells of programs, ends, signals and connections as they happen. */
#include "../../bpf/kernel.h"

char LICENSE[] SEC("license") = "GPL";

/* The group that all containers' groups are in. It may be made anew. */
__u64 parent_id;

/* The pid namespace of the daemon, in whose numbers processes are told. */
const volatile __u32 pid_ns;

#define ARGS 128

struct key {
	__u32 pid; /* the process that got the signal, as the daemon counts */
	__u32 signal;
};

struct sent {
	__u64 time;            /* CLOCK_BOOTTIME, nanoseconds */
	__u64 started;         /* when the process that got it did, on the same clock */
	__u64 container;       /* the cgroup id of the one that got it */
	__u64 from_container;  /* and of the sender; 0: none of ours */
	__u64 from_part;       /* the group below that which the sender is in; 0: none */
	__u32 pid;             /* of the sender */
	__u32 pid_inside;
	__u32 uid;
	__u32 parent;          /* of the sender */
	__s32 code;            /* si_code */
	__u32 result;          /* TRACE_SIGNAL_* */
	__u32 oom;             /* the kernel has chosen the process for want of memory */
	__u32 args_len;
	char comm[16];
	char parent_comm[16];
	char args[ARGS];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct key);
	__type(value, struct sent);
} signals SEC(".maps");

/* Where a value is put together: it is too large for the stack. Each program has
 * its own, since one may interrupt the other. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct sent);
} scratch SEC(".maps");

enum {
	SEEN,    /* signals to processes of containers */
	FAILED,  /* that were not remembered */
	TOLD,    /* what was handed to the reader */
	DROPPED, /* and what was not: too much of one container in a second, or of all together */
	COUNTS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline void count(__u32 what)
{
	__u64 *n = bpf_map_lookup_elem(&counts, &what);

	if (n)
		(*n)++;
}

#include "deeds.h"

/* Signals that end nothing by default: CHLD, CONT, the stops, URG, WINCH. */
#define HARMLESS (1u << 17 | 1u << 18 | 1u << 19 | 1u << 20 | 1u << 21 | 1u << 22 | 1u << 23 | 1u << 28)

/* Of those that end something these come many times a second by a timer: VTALRM, PROF. */
#define TICKING (1u << 26 | 1u << 27)

#define SI_USER 0
#define SI_TIMER -2
#define SI_KERNEL 0x80
#define ALREADY_PENDING 2

static __always_inline void sender(struct sent *s, struct task_struct *task)
{
	struct task_struct *parent = BPF_CORE_READ(task, real_parent);
	unsigned long start = BPF_CORE_READ(task, mm, arg_start), end = BPF_CORE_READ(task, mm, arg_end);
	unsigned long n = end - start;
	struct numbers n_of;
	struct place at;

	n_of = numbers_of(task, pid_ns);
	s->pid = n_of.seen;
	s->pid_inside = n_of.inside;
	s->uid = bpf_get_current_uid_gid();
	at = place_below(task, parent_id);
	s->from_container = at.group;
	s->from_part = at.part;
	s->parent = numbers_of(parent, pid_ns).seen;
	bpf_get_current_comm(s->comm, sizeof(s->comm));
	BPF_CORE_READ_STR_INTO(&s->parent_comm, parent, comm);
	s->args_len = 0;
	if (!start || n == 0)
		return;
	if (n > ARGS)
		n = ARGS;
	/* Empty if the page is not there: nothing here may wait. */
	if (!bpf_probe_read_user(s->args, n & (2 * ARGS - 1), (void *)start))
		s->args_len = n;
}

SEC("tp_btf/signal_generate")
int BPF_PROG(signal_generate, int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)
{
	struct task_struct *current = (void *)bpf_get_current_task();
	struct key key = {};
	__u32 zero = 0;
	__u64 container;
	struct place at;
	struct sent *s;

	if (sig <= 0 || sig > 31 || HARMLESS & 1u << sig)
		return 0;
	at = place_below(task, parent_id);
	container = at.group;
	if (!container)
		return 0;
	count(SEEN);
	key.pid = numbers_of(task, pid_ns).seen;
	key.signal = sig;
	s = bpf_map_lookup_elem(&scratch, &zero);
	if (!s)
		return 0;
	s->started = BPF_CORE_READ(task, group_leader, start_boottime);
	if (result == ALREADY_PENDING) {
		/* The first one counts, unless it went to an earlier process of that number. */
		struct sent *first = bpf_map_lookup_elem(&signals, &key);

		if (first && first->started == s->started)
			return 0;
	}
	s->time = bpf_ktime_get_boot_ns();
	s->container = container;
	s->result = result;
	s->oom = 0;
	/* Two values stand for a signal that carries nothing (SEND_SIG_NOINFO, SEND_SIG_PRIV). */
	if ((unsigned long)info <= 1)
		s->code = (unsigned long)info ? SI_KERNEL : SI_USER;
	else
		s->code = BPF_CORE_READ(info, si_code);
	if (sig == 9 && s->code == SI_KERNEL) {
		struct sent *chosen = bpf_map_lookup_elem(&signals, &key);

		if (chosen && chosen->started == s->started && chosen->oom)
			s->oom = 1;
	}
	sender(s, current);
	if (bpf_map_update_elem(&signals, &key, s, BPF_ANY))
		count(FAILED);
	if (!(TICKING & 1u << sig) && s->code != SI_TIMER)
		tell_signal(task, at, sig, s);
	return 0;
}

struct trace_event_raw_mark_victim {
	int pid;
	__u32 uid;
} __attribute__((preserve_access_index));

/* The kernel names a victim before it sends the signal. Since 6.8 the argument is
 * the task, before it was the number. */
struct raw_args {
	__u64 args[2];
};

SEC("raw_tp/mark_victim")
int mark_victim(struct raw_args *ctx)
{
	struct trace_event_raw_mark_victim *form = 0;
	struct task_struct *task = (void *)ctx->args[0];
	struct key key = {.signal = 9};
	__u32 one = 1;
	struct sent *s;

	if (!bpf_core_field_exists(form->uid))
		return 0;
	s = bpf_map_lookup_elem(&scratch, &one);
	if (!s)
		return 0;
	s->container = place_below(task, parent_id).group;
	if (!s->container)
		return 0;
	key.pid = numbers_of(task, pid_ns).seen;
	s->started = BPF_CORE_READ(task, group_leader, start_boottime);
	s->time = bpf_ktime_get_boot_ns();
	s->code = SI_KERNEL;
	s->result = 0;
	s->oom = 1;
	s->from_container = 0;
	s->from_part = 0;
	s->pid = 0;
	s->pid_inside = 0;
	s->uid = 0;
	s->parent = 0;
	s->args_len = 0;
	s->comm[0] = 0;
	s->parent_comm[0] = 0;
	if (bpf_map_update_elem(&signals, &key, s, BPF_ANY))
		count(FAILED);
	return 0;
}

/* A program has been executed. data: its file, and from FILE on the command line. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *task, int old_pid, struct linux_binprm *program)
{
	struct place at = place_below(task, parent_id);
	unsigned long start, end, n;
	struct deed *d;
	long got;

	if (!at.part)
		return 0;
	d = deed(EXEC, task, at, false);
	if (!d)
		return 0;
	got = bpf_probe_read_kernel_str(d->data, FILE, BPF_CORE_READ(program, filename));
	if (got > 0 && got <= FILE)
		d->file_len = got;
	start = BPF_CORE_READ(task, mm, arg_start);
	end = BPF_CORE_READ(task, mm, arg_end);
	n = end - start;
	d->args_total = n;
	if (n > ARGV)
		n = ARGV;
	if (end > start && !bpf_probe_read_user(d->data + FILE, n & (2 * ARGV - 1), (void *)start))
		d->args_len = n;
	tell(d, FILE + ARGV);
	return 0;
}

/* A process has ended. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exit, struct task_struct *task)
{
	struct place at;
	struct deed *d;
	int status;

	if (BPF_CORE_READ(task, pid) != BPF_CORE_READ(task, tgid))
		return 0;
	at = place_below(task, parent_id);
	if (!at.part)
		return 0;
	status = BPF_CORE_READ(task, exit_code);
	d = deed(EXIT, task, at, status != 0);
	if (!d)
		return 0;
	d->number = status;
	d->life = d->time - BPF_CORE_READ(task, start_boottime);
	tell(d, 0);
	return 0;
}

enum { ESTABLISHED = 1, SYN_SENT = 2, SYN_RECV = 3, CLOSED = 7, LISTENING = 10 };

/* A TCP connection has come to another state. data: own address, other address. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, const struct sock *sk, const int before, const int after)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct dialer *who, self = {};
	struct peer_key key = {};
	__u64 id = (unsigned long)sk;
	char own[16];
	struct place at;
	struct deed *d;
	__u32 kind, more;

	if (BPF_CORE_READ(sk, sk_protocol) != 6)
		return 0;
	if (after == SYN_SENT) {
		kind = 0;
	} else if (before == SYN_SENT && after == ESTABLISHED) {
		kind = CONNECT;
	} else if (before == SYN_SENT && after == CLOSED) {
		kind = REFUSED;
	} else if (before == SYN_RECV && after == ESTABLISHED) {
		kind = ACCEPT;
	} else if (after == LISTENING) {
		kind = LISTEN;
	} else {
		return 0;
	}
	at = place_of_group(BPF_CORE_READ(sk, sk_cgrp_data.cgroup), parent_id);
	if (!at.part)
		return 0;
	if (!kind) {
		/* Only now is it certain that the current process is the one. */
		struct numbers n = numbers_of(task, pid_ns);

		self.pid = n.seen;
		self.inside = n.inside;
		bpf_get_current_comm(self.comm, sizeof(self.comm));
		bpf_map_update_elem(&dialers, &id, &self, BPF_ANY);
		return 0;
	}
	key.part = at.part;
	key.kind = kind;
	addresses_of(sk, own, key.other);
	key.port = kind == CONNECT || kind == REFUSED ? bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport)) : BPF_CORE_READ(sk, __sk_common.skc_num);
	if (!first_of(&key, &more))
		return 0;
	d = deed(kind, kind == LISTEN ? task : 0, at, kind == REFUSED);
	if (!d)
		return 0;
	d->more = more;
	d->own_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	d->other_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	d->number = BPF_CORE_READ(sk, sk_err);
	d->family = addresses_of(sk, d->data, d->data + 16);
	who = kind == CONNECT || kind == REFUSED ? bpf_map_lookup_elem(&dialers, &id) : 0;
	if (who) {
		d->pid = who->pid;
		d->inside = who->inside;
		__builtin_memcpy(d->comm, who->comm, sizeof(d->comm));
		bpf_map_delete_elem(&dialers, &id);
	}
	tell(d, 32);
	return 0;
}
