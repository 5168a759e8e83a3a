/* Tells of the system calls of one container, and of what else happens in it. */
#include "../../bpf/kernel.h"

char LICENSE[] SEC("license") = "GPL";

const volatile __u64 group;   /* the container's cgroup id; recording: that of the group of all containers */
const volatile __u64 part;    /* that of the group in it whose processes are meant */
const volatile __u32 pid_ns;  /* in whose numbers processes are told */
const volatile bool failed;   /* only calls that fail */
const volatile bool refused; /* only calls that were refused: by seccomp, or with EPERM or EACCES */
const volatile bool summary;  /* count, and tell of no single one */
const volatile __u64 slow;    /* only calls that take so long, in nanoseconds */

#define CALLS 512
#define TAKES 4

/* Which calls are meant, by number. */
const volatile __u8 wanted[CALLS];

/* What memory to take with a call. */
struct take {
	__u8 arg;    /* the argument that has the address */
	__u8 what;   /* NOTHING, STRING, BYTES */
	__u8 length; /* the argument that has the number of bytes, or NO_LENGTH */
	__u8 exit;   /* when the call returns, because the kernel fills it in */
	__u32 size;  /* how much at most */
};

enum { NOTHING, STRING, BYTES };
#define NO_LENGTH 255

struct take_list {
	struct take take[TAKES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CALLS);
	__type(key, __u32);
	__type(value, struct take_list);
} takes SEC(".maps");

#define DATA 1024 /* a power of two */
#define PIECE 256

enum kind { CALL = 1, EXEC, EXIT, SIGNAL, TCP };

enum {
	DENIED = 1,  /* the call was refused before it began: by seccomp */
	FOREIGN = 2, /* made by the 32-bit ABI */
	UNFINISHED = 4, /* the task has ended in the midst of it */
};

/* What is sent of each event, up to data; then as much of that as length says. */
struct event {
	__u64 time; /* CLOCK_BOOTTIME, when it began */
	__u64 took; /* nanoseconds */
	__u64 args[6];
	__s64 ret;
	__u32 kind;
	__u32 number;
	__u32 flags;
	__u32 pid;         /* as the daemon counts */
	__u32 pid_inside;  /* as the container does */
	__u32 tid_inside;
	__u32 length;      /* of data in use */
	__u16 sizes[TAKES];   /* of what was taken, in the order of the list */
	__u16 offsets[TAKES]; /* where it is in data */
	char comm[16];
	char data[DATA + 2 * PIECE]; /* so much that masks alone prove all writes to be within */
};

#define HEAD __builtin_offsetof(struct event, data)

/* What is known of a task between the two ends of a call. */
struct task {
	bool known;   /* one of its calls has ended since we watch */
	bool inside;  /* a call is under way */
	bool judged;  /* ours is settled; only while recording */
	bool ours;    /* it is the container's own, and none of the engine's that gets ready to run a program in it */
	struct event event;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task);
} tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} events SEC(".maps");

/* Groups whose place has been looked up: the part that they belong to, 0: none.
 * Ids are not used again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u64);
} groups SEC(".maps");

/* Recording: of each of several parts the last events are kept in a ring of its own,
 * the newest in place of the oldest, and nobody reads them before they are wanted.
 * One pair of programs serves all of them, so that the calls of others take no longer
 * with many than with one. */
const volatile bool recording;

#define BOXES 64

struct box {
	__u64 since; /* CLOCK_BOOTTIME; a task that has begun before it is the container's */
	__u64 next;  /* how many events there were so far */
	__u64 lost;  /* how many there was no room for */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BOXES);
	__type(key, __u64); /* the part */
	__type(value, struct box);
} boxes SEC(".maps");

/* A slot has the place of its event in the order of all, from 1 on; 0: it is being
 * written. */
#define SLOT 384

struct slot {
	__u64 number;
	char event[SLOT - 8];
};

/* The one that is here by itself has the compiler describe the slots. */
struct ring {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct slot);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, BOXES);
	__type(key, __u64);
	__array(values, struct ring);
} rings SEC(".maps");

const volatile __u32 slots; /* of a ring, a power of two */

struct sum_key {
	__u32 number;
	__s32 error; /* 0: the call did not fail */
};

struct sum {
	__u64 calls;
	__u64 took;
	__u64 longest;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct sum_key);
	__type(value, struct sum);
} sums SEC(".maps");

