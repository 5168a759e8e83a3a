package keeper

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/linux/sockdiag"
)

// dialTimeout is how long a container gets to take a connection.
const dialTimeout = 20 * time.Second

func (o *openPort) serveTCP(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, most likely: connections that end free some.
			select {
			case <-o.life.Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		client, ok := conn.(*net.TCPConn)
		if !ok || !o.conns.add(client) {
			_ = conn.Close()
			continue
		}
		o.serving.Go(func() {
			defer o.conns.remove(client)
			defer client.Close()
			o.passTCP(client)
		})
	}
}

// passTCP connects the client with the container, until both are done.
func (o *openPort) passTCP(client *net.TCPConn) {
	t := o.target.Load()
	t.box.connections.Add(1)
	t.box.open.Add(1)
	defer t.box.open.Add(-1)
	local, _ := client.LocalAddr().(*net.TCPAddr)
	is6 := local != nil && local.IP.To4() == nil
	conn, err := t.dial(o.life, "tcp", is6)
	if err != nil {
		_ = client.SetLinger(0) // a reset, as if nobody listened
		return
	}
	server, ok := conn.(*net.TCPConn)
	if !ok || !o.conns.add(server) {
		_ = conn.Close()
		return
	}
	defer o.conns.remove(server)
	defer server.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pass(server, client)
	}()
	pass(client, server)
	<-done
}

// pass copies until src has no more, and tells dst so. The kernel moves the
// bytes, see splice(2).
func pass(dst, src *net.TCPConn) {
	if _, err := io.Copy(dst, src); err != nil {
		// One side is broken: the other must not wait for it.
		_ = dst.Close()
		_ = src.Close()
		return
	}
	_ = dst.CloseWrite()
}

// dial connects to the container, by the client's family if it has that.
func (t *target) dial(ctx context.Context, network string, is6 bool) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	dialer.SetMultipathTCP(false)
	if t.Inside {
		return t.dialInside(ctx, &dialer, network)
	}
	a := t.IPv4
	if (is6 && t.IPv6.IsValid()) || !a.IsValid() {
		a = t.IPv6
	}
	if !a.IsValid() {
		return nil, errors.New("the container has no address")
	}
	return dialer.DialContext(ctx, network, netip.AddrPortFrom(a, t.Port.Port).String())
}

// dialInside connects from inside the container: to a server on its loopback
// address, or else on the address that it has.
func (t *target) dialInside(ctx context.Context, dialer *net.Dialer, network string) (conn net.Conn, err error) {
	to := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback(), t.IPv4, t.IPv6}
	if network == "udp" {
		to = to[:1] // nobody says whether it arrives
	}
	for _, a := range to {
		if !a.IsValid() {
			continue
		}
		owner, known := t.box.listener(network, netip.AddrPortFrom(a, t.Port.Port))
		inside := t.box.enter(ctx, func() error {
			if known {
				// The thread ends with this.
				if err := unix.Setfsuid(int(owner)); err != nil {
					return os.NewSyscallError("setfsuid", err)
				}
			}
			var err error
			conn, err = dialer.DialContext(ctx, network, netip.AddrPortFrom(a, t.Port.Port).String())
			return err
		})
		if inside == nil {
			return conn, nil
		}
		if err == nil {
			err = inside
		}
	}
	return nil, err
}

// listener is who listens at an address, as the host counts. A connection is made
// as that user, who owns its socket then: debuggers take none of another user, and
// this process's is one that the container does not have.
func (b *box) listener(network string, at netip.AddrPort) (uid uint32, ok bool) {
	if network != "tcp" {
		return 0, false
	}
	for _, k := range []sockdiag.Kind{sockdiag.TCP4, sockdiag.TCP6} {
		list, err := sockdiag.Dump(b.netns, k)
		if err != nil {
			continue // then as this process
		}
		for _, s := range list {
			to := s.Local.Addr().Unmap()
			if s.State == sockdiag.Listening && s.Local.Port() == at.Port() && (to == at.Addr() || to.IsUnspecified()) {
				return s.UID, true
			}
		}
	}
	return 0, false
}

// maxEntering is how many threads may be in a container's namespace at once. A
// process can have 10,000, and containers that take no connections must not
// use them up.
const maxEntering = 64

// enter runs f in the container's network namespace.
func (b *box) enter(ctx context.Context, f func() error) error {
	select {
	case b.entering <- struct{}{}:
		defer func() { <-b.entering }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return ns.Do([]ns.Entry{{File: b.netns, Kind: ns.Net}}, f)
}
