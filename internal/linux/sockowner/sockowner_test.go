package sockowner

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/testenv"
)

func TestFind(t *testing.T) {
	netns := testenv.NetNS(t)
	testenv.InNetNS(t, netns, ns.LoopbackUp)
	server := netip.MustParseAddrPort("127.0.0.1:53")
	ours := []int{1 << 30, os.Getpid()}
	for name, dial := range map[string]func() (net.Conn, netip.AddrPort, error){
		"connected": func() (net.Conn, netip.AddrPort, error) { return local(net.Dial("udp", server.String())) },
		"not connected": func() (net.Conn, netip.AddrPort, error) {
			c, err := net.ListenPacket("udp4", "0.0.0.0:0")
			if err != nil {
				return nil, netip.AddrPort{}, err
			}
			return local(c.(*net.UDPConn), nil)
		},
		"of IPv6": func() (net.Conn, netip.AddrPort, error) {
			c, err := net.ListenPacket("udp", "[::]:0")
			if err != nil {
				return nil, netip.AddrPort{}, err
			}
			return local(c.(*net.UDPConn), nil)
		},
	} {
		var c net.Conn
		var from netip.AddrPort
		testenv.InNetNS(t, netns, func() (err error) {
			c, from, err = dial()
			return err
		})
		from = netip.AddrPortFrom(server.Addr(), from.Port())
		if p, ok := Find(netns, "udp", from, server, ours); !ok || p.PID != os.Getpid() || p.Inside != os.Getpid() || p.Name == "" {
			t.Errorf("%s: %+v, %v", name, p, ok)
		}
		if p, ok := Find(netns, "tcp", from, server, ours); ok {
			t.Errorf("%s: by another protocol: %+v", name, p)
		}
		if p, ok := Find(netns, "udp", from, server, []int{os.Getppid()}); ok {
			t.Errorf("%s: of another process: %+v", name, p)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if p, ok := Find(netns, "udp", from, server, ours); ok {
			t.Errorf("%s: closed: %+v", name, p)
		}
	}
}

func local(c net.Conn, err error) (net.Conn, netip.AddrPort, error) {
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	from, err := netip.ParseAddrPort(c.LocalAddr().String())
	return c, from, err
}

func TestFindTCP(t *testing.T) {
	netns := testenv.NetNS(t)
	testenv.InNetNS(t, netns, ns.LoopbackUp)
	testenv.InNetNS(t, netns, func() error {
		l, err := net.Listen("tcp4", "127.0.0.1:53")
		if err != nil {
			return err
		}
		defer l.Close()
		c, from, err := local(net.Dial("tcp4", "127.0.0.1:53"))
		if err != nil {
			return err
		}
		defer c.Close()
		if p, ok := Find(netns, "tcp", from, netip.MustParseAddrPort("127.0.0.1:53"), []int{os.Getpid()}); !ok || p.PID != os.Getpid() {
			t.Errorf("%+v, %v", p, ok)
		}
		return nil
	})
}

func TestWithin(t *testing.T) {
	own, err := ns.Open(os.Getpid(), ns.Net)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if list := Within(own); !slices.Contains(list, os.Getpid()) {
		t.Errorf("this process is not among %v", list)
	}
	if list := Within(testenv.NetNS(t)); len(list) != 0 {
		t.Errorf("%v are in a namespace of nobody", list)
	}
}
