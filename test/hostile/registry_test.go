package hostile

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Where the registry is, another host of its network, and where clouds tell a machine its secrets.
const (
	registryAddr = "192.0.2.50:5000"
	storageAddr  = "192.0.2.51:80"
	metadataAddr = "169.254.169.254:80"
)

// serveAt serves on an address, which this world's loopback interface gets.
func serveAt(t *testing.T, addr string, handler http.HandlerFunc) {
	t.Helper()
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if own, err := netlink.ParseAddr(host + "/32"); err != nil {
		t.Fatal(err)
	} else if err := netlink.AddrAdd(lo, own); err != nil && !errors.Is(err, unix.EEXIST) {
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.Listener.Close()
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
}

// TestRegistryLeadsAstray: a registry sends the daemon on to where only this machine gets: its loopback interface, the
// server of a cloud with the machine's secrets, a file. The control is another host. Whatever else registries may answer,
// internal/image and internal/image/remote have tests for.
func TestRegistryLeadsAstray(t *testing.T) {
	begin(t)
	var hits atomic.Int32
	secret := func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		fmt.Fprint(w, `{"secret":"of the host","token":"t"}`)
	}
	const local = "127.0.0.1:8042"
	for _, addr := range []string{storageAddr, metadataAddr, local} {
		serveAt(t, addr, secret)
	}
	var to atomic.Value // func(w http.ResponseWriter, r *http.Request), what the registry does
	serveAt(t, registryAddr, func(w http.ResponseWriter, r *http.Request) {
		to.Load().(func(http.ResponseWriter, *http.Request))(w, r)
	})
	redirect := func(where string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v2/" {
				return
			}
			w.Header().Set("Location", where)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
	}
	token := func(where string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+where+`",service="s",scope="repository:app:pull"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	pull := func() string {
		out, err := try(t, "pull", registryAddr+"/app:1")
		if err == nil {
			t.Errorf("there is an image: %s", out)
		}
		if strings.Contains(out, "of the host") {
			t.Errorf("the answer is shown: %s", out)
		}
		return out
	}
	for name, way := range map[string]func(string) func(http.ResponseWriter, *http.Request){"redirect": redirect, "token": token} {
		hits.Store(0)
		to.Store(way("http://" + storageAddr + "/x"))
		if out := pull(); hits.Load() == 0 {
			t.Errorf("control: %s to another host is not followed: %s", name, out)
		}
		for what, where := range map[string]string{"metadata of a cloud": "http://" + metadataAddr + "/latest", "loopback": "http://" + local + "/x"} {
			attack(t, name+"/"+what, func(t *testing.T) {
				hits.Store(0)
				to.Store(way(where))
				out := pull()
				if hits.Load() > 0 {
					t.Errorf("the daemon asked there: %s", out)
				}
				if !strings.Contains(out, "refused to follow the registry to") {
					t.Errorf("%q, want it refused", out)
				}
			})
		}
		attack(t, name+"/file", func(t *testing.T) {
			to.Store(way("file:///etc/hostname"))
			if out := pull(); !strings.Contains(out, `unsupported protocol scheme "file"`) && !strings.Contains(out, "access denied") {
				t.Errorf("%q, want it refused", out)
			}
		})
	}
}