enum { SENT, LOST, COUNTS };

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

/* Room for events that belong to no call. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct event);
} room SEC(".maps");

static __always_inline void count(__u32 what)
{
	__u64 *n = bpf_map_lookup_elem(&counts, &what);

	if (n)
		(*n)++;
}

/* So much has gathered when the reader is woken. */
const volatile __u32 much = 2 << 20;

static __always_inline void lose(__u64 whose)
{
	struct box *box = bpf_map_lookup_elem(&boxes, &whose);

	if (box)
		__sync_fetch_and_add(&box->lost, 1);
}

/* one_more counts, and gives how many there were before. Clang 14 has no name for
 * that of the first instruction set: it is r2 = atomic_fetch_add((u64 *)(r1 + 0), r2)
 * (Documentation/bpf/standardization/instruction-set.rst), from Linux 5.12 on. */
static __always_inline __u64 one_more(__u64 *count)
{
	register __u64 *at asm("r1") = count;
	register __u64 n asm("r2") = 1;

	asm volatile(".8byte 0x00000001000021db" : "+r"(n) : "r"(at) : "memory");
	return n;
}

static __always_inline void keep(struct event *e, __u64 whose)
{
	struct box *box = bpf_map_lookup_elem(&boxes, &whose);
	void *ring = bpf_map_lookup_elem(&rings, &whose);
	__u64 n = e->length, number;
	struct slot *slot;
	__u32 at;

	if (!box || !ring)
		return;
	number = one_more(&box->next);
	at = number & (slots - 1);
	slot = bpf_map_lookup_elem(ring, &at);
	if (!slot)
		return;
	*(volatile __u64 *)&slot->number = 0;
	__builtin_memcpy(slot->event, e, HEAD);
	asm volatile("" : "+r"(n));
	if (n > sizeof(slot->event) - HEAD)
		n = sizeof(slot->event) - HEAD;
	if (n)
		bpf_probe_read_kernel(slot->event + HEAD, n, e->data);
	asm volatile("" ::: "memory");
	*(volatile __u64 *)&slot->number = number + 1;
}

/* send hands an event to the reader, who looks by itself every few milliseconds
 * and is woken only once when much has gathered: to wake costs more than all else
 * here. */
static __always_inline void send(struct event *e, __u64 whose)
{
	__u64 waiting, n;
	bool now;

	if (recording) {
		keep(e, whose);
		return;
	}
	waiting = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
	now = waiting >= much && waiting < much + sizeof(*e);
	n = e->length;
	/* What is compared must be what is used, for the kernel to see the bound. */
	asm volatile("" : "+r"(n));
	if (n > DATA)
		n = DATA;
	if (bpf_ringbuf_output(&events, e, HEAD + n, now ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP))
		count(LOST);
	else
		count(SENT);
}

/* part_of is the part that a task belongs to, if that may be meant; else 0. */
static __always_inline __u64 part_of(struct task_struct *task)
{
	struct place at = place_below(task, group);

	/* Below the container's group, the group next to it is the part. */
	if (recording)
		return at.part;
	return at.group == part ? part : 0;
}

/* meant is the part that a task belongs to, if that is meant; else 0. */
static __always_inline __u64 meant(struct task_struct *task)
{
	__u64 answer = part_of(task);

	if (recording && answer && !bpf_map_lookup_elem(&boxes, &answer))
		return 0;
	return answer;
}

/* mine is meant of the current task. */
static __always_inline __u64 mine(void)
{
	__u64 id = bpf_get_current_cgroup_id(), answer;
	__u64 *seen;

	if (!recording && id == part)
		return part;
	seen = bpf_map_lookup_elem(&groups, &id);
	if (seen) {
		answer = *seen;
	} else {
		answer = part_of((void *)bpf_get_current_task());
		bpf_map_update_elem(&groups, &id, &answer, BPF_ANY);
	}
	if (recording && answer && !bpf_map_lookup_elem(&boxes, &answer))
		return 0;
	return answer;
}

/* begins_as_ours tells of a task that has executed no program yet since we watch. The
 * engine's own, which becomes the container's by that, is a child of the shim. */
static __always_inline bool begins_as_ours(struct task_struct *task, __u64 whose)
{
	struct box *box = bpf_map_lookup_elem(&boxes, &whose);

	if (!box)
		return false;
	if (task->start_boottime < box->since)
		return true;
	if (task->pid != task->tgid) { /* a thread is what its process is */
		struct task *leader = bpf_task_storage_get(&tasks, task->group_leader, 0, 0);

		return leader && leader->ours;
	}
	return part_of((void *)BPF_CORE_READ(task, real_parent)) == whose;
}

