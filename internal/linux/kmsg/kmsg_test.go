package kmsg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/testenv"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       Record
		since      time.Duration
	}{
		{"kernel", "4,2145,18160613506,-;dd invoked oom-killer: order=0\n", Record{Seq: 2145, Level: 4, Text: "dd invoked oom-killer: order=0"}, 18160613506 * time.Microsecond},
		{"a program's", "12,7,1000,-;hello\n", Record{Seq: 7, Level: 4, Facility: 1, Text: "hello"}, time.Millisecond},
		{"more fields and a dictionary", "6,8,1,-,caller=T12;text\n SUBSYSTEM=pci\n DEVICE=x\n", Record{Seq: 8, Level: 6, Text: "text"}, time.Microsecond},
		{"escaped", `6,8,1,-;a\x0ab\x5cx\x5cx41 \xzz` + "\n", Record{Seq: 8, Level: 6, Text: "a\nb\\x\\x41 \\xzz"}, time.Microsecond},
		{"semicolon in the text", "6,8,1,-;a;b\n", Record{Seq: 8, Level: 6, Text: "a;b"}, time.Microsecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, since, err := parse([]byte(tt.text))
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil || since != tt.since {
				t.Error(err, since, diff)
			}
		})
	}
	for _, text := range []string{"", "6,8,1", "6,8;x", "x,8,1,-;text\n", "6,x,1,-;text\n", "6,8,x,-;text\n"} {
		if _, _, err := parse([]byte(text)); !errors.Is(err, errMalformed) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// lines are records of the kernel, as it wrote them.
func take(lines string, facility int) []OOMKill {
	var (
		p    OOMParser
		list []OOMKill
	)
	for line := range strings.Lines(lines) {
		if k, ok := p.Take(Record{Facility: facility, Text: strings.TrimSpace(line)}); ok {
			list = append(list, k)
		}
	}
	return list
}

const group = "/porthole/c66bc15a22c/app"

const memcgKill = `dd invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
CPU: 0 UID: 1500000000 PID: 12224 Comm: dd Not tainted 6.18.44 #1 PREEMPT(none)
memory: usage 32768kB, limit 32768kB, failcnt 51
memory+swap: usage 32768kB, limit 9007199254740988kB, failcnt 0
kmem: usage 212kB, limit 9007199254740988kB, failcnt 0
Memory cgroup stats for /porthole/c66bc15a22c/app:
Tasks state (memory values in pages):
[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name
[  26001] 1500000000 26001    51767     8420     8128      292         0   106496        0             0 dd
oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=app,mems_allowed=0,oom_memcg=/porthole/c66bc15a22c/app,task_memcg=/porthole/c66bc15a22c/app,task=dd,pid=26001,uid=1500000000
Memory cgroup out of memory: Killed process 26001 (dd) total-vm:207068kB, anon-rss:32512kB, file-rss:1168kB, shmem-rss:0kB, UID:1500000000 pgtables:108kB oom_score_adj:0
`

func memcgVictim() OOMKill {
	return OOMKill{
		Task: "dd", PID: 26001, UID: 1500000000, TotalVM: 207068 << 10, AnonRSS: 32512 << 10, FileRSS: 1168 << 10,
		Constraint: "CONSTRAINT_MEMCG", OOMGroup: group, TaskGroup: group, Limit: 32 << 20, Usage: 32 << 20, Invoker: "dd",
		Largest: []OOMTask{{Task: "dd", PID: 26001, UID: 1500000000, RSS: 8420 * uint64(os.Getpagesize())}},
	}
}

func TestOOMParser(t *testing.T) {
	swap := memcgVictim()
	swap.Swap, swap.Usage, swap.Limit = true, 33<<20, 33<<20
	second := memcgVictim()
	second.Task, second.PID, second.TotalVM, second.AnonRSS, second.FileRSS, second.Whole, second.Largest = "sh", 26002, 1<<10, 2<<10, 3<<10, true, nil
	for _, tt := range []struct {
		name, lines string
		want        []OOMKill
	}{
		{"limit of a group", memcgKill, []OOMKill{memcgVictim()}},
		{"limit of memory and swap", strings.NewReplacer(
			"memory: usage 32768kB, limit 32768kB", "memory: usage 20480kB, limit 32768kB",
			"memory+swap: usage 32768kB, limit 9007199254740988kB", "memory+swap: usage 33792kB, limit 33792kB").Replace(memcgKill), []OOMKill{swap}},
		{
			"memory of the machine",
			`stress-ng invoked oom-killer: gfp_mask=0x140dca(GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO), order=0, oom_score_adj=1000
oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=user.slice,mems_allowed=0,global_oom,task_memcg=/user.slice/session-1.scope,task=stress-ng,pid=4161,uid=1000
Out of memory: Killed process 4161 (stress-ng) total-vm:4242424kB, anon-rss:4000000kB, file-rss:128kB, shmem-rss:32kB, UID:1000 pgtables:7900kB oom_score_adj:1000
`,
			[]OOMKill{{
				Task: "stress-ng", PID: 4161, UID: 1000, TotalVM: 4242424 << 10, AnonRSS: 4000000 << 10, FileRSS: 128 << 10, ShmemRSS: 32 << 10, ScoreAdj: 1000,
				Constraint: "CONSTRAINT_NONE", TaskGroup: "/user.slice/session-1.scope", Invoker: "stress-ng",
			}},
		},
		{"a whole group", memcgKill + `Tasks in /porthole/c66bc15a22c/app are going to be killed due to memory.oom.group set
Memory cgroup out of memory: Killed process 26002 (sh) total-vm:1kB, anon-rss:2kB, file-rss:3kB, shmem-rss:0kB, UID:1500000000 pgtables:40kB oom_score_adj:0
`, []OOMKill{memcgVictim(), second}},
		{
			"the beginning was lost",
			"Memory cgroup out of memory: Killed process 12 (dd) total-vm:1kB, anon-rss:2kB, file-rss:3kB, shmem-rss:4kB, UID:7 pgtables:1kB oom_score_adj:-5\n",
			[]OOMKill{{Task: "dd", PID: 12, UID: 7, TotalVM: 1 << 10, AnonRSS: 2 << 10, FileRSS: 3 << 10, ShmemRSS: 4 << 10, ScoreAdj: -5}},
		},
		{
			"names that look like fields",
			`oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=a,mems_allowed=0,oom_memcg=/a,b,task_memcg=/a,b/c,task=x,pid=1,uid=0,pid=77,uid=5
Memory cgroup out of memory: Killed process 77 (x) total-vm:9) total-vm:1kB, anon-rss:2kB, file-rss:3kB, shmem-rss:4kB, UID:5 pgtables:1kB oom_score_adj:0
`,
			[]OOMKill{{
				Task: "x) total-vm:9", PID: 77, UID: 5, TotalVM: 1 << 10, AnonRSS: 2 << 10, FileRSS: 3 << 10, ShmemRSS: 4 << 10,
				Constraint: "CONSTRAINT_MEMCG", OOMGroup: "/a,b", TaskGroup: "/a,b/c",
			}},
		},
		{"a choice without a kill", "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),task_memcg=/,task=a,pid=3,uid=0\n", nil},
		{"something else", "Out of memory and luck\noom_reaper: reaped process 26001 (dd), now anon-rss:0kB\nKilled process 3 (x)\n", nil},
		{"broken numbers", "oom-kill:constraint=,task=a,pid=x,uid=0\nOut of memory: Killed process x (y) total-vm:1kB\nOut of memory: Killed process 3 y\n", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, take(tt.lines, 0)); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got := take(memcgKill, 1); got != nil {
		t.Errorf("a program made up %+v", got)
	}
}

func TestPendingIsBounded(t *testing.T) {
	var p OOMParser
	for pid := 1; pid < 1000; pid++ {
		p.Take(Record{Text: fmt.Sprintf("oom-kill:constraint=CONSTRAINT_NONE,task_memcg=/,task=a,pid=%d,uid=0", pid)})
	}
	if len(p.pending) > maxPending {
		t.Errorf("%d are remembered", len(p.pending))
	}
}

// The kernel is made to kill a process, and tells so.
func TestFollowSeesAKill(t *testing.T) {
	testenv.NeedsRoot(t)
	tree, err := cgroup.Current()
	if err != nil {
		t.Fatal(err)
	}
	parent := "/porthole-kmsgtest-" + strconv.Itoa(os.Getpid())
	g := cgroup.New(parent + "/a,b")
	limit := int64(16 << 20)
	if _, err := g.Create(&cgroup.Resources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &limit}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := errors.Join(g.Kill(ctx), g.Destroy(ctx), tree.Prune(parent)); err != nil {
			t.Error(err)
		}
	})
	r, err := Open(End)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	begin := time.Now()
	cmd := exec.Command("sh", "-c", "read x; exec tail /dev/zero")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := g.Add(cmd.Process.Pid, cgroup.App); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	_ = cmd.Wait()

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var (
		p     OOMParser
		kill  OOMKill
		found = errors.New("found")
	)
	err = r.Follow(ctx, func(rec Record) error {
		if k, ok := p.Take(rec); ok && k.PID == cmd.Process.Pid {
			kill = k
			return found
		}
		return nil
	})
	if !errors.Is(err, found) {
		t.Fatal(err)
	}
	if want := g.Path() + "/app"; kill.OOMGroup != want || kill.TaskGroup != want || kill.Task != "tail" || kill.Limit != uint64(limit) || kill.RSS() == 0 {
		t.Errorf("got %+v", kill)
	}
	if d := kill.Time.Sub(begin); d < -time.Second || d > 10*time.Second {
		t.Errorf("it was %v after the beginning of the test", d)
	}
}

