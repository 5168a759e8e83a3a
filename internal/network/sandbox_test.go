package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/internal/network/keeper"
	"github.com/portholehq/porthole/internal/network/nft"
	"github.com/portholehq/porthole/internal/testenv"
)

// withKeeper gives a Manager a keeper, which ends with the test.
func withKeeper(t *testing.T) func(*Options) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "keeper.sock")
	t.Cleanup(func() {
		if _, err := keeper.NewClient(keeper.Options{Socket: socket, Version: "none"}).Replace(context.Background()); err != nil { //nolint:usetesting // the test's context has ended
			t.Error(err)
		}
	})
	return func(o *Options) { o.Keeper = keeper.NewClient(keeper.Options{Socket: socket, Version: "test"}) }
}

// process runs in a network namespace of its own, as a container's first does.
func process(t *testing.T) (pid int, ns *os.File) {
	t.Helper()
	cmd := exec.Command(testenv.NeedsProgram(t, "sh"), "-c", "echo up; exec sleep 1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if ns, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return cmd.Process.Pid, ns
}

var (
	web      = network.MustParsePort("80/tcp")
	local4   = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	anywhere = netip.IPv4Unspecified()
)

// published starts a container with one port.
func published(t *testing.T, m *Manager, id string) (SandboxSpec, []Published) {
	t.Helper()
	pid, ns := process(t)
	attach(t, m, id, ns)
	spec := SandboxSpec{ContainerID: id, Name: id, Pid: pid, Ports: []PortSpec{{Container: web, HostIP: anywhere}}}
	ports, err := m.Serve(t.Context(), spec)
	if err != nil || len(ports) != 1 {
		t.Fatalf("Serve: %v, %v", ports, err)
	}
	return spec, ports
}

// held are the ports that the keeper holds for a container.
func held(t *testing.T, m *Manager, id string) []uint16 {
	t.Helper()
	list, err := m.opts.Keeper.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.ID == id {
			return s.HostPorts
		}
	}
	return nil
}

func wantRules(t *testing.T, m *Manager, ns *os.File) {
	t.Helper()
	m.mu.Lock()
	rules := m.rules()
	m.mu.Unlock()
	if there, err := nft.Present(ns, rules); err != nil || !there {
		t.Errorf("the firewall has what the manager knows: %v, %v", there, err)
	}
}

// TestFullDiskKeepsPorts opens a further port of a container whose record cannot
// be written.
func TestFullDiskKeepsPorts(t *testing.T) {
	host := testenv.NetNS(t)
	m := open(t, host, withKeeper(t))
	spec, ports := published(t, m, "one")
	dir := filepath.Join(m.opts.StatePath, "sandboxes")
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if got, err := m.Forward(t.Context(), spec, PortSpec{Container: network.MustParsePort("81/tcp")}); err == nil {
		t.Errorf("Forward without a record: %v", got)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint16{ports[0].HostPort}, held(t, m, "one")); diff != "" {
		t.Errorf("ports that are held (-want +got):\n%s", diff)
	}
	if got := m.Published("one"); !slices.Equal(got, ports) {
		t.Errorf("published is %v, want %v", got, ports)
	}
	if got := m.Forwards("one"); len(got) != 0 {
		t.Errorf("forwarded is %v", got)
	}
	wantRules(t, m, host)
	// A container that has had nothing has nothing.
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	pid, ns := process(t)
	attach(t, m, "two", ns)
	if got, err := m.Serve(t.Context(), SandboxSpec{ContainerID: "two", Pid: pid, Ports: []PortSpec{{Container: web, HostIP: anywhere}}}); err == nil {
		t.Errorf("Serve without a record: %v", got)
	}
	if list := held(t, m, "two"); list != nil {
		t.Errorf("%v is held for it", list)
	}
	wantRules(t, m, host)
}

// TestServeAgainKnowsWhatIsNew has a keeper end while a container is started
// anew: what it had before must not be put back.
func TestServeAgainKnowsWhatIsNew(t *testing.T) {
	m := open(t, testenv.NetNS(t), withKeeper(t))
	published(t, m, "one")
	m.mu.Lock()
	before := m.sandboxes["one"]
	m.mu.Unlock()
	if err := m.Detach(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	m.serveAgain(t.Context(), before)
	if list := held(t, m, "one"); list != nil {
		t.Errorf("%v is held for a container that has ended", list)
	}
	_, now := published(t, m, "one")
	m.serveAgain(t.Context(), before)
	if diff := cmp.Diff([]uint16{now[0].HostPort}, held(t, m, "one")); diff != "" {
		t.Errorf("ports of the new run (-want +got):\n%s", diff)
	}
}

// TestAuditKnowsWhatWasNotSaved has a daemon that died between opening or closing a
// port and its record.
func TestAuditKnowsWhatWasNotSaved(t *testing.T) {
	m := open(t, testenv.NetNS(t), withKeeper(t))
	spec, ports := published(t, m, "one")
	want := []uint16{ports[0].HostPort}
	audited := func(what string, forwards ...PortSpec) {
		t.Helper()
		there, err := m.keeperPorts(spec, forwards)
		if err == nil {
			_, err = m.opts.Keeper.Put(t.Context(), m.keeperSandbox(spec, there))
		}
		if err == nil && slices.Equal(want, held(t, m, "one")) {
			t.Fatalf("%s: nothing has changed", what)
		}
		if err == nil {
			err = m.Reconcile(t.Context(), map[string]bool{"one": true})
		}
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if diff := cmp.Diff(want, held(t, m, "one")); diff != "" {
			t.Errorf("%s: ports that are held (-want +got):\n%s", what, diff)
		}
	}
	forward := PortSpec{Container: network.MustParsePort("81/tcp"), HostIP: local4, Forward: true}
	audited("opened", forward)
	opened, err := m.Forward(t.Context(), spec, forward)
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, opened[0].HostPort)
	audited("closed")
}

