package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"

	"github.com/portholehq/porthole/internal/network/resolver"
	"github.com/portholehq/porthole/internal/testenv"
)

// asKeeper makes the test binary run as the keeper.
func TestMain(m *testing.M) {
	if os.Args[0] == Name {
		os.Exit(Main(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// container starts a process in a network namespace of its own, with its
// loopback interface up. It ends with the test, or by the result.
func container(t testing.TB) (pid int, end func()) {
	t.Helper()
	testenv.NeedsRoot(t)
	cmd := exec.Command(testenv.NeedsProgram(t, "sh"), "-c", "ip link set lo up; echo up; exec sleep 1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	ended := false
	end = func() {
		if !ended {
			ended = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(end)
	return cmd.Process.Pid, end
}

// started returns a client whose keeper ends with the test.
func started(t *testing.T) *Client {
	t.Helper()
	testenv.NeedsRoot(t)
	c := NewClient(Options{Socket: filepath.Join(t.TempDir(), "keeper.sock"), Version: "test"})
	t.Cleanup(func() {
		c.o.Version = "none"                                       // any keeper is one of another version
		if _, err := c.Replace(context.Background()); err != nil { //nolint:usetesting // the test's context has ended
			t.Error(err)
		}
	})
	return c
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func TestPorts(t *testing.T) {
	c := started(t)
	pid, end := container(t)
	spec := Sandbox{ID: "one", Pid: pid, Ports: []Port{
		{Proto: "tcp", HostIPs: []netip.Addr{loopback, netip.IPv6Loopback()}, Port: 80, Inside: true},
		{Proto: "udp", HostIPs: []netip.Addr{loopback}, Port: 53, Inside: true},
	}}
	numbers, err := c.Put(t.Context(), spec)
	if err != nil || len(numbers) != 2 || numbers[0] == 0 || numbers[1] == 0 {
		t.Fatalf("Put: %v, %v", numbers, err)
	}
	// The same again keeps them, also when it is said which they are.
	for _, first := range []uint16{0, numbers[0]} {
		again := spec
		again.Ports = append([]Port{}, spec.Ports...)
		again.Ports[0].First = first
		if same, err := c.Put(t.Context(), again); err != nil || same[0] != numbers[0] || same[1] != numbers[1] {
			t.Errorf("Put again: %v, %v, want %v", same, err, numbers)
		}
	}
	// Nobody else gets one.
	other := Sandbox{ID: "two", Pid: pid, Ports: []Port{{Proto: "tcp", HostIPs: []netip.Addr{loopback}, First: numbers[0], Last: numbers[0], Port: 1}}}
	var busy *InUseError
	if _, err := c.Put(t.Context(), other); !errors.As(err, &busy) || busy.Addr.Port() != numbers[0] {
		t.Errorf("Put of a port that is taken: %v", err)
	}
	// Of a range the next one is free.
	other.Ports[0].Last++
	if next, err := c.Put(t.Context(), other); err != nil || next[0] != numbers[0]+1 {
		t.Errorf("Put of a range: %v, %v", next, err)
	}
	if err := c.Drop(t.Context(), "two"); err != nil {
		t.Error(err)
	}
	// A port ends with its container, whoever says so.
	end()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", numbers[0]))
		if err == nil {
			_ = l.Close()
			break
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the port of a container that has ended is held on")
		}
	}
	if list, err := c.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("sandboxes are left: %v, %v", list, err)
	}
}

func TestWithoutKeeper(t *testing.T) {
	c := NewClient(Options{Socket: filepath.Join(t.TempDir(), "keeper.sock"), Version: "test"})
	if err := c.Drop(t.Context(), "x"); err != nil {
		t.Errorf("Drop: %v", err)
	}
	if list, err := c.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("List: %v, %v", list, err)
	}
	if done, err := c.Replace(t.Context()); err != nil || done {
		t.Errorf("Replace: %v, %v", done, err)
	}
}

func TestReplace(t *testing.T) {
	c := started(t)
	pid, _ := container(t)
	if _, err := c.Put(t.Context(), Sandbox{ID: "one", Pid: pid}); err != nil {
		t.Fatal(err)
	}
	if done, err := c.Replace(t.Context()); err != nil || done {
		t.Errorf("Replace of the same version: %v, %v", done, err)
	}
	c.o.Version = "newer"
	if done, err := c.Replace(t.Context()); err != nil || !done {
		t.Errorf("Replace of another version: %v, %v", done, err)
	}
	if list, err := c.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("after that there is %v, %v", list, err)
	}
}

func TestPutOfEndedContainer(t *testing.T) {
	c := started(t)
	pid, end := container(t)
	end()
	if _, err := c.Put(t.Context(), Sandbox{ID: "one", Pid: pid}); err == nil {
		t.Error("a sandbox was made for a process that has ended")
	}
}

// TestReplaceFreesPorts has a connection hold up the end of the old keeper.
func TestReplaceFreesPorts(t *testing.T) {
	c := started(t)
	pid, _ := container(t)
	numbers, err := c.Put(t.Context(), Sandbox{ID: "one", Pid: pid, Ports: []Port{{Proto: "tcp", HostIPs: []netip.Addr{loopback}, Port: 80, Inside: true}}})
	if err != nil {
		t.Fatal(err)
	}
	silent, err := new(net.Dialer).DialContext(t.Context(), "unix", c.o.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c.o.Version = "newer"
	if done, err := c.Replace(t.Context()); err != nil || !done {
		t.Fatalf("Replace: %v, %v", done, err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", netip.AddrPortFrom(loopback, numbers[0]).String())
	if err != nil {
		t.Fatalf("the next keeper could not have the port: %v", err)
	}
	_ = l.Close()
}

// TestHastyStart is a request that ends while it waits for its turn to start a
// keeper that somebody else has started meanwhile.
func TestHastyStart(t *testing.T) {
	c := started(t)
	pid, _ := container(t)
	if _, err := c.Put(t.Context(), Sandbox{ID: "one", Pid: pid}); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.start(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("start: %v", err)
	}
	if list, err := c.List(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("the keeper that runs has %v, %v", list, err)
	}
}

// TestStoppedKeeper has a keeper that does not answer.
func TestStoppedKeeper(t *testing.T) {
	defer func(d time.Duration) { answerTimeout = d }(answerTimeout)
	answerTimeout = 100 * time.Millisecond
	socket := filepath.Join(t.TempDir(), "keeper.sock")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := NewClient(Options{Socket: socket, Version: "test"})
	if _, err := c.Replace(t.Context()); !errdefs.IsUnavailable(err) {
		t.Errorf("Replace: %v", err)
	}
	if _, err := c.Put(t.Context(), Sandbox{ID: "one"}); !errdefs.IsUnavailable(err) {
		t.Errorf("Put: %v", err)
	}
	if _, err := os.Lstat(socket); err != nil {
		t.Errorf("its socket: %v", err)
	}
}

// TestThreads has many connect inside a container that takes none.
func TestThreads(t *testing.T) {
	pid, _ := container(t)
	b, err := newBox(New("test", ""), Sandbox{ID: "one", Pid: pid})
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	inside := exec.Command(testenv.NeedsProgram(t, "sh"), "-c",
		"ip link add none type bridge && ip addr add 10.1.1.1/24 dev none && ip link set none up")
	if err := b.enter(t.Context(), inside.Run); err != nil {
		t.Fatal(err)
	}
	threads := func() int {
		list, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Error(err)
		}
		return len(list)
	}
	before := threads()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	var begun atomic.Int64
	for range 10 * maxEntering {
		wg.Go(func() {
			begun.Add(1)
			u := resolver.Upstream{Addr: netip.MustParseAddrPort("10.1.1.2:53"), Inside: true}
			if conn, err := b.Dial(ctx, "tcp", u); err == nil {
				_ = conn.Close()
				t.Error("connected")
			}
		})
	}
	most, grows := 0, true
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	// Until all have come, and those that are let in connect in vain.
	for ctx.Err() == nil && (begun.Load() < 10*maxEntering || most < maxEntering/2 || grows) {
		select {
		case <-tick.C:
			n := threads() - before
			grows, most = n > most, max(most, n)
		case <-ctx.Done():
		}
	}
	cancel()
	wg.Wait()
	if most < maxEntering/2 || most > 2*maxEntering {
		t.Errorf("%d threads, want some %d", most, maxEntering)
	}
}