/* data_of is what is known of the current task, which belongs to a part; none if it is
 * of no concern. */
static __always_inline struct task *data_of(__u64 whose)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task *t = bpf_task_storage_get(&tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!recording)
		return t;
	if (!t) {
		lose(whose);
		return t;
	}
	if (!t->judged) {
		t->ours = begins_as_ours(task, whose);
		t->judged = true;
	}
	return t->ours ? t : 0;
}

static __always_inline void who(struct event *e, struct task_struct *task)
{
	struct numbers n = numbers_of(task, pid_ns);

	e->pid = n.seen;
	e->pid_inside = n.inside;
	n = numbers_in(BPF_CORE_READ(task, thread_pid), pid_ns);
	e->tid_inside = n.inside;
}

/* add appends up to PIECE bytes of the caller's memory; 0 bytes: it was not there. */
static __always_inline __u32 add(struct event *e, __u64 address, __u32 size, bool string)
{
	__u32 at = e->length;
	long n;

	if (!address || at > DATA - PIECE)
		return 0;
	if (size > PIECE)
		size = PIECE;
	/* The compiler knows the bounds and would leave these out; the kernel does not. */
	asm volatile("%0 &= %1" : "+r"(at) : "i"(DATA - 1));
	asm volatile("%0 &= %1" : "+r"(size) : "i"(2 * PIECE - 1));
	if (string) {
		n = bpf_probe_read_user_str(&e->data[at], size, (void *)address);
		if (n <= 0)
			return 0;
	} else {
		if (size == 0 || bpf_probe_read_user(&e->data[at], size, (void *)address))
			return 0;
		n = size;
	}
	e->length = at + n;
	return n;
}

static __always_inline void take_memory(struct event *e, bool leaving)
{
	struct take_list *list = bpf_map_lookup_elem(&takes, &e->number);

	if (!list)
		return;
#pragma unroll
	for (int i = 0; i < TAKES; i++) {
		struct take *t = &list->take[i];
		__u32 size = t->size, arg = t->arg;
		__u64 address;

		if (t->what == NOTHING)
			break;
		/* What was not there at the beginning is looked for again. */
		if (!leaving ? t->exit : e->sizes[i] != 0)
			continue;
		if (leaving && t->exit && e->ret < 0)
			continue;
		if (arg > 5)
			continue;
		address = e->args[arg];
		if (t->length < 6) {
			__u64 n = e->args[t->length];

			if (n < size)
				size = n;
		}
		e->offsets[i] = e->length;
		e->sizes[i] = add(e, address, size, t->what == STRING);
	}
}

static __always_inline bool foreign(struct task_struct *task)
{
#if defined(__TARGET_ARCH_x86)
	return task->thread_info.status & 2; /* TS_COMPAT */
#else
	return false;
#endif
}

static __always_inline void arguments(struct event *e, struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	e->args[0] = regs->di;
	e->args[1] = regs->si;
	e->args[2] = regs->dx;
	e->args[3] = regs->r10;
	e->args[4] = regs->r8;
	e->args[5] = regs->r9;
#else
	e->args[0] = regs->orig_x0;
	e->args[1] = regs->regs[1];
	e->args[2] = regs->regs[2];
	e->args[3] = regs->regs[3];
	e->args[4] = regs->regs[4];
	e->args[5] = regs->regs[5];
#endif
}

/* The 32-bit ABI of x86 has them in other registers. */
static __always_inline void foreign_arguments(struct event *e, struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	e->args[0] = (__u32)regs->bx;
	e->args[1] = (__u32)regs->cx;
	e->args[2] = (__u32)regs->dx;
	e->args[3] = (__u32)regs->si;
	e->args[4] = (__u32)regs->di;
	e->args[5] = (__u32)regs->bp;
#endif
}

static __always_inline long number_of(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return regs->orig_ax;
#else
	return regs->syscallno;
#endif
}

static __always_inline void begin(struct event *e, struct pt_regs *regs, long number)
{
	e->kind = CALL;
	e->number = number;
	e->flags = 0;
	e->length = 0;
	e->time = bpf_ktime_get_boot_ns();
	__builtin_memset(e->sizes, 0, sizeof(e->sizes));
	arguments(e, regs);
}

