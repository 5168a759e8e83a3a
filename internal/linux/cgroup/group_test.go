package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/linux/cgroup/enter"
	"github.com/portholehq/porthole/internal/testenv"
)

// parent is a group of our own below which the tests work.
func parent(t testing.TB) string {
	t.Helper()
	testenv.NeedsRoot(t)
	tree, err := Current()
	if err != nil {
		t.Fatal(err)
	}
	path := "/porthole-cgrouptest-" + strconv.Itoa(os.Getpid())
	t.Cleanup(func() {
		if err := tree.Prune(path); err != nil {
			t.Error(err)
		}
	})
	return path
}

// newGroup makes a group and removes it with everything in it at the end.
func newGroup(t testing.TB, r *Resources) *Group {
	t.Helper()
	return newGroupNamed(t, "group", r)
}

// newGroupNamed is newGroup for a test that has several.
func newGroupNamed(t testing.TB, name string, r *Resources) *Group {
	t.Helper()
	g := New(parent(t) + "/" + strings.ReplaceAll(t.Name(), "/", "-") + "-" + name)
	if _, err := g.Create(r); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		if err := errors.Join(g.Kill(ctx), g.Destroy(ctx)); err != nil {
			t.Error(err)
		}
	})
	return g
}

// spawn starts a command as the runtime does: a thread enters the v1 groups and
// forks into the v2 group.
func spawn(t testing.TB, g *Group, sub Sub, argv ...string) *exec.Cmd {
	t.Helper()
	entrance, err := g.Entrance(sub)
	if err != nil {
		t.Fatal(err)
	}
	defer entrance.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if entrance.Dir != nil {
		cmd.SysProcAttr.UseCgroupFD = true
		cmd.SysProcAttr.CgroupFD = int(entrance.Dir.Fd())
	}
	if err := enter.Run(entrance.Tasks, cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// placement returns the groups of a process by hierarchy.
func placement(t testing.TB, pid int) map[string]string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	places := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		places[fields[1]] = fields[2]
	}
	return places
}

func TestBothWaysInReachEveryHierarchy(t *testing.T) {
	for _, way := range []string{"born", "added"} {
		for _, sub := range append(slices.Clone(subs), Shims) {
			t.Run(way+" "+string(sub), func(t *testing.T) {
				g := newGroup(t, &Resources{})
				var cmd *exec.Cmd
				if way == "born" {
					cmd = spawn(t, g, sub, "sleep", "60")
				} else {
					cmd = spawn(t, newGroupBeside(t), App, "sleep", "60")
					if err := g.Add(cmd.Process.Pid, sub); err != nil {
						t.Fatal(err)
					}
				}
				want := g.Path() + "/" + string(sub)
				if sub == Shims {
					want = g.Path() + "/shim"
				}
				for hierarchy, place := range placement(t, cmd.Process.Pid) {
					want := want
					if sub == Shims && hierarchy != "" && g.tree.v2 != "" {
						want = filepath.Dir(g.Path()) + "/shims"
					}
					if place != want {
						t.Errorf("hierarchy %q: in %q, want %q", hierarchy, place, want)
					}
				}
				if own := placement(t, os.Getpid()); own[""] == want {
					t.Error("the test itself went along")
				}
				if sub == Shim || sub == Shims { // which Kill spares
					_ = cmd.Process.Kill()
					_ = cmd.Wait()
				}
			})
		}
	}
}

func newGroupBeside(t testing.TB) *Group {
	t.Helper()
	g := New(parent(t) + "/beside-" + strings.ReplaceAll(t.Name(), "/", "-"))
	if _, err := g.Create(&Resources{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		if err := errors.Join(g.Kill(ctx), g.Destroy(ctx)); err != nil {
			t.Error(err)
		}
	})
	return g
}

