package ifstat

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/portholehq/porthole/internal/testenv"
)

// pair puts a veth pair into a namespace, with addresses on one end.
func pair(t testing.TB, netns *os.File) {
	t.Helper()
	testenv.InNetNS(t, netns, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "left"
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "right"}); err != nil {
			return err
		}
		for _, name := range []string{"left", "right"} {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(link); err != nil {
				return err
			}
			if name == "left" {
				if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 9, 8, 1).To4(), Mask: net.CIDRMask(24, 32)}}); err != nil {
					return err
				}
			}
		}
		return waitUp("left")
	})
}

// waitUp waits for the kernel to let an interface send, which it decides in the
// background.
func waitUp(name string) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		link, err := netlink.LinkByName(name)
		if err != nil || link.Attrs().OperState == netlink.OperUp {
			return err
		}
		<-tick.C
	}
	return fmt.Errorf("interface %s does not come up", name)
}

func open(t testing.TB, netns *os.File) *Reader {
	t.Helper()
	r, err := Open(netns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// send sends a broadcast datagram of n bytes from the left to the right.
func send(t testing.TB, netns *os.File, n int) {
	t.Helper()
	testenv.InNetNS(t, netns, func() error {
		c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 9, 8, 1)}, &net.UDPAddr{IP: net.IPv4(10, 9, 8, 255), Port: 9})
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(make([]byte, n))
		return err
	})
}

func TestReadCountsAsTheNamespaceSees(t *testing.T) {
	netns := testenv.NetNS(t)
	pair(t, netns)
	r, s := open(t, netns), new(Scratch)
	before := read(t, r, s)
	const payload, headers = 1000, 14 + 20 + 8
	send(t, netns, payload)
	after := read(t, r, s)
	left, right := after["left"], after["right"]
	if sent := left.TxBytes - before["left"].TxBytes; sent < payload+headers {
		t.Errorf("left has sent %d bytes", sent)
	}
	if received := right.RxBytes - before["right"].RxBytes; received < payload+headers {
		t.Errorf("right has received %d bytes", received)
	}
	if right.TxBytes > left.RxBytes || right.RxPackets == 0 || left.TxPackets == 0 {
		t.Errorf("left %+v, right %+v", left, right)
	}
}

func read(t testing.TB, r *Reader, s *Scratch) map[string]Counters {
	t.Helper()
	list, err := r.Read(nil, s)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]Counters{}
	for _, i := range list {
		m[i.Name] = i.Counters
	}
	return m
}

func TestReadNamesWhatComesLater(t *testing.T) {
	netns := testenv.NetNS(t)
	r, s := open(t, netns), new(Scratch)
	if got := read(t, r, s); len(got) != 0 {
		t.Errorf("an empty namespace has %v", got)
	}
	pair(t, netns)
	got := read(t, r, s)
	if _, ok := got["left"]; !ok || len(got) != 2 {
		t.Errorf("after the pair came: %v", got)
	}
}

// As many interfaces as need more than one datagram.
func TestReadManyInterfaces(t *testing.T) {
	netns := testenv.NetNS(t)
	const n = 250
	testenv.InNetNS(t, netns, func() error {
		for i := range n / 2 {
			attrs := netlink.NewLinkAttrs()
			attrs.Name = fmt.Sprintf("left%d", i)
			if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: fmt.Sprintf("right%d", i)}); err != nil {
				return err
			}
		}
		return nil
	})
	r, s := open(t, netns), new(Scratch)
	for range 2 {
		if got := read(t, r, s); len(got) != n {
			t.Errorf("%d interfaces, want %d", len(got), n)
		}
	}
}

func TestReadAllocatesNothing(t *testing.T) {
	netns := testenv.NetNS(t)
	pair(t, netns)
	r, s, list := open(t, netns), new(Scratch), make([]Interface, 0, 8)
	if n := testing.AllocsPerRun(20, func() {
		if _, err := r.Read(list, s); err != nil {
			t.Error(err)
		}
	}); n > 1 { // the closure
		t.Errorf("%v allocations for one reading", n)
	}
}

func TestClosed(t *testing.T) {
	r := open(t, testenv.NetNS(t))
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Error(err)
	}
	if _, err := r.Read(nil, new(Scratch)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("read of a closed reader: %v", err)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Open(f); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "read network counters: ") {
		t.Errorf("open of what is no namespace: %v", err)
	}
}

func TestCountersAdd(t *testing.T) {
	c := Counters{1, 2, 3, 4, 5, 6, 7, 8}
	c.Add(Counters{10, 20, 30, 40, 50, 60, 70, 80})
	if diff := cmp.Diff(Counters{11, 22, 33, 44, 55, 66, 77, 88}, c); diff != "" {
		t.Error(diff)
	}
}

func FuzzMessages(f *testing.F) {
	f.Add([]byte("\x14\x00\x00\x00\x03\x00\x02\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("\x10\x00\x00\x00\x5c\x00\x02\x00\x01\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = messages(b, 1, func(body []byte) {
			parseStats(body)
			parseLink(body)
		})
		parseStats(b)
		parseLink(b)
	})
}

func BenchmarkRead(b *testing.B) {
	netns := testenv.NetNS(b)
	pair(b, netns)
	r, s, list := open(b, netns), new(Scratch), make([]Interface, 0, 8)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Read(list, s); err != nil {
			b.Fatal(err)
		}
	}
}