static __always_inline bool asked_for(long number)
{
	/* A number that nobody knows is of interest by itself. */
	return number < 0 || number >= CALLS || wanted[number & (CALLS - 1)];
}

SEC("tp_btf/sys_enter")
int BPF_PROG(sys_enter, struct pt_regs *regs, long number)
{
	__u64 whose = mine();
	struct task *t;
	bool other;

	if (!whose)
		return 0;
	t = data_of(whose);
	if (!t)
		return 0;
	if (!t->event.tid_inside)
		who(&t->event, (void *)bpf_get_current_task());
	other = foreign(bpf_get_current_task_btf());
	t->inside = true;
	t->known = true;
	if (!other && !asked_for(number)) {
		t->event.kind = 0;
		return 0;
	}
	begin(&t->event, regs, number);
	if (other) {
		t->event.flags = FOREIGN;
		foreign_arguments(&t->event, regs);
	}
	if (!summary && !other)
		take_memory(&t->event, false);
	return 0;
}

/* Calls whose child comes back from a call that it has not begun. */
const volatile __s32 clone_numbers[4];

static __always_inline bool clones(long number)
{
#pragma unroll
	for (int i = 0; i < 4; i++)
		if (number == clone_numbers[i])
			return true;
	return false;
}

static __always_inline void sum_up(struct event *e)
{
	struct sum_key key = {.number = e->number, .error = e->ret < 0 && e->ret >= -4095 ? -e->ret : 0};
	struct sum *s = bpf_map_lookup_elem(&sums, &key), fresh = {};

	if (!s) {
		bpf_map_update_elem(&sums, &key, &fresh, BPF_NOEXIST);
		s = bpf_map_lookup_elem(&sums, &key);
		if (!s) {
			count(LOST);
			return;
		}
	}
	__sync_fetch_and_add(&s->calls, 1);
	__sync_fetch_and_add(&s->took, e->took);
	if (e->took > s->longest) /* two at once may lose one: it is the longest of many */
		s->longest = e->took;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs *regs, long ret)
{
	__u64 whose = mine();
	struct event *e;
	struct task *t;
	bool known;

	if (!whose)
		return 0;
	t = data_of(whose);
	if (!t)
		return 0;
	e = &t->event;
	known = t->known;
	t->known = true;
	if (!e->tid_inside)
		who(e, (void *)bpf_get_current_task());
	if (!t->inside) {
		/* An end without a beginning: it began before we watched, or the task is the
		 * new one of a clone, or the call was refused at its door. */
		long number = number_of(regs);

		if (!known || clones(number) || number < 0 || !asked_for(number))
			return 0;
		begin(e, regs, number);
		e->flags = DENIED;
	} else if (!e->kind) {
		t->inside = false;
		return 0;
	}
	t->inside = false;
	e->ret = ret;
	e->took = bpf_ktime_get_boot_ns() - e->time;
	if (failed && !(ret < 0 && ret >= -4095))
		return 0;
	if (refused && !(e->flags & DENIED) && ret != -1 && ret != -13)
		return 0;
	if (e->took < slow)
		return 0;
	if (summary) {
		sum_up(e);
		return 0;
	}
	if (!(e->flags & FOREIGN))
		take_memory(e, true);
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	send(e, whose);
	e->kind = 0;
	return 0;
}

static __always_inline struct event *fresh(__u32 kind)
{
	__u32 i = kind - EXEC;
	struct event *e = bpf_map_lookup_elem(&room, &i);

	if (!e)
		return 0;
	e->kind = kind;
	e->time = bpf_ktime_get_boot_ns();
	e->took = 0;
	e->ret = 0;
	e->number = 0;
	e->flags = 0;
	e->length = 0;
	e->pid = e->pid_inside = e->tid_inside = 0;
	__builtin_memset(e->args, 0, sizeof(e->args));
	__builtin_memset(e->sizes, 0, sizeof(e->sizes));
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	return e;
}

