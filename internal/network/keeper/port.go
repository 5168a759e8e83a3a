package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// openPort is a port that is held.
type openPort struct {
	number  uint16
	asked   Port // as it was when the port was opened
	target  atomic.Pointer[target]
	closers []interface{ Close() error }
	serving sync.WaitGroup
	conns   conns
	// life ends with the port.
	life context.Context //nolint:containedctx // it is that of the goroutines of the port
	end  context.CancelFunc
}

// target is where a port leads.
type target struct {
	Port
	box *box
}

// cursor is where the search for a free port goes on, so that one which was
// given back is not given out again at once.
var cursor atomic.Uint32

// hold opens the sockets of a port and serves them.
func hold(p Port, b *box) (*openPort, error) {
	if p.Proto != "tcp" && p.Proto != "udp" {
		return nil, fmt.Errorf("ports of protocol %q are not passed on", p.Proto)
	}
	for _, ip := range p.HostIPs {
		if !ip.IsValid() { // to which a socket would be bound as to all addresses
			return nil, errors.New("a port has no address of the host")
		}
	}
	first, last := uint32(p.First), uint32(max(p.First, p.Last))
	if first == 0 {
		low, high := ephemeral()
		span := high - low + 1
		begin := cursor.Load()
		for i := range span {
			n := uint16(low + (begin+i)%span)
			o, err := open(p, b, n)
			if err == nil {
				cursor.Store(begin + i + 1)
				return o, nil
			}
			if !errors.Is(err, unix.EADDRINUSE) {
				return nil, err
			}
		}
		return nil, errors.New("all ports are allocated")
	}
	var busy error
	for n := first; n <= last; n++ {
		o, err := open(p, b, uint16(n))
		if err == nil {
			return o, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return nil, err
		}
		if busy == nil {
			busy = err
		}
	}
	return nil, busy
}

// ephemeral is the range that the kernel takes ports from for itself.
func ephemeral() (low, high uint32) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		if n, err := fmt.Sscan(string(text), &low, &high); err == nil && n == 2 && low > 0 && low <= high && high < 65536 {
			return low, high
		}
	}
	return 32768, 60999 // the kernel's default
}

// open opens the sockets for one number.
func open(p Port, b *box, number uint16) (*openPort, error) {
	o := &openPort{number: number, asked: p}
	o.life, o.end = context.WithCancel(context.Background())
	o.target.Store(&target{Port: p, box: b})
	o.conns.all = map[interface{ Close() error }]bool{}
	var starts []func()
	for _, ip := range p.HostIPs {
		start, err := o.listen(p.Proto, netip.AddrPortFrom(ip, number))
		if err != nil {
			o.close()
			if errors.Is(err, unix.EADDRINUSE) {
				return nil, fmt.Errorf("%w: %w", &InUseError{Proto: p.Proto, Addr: netip.AddrPortFrom(ip, number)}, unix.EADDRINUSE)
			}
			return nil, fmt.Errorf("listen on %s/%s: %w", netip.AddrPortFrom(ip, number), p.Proto, err)
		}
		starts = append(starts, start)
	}
	for _, start := range starts {
		o.serving.Go(start)
	}
	return o, nil
}

func (o *openPort) listen(proto string, at netip.AddrPort) (start func(), err error) {
	family := "4"
	if at.Addr().Is6() {
		family = "6"
	}
	if proto == "udp" {
		conn, err := net.ListenUDP("udp"+family, net.UDPAddrFromAddrPort(at))
		if err != nil {
			return nil, err
		}
		o.closers = append(o.closers, conn)
		return func() { o.serveUDP(conn, at.Addr().Is6()) }, nil
	}
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	l, err := config.Listen(context.Background(), "tcp"+family, at.String())
	if err != nil {
		return nil, err
	}
	o.closers = append(o.closers, l)
	return func() { o.serveTCP(l) }, nil
}

// close gives the port back. Connections that are open are cut off, as the
// container that they lead to has ended or does not want them.
func (o *openPort) close() {
	o.end()
	for _, c := range o.closers {
		_ = c.Close()
	}
	o.conns.closeAll()
	o.serving.Wait()
}

// conns are the connections of a port.
type conns struct {
	mu     sync.Mutex
	all    map[interface{ Close() error }]bool
	closed bool
}

// add keeps c to be closed with the port; false: the port is closed already.
func (c *conns) add(conn interface{ Close() error }) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.all[conn] = true
	return true
}

func (c *conns) remove(conn interface{ Close() error }) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.all, conn)
}

func (c *conns) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for conn := range c.all {
		_ = conn.Close()
	}
}
