package remote

import (
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/distribution/reference"
)

// reached is a connection to an address.
type reached struct {
	net.Conn
	addr   *net.TCPAddr
	closed bool
}

func (r *reached) RemoteAddr() net.Addr { return r.addr }

func (r *reached) Close() error {
	r.closed = true
	return nil
}

// TestStrangers: where a registry may send us, by the address that is reached in the end.
func TestStrangers(t *testing.T) {
	for _, c := range []struct {
		name, registry, url, dials, reaches string
		want                                bool
	}{
		{"registry in the network", "10.1.1.1", "https://registry.example.com/v2/", "registry.example.com:443", "10.1.1.1", true},
		{"storage in the network", "10.1.1.1", "https://storage.example.com/x", "storage.example.com:443", "10.1.1.2", true},
		{"metadata of a cloud", "10.1.1.1", "http://169.254.169.254/x", "169.254.169.254:80", "169.254.169.254", false},
		{"by a name", "10.1.1.1", "http://innocent.example.com/x", "innocent.example.com:80", "169.254.169.254", false},
		{"by IPv6", "10.1.1.1", "http://[fe80::1]/x", "[fe80::1]:80", "fe80::1", false},
		{"mapped into IPv6", "10.1.1.1", "http://x/", "x:80", "::ffff:127.0.0.1", false},
		{"loopback", "10.1.1.1", "http://localhost/x", "localhost:80", "127.0.0.1", false},
		{"loopback by a proxy", "10.1.1.1", "http://storage.example.com/x", "localhost:3128", "127.0.0.1", true},
		{"loopback, as the registry", "127.0.0.1", "http://storage.localhost/x", "storage.localhost:80", "127.0.0.1", true},
		{"link-local, and the registry on loopback", "127.0.0.1", "http://169.254.169.254/x", "169.254.169.254:80", "169.254.169.254", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := New(Options{})
			if err != nil {
				t.Fatal(err)
			}
			ref, err := reference.ParseNormalizedNamed("registry.example.com/app")
			if err != nil {
				t.Fatal(err)
			}
			s := r.Session(t.Context(), ref, Credentials{})
			ask := func(url, dials, reaches string) (*reached, error) {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				conn := &reached{addr: &net.TCPAddr{IP: net.ParseIP(reaches), Port: 80}}
				_, err = s.dialer(func(context.Context, string, string) (net.Conn, error) { return conn, nil })(s.strange(req).Context(), "tcp", dials)
				return conn, err
			}
			if _, err := ask("https://registry.example.com/v2/", "registry.example.com:443", c.registry); err != nil {
				t.Fatal(err)
			}
			conn, err := ask(c.url, c.dials, c.reaches)
			if (err == nil) != c.want || conn.closed == c.want {
				t.Errorf("%v, closed: %t", err, conn.closed)
			}
		})
	}
}