/* A program has been executed. args: parent; data: file, command line. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *task, int old_pid, struct linux_binprm *program)
{
	unsigned long start, end;
	__u64 whose = mine();
	struct event *e;
	long n;

	if (!whose)
		return 0;
	if (recording) {
		struct task *t = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

		if (t)
			t->ours = t->judged = true;
	}
	e = fresh(EXEC);
	if (!e)
		return 0;
	who(e, task);
	e->args[0] = numbers_of(BPF_CORE_READ(task, real_parent), pid_ns).inside;
	n = bpf_probe_read_kernel_str(e->data, PIECE, BPF_CORE_READ(program, filename));
	if (n > 0 && n <= PIECE) {
		e->sizes[0] = n;
		e->length = n;
	}
	start = BPF_CORE_READ(task, mm, arg_start);
	end = BPF_CORE_READ(task, mm, arg_end);
	if (end > start)
		e->sizes[1] = add(e, start, end - start > PIECE ? PIECE : end - start, false);
	e->args[1] = end - start;
	send(e, whose);
	return 0;
}

/* unfinished tells of the call in which a task ends, as exit_group is. */
static __always_inline void unfinished(struct task *t, __u64 whose)
{
	struct event *e = &t->event;

	if (!t->inside || !e->kind)
		return;
	t->inside = false;
	e->took = bpf_ktime_get_boot_ns() - e->time;
	e->flags |= UNFINISHED;
	e->ret = 0;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	send(e, whose);
	e->kind = 0;
}

/* A task has ended. Of a process, ret: its status as of wait(2); took: its life. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exit, struct task_struct *task)
{
	bool first = BPF_CORE_READ(task, pid) == BPF_CORE_READ(task, tgid);
	__u64 whose;
	struct event *e;

	if (!recording && !first)
		return 0;
	whose = mine();
	if (!whose)
		return 0;
	if (recording) {
		struct task *t = bpf_task_storage_get(&tasks, bpf_get_current_task_btf(), 0, 0);

		if (!t || !t->ours)
			return 0;
		unfinished(t, whose);
		if (!first)
			return 0;
	}
	e = fresh(EXIT);
	if (!e)
		return 0;
	who(e, task);
	e->ret = BPF_CORE_READ(task, exit_code);
	e->took = e->time - BPF_CORE_READ(task, start_boottime);
	send(e, whose);
	return 0;
}

/* A signal was sent to a process. number: the signal; args: result, code, the
 * sender's number as the daemon counts, its own, whether it is of this container. */
SEC("tp_btf/signal_generate")
int BPF_PROG(signal_sent, int sig, struct kernel_siginfo *info, struct task_struct *task, int to_group, int result)
{
	struct task_struct *sender = (void *)bpf_get_current_task();
	__u64 whose = meant(task);
	struct numbers n;
	struct event *e;

	if (!whose)
		return 0;
	e = fresh(SIGNAL);
	if (!e)
		return 0;
	who(e, task);
	e->number = sig;
	e->args[0] = result;
	e->args[1] = (unsigned long)info <= 1 ? ((unsigned long)info ? 0x80 : 0) : BPF_CORE_READ(info, si_code);
	n = numbers_of(sender, pid_ns);
	e->args[2] = n.seen;
	e->args[3] = n.inside;
	e->args[4] = part_of(sender) == whose;
	n.seen = bpf_probe_read_kernel_str(e->data, 16, (char *)BPF_CORE_READ(task, group_leader) + bpf_core_field_offset(struct task_struct, comm));
	if (n.seen > 0 && n.seen <= 16)
		e->length = e->sizes[0] = n.seen;
	send(e, whose);
	return 0;
}

/* A TCP connection has come to another state. args: old, new, family, own port,
 * other port; data: own address, other address. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, const struct sock *sk, const int before, const int after)
{
	struct place at = place_of_group(BPF_CORE_READ(sk, sk_cgrp_data.cgroup), group);
	struct event *e;

	if (at.group != part || BPF_CORE_READ(sk, sk_protocol) != 6)
		return 0;
	e = fresh(TCP);
	if (!e)
		return 0;
	if (mine())
		who(e, (void *)bpf_get_current_task());
	else
		e->comm[0] = 0; /* it is the other side's doing, or a timer's */
	e->args[0] = before;
	e->args[1] = after;
	e->args[3] = BPF_CORE_READ(sk, __sk_common.skc_num);
	e->args[4] = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	e->args[5] = (unsigned long)sk;
	e->args[2] = addresses_of(sk, e->data, e->data + 16);
	if (e->args[2] == 2)
		__builtin_memcpy(e->data + 4, e->data + 16, 4);
	e->length = e->args[2] == 2 ? 8 : 32;
	send(e, part);
	return 0;
}
