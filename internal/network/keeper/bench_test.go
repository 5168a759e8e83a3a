package keeper

import (
	"net/netip"
	"testing"

	"github.com/portholehq/porthole/internal/testenv"
)

// BenchmarkPut serves a container and stops to.
func BenchmarkPut(b *testing.B) {
	testenv.NeedsRoot(b)
	pid, _ := container(b)
	for _, c := range []struct {
		name string
		spec Sandbox
	}{
		{"port", Sandbox{Ports: []Port{{Proto: "tcp", HostIPs: []netip.Addr{loopback}, Port: 80}}}},
		{"names", Sandbox{Resolver: &Resolver{}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := New("test", "/etc/resolv.conf")
			defer s.closeAll()
			c.spec.ID, c.spec.Pid = "one", pid
			for b.Loop() {
				if _, err := s.Put(c.spec); err != nil {
					b.Fatal(err)
				}
				s.Drop("one")
			}
		})
	}
}
