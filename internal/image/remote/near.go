package remote

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"github.com/containerd/errdefs"
)

// What a registry names is the registry's to choose: where its blobs are, and who
// gives tokens. That may be anywhere but where only this machine gets: its own
// loopback addresses, and link-local ones, where clouds tell a machine its
// secrets (169.254.169.254). A registry that is there itself may.

// strangerKey marks the context of a request to a host that nobody but the
// registry has named. Its value is that host, "name[:port]".
type strangerKey struct{}

// strange marks req if its host stands neither in the image's name nor in the
// settings.
func (s *Session) strange(req *http.Request) *http.Request {
	s.mu.Lock()
	known := s.known[hostname(req.URL.Host)]
	s.mu.Unlock()
	if known {
		return req
	}
	return req.WithContext(context.WithValue(req.Context(), strangerKey{}, req.URL.Hostname()))
}

// know notes hosts that the user or the settings have named.
func (s *Session) know(hosts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known, s.near = map[string]bool{}, map[nearness]bool{}
	}
	for _, h := range hosts {
		s.known[hostname(h)] = true
	}
}

// nearness is a kind of addresses that only this machine reaches.
type nearness string

const (
	far       nearness = ""
	loopback  nearness = "loopback"
	linkLocal nearness = "link-local"
)

func nearnessOf(addr net.Addr) nearness {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return far
	}
	switch a := tcp.AddrPort().Addr().Unmap().WithZone(""); {
	case a.IsLoopback(), a.IsUnspecified():
		return loopback
	case a.IsLinkLocalUnicast(), a == netip.MustParseAddr("fd00:ec2::254"): // the same of one cloud by IPv6
		return linkLocal
	}
	return far
}

type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// dialer dials as dial does and closes what leads to where a stranger may not.
// It looks at the address that was reached, whatever a name stands for at the
// next look. A proxy is the settings', not the registry's.
func (s *Session) dialer(dial dialFunc) dialFunc {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		near := nearnessOf(conn.RemoteAddr())
		if near == far {
			return conn, nil
		}
		stranger, _ := ctx.Value(strangerKey{}).(string)
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case stranger == "":
			s.near[near] = true
		case stranger == hostname(addr) && !s.near[near]:
			_ = conn.Close()
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
				"refused to follow the registry to %s, a %s address, which only this machine reaches", stranger, near))
		}
		return conn, nil
	}
}
