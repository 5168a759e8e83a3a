/* Deeds are what the processes of containers do, told as it happens. So that nobody
 * can have the reader do more work than it is worth, there is a budget for each
 * container, and connections between the same two are told of once in a while. */

enum kind { EXEC = 1, EXIT, SIGNAL, CONNECT, REFUSED, ACCEPT, LISTEN };

#define FILE 128
#define ARGV 256 /* a power of two */

struct deed {
	__u64 time;         /* CLOCK_BOOTTIME, nanoseconds */
	__u64 container;    /* cgroup ids */
	__u64 part;
	__u64 life;         /* of a process that has ended, nanoseconds */
	__u64 from_container; /* of the sender of a signal */
	__u32 kind;
	__u32 pid;          /* as the daemon counts; 0: not known */
	__u32 inside;       /* as the container does */
	__u32 parent;       /* as the container does; 0: not to be seen from there */
	__s32 number;       /* the wait status, the signal, or the error of a connection */
	__s32 code;         /* si_code */
	__u32 result;       /* TRACE_SIGNAL_* */
	__u32 from;         /* the sender, as the daemon counts, and in its own namespace */
	__u32 from_inside;
	__u32 from_uid;
	__u32 more;         /* of the same kind between the same two that were not told of before this */
	__u32 dropped;      /* of this container before this one */
	__u32 args_total;
	__u16 family;
	__u16 own_port;
	__u16 other_port;
	__u16 file_len;
	__u16 args_len;
	__u16 reserved;
	char comm[16];
	char from_comm[16];
	char data[FILE + 2 * ARGV]; /* so much that masks alone prove all writes to be within */
};

#define HEAD __builtin_offsetof(struct deed, data)

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} deeds SEC(".maps");

/* Where a deed is put together, for each kind: one may interrupt another. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LISTEN + 1);
	__type(key, __u32);
	__type(value, struct deed);
} drafts SEC(".maps");

/* What each part of a container may still tell of in this second. What matters
 * more (failures, signals, refusals) has a budget of its own. */
struct budget {
	__u64 second;
	__u32 used[2];
	__u32 dropped;
	__u32 reserved;
};

#define PER_SECOND 100

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct budget);
} budgets SEC(".maps");

/* Whose connection attempts are under way, by the address of the socket. */
struct dialer {
	__u32 pid;
	__u32 inside;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct dialer);
} dialers SEC(".maps");

struct peer_key {
	__u64 part;
	__u32 kind;
	__u32 port;
	char other[16];
};

struct peer {
	__u64 told; /* when */
	__u32 more; /* since then */
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct peer_key);
	__type(value, struct peer);
} peers SEC(".maps");

#define ONCE_IN 10000000000ull /* nanoseconds */

/* first_of tells whether it is time to tell of a connection between two, and how
 * many there were since the last time. */
static __always_inline bool first_of(struct peer_key *key, __u32 *more)
{
	struct peer *p = bpf_map_lookup_elem(&peers, key), fresh = {};
	__u64 now = bpf_ktime_get_boot_ns();

	*more = 0;
	if (!p) {
		fresh.told = now;
		bpf_map_update_elem(&peers, key, &fresh, BPF_ANY);
		return true;
	}
	if (now - p->told < ONCE_IN) {
		__sync_fetch_and_add(&p->more, 1);
		return false;
	}
	p->told = now;
	*more = p->more;
	p->more = 0;
	return true;
}

/* afford takes one deed off a budget; false: there is nothing left of it. */
static __always_inline bool afford(__u64 part, bool matters, bool always, __u32 *dropped)
{
	struct budget *b = bpf_map_lookup_elem(&budgets, &part), fresh = {};
	__u64 second = bpf_ktime_get_boot_ns() >> 30;
	__u32 *used;

	*dropped = 0;
	if (!b) {
		bpf_map_update_elem(&budgets, &part, &fresh, BPF_NOEXIST);
		b = bpf_map_lookup_elem(&budgets, &part);
		if (!b)
			return true;
	}
	if (b->second != second) { /* two at once may give a few more */
		b->second = second;
		b->used[0] = b->used[1] = 0;
	}
	used = matters ? &b->used[1] : &b->used[0];
	if (*used >= PER_SECOND && !always) {
		__sync_fetch_and_add(&b->dropped, 1);
		count(DROPPED);
		return false;
	}
	*used += 1;
	*dropped = b->dropped;
	b->dropped = 0;
	return true;
}

/* deed begins one of a task; 0: it is to be left out. Of a task that is not known
 * there is no number. The end of a container's first process is always told. */
static __always_inline struct deed *deed(__u32 kind, struct task_struct *task, struct place at, bool matters)
{
	struct deed *d = bpf_map_lookup_elem(&drafts, &kind);
	struct task_struct *parent;
	struct numbers n = {};
	struct pid *pid;
	__u32 dropped;

	if (!d)
		return 0;
	if (task)
		n = numbers_of(task, pid_ns);
	if (!afford(at.part, matters, kind == EXIT && n.inside == 1, &dropped))
		return 0;
	__builtin_memset(d, 0, HEAD);
	d->time = bpf_ktime_get_boot_ns();
	d->kind = kind;
	d->container = at.group;
	d->part = at.part;
	d->dropped = dropped;
	d->pid = n.seen;
	d->inside = n.inside;
	if (task) {
		pid = BPF_CORE_READ(task, group_leader, thread_pid);
		parent = BPF_CORE_READ(task, real_parent);
		d->parent = number_beside(BPF_CORE_READ(parent, group_leader, thread_pid), pid);
		bpf_probe_read_kernel_str(d->comm, sizeof(d->comm), (char *)BPF_CORE_READ(task, group_leader) + bpf_core_field_offset(struct task_struct, comm));
	}
	return d;
}

/* tell hands a deed to the reader, who is woken by the first of several. */
static __always_inline void tell(struct deed *d, __u32 data)
{
	bool first = !bpf_ringbuf_query(&deeds, BPF_RB_AVAIL_DATA);

	if (bpf_ringbuf_output(&deeds, d, HEAD + data, first ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP))
		count(DROPPED);
	else
		count(TOLD);
}

static __always_inline void tell_signal(struct task_struct *task, struct place at, int sig, struct sent *s)
{
	struct deed *d;

	if (!at.part)
		return;
	d = deed(SIGNAL, task, at, true);
	if (!d)
		return;
	d->number = sig;
	d->code = s->code;
	d->result = s->result;
	d->from = s->pid;
	d->from_inside = s->pid_inside;
	d->from_uid = s->uid;
	d->from_container = s->from_container;
	__builtin_memcpy(d->from_comm, s->comm, sizeof(d->from_comm));
	tell(d, 0);
}
