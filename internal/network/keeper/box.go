package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/network/nft"
	"github.com/portholehq/porthole/internal/network/resolver"
)

// box is a sandbox that is kept.
type box struct {
	keeper *Server
	netns  *os.File
	pidfd  *os.File
	log    resolver.Log

	askers chan struct{} // has a token for each search for an asker
	sent   sent
	over   chan struct{} // closed with the box

	entering    chan struct{} // has a token for each thread in the container's namespace
	connections atomic.Uint64
	open        atomic.Int64

	spec atomic.Pointer[Sandbox]

	// change is held while the box is changed.
	change  sync.Mutex
	ports   []*openPort // in the order of spec.Ports
	servers []*dns.Server
	serving sync.WaitGroup
	closed  bool
}

// newBox opens a container's namespace. Its pid may be somebody else's by the
// time that we look: the pidfd tells.
func newBox(s *Server, spec Sandbox) (*box, error) {
	fd, err := unix.PidfdOpen(spec.Pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open process %d of container: %w", spec.Pid, err)
	}
	b := &box{
		keeper: s, entering: make(chan struct{}, maxEntering), askers: make(chan struct{}, maxAskers), over: make(chan struct{}),
		pidfd: os.NewFile(uintptr(fd), "pidfd"),
	}
	if b.netns, err = ns.Open(spec.Pid, ns.Net); err != nil {
		return nil, errors.Join(fmt.Errorf("open network of container: %w", err), b.pidfd.Close())
	}
	b.spec.Store(&Sandbox{ID: spec.ID, Pid: spec.Pid})
	return b, nil
}

// watch calls ended when the container's first process has.
func (b *box) watch(ended func()) {
	raw, err := b.pidfd.SyscallConn()
	if err == nil {
		// A pidfd can be read from, in the sense of poll, once the process is gone.
		err = raw.Read(func(fd uintptr) bool {
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, _ := unix.Poll(p, 0)
			return n > 0
		})
	}
	if err == nil { // otherwise the box was closed
		ended()
	}
}

// update makes the box what spec says. On an error it is what it was.
func (b *box) update(spec Sandbox) ([]uint16, error) {
	b.change.Lock()
	defer b.change.Unlock()
	if b.closed {
		return nil, errors.New("the container has ended")
	}
	old := slices.Clone(b.ports)
	var fresh, all []*openPort
	fail := func(err error) ([]uint16, error) {
		for _, o := range fresh {
			o.close()
		}
		return nil, err
	}
	for _, p := range spec.Ports {
		at := slices.IndexFunc(old, func(o *openPort) bool { return o != nil && p.is(o.asked, o.number) })
		if at >= 0 {
			all = append(all, old[at])
			old[at] = nil
			continue
		}
		o, err := hold(p, b)
		if err != nil {
			return fail(err)
		}
		fresh, all = append(fresh, o), append(all, o)
	}
	if spec.Resolver != nil && len(b.servers) == 0 {
		if err := b.serveNames(); err != nil {
			return fail(err)
		}
	}
	numbers := make([]uint16, len(all))
	for i, o := range all {
		o.target.Store(&target{Port: spec.Ports[i], box: b})
		numbers[i] = o.number
	}
	for _, o := range old {
		if o != nil {
			o.close()
		}
	}
	b.ports = all
	b.spec.Store(&spec)
	return numbers, nil
}

// status tells what the box is now.
func (b *box) status() Status {
	b.change.Lock()
	defer b.change.Unlock()
	s := Status{Sandbox: *b.spec.Load(), HostPorts: []uint16{}, Connections: b.connections.Load(), Open: b.open.Load()}
	for _, o := range b.ports {
		s.HostPorts = append(s.HostPorts, o.number)
	}
	return s
}

// close ends all of it.
func (b *box) close() {
	b.change.Lock()
	defer b.change.Unlock()
	if b.closed {
		return
	}
	b.closed = true
	close(b.over)
	for _, o := range b.ports {
		o.close()
	}
	_ = b.pidfd.Close()
	// Answers that are waited for may take a while yet; the sockets close at once.
	for _, s := range b.servers {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			_ = s.ShutdownContext(ctx)
		}()
	}
	go func() {
		b.serving.Wait()
		_ = b.netns.Close()
	}()
}

