package keeper

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// udpIdle is how long a client's packets belong together. It is what Docker's
// proxy takes.
const udpIdle = 90 * time.Second

// maxFlows bounds how many clients of one port are remembered.
const maxFlows = 4096

// udpSocket answers from the address that was asked.
type udpSocket struct {
	*net.UDPConn
	v4 *ipv4.PacketConn
	v6 *ipv6.PacketConn
}

func (s *udpSocket) read(b []byte) (n int, from netip.AddrPort, to netip.Addr, err error) {
	var src net.Addr
	var dst net.IP
	if s.v6 != nil {
		var cm *ipv6.ControlMessage
		if n, cm, src, err = s.v6.ReadFrom(b); cm != nil {
			dst = cm.Dst
		}
	} else {
		var cm *ipv4.ControlMessage
		if n, cm, src, err = s.v4.ReadFrom(b); cm != nil {
			dst = cm.Dst
		}
	}
	if a, ok := src.(*net.UDPAddr); ok {
		from = a.AddrPort()
	}
	to, _ = netip.AddrFromSlice(dst)
	return n, from, to, err
}

func (s *udpSocket) write(b []byte, to netip.AddrPort, from netip.Addr) error {
	var err error
	dst := net.UDPAddrFromAddrPort(to)
	if s.v6 != nil {
		_, err = s.v6.WriteTo(b, &ipv6.ControlMessage{Src: from.AsSlice()}, dst)
	} else {
		_, err = s.v4.WriteTo(b, &ipv4.ControlMessage{Src: from.Unmap().AsSlice()}, dst)
	}
	return err
}

// flow is what a client and an address of the host say to one another.
type flow struct {
	client netip.AddrPort
	host   netip.Addr
}

// serveUDP passes packets on, each client by a socket of its own.
func (o *openPort) serveUDP(conn *net.UDPConn, is6 bool) {
	s := &udpSocket{UDPConn: conn}
	var err error
	if is6 {
		s.v6 = ipv6.NewPacketConn(conn)
		err = s.v6.SetControlMessage(ipv6.FlagDst, true)
	} else {
		s.v4 = ipv4.NewPacketConn(conn)
		err = s.v4.SetControlMessage(ipv4.FlagDst, true)
	}
	if err != nil {
		return
	}
	var mu sync.Mutex
	flows := map[flow]net.Conn{}
	buffer := make([]byte, 65536)
	for {
		n, from, to, err := s.read(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // of a packet that could not be sent, for one
		}
		f := flow{from, to}
		mu.Lock()
		out, room := flows[f], len(flows) < maxFlows
		mu.Unlock()
		if out == nil && room {
			if out = o.newFlow(is6); out == nil {
				continue
			}
			mu.Lock()
			flows[f] = out
			mu.Unlock()
			o.serving.Go(func() {
				o.passUDP(s, out, f)
				mu.Lock()
				delete(flows, f)
				mu.Unlock()
			})
		}
		if out != nil {
			_ = out.SetReadDeadline(time.Now().Add(udpIdle))
			_, _ = out.Write(buffer[:n]) // UDP promises nothing
		}
	}
}

func (o *openPort) newFlow(is6 bool) net.Conn {
	t := o.target.Load()
	out, err := t.dial(o.life, "udp", is6)
	if err != nil {
		return nil
	}
	t.box.connections.Add(1)
	if !o.conns.add(out) {
		_ = out.Close()
		return nil
	}
	return out
}

// passUDP brings the container's packets to the client until there are none.
func (o *openPort) passUDP(s *udpSocket, out net.Conn, f flow) {
	t := o.target.Load()
	t.box.open.Add(1)
	defer t.box.open.Add(-1)
	defer o.conns.remove(out)
	defer out.Close()
	buffer := make([]byte, 65536)
	refused := 0
	for {
		n, err := out.Read(buffer)
		var timeout net.Error
		switch {
		case err == nil:
			refused = 0
			_ = out.SetReadDeadline(time.Now().Add(udpIdle))
			_ = s.write(buffer[:n], f.client, f.host)
		case errors.Is(err, net.ErrClosed), errors.As(err, &timeout) && timeout.Timeout():
			return
		default: // nobody listens in the container, yet
			if refused++; refused > 16 {
				return
			}
		}
	}
}
