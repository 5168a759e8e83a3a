package kmsg

import (
	"strconv"
	"strings"
	"time"
)

// OOMKill is one process that the kernel killed for want of memory.
type OOMKill struct {
	Time time.Time
	Seq  uint64 // of the record that tells of the kill

	// The victim. PID and UID are those of the host.
	Task string
	PID  int
	UID  uint32
	// What it held, in bytes.
	TotalVM, AnonRSS, FileRSS, ShmemRSS uint64
	ScoreAdj                            int

	// Constraint is what ran out: CONSTRAINT_MEMCG for the limit of a control
	// group, CONSTRAINT_NONE for the memory of the machine,
	// CONSTRAINT_CPUSET or CONSTRAINT_MEMORY_POLICY for that of some nodes. It is
	// empty when the record that names it was lost.
	Constraint string
	OOMGroup   string // control group whose limit was hit; empty if it was none's
	TaskGroup  string // control group of the victim

	// The limit that was hit and how much was used of it, in bytes, as far as the
	// kernel told. Swap tells that it was the limit of memory and swap together.
	Limit, Usage uint64
	Swap         bool

	Invoker string // the task that asked for memory
	Whole   bool   // the victim's whole group was killed (memory.oom.group)

	// Largest are the processes among which the kernel chose, those with the most
	// memory, the largest first. There are none where vm.oom_dump_tasks is off or
	// the kernel has told of too many kills.
	Largest []OOMTask
}

// MaxLargest is how many processes are told of with a kill.
const MaxLargest = 5

// OOMTask is a process that the kernel might have killed. Sizes are in bytes, ids
// those of the host.
type OOMTask struct {
	Task      string
	PID       int
	UID       uint32
	RSS, Swap uint64
	ScoreAdj  int
}

// RSS is the memory that the victim held.
func (k OOMKill) RSS() uint64 { return k.AnonRSS + k.FileRSS + k.ShmemRSS }

// OOMParser puts together what the kernel tells of a kill in several records, in
// this order (mm/oom_kill.c, mm/memcontrol.c):
//
//	dd invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
//	memory: usage 32768kB, limit 32768kB, failcnt 51
//	Tasks state (memory values in pages):
//	[  pid  ]   uid  tgid total_vm      rss rss_anon … name
//	[  26001] 1500000000 26001    51767     8420     8128 … dd
//	oom-kill:constraint=CONSTRAINT_MEMCG,…,oom_memcg=/x,task_memcg=/x,task=dd,pid=26001,uid=0
//	Memory cgroup out of memory: Killed process 26001 (dd) total-vm:67804kB, …
//	Tasks in /x are going to be killed due to memory.oom.group set
//	Memory cgroup out of memory: Killed process 26002 (sh) total-vm:…
//
// What programs write into the log is passed over, so that nobody can make up a
// kill. The kernel runs one OOM killer per group at a time, but more than one may
// write: victims are matched by pid. The zero value is ready.
type OOMParser struct {
	invoker string
	usage   [2]memoryLine // of memory, and of memory and swap
	tasks   taskTable
	pending map[int]OOMKill
	last    OOMKill // of which a whole group may be killed
	whole   string  // that group
}

type memoryLine struct{ usage, limit uint64 }

// Take takes a record. ok tells that a kill is complete.
func (p *OOMParser) Take(r Record) (kill OOMKill, ok bool) {
	if r.Facility != 0 {
		return OOMKill{}, false
	}
	switch text := r.Text; {
	case strings.Contains(text, " invoked oom-killer: "):
		invoker, _, _ := strings.Cut(text, " invoked oom-killer: ")
		p.invoker, p.usage, p.whole, p.tasks = invoker, [2]memoryLine{}, "", taskTable{}
	case strings.HasPrefix(text, "memory: usage "):
		p.usage[0] = parseMemoryLine(text)
	case strings.HasPrefix(text, "memory+swap: usage "):
		p.usage[1] = parseMemoryLine(text)
	case strings.HasPrefix(text, "Tasks state "):
		p.tasks = taskTable{open: true}
	case p.tasks.open && strings.HasPrefix(text, "["):
		p.tasks.take(text)
	case strings.HasPrefix(text, "oom-kill:"):
		if k, ok := parseChoice(text); ok {
			k.Largest = p.tasks.largest
			p.choose(k)
		}
		p.tasks = taskTable{}
	case strings.HasPrefix(text, "Tasks in ") && strings.HasSuffix(text, " are going to be killed due to memory.oom.group set"):
		p.whole = strings.TrimSuffix(strings.TrimPrefix(text, "Tasks in "), " are going to be killed due to memory.oom.group set")
	default:
		return p.takeKill(r)
	}
	return OOMKill{}, false
}

// maxPending bounds the choices whose kill never comes: the victim may end by
// itself meanwhile.
const maxPending = 64

// choose remembers whom the kernel has chosen.
func (p *OOMParser) choose(k OOMKill) {
	k.Invoker = p.invoker
	if k.OOMGroup != "" {
		line := p.usage[0]
		if swap := p.usage[1]; swap.limit > 0 && swap.usage >= swap.limit && line.usage < line.limit {
			line, k.Swap = swap, true
		}
		k.Usage, k.Limit = line.usage, line.limit
	}
	if p.pending == nil || len(p.pending) >= maxPending {
		p.pending = map[int]OOMKill{}
	}
	p.pending[k.PID] = k
}

