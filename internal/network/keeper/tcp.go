package keeper

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/portholehq/porthole/internal/linux/ns"
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
		inside := t.box.enter(ctx, func() error {
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
