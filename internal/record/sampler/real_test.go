package sampler

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/record/sample"
	"github.com/portholehq/porthole/internal/testenv"
)

// asleep makes a group with one sleeping process in it.
func asleep(t testing.TB, name string) *cgroup.Group {
	t.Helper()
	testenv.NeedsRoot(t)
	tree, err := cgroup.Current()
	if err != nil {
		t.Fatal(err)
	}
	parent := "/porthole-samplertest-" + strconv.Itoa(os.Getpid())
	g := cgroup.New(parent + "/" + name)
	if _, err := g.Create(&cgroup.Resources{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := errors.Join(g.Kill(ctx), g.Destroy(ctx), tree.Prune(parent)); err != nil {
			t.Error(err)
		}
	})
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if err := g.Add(cmd.Process.Pid, cgroup.App); err != nil {
		t.Fatal(err)
	}
	return g
}

// networked makes a namespace with one interface besides the loopback.
func networked(t testing.TB) *os.File {
	t.Helper()
	netns := testenv.NetNS(t)
	testenv.InNetNS(t, netns, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "br0" // which counts what it sends by itself
		bridge := &netlink.Bridge{LinkAttrs: attrs}
		if err := netlink.LinkAdd(bridge); err != nil {
			return err
		}
		if err := netlink.AddrAdd(bridge, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 9, 8, 1).To4(), Mask: net.CIDRMask(24, 32)}}); err != nil {
			return err
		}
		return netlink.LinkSetUp(bridge)
	})
	return netns
}

func openSource(t testing.TB, g *cgroup.Group, netns *os.File) Source {
	t.Helper()
	source, err := OpenSource(g, netns)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

func TestRealContainer(t *testing.T) {
	s := start(t)
	g := asleep(t, "one")
	add(t, s, "one", openSource(t, g, networked(t)))
	add(t, s, "host network", openSource(t, g, nil))
	_, r, err := s.Next(t.Context(), "one", 0)
	if err != nil {
		t.Fatal(err)
	}
	want := sample.KnownCPU | sample.KnownMemory | sample.KnownPids | sample.KnownNetwork | sample.KnownOOMKills
	if r.Known&want != want || r.Pids != 1 {
		t.Errorf("known %b, %d pids", r.Known, r.Pids)
	}
	if len(r.Interfaces) != 1 || r.Interfaces[0].Name != "br0" {
		t.Errorf("interfaces: %+v", r.Interfaces)
	}
	if _, r, err := s.Next(t.Context(), "host network", 0); err != nil || r.Known&sample.KnownNetwork != 0 || r.Interfaces != nil {
		t.Errorf("in the host's network: %+v, %v", r, err)
	}
}

func TestRealContainerEnds(t *testing.T) {
	s := start(t)
	g := cgroup.New("/porthole-samplertest-" + strconv.Itoa(os.Getpid()) + "/gone")
	asleep(t, "holds the parent")
	if _, err := g.Create(&cgroup.Resources{}); err != nil {
		t.Fatal(err)
	}
	add(t, s, "gone", openSource(t, g, nil))
	if err := g.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, last, err := s.Latest("gone")
	for err == nil {
		_, last, err = s.Next(t.Context(), "gone", last.Seq)
	}
	if !errors.Is(err, ErrEnded) || last.Seq == 0 {
		t.Errorf("after the end: %v, last reading %d", err, last.Seq)
	}
}

// sampling starts a sampler of 200 containers.
func sampling(b testing.TB, interval time.Duration) *Sampler {
	b.Helper()
	s, err := New(Options{Interval: interval})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	dir := b.TempDir()
	for i := range 200 {
		id := fmt.Sprint(i)
		if err := s.Add(id, filepath.Join(dir, id), openSource(b, asleep(b, id), networked(b))); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

// TestRound200: a round of 200 containers that run has all readings, and leaves next to nothing for the garbage collector.
// That it takes less than 3 % of one processor is for BenchmarkSecond200 to show.
func TestRound200(t *testing.T) {
	const most = 4 // allocations for a container
	s := sampling(t, time.Hour)
	each := testing.AllocsPerRun(3, s.round) / 200
	t.Logf("%.1f allocations a container", each)
	if !testenv.Race && each > most {
		t.Errorf("%.1f allocations a container, want %d at most", each, most)
	}
	if failed := s.Stats().Failed; failed > 0 {
		t.Errorf("%d readings failed", failed)
	}
}

// BenchmarkRound200 samples 200 containers, one round after the other.
func BenchmarkRound200(b *testing.B) {
	s := sampling(b, time.Hour)
	s.round()
	b.ReportAllocs()
	for b.Loop() {
		s.round()
	}
	if failed := s.Stats().Failed; failed > 0 {
		b.Errorf("%d readings failed", failed)
	}
}

// BenchmarkSecond200 lets a sampler run as it does in a daemon: an iteration takes
// a second. The metric %core is what it takes of a processor; the budget is 3.
func BenchmarkSecond200(b *testing.B) {
	s := sampling(b, time.Second)
	seq := uint64(0)
	next := func() {
		_, last, err := s.Next(b.Context(), "0", seq)
		if err != nil {
			b.Fatal(err)
		}
		seq = last.Seq
	}
	for range 3 {
		next()
	}
	before, begin := cpuTime(b), time.Now()
	for b.Loop() {
		next()
	}
	b.ReportMetric(100*float64(cpuTime(b)-before)/float64(time.Since(begin)), "%core")
	if st := s.Stats(); st.Failed > 0 || st.Missed > 0 {
		b.Errorf("%d readings failed, %d rounds were missed", st.Failed, st.Missed)
	}
}

// cpuTime is what this process has spent.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
