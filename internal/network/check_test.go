package network

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// TestEndlessFiles has files of a container that wants to fill our memory.
func TestEndlessFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("10.0.0.1 db # here\nnameserver 10.0.0.2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<40); err != nil {
		t.Fatal(err)
	}
	if a, ok := inHosts(path, "DB"); !ok || a != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("hosts: %v, %v", a, ok)
	}
	// Each of them may be waited for.
	many := filepath.Join(t.TempDir(), "many")
	if err := os.WriteFile(many, []byte(strings.Repeat("nameserver 10.0.0.2\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if list := nameserversOf(many); len(list) != 3 {
		t.Errorf("%d servers would be asked", len(list))
	}
	if list := nameserversOf(path); len(list) != 1 || list[0] != netip.MustParseAddr("10.0.0.2") {
		t.Errorf("servers: %v", list)
	}
}

// FuzzAddressIn has whom a container asks answer anything: an address is one that
// stands in the answer.
func FuzzAddressIn(f *testing.F) {
	for _, answer := range [][]dns.RR{
		{&dns.A{Hdr: dns.RR_Header{Name: "x.", Rrtype: dns.TypeA, Class: dns.ClassINET}}},
		{&dns.AAAA{Hdr: dns.RR_Header{Name: "x.", Rrtype: dns.TypeAAAA, Class: dns.ClassINET}, AAAA: net.IPv6loopback}},
		{
			&dns.CNAME{Hdr: dns.RR_Header{Name: "x.", Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: "y."},
			&dns.A{Hdr: dns.RR_Header{Name: "y.", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, 1)},
		},
	} {
		b, err := (&dns.Msg{Answer: answer}).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m dns.Msg
		if m.Unpack(b) != nil {
			return
		}
		a, ok := addressIn(m.Answer)
		if ok != a.IsValid() {
			t.Errorf("%v, %v", a, ok)
		}
		if ok && !bytes.Contains(b, a.AsSlice()) {
			t.Errorf("%v is not in %q", a, b)
		}
	})
}