// nameServer is the address that containers find in their resolv.conf. The
// sockets are on other ports than 53, since the container may have a name server
// of its own there; the kernel translates.
var nameServer = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// maxStreams is how many TCP connections a container may have to its name server.
const maxStreams = 256

// serveNames opens the name server in the container.
func (b *box) serveNames() error {
	var packets net.PacketConn
	var stream net.Listener
	err := b.enter(context.Background(), func() (err error) {
		// The container may be about to bring up its loopback interface.
		config := net.ListenConfig{Control: freebind}
		config.SetMultipathTCP(false)
		at := netip.AddrPortFrom(nameServer, 0).String()
		if packets, err = config.ListenPacket(context.Background(), "udp4", at); err != nil {
			return err
		}
		stream, err = config.Listen(context.Background(), "tcp4", at)
		return err
	})
	if err == nil {
		err = nft.RedirectNames(b.netns, nameServer, portOf(packets.LocalAddr()), portOf(stream.Addr()))
	}
	if err != nil {
		if packets != nil {
			_ = packets.Close()
		}
		if stream != nil {
			_ = stream.Close()
		}
		return fmt.Errorf("serve names in container: %w", err)
	}
	handler := resolver.New(b, &b.log)
	handler.Asker = b.asker
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: handler, UDPSize: dns.MaxMsgSize}, {Listener: netutil.LimitListener(stream, maxStreams), Handler: handler}} {
		// Shutdown of a server that has not begun yet would do nothing.
		begun := make(chan struct{})
		s.NotifyStartedFunc = func() { close(begun) }
		b.serving.Go(func() { _ = s.ActivateAndServe() })
		<-begun
		b.servers = append(b.servers, s)
	}
	return nil
}

func freebind(_, _ string, c syscall.RawConn) error {
	var err error
	control := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) })
	return errors.Join(control, err)
}

func portOf(a net.Addr) uint16 {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return 0
	}
	return p.Port()
}

// Lookup finds a name on the container's networks.
func (b *box) Lookup(name string) (addrs []netip.Addr, found bool) {
	for _, m := range b.spec.Load().Networks {
		wanted := []string{name}
		if short, ok := strings.CutSuffix(name, "."+strings.ToLower(m.NetworkName)); ok {
			wanted = append(wanted, short)
		}
		for alias, target := range m.Links {
			if strings.EqualFold(alias, name) {
				wanted = append(wanted, target)
			}
		}
		for _, other := range b.keeper.members(m.Network) {
			if !slices.ContainsFunc(wanted, func(n string) bool { return isName(other.Names, n) }) {
				continue
			}
			found = true
			for _, a := range []netip.Addr{other.IPv4, other.IPv6} {
				if a.IsValid() && !slices.Contains(addrs, a) {
					addrs = append(addrs, a)
				}
			}
		}
	}
	return addrs, found
}

func isName(names []string, want string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, want) })
}

// Reverse finds the name of an address on the container's networks.
func (b *box) Reverse(a netip.Addr) (string, bool) {
	for _, m := range b.spec.Load().Networks {
		for _, other := range b.keeper.members(m.Network) {
			if (other.IPv4 == a || other.IPv6 == a) && len(other.Names) > 0 {
				return other.Names[0] + "." + m.NetworkName, true
			}
		}
	}
	return "", false
}

// Upstreams are the container's own servers, or the host's.
func (b *box) Upstreams() (list []resolver.Upstream, external bool) {
	r := b.spec.Load().Resolver
	if r == nil {
		return nil, false
	}
	for _, a := range r.Servers {
		list = append(list, resolver.Upstream{Addr: netip.AddrPortFrom(a, 53), Inside: true, From: "--dns"})
	}
	if len(list) == 0 {
		list = b.keeper.host.servers()
	}
	return list, r.External
}

// Dial connects to a server.
func (b *box) Dial(ctx context.Context, network string, u resolver.Upstream) (conn net.Conn, err error) {
	var dialer net.Dialer
	dialer.SetMultipathTCP(false)
	dial := func() error {
		conn, err = dialer.DialContext(ctx, network, u.Addr.String())
		return err
	}
	if u.Inside {
		err = b.enter(ctx, dial)
		if err == nil { // also when nobody follows: he who comes next may see its packets
			if local, bad := netip.ParseAddrPort(conn.LocalAddr().String()); bad == nil {
				b.sent.add(network, local)
			}
		}
	} else {
		err = dial()
	}
	return conn, err // not in one line with the calls, which set conn
}