// TestForwardKnowsWhatIsNew opens a port for somebody who has looked at the
// container before its networks and its ports changed.
func TestForwardKnowsWhatIsNew(t *testing.T) {
	m := open(t, testenv.NetNS(t), withKeeper(t))
	spec, ports := published(t, m, "one")
	stale := spec
	stale.Ports = nil
	forward := PortSpec{Container: network.MustParsePort("81/tcp"), HostIP: local4}
	opened, err := m.Forward(t.Context(), stale, forward)
	if err != nil || len(opened) != 1 {
		t.Fatalf("Forward: %v, %v", opened, err)
	}
	if diff := cmp.Diff([]uint16{ports[0].HostPort, opened[0].HostPort}, held(t, m, "one")); diff != "" {
		t.Errorf("ports that are held (-want +got):\n%s", diff)
	}
	if err := m.Unforward(t.Context(), stale, opened[0].HostPort); err != nil {
		t.Error(err)
	}
	if got := m.Published("one"); !slices.Equal(got, ports) {
		t.Errorf("published is %v, want %v", got, ports)
	}
	stale.Pid++
	if _, err := m.Forward(t.Context(), stale, forward); !errdefs.IsConflict(err) {
		t.Errorf("Forward for an earlier run: %v", err)
	}
}

// TestCancelledRequests leave what was done or what was there, and nothing between.
func TestCancelledRequests(t *testing.T) {
	host := testenv.NetNS(t)
	m := open(t, host, withKeeper(t))
	spec, ports := published(t, m, "one")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Create(gone, network.CreateRequest{Name: "app"}); err != nil {
		if _, err := m.Inspect("app"); !errdefs.IsNotFound(err) {
			t.Errorf("a network is left: %v", err)
		}
	}
	if _, err := m.Attach(gone, AttachSpec{ContainerID: "two", NetNS: testenv.NetNS(t)}); err != nil && len(m.Endpoints("two")) != 0 {
		t.Error("an endpoint is left")
	}
	_, err := m.Forward(gone, spec, PortSpec{Container: network.MustParsePort("81/tcp"), HostIP: local4})
	want := []uint16{ports[0].HostPort}
	for _, p := range m.Forwards("one") {
		want = append(want, p.HostPort)
	}
	if diff := cmp.Diff(want, held(t, m, "one")); diff != "" {
		t.Errorf("Forward: %v; ports that are held (-known +held):\n%s", err, diff)
	}
}

// TestLeftoverInTable has an element of a port that nobody has any more.
func TestLeftoverInTable(t *testing.T) {
	host := testenv.NetNS(t)
	m := open(t, host, withKeeper(t))
	_, ports := published(t, m, "one")
	m.mu.Lock()
	rule := m.sandboxes["one"].Rules[0]
	m.mu.Unlock()
	if err := m.Detach(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	rule.Target = netip.MustParseAddrPort("172.30.9.9:9")
	h, err := nft.Dial(host)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.Publish(m.table(), []nft.Port{rule}), h.Close()); err != nil {
		t.Fatal(err)
	}
	pid, ns := process(t)
	attach(t, m, "two", ns)
	spec := SandboxSpec{ContainerID: "two", Pid: pid, Ports: []PortSpec{{Container: web, HostIP: anywhere, First: ports[0].HostPort, Last: ports[0].HostPort}}}
	if _, err := m.Serve(t.Context(), spec); err != nil {
		t.Error(err)
	}
	wantRules(t, m, host)
}

// TestPortTwice asks for a port of another container, and for one twice.
func TestPortTwice(t *testing.T) {
	m := open(t, testenv.NetNS(t), withKeeper(t))
	_, ports := published(t, m, "one")
	pid, ns := process(t)
	attach(t, m, "two", ns)
	taken := PortSpec{Container: web, HostIP: anywhere, First: ports[0].HostPort, Last: ports[0].HostPort}
	local := taken
	local.HostIP = local4
	for _, c := range []struct {
		name   string
		ports  []PortSpec
		holder string
	}{
		{"another's", []PortSpec{taken}, "it is held by container one"},
		{"twice", []PortSpec{taken, taken}, "the container itself"},
		{"at two addresses", []PortSpec{local, taken}, "the container itself"},
	} {
		if c.name != "another's" {
			if err := m.Detach(t.Context(), "one"); err != nil {
				t.Fatal(err)
			}
		}
		_, err := m.Serve(t.Context(), SandboxSpec{ContainerID: "two", Name: "two", Pid: pid, Ports: c.ports})
		if !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "port is already allocated") || !strings.Contains(err.Error(), c.holder) {
			t.Errorf("%s: %v, want %q", c.name, err, c.holder)
		}
		if list := held(t, m, "two"); list != nil {
			t.Errorf("%s: %v is held", c.name, list)
		}
	}
}
