package script

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/test/bed"
)

// porthole runs the command line and fails the test with it.
func porthole(t *testing.T, args ...string) string {
	t.Helper()
	out, err := daemon.Porthole(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// otherHost is a network namespace on a link to ours: 192.0.2.2 and 2001:db8::2
// there, 192.0.2.1 and 2001:db8::1 here.
func otherHost(t *testing.T) *os.File {
	t.Helper()
	other := testenv.NetNS(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "lan0"
	link := &netlink.Veth{LinkAttrs: attrs, PeerName: "lan1", PeerNamespace: netlink.NsFd(int(other.Fd()))}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netlink.LinkDel(link); err != nil {
			t.Error(err)
		}
	})
	h, err := netlink.NewHandleAt(netns.NsHandle(other.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	up := func(h *netlink.Handle, name string, addresses ...string) {
		l, err := h.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range addresses {
			a, err := netlink.ParseAddr(text)
			if err != nil {
				t.Fatal(err)
			}
			a.Flags = 0x02 // IFA_F_NODAD
			if err := h.AddrAdd(l, a); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
	here, err := netlink.NewHandle()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	up(here, "lan0", "192.0.2.1/24", "2001:db8::1/64")
	up(h, "lan1", "192.0.2.2/24", "2001:db8::2/64")
	return other
}

// get fetches a page from a network namespace, nil for ours.
func get(from *os.File, url string) (body string, err error) {
	dialer := net.Dialer{Timeout: 2 * time.Second}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (c net.Conn, err error) {
		if from == nil {
			return dialer.DialContext(ctx, network, address)
		}
		err = ns.Do([]ns.Entry{{Kind: ns.Net, File: from}}, func() error {
			c, err = dialer.DialContext(ctx, network, address)
			return err
		})
		return c, err
	}}
	resp, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	// busybox writes an IPv6 address in brackets, and IPv4 as a part of IPv6.
	return strings.TrimPrefix(strings.Trim(strings.TrimSpace(string(text)), "[]"), "::ffff:"), err
}

// eventually waits until get answers want.
func eventually(t *testing.T, from *os.File, url, want string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		got, err := get(from, url)
		if err == nil && got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("GET %s: %q, %v, want %q", url, got, err, want)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// whoami serves the address of whoever asks.
const whoami = `mkdir -p /www/cgi-bin; printf '#!/bin/sh\nprintf "Content-type: text/plain\n\n$REMOTE_ADDR"' >/www/cgi-bin/who; chmod +x /www/cgi-bin/who; exec httpd -f -p 80 -h /www`

// TestPublish reaches a published port from everywhere, with and without the
// daemon, and sees who asks.
func TestPublish(t *testing.T) {
	begin(t)
	other := otherHost(t)
	porthole(t, "network", "create", "--subnet", "10.91.0.0/24", "--ipv6", "--subnet", "fd00:91::/64", "six")
	porthole(t, "run", "-d", "--name", "four", "-p", "7301:80", "busybox", "sh", "-c", whoami)
	porthole(t, "run", "-d", "--name", "both", "-p", "7302:80", "--network", "six", "busybox", "sh", "-c", whoami)
	porthole(t, "run", "-d", "--name", "local", "-p", "127.0.0.1:7303:80", "busybox", "sh", "-c", whoami)
	gateway := porthole(t, "inspect", "-f", "{{.NetworkSettings.Networks.bridge.Gateway}}", "four")
	address := porthole(t, "inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "four")

	check := func(t *testing.T) {
		for _, c := range []struct {
			name string
			from *os.File
			url  string
			want string
		}{
			// Others are seen by their own addresses.
			{"other host", other, "http://192.0.2.1:7301", "192.0.2.2"},
			{"other host, both families", other, "http://192.0.2.1:7302", "192.0.2.2"},
			{"other host, IPv6", other, "http://[2001:db8::1]:7302", "2001:db8::2"},
			// A container without IPv6 is reached by it all the same.
			{"other host, IPv6 to IPv4", other, "http://[2001:db8::1]:7301", gateway},
			{"host by its address", nil, "http://192.0.2.1:7301", "192.0.2.1"},
			{"localhost", nil, "http://127.0.0.1:7301", gateway},
			{"localhost, IPv6", nil, "http://[::1]:7301", gateway},
			{"localhost, IPv6 to IPv6", nil, "http://[::1]:7302", "fd00:91::1"},
			{"localhost only", nil, "http://127.0.0.1:7303", gateway},
		} {
			got, err := get(c.from, c.url+"/cgi-bin/who")
			if err != nil || got != c.want {
				t.Errorf("%s: %s sees %q, %v, want %q", c.name, c.url, got, err, c.want)
			}
		}
		// What was not published is not there.
		for _, url := range []string{"http://192.0.2.1:7303", "http://" + address} {
			if got, err := get(other, url); err == nil {
				t.Errorf("other host: %s answers %q", url, got)
			}
		}
	}
	for _, port := range []int{7301, 7302, 7303} {
		deadline := time.Now().Add(20 * time.Second)
		for {
			if _, err := get(nil, fmt.Sprintf("http://127.0.0.1:%d/cgi-bin/who", port)); err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("port %d does not answer", port)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	routeTo(t, other, address)
	t.Run("running", check)
	if err := daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	t.Run("daemon dead", check)
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Run("daemon again", check)
	if got := porthole(t, "port", "four"); got != "80/tcp -> 0.0.0.0:7301\n80/tcp -> [::]:7301" {
		t.Errorf("ports after the daemon's death: %q", got)
	}
}

// routeTo lets another host send packets for a container to us, as one on the
// same link can.
func routeTo(t *testing.T, other *os.File, address string) {
	t.Helper()
	h, err := netlink.NewHandleAt(netns.NsHandle(other.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	link, err := h.LinkByName("lan1")
	if err != nil {
		t.Fatal(err)
	}
	dst := &net.IPNet{IP: net.ParseIP(address).To4(), Mask: net.CIDRMask(32, 32)}
	if err := h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Gw: net.IPv4(192, 0, 2, 1)}); err != nil {
		t.Fatal(err)
	}
}

// TestFlush has the firewall heal within a second, and tell of it.
func TestFlush(t *testing.T) {
	begin(t)
	other := otherHost(t)
	porthole(t, "run", "-d", "--name", "web", "-p", "7304:80", "busybox", "sh", "-c", whoami)
	eventually(t, other, "http://192.0.2.1:7304/cgi-bin/who", "192.0.2.2")
	nft(t, "add table inet theirs")
	since := time.Now()
	nft(t, "flush ruleset; add table inet theirs")
	deadline := since.Add(10 * time.Second)
	for {
		names := nft(t, "list tables")
		if strings.Contains(names, "inet porthole") {
			if !strings.Contains(names, "theirs") {
				t.Errorf("somebody else's table is gone: %s", names)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the table does not come back; there is %s", names)
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("restored after %v", time.Since(since))
	eventually(t, other, "http://192.0.2.1:7304/cgi-bin/who", "192.0.2.2")
	nft(t, "delete table inet theirs")
	var events string
	for time.Now().Before(deadline) && !strings.Contains(events, "firewall restored") {
		events = porthole(t, "events", "--since", since.Format(time.RFC3339Nano), "--until", time.Now().Format(time.RFC3339Nano), "--filter", "type=daemon")
	}
	if !strings.Contains(events, "daemon firewall restored porthole") {
		t.Errorf("no event tells of it: %s", events)
	}
}

// nft runs a script of nftables and returns what it prints.
func nft(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), testenv.NeedsProgram(t, "nft"), script).CombinedOutput()
	if err != nil {
		t.Fatalf("nft %s: %v\n%s", script, err, out)
	}
	return string(out)
}

// TestManyNames has a hundred containers on one network find one another.
func TestManyNames(t *testing.T) {
	begin(t)
	const n = 100
	porthole(t, "network", "create", "--subnet", "10.91.0.0/16", "crowd")
	bed.InParallel(t, n, func(i int) error {
		_, err := daemon.Porthole(t.Context(), "run", "-d", "--name", fmt.Sprint("crowd", i), "--network", "crowd", "busybox", "sleep", "100000")
		return err
	})
	want := map[string]string{}
	for line := range strings.SplitSeq(porthole(t, "network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{.IPv4Address}}\n{{end}}", "crowd"), "\n") {
		if name, address, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			want[name], _, _ = strings.Cut(address, "/")
		}
	}
	if len(want) != n {
		t.Fatalf("%d containers are on the network, want %d", len(want), n)
	}
	script := `i=0; while [ $i -lt 100 ]; do nslookup -type=a crowd$i | sed -n "s/^Address: \\(10\\..*\\)/crowd$i \\1/p"; i=$((i+1)); done`
	bed.InParallel(t, n/10, func(i int) error {
		out, err := daemon.Porthole(t.Context(), "exec", fmt.Sprint("crowd", i*10), "sh", "-c", script)
		if err != nil {
			return err
		}
		found := 0
		for line := range strings.Lines(out) {
			if name, address, _ := strings.Cut(strings.TrimSpace(line), " "); want[name] == address && address != "" {
				found++
			}
		}
		if found != n {
			return fmt.Errorf("container %d finds %d of %d: %s", i*10, found, n, out)
		}
		return nil
	})
}

// TestKeeperKilled has another keeper take over.
func TestKeeperKilled(t *testing.T) {
	begin(t)
	porthole(t, "network", "create", "--subnet", "10.91.0.0/24", "app")
	porthole(t, "run", "-d", "--name", "web", "--network", "app", "-p", "7305:80", "busybox", "sh", "-c", whoami)
	eventually(t, nil, "http://127.0.0.1:7305/cgi-bin/who", "10.91.0.1")
	pid := keeperPid(t)
	if pid == 0 {
		t.Fatal("there is no keeper")
	}
	p, err := os.FindProcess(pid)
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, nil, "http://127.0.0.1:7305/cgi-bin/who", "10.91.0.1")
	// The ports come first.
	deadline := time.Now().Add(settling)
	for {
		out, err := daemon.Porthole(t.Context(), "exec", "web", "nslookup", "-type=a", "web")
		if err == nil && strings.Contains(out, "Address: 10.91.0.2") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("names after the keeper's death: %v, %s", err, out)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// keeperPid finds the keeper of our world.
func keeperPid(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			continue
		}
		var pid int
		if _, err := fmt.Sscan(e.Name(), &pid); err == nil && strings.HasPrefix(string(text), "porthole-keeper\x00") {
			return pid
		}
	}
	return 0
}

// TestPortHeldByProcess names the process that has a port.
func TestPortHeldByProcess(t *testing.T) {
	begin(t)
	l, err := net.Listen("tcp", "0.0.0.0:7306")
	if err != nil {
		t.Fatal(err)
	}
	_, err = daemon.Porthole(t.Context(), "run", "-d", "--name", "late", "-p", "7306:80", "busybox", "true")
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("port is already allocated: it is held by process %d (", os.Getpid())) {
		t.Errorf("error %v, want one that names process %d", err, os.Getpid())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	porthole(t, "start", "late")
}
