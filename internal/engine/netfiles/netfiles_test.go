package netfiles

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHosts(t *testing.T) {
	got := Hosts("", []Host{{"172.20.0.2", []string{"web", "alias"}}})
	if !strings.HasPrefix(got, "127.0.0.1\tlocalhost\n::1\t") || !strings.HasSuffix(got, "\n172.20.0.2\tweb alias\n") {
		t.Errorf("hosts:\n%s", got)
	}
	if got := Hosts("10.0.0.1 box", []Host{{"10.0.0.9", []string{"x"}}}); got != "10.0.0.1 box\n10.0.0.9\tx\n" {
		t.Errorf("hosts on top of the host's:\n%s", got)
	}
}

func TestExtra(t *testing.T) {
	specs := []string{"a:10.0.0.1", "six:[2001:db8::1]", "six2:2001:db8::2", "gw:host-gateway"}
	want := []Host{{"10.0.0.1", []string{"a"}}, {"2001:db8::1", []string{"six"}}, {"2001:db8::2", []string{"six2"}}}
	got, missing := Extra(specs, netip.Addr{})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"gw:host-gateway"}, missing); diff != "" {
		t.Error(diff)
	}
	got, _ = Extra(specs[3:], netip.MustParseAddr("172.20.0.1"))
	if diff := cmp.Diff([]Host{{"172.20.0.1", []string{"gw"}}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestResolver(t *testing.T) {
	text := "# made by x\nnameserver 127.0.0.53\nnameserver 9.9.9.9 # quad\noptions edns0 trust-ad\ndomain old\nsearch a.example b.example\n"
	r := ParseResolver(text)
	want := Resolver{Servers: []string{"127.0.0.53", "9.9.9.9"}, Search: []string{"a.example", "b.example"}, Options: []string{"edns0", "trust-ad"}}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Fatal(diff)
	}
	if r.IsStub() {
		t.Error("a resolver with a real server is called a stub")
	}
	if !ParseResolver("nameserver 127.0.0.53\noptions edns0\n").IsStub() {
		t.Error("the stub is not recognised")
	}
	out, dropped := Resolver{Servers: []string{"127.0.0.1", "fe80::1%eth0", "::1", "1.1.1.1"}}.Outside()
	if diff := cmp.Diff([]string{"1.1.1.1"}, out.Servers); diff != "" {
		t.Error(diff)
	}
	if len(dropped) != 3 {
		t.Errorf("dropped %v", dropped)
	}
	got := r.Override(Resolver{Servers: []string{"8.8.8.8"}, Search: []string{"."}}).File("/etc/resolv.conf")
	if !strings.HasSuffix(got, "\nnameserver 8.8.8.8\noptions edns0 trust-ad\n") {
		t.Errorf("file:\n%s", got)
	}
}