// file reads one of app's files, trying the v1 controller or v2.
func file(t testing.TB, g *Group, controller, v1Name, v2Name string) string {
	t.Helper()
	dir, name := g.Dir(App), v2Name
	if root, ok := g.tree.controller(controller); ok {
		dir, name = filepath.Join(root, g.path, string(App)), v1Name
	}
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func TestLimitsReachTheKernel(t *testing.T) {
	tree, err := Current()
	if err != nil {
		t.Fatal(err)
	}
	support, err := tree.Support(parent(t))
	if err != nil {
		t.Fatal(err)
	}
	r := &Resources{
		Memory: &specs.LinuxMemory{Limit: new(int64(64 << 20)), Swap: new(int64(128 << 20)), Reservation: new(int64(32 << 20))},
		CPU:    &specs.LinuxCPU{Shares: new(uint64(512)), Quota: new(int64(50000)), Period: new(uint64(100000))},
		Pids:   &specs.LinuxPids{Limit: new(int64(42))},
	}
	v1 := support.Mode != V2
	if v1 {
		r.Memory.Swappiness = new(uint64(7))
	}
	if support.Cpuset {
		r.CPU.Cpus, r.CPU.Mems = "0", "0"
	}
	g := newGroup(t, r)
	pick := func(one, two string) string {
		if v1 {
			return one
		}
		return two
	}
	for _, test := range []struct{ name, got, want string }{
		{"memory", file(t, g, "memory", "memory.limit_in_bytes", "memory.max"), "67108864"},
		{"reservation", file(t, g, "memory", "memory.soft_limit_in_bytes", "memory.low"), "33554432"},
		{"shares", file(t, g, "cpu", "cpu.shares", "cpu.weight"), pick("512", "59")},
		{"quota", file(t, g, "cpu", "cpu.cfs_quota_us", "cpu.max"), pick("50000", "50000 100000")},
		{"pids", file(t, g, "pids", "pids.max", "pids.max"), "42"},
	} {
		if test.got != test.want {
			t.Errorf("%s: the kernel has %q, want %q", test.name, test.got, test.want)
		}
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		if !support.Cpuset {
			break // user-mode Linux is built without
		}
		if got := file(t, g, "cpuset", name, name); got != "0" {
			t.Errorf("%s: the kernel has %q", name, got)
		}
	}
	if support.Swap {
		got := file(t, g, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max")
		if want := pick("134217728", "67108864"); got != want {
			t.Errorf("swap: the kernel has %q, want %q", got, want)
		}
	}
	if v1 {
		if got := file(t, g, "memory", "memory.swappiness", ""); got != "7" {
			t.Errorf("swappiness: the kernel has %q", got)
		}
	}
	// A later change, as `update` makes it: more memory than the swap total of before.
	if _, err := g.Set(&Resources{Memory: &specs.LinuxMemory{Limit: new(int64(256 << 20)), Swap: new(int64(512 << 20))}}); err != nil {
		t.Fatal(err)
	}
	if got := file(t, g, "memory", "memory.limit_in_bytes", "memory.max"); got != "268435456" {
		t.Errorf("after the change: %q", got)
	}
	if got := file(t, g, "pids", "pids.max", "pids.max"); got != "42" {
		t.Errorf("a limit that was not named became %q", got)
	}
}

func TestMissingControllerIsNamed(t *testing.T) {
	tree, err := Current()
	if err != nil {
		t.Fatal(err)
	}
	g := New(parent(t) + "/missing")
	_, err = g.Create(&Resources{Rdma: map[string]specs.LinuxRdma{"mlx5_1": {HcaHandles: new(uint32(3))}}})
	var unavailable *UnavailableError
	if !errors.As(err, &unavailable) || unavailable.Controller != "rdma" {
		t.Fatalf("error %v", err)
	}
	if want := "the rdma controller is not available on this host (" + tree.Mode().String() + ")"; unavailable.Error() != want {
		t.Errorf("message %q, want %q", unavailable, want)
	}
	if g.Exists() {
		t.Error("the group was left behind")
	}
	for _, root := range tree.roots() {
		if exists(filepath.Join(root, g.Path())) {
			t.Errorf("left behind in %s", root)
		}
	}
}

func TestDeviceRules(t *testing.T) {
	deny := specs.LinuxDeviceCgroup{Allow: false, Access: "rwm"}
	null := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: new(int64(1)), Minor: new(int64(3)), Access: "rwm"}
	zero := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: new(int64(1)), Minor: new(int64(5)), Access: "r"}
	for _, test := range []struct {
		name  string
		rules []specs.LinuxDeviceCgroup
		can   string // commands that must work
		not   string // and that must not
	}{
		{"all denied but null", []specs.LinuxDeviceCgroup{deny, null}, ": < /dev/null", ": < /dev/zero"},
		{"read only", []specs.LinuxDeviceCgroup{deny, null, zero}, ": < /dev/zero", ": > /dev/zero"},
		{"allowed then denied", []specs.LinuxDeviceCgroup{deny, null, zero, {Type: "c", Major: new(int64(1)), Minor: new(int64(5)), Access: "r"}}, ": < /dev/null", ": < /dev/zero"},
		{"all", []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}, ": < /dev/zero; : > /dev/full", "false"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newGroup(t, &Resources{Devices: test.rules})
			if err := spawn(t, g, App, "sh", "-c", test.can).Wait(); err != nil {
				t.Errorf("%q failed: %v", test.can, err)
			}
			if err := spawn(t, g, App, "sh", "-c", test.not+" 2>&-").Wait(); err == nil {
				t.Errorf("%q worked", test.not)
			}
			if err := spawn(t, g, Debug, "sh", "-c", ": < /dev/zero").Wait(); err != nil {
				t.Errorf("tools are bound by the container's devices: %v", err)
			}
		})
	}
}

