package netfiles

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzParseResolver holds of a host's resolv.conf: the file that is made of what was
// read says the same, and that for containers names no server which they cannot reach.
func FuzzParseResolver(f *testing.F) {
	f.Add("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch a b\n")
	f.Add("domain x\nsearch # none\nnameserver fe80::1%eth0 ; nameserver ::1\nnameserver\t1.1.1.1 2.2.2.2\r\n")
	f.Add("nameserver 1.1.1.1\vnameserver 2.2.2.2\u0085options x\u00a0y")
	f.Fuzz(func(t *testing.T, text string) {
		r := ParseResolver(text)
		if again := ParseResolver(r.File("a test")); !same(r, again) {
			t.Errorf("%q is read as %+v, and what is made of it as %+v", text, r, again)
		}
		out, dropped := r.Outside()
		if len(out.Servers)+len(dropped) != len(r.Servers) {
			t.Errorf("%q: of %q there are %q, dropped %q", text, r.Servers, out.Servers, dropped)
		}
		for _, s := range out.Servers {
			if a, err := netip.ParseAddr(s); err != nil || a.IsLoopback() || a.Unmap().IsLoopback() || a.Zone() != "" {
				t.Errorf("%q: containers are to ask %q", text, s)
			}
		}
		if file := out.File("a test"); strings.Count(file, "\nnameserver ") != len(out.Servers) {
			t.Errorf("%q: the file for containers is %q", text, file)
		}
	})
}

// same compares without the difference between no words and none asked for.
func same(a, b Resolver) bool {
	return cmp.Equal(append([]string{}, a.Servers...), append([]string{}, b.Servers...)) &&
		cmp.Equal(append([]string{}, a.Search...), append([]string{}, b.Search...)) && cmp.Equal(append([]string{}, a.Options...), append([]string{}, b.Options...))
}
