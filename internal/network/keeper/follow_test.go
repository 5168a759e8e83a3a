package keeper

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/miekg/dns"

	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/network/resolver"
	"github.com/portholehq/porthole/internal/testenv"
)

// TestFollow has a container that asks for names, of one of which it is known by
// which process, until it ends.
func TestFollow(t *testing.T) {
	c := started(t)
	if err := c.Follow(t.Context(), "one", func(Followed) error { return nil }); !noKeeper(err) {
		t.Errorf("without a keeper: %v", err)
	}
	pid, end := container(t)
	own := netip.MustParseAddr("10.0.0.2")
	spec := Sandbox{ID: "one", Pid: pid, Resolver: &Resolver{}, Networks: []Membership{{Network: "n", NetworkName: "app", Names: []string{"db"}, IPv4: own}}}
	if _, err := c.Put(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if err := c.Follow(t.Context(), "two", func(Followed) error { return nil }); !errdefs.IsNotFound(err) {
		t.Errorf("of nobody: %v", err)
	}
	lines, ended := make(chan Followed, 10), make(chan error, 1)
	go func() {
		ended <- c.Follow(t.Context(), "one", func(line Followed) error {
			lines <- line
			return nil
		})
	}()
	next := func() Followed {
		t.Helper()
		select {
		case line := <-lines:
			return line
		case err := <-ended:
			if ended <- err; len(lines) == 0 { // which come before the end
				t.Fatalf("it has ended: %v", err)
			}
			return <-lines
		case <-time.After(30 * time.Second):
			t.Fatal("nothing comes")
		}
		return Followed{}
	}
	if first := next(); first.Query != nil || first.End {
		t.Errorf("it begins with %+v", first)
	}
	netns, err := ns.Open(pid, ns.Net)
	if err != nil {
		t.Fatal(err)
	}
	defer netns.Close()
	testenv.InNetNS(t, netns, func() error {
		conn, err := net.Dial("udp", "127.0.0.11:53")
		if err != nil {
			return err
		}
		defer conn.Close()
		_, _, err = new(dns.Client).ExchangeWithConn(new(dns.Msg).SetQuestion("db.", dns.TypeA), &dns.Conn{Conn: conn})
		return err
	})
	if line := next(); line.Query == nil || line.Query.Name != "db" || line.Query.Server != resolver.Embedded {
		t.Errorf("the question: %+v", line)
	} else if p := line.Query.Asker; p != nil && p.PID != os.Getpid() { // not one that is in the namespace as a whole
		t.Errorf("it was asked by %+v", p)
	}
	if ours, err := c.Asked(t.Context(), "one", "udp", netip.AddrPortFrom(own, 99)); err != nil || ours {
		t.Errorf("a socket of another: %v, %v", ours, err)
	}
	end()
	if line := next(); !line.End {
		t.Errorf("it ends with %+v", line)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestFollowIsGivenUp ends a follower that has seen enough.
func TestFollowIsGivenUp(t *testing.T) {
	c := started(t)
	pid, _ := container(t)
	if _, err := c.Put(t.Context(), Sandbox{ID: "one", Pid: pid, Resolver: &Resolver{}}); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	if err := c.Follow(t.Context(), "one", func(Followed) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	if err := c.Follow(ctx, "one", func(Followed) error {
		cancel(enough)
		return nil
	}); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

func TestSent(t *testing.T) {
	var s sent
	at := func(port int) netip.AddrPort { return netip.AddrPortFrom(loopback, uint16(port)) }
	for n := range mostSent + 10 {
		s.add("udp", at(n))
	}
	for port, want := range map[int]bool{9: false, 10: true, mostSent + 9: true, mostSent + 10: false} {
		if got := s.has("udp", at(port)); got != want {
			t.Errorf("port %d: %v", port, got)
		}
	}
	if s.has("tcp", at(20)) || len(s.ring) != mostSent {
		t.Errorf("%d are kept", len(s.ring))
	}
}