func TestFollowEnds(t *testing.T) {
	testenv.NeedsRoot(t)
	t.Run("with its context", func(t *testing.T) {
		r, err := Open(End)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		time.AfterFunc(10*time.Millisecond, func() { cancel(gone) })
		if err := r.Follow(ctx, func(Record) error { return nil }); !errors.Is(err, gone) {
			t.Error(err)
		}
	})
	t.Run("when closed", func(t *testing.T) {
		r, err := Open(End)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(10*time.Millisecond, func() { r.Close() })
		if err := r.Follow(t.Context(), func(Record) error { return nil }); !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
}

func TestReadsWhatIsThere(t *testing.T) {
	testenv.NeedsRoot(t)
	r, err := Open(Beginning)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	enough := errors.New("enough")
	n, last := 0, uint64(0)
	err = r.Follow(t.Context(), func(rec Record) error {
		if n > 0 && rec.Seq != last+1+rec.Lost {
			t.Errorf("number %d after %d, %d lost", rec.Seq, last, rec.Lost)
		}
		last = rec.Seq
		if n++; n == 20 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Error(err)
	}
}

func FuzzOOMParser(f *testing.F) {
	f.Add(memcgKill)
	f.Add("oom-kill:constraint=,oom_memcg=,task_memcg=,task=,pid=,uid=")
	f.Fuzz(func(t *testing.T, text string) {
		for _, k := range take(text, 0) {
			if k.PID <= 0 {
				t.Errorf("victim %d", k.PID)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("6,8,1,-,caller=T12;te\\x0axt\n SUBSYSTEM=pci\n"))
	f.Fuzz(func(t *testing.T, b []byte) { _, _, _ = parse(b) })
}

func TestTasksOfAKill(t *testing.T) {
	const kill = `oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),task_memcg=/a,task=a,pid=3,uid=0
Out of memory: Killed process 3 (a) total-vm:1kB, anon-rss:2kB, file-rss:3kB, shmem-rss:4kB, UID:0 pgtables:1kB oom_score_adj:0
`
	page := uint64(os.Getpagesize())
	for _, tt := range []struct {
		name, lines string
		want        []OOMTask
	}{
		{"as kernels before 6.8 write it, and a name with spaces", `Tasks state (memory values in pages):
[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
[    812]     0   812      567      348    36864        0         -1000 sshd
[   3359]  1000  3355    51767     8341   102400       20           300 Web ] Content 7
`, []OOMTask{{"Web ] Content 7", 3359, 1000, 8341 * page, 20 * page, 300}, {"sshd", 812, 0, 348 * page, 0, -1000}}},
		{"the largest of many", `Tasks state (memory values in pages):
[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name
` + rows(30), []OOMTask{{"p30", 30, 0, 30 * page, 0, 0}, {"p29", 29, 0, 29 * page, 0, 0}, {"p28", 28, 0, 28 * page, 0, 0}, {"p27", 27, 0, 27 * page, 0, 0}, {"p26", 26, 0, 26 * page, 0, 0}}},
		{"none", "", nil},
		{"without a header", "Tasks state (memory values in pages):\n[   3359]  1000  3355    51767     8341   102400       20           300 x\n", nil},
		{"broken rows", `Tasks state (memory values in pages):
[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
[    812]     0   812
[      x]     0   812      567      348    36864        0         -1000 sshd
[    812      0   812      567      348    36864        0         -1000 sshd
`, nil},
		{"of an earlier kill", `Tasks state (memory values in pages):
[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
[    812]     0   812      567      348    36864        0         -1000 sshd
dd invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
`, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list := take(tt.lines+kill, 0)
			if len(list) != 1 {
				t.Fatalf("%d kills", len(list))
			}
			if diff := cmp.Diff(tt.want, list[0].Largest); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// rows are those of n processes, of which each holds a page more than the one before.
func rows(n int) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, "[%7d]     0 %5d      567      %d        0      348         0    36864        0             0 p%d\n", i, i, i, i)
	}
	return b.String()
}
