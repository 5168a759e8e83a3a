package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestMeterParsers(t *testing.T) {
	for _, tt := range []struct {
		name  string
		parse func(*Counters, []byte) bool
		text  string
		want  Counters
	}{
		{
			"v2 cpu.stat", parseCPUStatV2,
			"usage_usec 11\nuser_usec 5\nsystem_usec 6\nnice_usec 0\ncore_sched.force_idle_usec 0\nnr_periods 7\nnr_throttled 2\nthrottled_usec 9\nnr_bursts 0\n",
			Counters{Known: KnownThrottling, CPUUsage: 11000, CPUUser: 5000, CPUSystem: 6000, CPUPeriods: 7, CPUThrottledPeriods: 2, CPUThrottled: 9000},
		},
		{"v2 cpu.stat without the controller", parseCPUStatV2, "usage_usec 11\nuser_usec 5\nsystem_usec 6\n", Counters{CPUUsage: 11000, CPUUser: 5000, CPUSystem: 6000}},
		{"v1 cpu.stat", parseThrottlingV1, "nr_periods 3\nnr_throttled 1\nthrottled_time 77\n", Counters{CPUPeriods: 3, CPUThrottledPeriods: 1, CPUThrottled: 77}},
		{"v1 cpuacct.usage_percpu", parsePerCPU, "12 0 77 \n", Counters{PerCPU: []uint64{12, 0, 77}}},
		{"cpuacct.stat", parseCPUTicks, "user 644\nsystem 526\n", Counters{CPUUser: 6_440_000_000, CPUSystem: 5_260_000_000}},
		{
			"v2 memory.stat", parseMemoryStatV2, "anon 1\nfile 2\nkernel 3\nkernel_stack 99\ninactive_file 4\npgfault 5\npgmajfault 6\n",
			Counters{Known: KnownKernelMemory, MemoryAnon: 1, MemoryFile: 2, MemoryKernel: 3, MemoryInactiveFile: 4, PageFaults: 5, MajorPageFaults: 6},
		},
		{
			"v1 memory.stat", parseMemoryStatV1,
			"cache 9\nrss 9\npgfault 9\nhierarchical_memory_limit 33554432\ntotal_cache 1\ntotal_rss 2\ntotal_swap 3\ntotal_pgfault 4\ntotal_pgmajfault 5\ntotal_inactive_file 6\n",
			Counters{MemoryLimit: 33554432, MemoryFile: 1, MemoryAnon: 2, MemorySwap: 3, PageFaults: 4, MajorPageFaults: 5, MemoryInactiveFile: 6},
		},
		{"v1 memory.stat without a limit", parseMemoryStatV1, "hierarchical_memory_limit 9223372036854771712\ntotal_rss 2\n", Counters{MemoryAnon: 2}},
		{"v1 memory.oom_control", parseOOMKills, "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", Counters{OOMKills: 3}},
		{"v2 memory.events", parseOOMKills, "low 0\nhigh 0\nmax 95\noom 2\noom_kill 4\noom_group_kill 7\n", Counters{OOMKills: 4}},
		{
			"io.stat", parseIOStat,
			"254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n254:16 rbytes=5 wbytes=7 rios=3 wios=4 dbytes=9 dios=9\n7:0 \n",
			Counters{ReadBytes: 15, WriteBytes: 27, ReadOps: 4, WriteOps: 6},
		},
		{
			"v1 io_service_bytes", parseIOBytesV1, "254:0 Read 10\n254:0 Write 20\n254:0 Sync 30\n254:0 Total 30\n7:1 Read 1\nTotal 31\n",
			Counters{ReadBytes: 11, WriteBytes: 20},
		},
		{"v1 io_service_bytes of nothing", parseIOBytesV1, "Total 0\n", Counters{}},
		{"v1 io_serviced", parseIOOpsV1, "254:0 Read 2\n254:0 Write 3\n", Counters{ReadOps: 2, WriteOps: 3}},
		{
			"pressure", parseMemoryPressure, "some avg10=0.00 avg60=1.34 avg300=3.64 total=21\nfull avg10=0.00 avg60=1.23 avg300=3.29 total=19\n",
			Counters{MemoryPressureSome: 21000, MemoryPressureFull: 19000},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got Counters
			if !tt.parse(&got, []byte(tt.text)) {
				t.Error("not understood")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzMeterParsers(f *testing.F) {
	f.Add([]byte("usage_usec 11\nmax\n8:0 Read 1\n8:0 rbytes=3\nsome avg10=1 total=4"))
	f.Add([]byte("=\n = =\nfull =max"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, parse := range []func(*Counters, []byte) bool{
			parseCPUStatV2, parseThrottlingV1, parseCPUTicks, parsePerCPU, parseMemoryStatV2, parseMemoryStatV1, parseOOMKills,
			parseIOStat, parseIOBytesV1, parseIOOpsV1, parseCPUPressure,
		} {
			var c Counters
			parse(&c, b)
		}
	})
}

// The meter and Stats read the same group in different ways.
func TestMeterAgreesWithStats(t *testing.T) {
	g := newGroup(t, &Resources{Memory: &specs.LinuxMemory{Limit: new(int64(64 << 20))}})
	cmd := spawn(t, g, App, "sh", "-c", "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; kill -STOP $$")
	waitStopped(t, cmd.Process.Pid)
	m, err := g.Meter(App)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var c Counters
	// The kernel gathers few changes of memory.stat every two seconds only (mm/memcontrol.c, FLUSH_TIME).
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); c.PageFaults == 0 || c.MemoryAnon == 0; <-tick.C {
		if err := m.Read(&c, new(Scratch)); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("no memory is counted after 20 s: %+v", c)
		}
	}
	s, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if want := KnownCPU | KnownThrottling | KnownMemory | KnownPids | KnownOOMKills; c.Known&want != want {
		t.Errorf("known are %b, want at least %b", c.Known, want)
	}
	if s.CPU.Pressure != nil && c.Known&KnownCPUPressure == 0 {
		t.Error("pressure is measured and not known")
	}
	const slack = 30 * time.Millisecond // by which the two ways of counting differ
	if d := time.Duration(c.CPUUsage) - time.Duration(s.CPU.Usage); d > slack || d < -slack || c.CPUUsage == 0 {
		t.Errorf("CPU usage is %d and %d", c.CPUUsage, s.CPU.Usage)
	}
	if d := int64(c.MemoryUsage - s.Memory.Usage); d > 1<<20 || d < -1<<20 || c.MemoryUsage == 0 {
		t.Errorf("memory is %d and %d", c.MemoryUsage, s.Memory.Usage)
	}
	if c.MemoryLimit != 64<<20 || c.Pids != 1 || c.PidsLimit != NoLimit {
		t.Errorf("counters are %+v", c)
	}
}

// waitStopped waits until a child of ours has stopped itself.
func waitStopped(t *testing.T, pid int) {
	t.Helper()
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("wait for a stop: %v, %v", status, err)
	}
}

func TestMeterAllocatesNothing(t *testing.T) {
	m, err := newGroup(t, &Resources{}).Meter(App)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var c Counters
	s := new(Scratch)
	if n := testing.AllocsPerRun(20, func() {
		if err := m.Read(&c, s); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for one reading", n)
	}
}

func TestMeterOfWhatIsGone(t *testing.T) {
	g := New(parent(t) + "/" + t.Name())
	if _, err := g.Meter(App); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a group that was never made: %v", err)
	}
	if _, err := g.Create(&Resources{}); err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	m, err := g.Meter(App)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Destroy(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := m.Read(new(Counters), new(Scratch)); !errors.Is(err, ErrGone) {
		t.Errorf("a removed group: %v", err)
	}
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Error(err)
	}
	if err := m.Read(new(Counters), new(Scratch)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a closed meter: %v", err)
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestScratchGrows(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := strings.Repeat("x", 50_000)
	fmt.Fprint(f, want)
	got, err := new(Scratch).read(int(f.Fd()))
	if err != nil || string(got) != want {
		t.Errorf("read %d bytes of %d: %v", len(got), len(want), err)
	}
}

func BenchmarkMeter(b *testing.B) {
	m, err := newGroup(b, &Resources{}).Meter(App)
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	var c Counters
	s := new(Scratch)
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Read(&c, s); err != nil {
			b.Fatal(err)
		}
	}
}