// takeKill takes the record that tells of the kill itself.
func (p *OOMParser) takeKill(r Record) (OOMKill, bool) {
	victim, ok := parseKilled(r.Text)
	if !ok {
		return OOMKill{}, false
	}
	kill, chosen := p.pending[victim.PID]
	delete(p.pending, victim.PID)
	switch {
	case chosen:
	case p.whole != "":
		kill = p.last
		kill.TaskGroup, kill.Whole, kill.Largest = p.whole, true, nil // told with the first
	}
	kill.Task, kill.PID, kill.UID, kill.ScoreAdj = victim.Task, victim.PID, victim.UID, victim.ScoreAdj
	kill.TotalVM, kill.AnonRSS, kill.FileRSS, kill.ShmemRSS = victim.TotalVM, victim.AnonRSS, victim.FileRSS, victim.ShmemRSS
	kill.Time, kill.Seq = r.Time, r.Seq
	if chosen {
		p.last = kill
	}
	return kill, true
}

// parseMemoryLine reads "memory: usage 32768kB, limit 32768kB, failcnt 51".
func parseMemoryLine(text string) memoryLine {
	_, usage, _ := strings.Cut(text, "usage ")
	_, limit, _ := strings.Cut(text, ", limit ")
	return memoryLine{usage: kilobytes(usage), limit: kilobytes(limit)}
}

// kilobytes reads a number that begins s and is followed by kB.
func kilobytes(s string) uint64 {
	digits, _, ok := strings.Cut(s, "kB")
	n, err := strconv.ParseUint(digits, 10, 64)
	if !ok || err != nil || n > 1<<53 {
		return 0
	}
	return n << 10
}

// parseChoice reads the record that names the victim. Its last fields are looked
// for from the end, because the name of a task and the path of a group may hold
// commas and anything else.
func parseChoice(text string) (k OOMKill, ok bool) {
	rest, found := strings.CutPrefix(text, "oom-kill:constraint=")
	if !found {
		return OOMKill{}, false
	}
	k.Constraint, rest, _ = strings.Cut(rest, ",")
	rest, uid, ok1 := cutLast(rest, ",uid=")
	rest, pid, ok2 := cutLast(rest, ",pid=")
	rest, task, ok3 := cutTask(rest)
	rest, k.TaskGroup, _ = cutFirst(rest, ",task_memcg=")
	_, k.OOMGroup, _ = cutFirst(rest, ",oom_memcg=")
	if !ok1 || !ok2 || !ok3 {
		return OOMKill{}, false
	}
	k.Task = task
	n, err1 := strconv.ParseUint(uid, 10, 32)
	k.UID = uint32(n)
	var err2 error
	k.PID, err2 = strconv.Atoi(pid)
	return k, err1 == nil && err2 == nil && k.PID > 0
}

// maxTask is the longest name of a task (TASK_COMM_LEN less the zero byte).
const maxTask = 15

// cutTask splits at the ",task=" that leaves a name as short as names are. Were
// there a second in the name itself, the first that is near enough is meant.
func cutTask(s string) (before, task string, ok bool) {
	from := max(0, len(s)-maxTask-len(",task="))
	return cutFirstFrom(s, ",task=", from)
}

func cutFirst(s, sep string) (before, after string, ok bool) { return cutFirstFrom(s, sep, 0) }

func cutFirstFrom(s, sep string, from int) (before, after string, ok bool) {
	i := strings.Index(s[from:], sep)
	if i < 0 {
		return s, "", false
	}
	return s[:from+i], s[from+i+len(sep):], true
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

type killed struct {
	Task                                string
	PID                                 int
	UID                                 uint32
	TotalVM, AnonRSS, FileRSS, ShmemRSS uint64
	ScoreAdj                            int
}

// parseKilled reads "Memory cgroup out of memory: Killed process 12 (dd)
// total-vm:1kB, anon-rss:2kB, file-rss:3kB, shmem-rss:4kB, UID:0 pgtables:100kB
// oom_score_adj:0" and its relatives that begin with "Out of memory".
func parseKilled(text string) (k killed, ok bool) {
	cause, rest, ok := strings.Cut(text, ": Killed process ")
	if !ok || cause != "Memory cgroup out of memory" && !strings.HasPrefix(cause, "Out of memory") {
		return killed{}, false
	}
	pid, rest, ok := strings.Cut(rest, " (")
	if !ok {
		return killed{}, false
	}
	task, numbers, ok := cutLast(rest, ") total-vm:")
	n, err := strconv.Atoi(pid)
	if !ok || err != nil || n <= 0 {
		return killed{}, false
	}
	k = killed{Task: task, PID: n, TotalVM: kilobytes(numbers)}
	k.AnonRSS = kilobytes(after(numbers, "anon-rss:"))
	k.FileRSS = kilobytes(after(numbers, "file-rss:"))
	k.ShmemRSS = kilobytes(after(numbers, "shmem-rss:"))
	uid, _ := strconv.ParseUint(word(after(numbers, "UID:")), 10, 32)
	k.UID = uint32(uid)
	k.ScoreAdj, _ = strconv.Atoi(word(after(numbers, "oom_score_adj:")))
	return k, true
}

func after(s, sep string) string {
	_, s, _ = strings.Cut(s, sep)
	return s
}

func word(s string) string {
	s, _, _ = strings.Cut(s, " ")
	return s
}