func TestFreezeAndThaw(t *testing.T) {
	g := newGroup(t, &Resources{})
	cmd := spawn(t, g, App, "sh", "-c", "while :; do :; done")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := g.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	if frozen, err := g.Frozen(); err != nil || !frozen {
		t.Errorf("Frozen() = %v, %v", frozen, err)
	}
	before := cpuTicks(t, cmd.Process.Pid)
	busy := time.Now()
	for time.Since(busy) < 50*time.Millisecond { // the victim would use the other processor meanwhile
	}
	if after := cpuTicks(t, cmd.Process.Pid); after != before {
		t.Errorf("it ran on for %d ticks while frozen", after-before)
	}
	if err := g.Thaw(ctx); err != nil {
		t.Fatal(err)
	}
	if frozen, err := g.Frozen(); err != nil || frozen {
		t.Errorf("after thawing Frozen() = %v, %v", frozen, err)
	}
	for cpuTicks(t, cmd.Process.Pid) == before {
		if ctx.Err() != nil {
			t.Fatal("it never ran again")
		}
		runtime.Gosched()
	}
}

// cpuTicks returns utime of a process.
func cpuTicks(t testing.TB, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	n, err := strconv.Atoi(fields[11])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestEndToolsAfterACrash: who was killed between freezing and thawing has left the group frozen.
func TestEndToolsAfterACrash(t *testing.T) {
	g := newGroup(t, &Resources{})
	if g.tree.v2 == "" {
		testenv.Skip(t, "the group is frozen only where there is a v2 tree")
	}
	if err := writeFile(filepath.Join(g.Dir(Debug), "cgroup.freeze"), "1"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := g.EndTools(ctx); err != nil {
		t.Fatal(err)
	}
	if events, err := readEvents(g.Dir(Debug)); err != nil || events["frozen"] != "0" {
		t.Errorf("%v, %v", events, err)
	}
}

func TestKillReachesDescendantsEvenFrozen(t *testing.T) {
	for _, frozen := range []bool{false, true} {
		t.Run(fmt.Sprintf("frozen %v", frozen), func(t *testing.T) {
			g := newGroup(t, &Resources{})
			cmd := spawn(t, g, App, "sh", "-c", "setsid sleep 60 & setsid sleep 60 & echo ready >&2; wait")
			tool := spawn(t, g, Debug, "sleep", "60")
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			for pids := []int(nil); len(pids) < 3; {
				var err error
				if pids, err = g.Pids(); err != nil || ctx.Err() != nil {
					t.Fatal(err, pids)
				}
				if len(pids) > 0 && !slices.Contains(pids, cmd.Process.Pid) {
					t.Fatalf("Pids() = %v without %d", pids, cmd.Process.Pid)
				}
			}
			if frozen {
				if err := g.Freeze(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if err := g.Kill(ctx); err != nil {
				t.Fatal(err)
			}
			if pids, err := g.Pids(); err != nil || len(pids) != 0 {
				t.Errorf("after Kill: %v, %v", pids, err)
			}
			for _, c := range []*exec.Cmd{cmd, tool} {
				var exit *exec.ExitError
				if err := c.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
					t.Errorf("%v ended with %v", c.Args, err)
				}
			}
		})
	}
}

func TestStatsAndOOM(t *testing.T) {
	g := newGroup(t, &Resources{
		Memory: &specs.LinuxMemory{Limit: new(int64(16 << 20)), Swap: new(int64(16 << 20))},
		Pids:   &specs.LinuxPids{Limit: new(int64(10))},
	})
	if err := spawn(t, g, App, "sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done").Wait(); err != nil {
		t.Fatal(err)
	}
	idle := spawn(t, g, App, "sleep", "60")
	s, err := g.Stats()
	// The thread that forked counts until the kernel has put it away.
	for deadline := time.Now().Add(5 * time.Second); err == nil && s.Pids.Current > 1 && time.Now().Before(deadline); {
		s, err = g.Stats()
	}
	if err != nil {
		t.Fatal(err)
	}
	if s.CPU.Usage == 0 || s.Memory.Usage == 0 || len(s.Memory.Detail) == 0 {
		t.Errorf("nothing was measured: %+v", s)
	}
	if s.Memory.SwapLimit != 16<<20 && s.Memory.SwapLimit != 0 {
		t.Errorf("memory and swap together are limited to %d", s.Memory.SwapLimit)
	}
	if s.Memory.MaxUsage < s.Memory.Usage {
		t.Errorf("memory %+v", s.Memory)
	}
	if s.Memory.Limit != 16<<20 || s.Pids.Limit != 10 || s.Pids.Current != 1 || s.Memory.OOMKills != 0 {
		t.Errorf("limit %d, pids %+v, OOM kills %d", s.Memory.Limit, s.Pids, s.Memory.OOMKills)
	}
	_ = idle.Process.Kill()
	_ = idle.Wait()
	// tail keeps all of an endless line in memory.
	var exit *exec.ExitError
	if err := spawn(t, g, App, "tail", "/dev/zero").Wait(); !errors.As(err, &exit) {
		t.Fatalf("the glutton ended with %v", err)
	}
	if kills, err := g.OOMKills(); err != nil || kills != 1 {
		t.Errorf("OOMKills() = %d, %v", kills, err)
	}
}

func TestDestroyBusyNamesTheProcess(t *testing.T) {
	g := newGroup(t, &Resources{})
	cmd := spawn(t, g, App, "sleep", "60")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := g.Destroy(ctx)
	if err == nil || !strings.Contains(err.Error(), "process "+strconv.Itoa(cmd.Process.Pid)) {
		t.Errorf("error %v", err)
	}
	// What is busy cannot be taken over by another attempt either.
	if _, err := g.Create(&Resources{}); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("Create on a busy group: %v", err)
	}
}

func TestLeftoverIsTakenOver(t *testing.T) {
	g := newGroup(t, &Resources{Pids: &specs.LinuxPids{Limit: new(int64(5))}})
	if _, err := g.Create(&Resources{}); err != nil {
		t.Fatal(err)
	}
	if got := file(t, g, "pids", "pids.max", "pids.max"); got != "max" {
		t.Errorf("a limit of the earlier owner stayed: %q", got)
	}
}

func TestDestroyIsIdempotentAndParentMayVanish(t *testing.T) {
	path := parent(t)
	for range 2 {
		g := New(path + "/again")
		if _, err := g.Create(&Resources{}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := g.Destroy(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for _, root := range g.tree.roots() { // behind the back of the tree
			_ = syscall.Rmdir(filepath.Join(root, path))
		}
	}
}

// TestParentComesAndGoes creates and removes groups as processes do that know nothing of each other: each removes the parent
// behind it if it is empty.
func TestParentComesAndGoes(t *testing.T) {
	parent := parent(t)
	var wg sync.WaitGroup
	for who := range 4 {
		wg.Go(func() {
			for range 200 {
				tree, err := Detect()
				if err != nil {
					t.Error(err)
					return
				}
				g := tree.Group(fmt.Sprintf("%s/%d", parent, who))
				if _, err := g.Create(&Resources{}); err != nil {
					t.Error(err)
					return
				}
				if err := errors.Join(g.Destroy(t.Context()), tree.Prune(parent)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestBelowTheRoot(t *testing.T) {
	testenv.NeedsRoot(t)
	g := New("/porthole-cgrouptest-root-" + strconv.Itoa(os.Getpid()))
	if _, err := g.Create(&Resources{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		if err := errors.Join(g.Kill(ctx), g.Destroy(ctx)); err != nil {
			t.Error(err)
		}
	})
	for _, sub := range []Sub{App, Debug} {
		if err := spawn(t, g, sub, "true").Wait(); err != nil {
			t.Error(err)
		}
	}
}

func TestRefusedPaths(t *testing.T) {
	for path, want := range map[string]string{
		"porthole/x": `cgroup path "porthole/x" is not absolute`,
		"":           `cgroup path "" is not absolute`,
		"/":          "the root cgroup cannot be a container's",
		"/../..":     "the root cgroup cannot be a container's",
	} {
		g := New(path)
		_, err := g.Create(nil)
		if err == nil || err.Error() != want {
			t.Errorf("Create at %q: %v, want %s", path, err, want)
		}
		if err := g.Destroy(t.Context()); err == nil {
			t.Errorf("Destroy at %q worked", path)
		}
	}
}

func TestParsePressure(t *testing.T) {
	got, err := parsePressure("some avg10=1.50 avg60=0.25 avg300=0.00 total=1500\nfull avg10=0.10 avg60=0.00 avg300=0.00 total=7\n")
	want := &Pressure{
		Some: PressureLine{Avg10: 1.5, Avg60: 0.25, Total: 1500 * time.Microsecond},
		Full: PressureLine{Avg10: 0.1, Total: 7 * time.Microsecond},
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := parsePressure("some avg10=x"); err == nil {
		t.Error("nonsense was taken")
	}
}

func TestV1ControllersOfSuperblocks(t *testing.T) {
	for options, want := range map[string]string{
		"rw,cpu,cpuacct": "cpu cpuacct",
		"rw,xattr,release_agent=/lib/systemd/systemd-cgroups-agent,name=systemd": "name=systemd",
		"rw,cpuset,noprefix,clone_children":                                      "cpuset",
	} {
		if got := strings.Join(v1Controllers(options), " "); got != want {
			t.Errorf("%q: %q, want %q", options, got, want)
		}
	}
}

func BenchmarkCreateEnterDestroy(b *testing.B) {
	path := parent(b)
	r := &Resources{
		Memory: &specs.LinuxMemory{Limit: new(int64(64 << 20)), Swap: new(int64(128 << 20))},
		Pids:   &specs.LinuxPids{Limit: new(int64(100))},
		Devices: append([]specs.LinuxDeviceCgroup{{Access: "rwm"}}, slices.Repeat([]specs.LinuxDeviceCgroup{
			{Allow: true, Type: "c", Major: new(int64(1)), Minor: new(int64(3)), Access: "rwm"},
		}, 8)...),
	}
	var create, open, join, destroy, shim time.Duration
	for b.Loop() {
		start := time.Now()
		g := New(path + "/bench")
		if _, err := g.Create(r); err != nil {
			b.Fatal(err)
		}
		create += time.Since(start)
		start = time.Now()
		entrance, err := g.Entrance(App)
		if err != nil {
			b.Fatal(err)
		}
		open += time.Since(start)
		start = time.Now()
		if err := enter.Run(entrance.Tasks, func() error { return nil }); err != nil {
			b.Fatal(err)
		}
		join += time.Since(start)
		_ = entrance.Close()
		start = time.Now()
		if entrance, err = g.Entrance(Shims); err != nil {
			b.Fatal(err)
		}
		shim += time.Since(start)
		_ = entrance.Close()
		start = time.Now()
		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		if err := g.Destroy(ctx); err != nil {
			b.Fatal(err)
		}
		cancel()
		destroy += time.Since(start)
	}
	for name, sum := range map[string]time.Duration{"create": create, "open": open, "join": join, "destroy": destroy, "open-shims": shim} {
		b.ReportMetric(float64(sum.Microseconds())/float64(b.N), name+"-us/op")
	}
}

func BenchmarkStats(b *testing.B) {
	g := newGroup(b, &Resources{})
	for b.Loop() {
		if _, err := g.Stats(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestWithoutV2Tree uses the v1 hierarchies of a hybrid host as if the v2 tree
// were not there.
func TestWithoutV2Tree(t *testing.T) {
	path := parent(t)
	whole, err := Current()
	if err != nil {
		t.Fatal(err)
	}
	if len(whole.v1) == 0 {
		testenv.Skip(t, "no cgroup v1 hierarchy is mounted")
	}
	tree := &Tree{mode: V1, v1: whole.v1, prepared: map[string]bool{}}
	g := tree.Group(path + "/v1")
	if _, err := g.Create(&Resources{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := errors.Join(g.Kill(ctx), g.Destroy(ctx)); err != nil {
			t.Error(err)
		}
	})
	cmd := spawn(t, g, App, "sh", "-c", "setsid sleep 60 & while :; do :; done")
	shim := spawn(t, g, Shims, "sleep", "60")
	defer func() {
		_ = shim.Process.Kill()
		_ = shim.Wait()
	}()
	if place := placement(t, shim.Process.Pid)["pids"]; place != path+"/v1/shim" {
		t.Errorf("shim in %q", place)
	}
	for pids := []int(nil); len(pids) < 2; {
		if pids, err = g.Pids(); err != nil || ctx.Err() != nil {
			t.Fatal(err, pids)
		}
	}
	if err := g.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	if frozen, err := g.Frozen(); err != nil || !frozen {
		t.Errorf("Frozen() = %v, %v", frozen, err)
	}
	if err := g.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	if pids, err := g.Pids(); err != nil || len(pids) > 0 {
		t.Errorf("after Kill: %v, %v", pids, err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", err)
	}
	if s, err := g.Stats(); err != nil || s.CPU.Usage == 0 || s.CPU.Pressure != nil {
		t.Errorf("statistics %+v, %v", s, err)
	}
	if g.Dir(App) != "" {
		t.Errorf("directory on the v2 tree: %q", g.Dir(App))
	}
	if id, err := g.ID(App); id != 0 || err != nil {
		t.Errorf("cgroup id %d, %v", id, err)
	}
}

// TestDelegate has a process in a user namespace of its own fork into app on
// the v2 tree, as a shim does.
func TestDelegate(t *testing.T) {
	const id = 654321
	g := newGroup(t, &Resources{})
	if g.tree.v2 == "" {
		testenv.Skip(t, "no cgroup v2 tree is mounted")
	}
	run := func() error {
		app, err := g.Entrance(App)
		if err != nil {
			t.Fatal(err)
		}
		defer app.Close()
		shim, err := g.Entrance(Shim)
		if err != nil {
			t.Fatal(err)
		}
		defer shim.Close()
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "CGROUP_TEST_CHILD=1")
		cmd.ExtraFiles = app.Files()
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER, UseCgroupFD: true, CgroupFD: int(shim.Dir.Fd()),
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}},
			Credential:  &syscall.Credential{NoSetGroups: true},
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			if _, place, _ := strings.Cut(strings.TrimSpace(line), ":/"); !strings.HasSuffix(place, strings.TrimPrefix(g.Path(), "/")+"/app") {
				t.Errorf("the grandchild is in %q", line)
			}
		}
		return nil
	}
	if err := run(); err == nil {
		t.Error("it works without delegation: the test proves nothing")
	}
	if err := g.Delegate(id, id); err != nil {
		t.Fatal(err)
	}
	if err := run(); err != nil {
		t.Error(err)
	}
}

// TestMain becomes the process in a user namespace of TestDelegate.
func TestMain(m *testing.M) {
	if os.Getenv("CGROUP_TEST_CHILD") != "" {
		if err := forkIntoApp(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// forkIntoApp forks cat into the groups whose entrance came as files 3 and up,
// the directory last.
func forkIntoApp() error {
	var files []*os.File
	for fd := uintptr(3); ; fd++ {
		f := os.NewFile(fd, "entrance")
		st, err := f.Stat()
		if err != nil {
			return fmt.Errorf("file %d: %w", fd, err)
		}
		if st.IsDir() {
			cmd := exec.Command("cat", "/proc/self/cgroup")
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
			cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(fd)}
			return enter.Run(files, cmd.Run)
		}
		files = append(files, f)
	}
}

func TestDestroyRemovesWhatTheContainerMade(t *testing.T) {
	g := newGroup(t, &Resources{})
	for _, root := range g.tree.roots() {
		if err := os.MkdirAll(filepath.Join(root, g.path, string(App), "own/deeper"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, root := range g.tree.roots() {
		if exists(filepath.Join(root, g.path)) {
			t.Errorf("left behind in %s", root)
		}
	}
}
