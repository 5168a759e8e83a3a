package packet

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/pcap/filter"
	"github.com/portholehq/porthole/internal/testenv"
)

// loopback is a network namespace whose loopback interface is up.
func loopback(t *testing.T) *os.File {
	t.Helper()
	netns := testenv.NetNS(t)
	testenv.InNetNS(t, netns, ns.LoopbackUp)
	return netns
}

// send sends packets of UDP to a port that nobody listens on; what comes back by
// ICMP is of no interest.
func send(t *testing.T, netns *os.File, port string, payloads ...[]byte) {
	t.Helper()
	testenv.InNetNS(t, netns, func() error {
		conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer conn.Close()
		to, err := net.ResolveUDPAddr("udp4", "127.0.0.1:"+port)
		if err != nil {
			return err
		}
		for _, p := range payloads {
			if _, err := conn.WriteTo(p, to); err != nil {
				return err
			}
		}
		return nil
	})
}

func open(t *testing.T, o Options, expression string) *Socket {
	t.Helper()
	var err error
	if o.Filter, err = filter.Compile(expression, nil); err != nil {
		t.Fatal(err)
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRead(t *testing.T) {
	testenv.NeedsRoot(t)
	netns := loopback(t)
	s := open(t, Options{NetNS: netns, SnapLen: 60}, "udp dst port 99 and greater 45")
	began := time.Now()
	send(t, netns, "98", []byte("another port"))
	send(t, netns, "99", []byte("x"), []byte("hello"), make([]byte, 500))
	p, err := s.Read()
	if err != nil {
		t.Fatal(err)
	}
	const headers = 14 + 20 + 8
	if p.Length != headers+5 || string(p.Data[headers:]) != "hello" || p.LinkType != Ethernet || p.Outgoing || s.Name(p.Interface) != "lo" {
		t.Errorf("got %+v of %s, %q", p, s.Name(p.Interface), p.Data)
	}
	if p.Time.Before(began.Add(-time.Second)) || p.Time.After(time.Now().Add(time.Second)) {
		t.Errorf("at %v, began %v", p.Time, began)
	}
	if p, err = s.Read(); err != nil || p.Length != headers+500 || len(p.Data) != 60 {
		t.Errorf("a long one: length %d, %d bytes kept, %v", p.Length, len(p.Data), err)
	}
	if _, err := s.Waiting(); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("one packet too many: %v", err)
	}
	if err := s.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("behind the deadline: %v", err)
	}
	if got := s.Name(4711); got != "if4711" {
		t.Errorf("an interface that is gone is %s", got)
	}
}

// TestKernelFilter has the kernel run programs: where it finds the network header
// no test of the programs alone can see.
func TestKernelFilter(t *testing.T) {
	testenv.NeedsRoot(t)
	netns := loopback(t)
	for expression, want := range map[string]bool{
		"":                             true,
		"host 127.0.0.1":               true,
		"src net 127.0.0.0/8":          true,
		"udp port 99":                  true,
		"not udp and not icmp":         false,
		"ip6 or arp":                   false,
		"tcp or udp portrange 100-999": false,
	} {
		s := open(t, Options{NetNS: netns, Interface: "lo"}, expression)
		send(t, netns, "99", []byte("x"))
		if _, err := s.Waiting(); (err == nil) != want {
			t.Errorf("%q: %v", expression, err)
		}
	}
}

func TestDropped(t *testing.T) {
	testenv.NeedsRoot(t)
	netns := loopback(t)
	s := open(t, Options{NetNS: netns, Buffer: 4 << 10}, "udp dst port 99")
	const sent = 300
	payloads := make([][]byte, sent)
	for i := range payloads {
		payloads[i] = make([]byte, 1000)
	}
	send(t, netns, "99", payloads...)
	var read uint64
	for {
		if _, err := s.Waiting(); err != nil {
			break
		}
		read++
	}
	for range 2 { // counted from the beginning, however often it is asked
		stats, err := s.Stats()
		// The kernel counts a packet on a loopback interface twice, sent and received.
		if err != nil || stats.Dropped == 0 || stats.Received < sent || stats.Received-stats.Dropped < read {
			t.Errorf("%d read, got %+v, %v", read, stats, err)
		}
	}
}

func TestNoInterface(t *testing.T) {
	testenv.NeedsRoot(t)
	for _, name := range []string{"nosuch0", "a-name-that-is-longer-than-any"} {
		if _, err := Open(Options{NetNS: testenv.NetNS(t), Interface: name}); !errors.Is(err, unix.ENODEV) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
