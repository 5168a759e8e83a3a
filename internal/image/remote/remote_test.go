package remote

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
)

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{Mirrors: []string{"ftp://mirror"}},
		{Mirrors: []string{"mirror.example.com"}},
		{Mirrors: []string{"https://user:pw@mirror.example.com"}},
		{Mirrors: []string{"https://mirror.example.com?x=1"}},
		{Insecure: []string{"http://registry:5000"}},
		{Insecure: []string{"registry/path"}},
		{Insecure: []string{""}},
	} {
		if _, err := New(o); !errdefs.IsInvalidArgument(err) || strings.Contains(err.Error(), "pw") {
			t.Errorf("%+v: %v", o, err)
		}
	}
	r, err := New(Options{Insecure: []string{"plain.example.com:5000", "10.1.0.0/16", "Upper.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.7:80": true, "[::1]:5000": true,
		"plain.example.com:5000": true, "plain.example.com:5001": false,
		"upper.example.com": true, "upper.example.com:8080": true,
		"10.1.2.3:5000": true, "10.2.2.3:5000": false, "8.8.8.8": false,
	} {
		if got := r.settings.Load().insecure(t.Context(), host); got != want {
			t.Errorf("insecure(%q) = %v, want %v", host, got, want)
		}
	}
}

func TestServerDomain(t *testing.T) {
	for server, want := range map[string]string{
		"": "docker.io", "https://index.docker.io/v1/": "docker.io", "docker.io": "docker.io", "registry-1.docker.io": "docker.io",
		"http://registry:5000/v2/": "registry:5000", "ghcr.example.com": "ghcr.example.com",
	} {
		if got := ServerDomain(server); got != want {
			t.Errorf("ServerDomain(%q) = %q, want %q", server, got, want)
		}
	}
}

func TestNextPage(t *testing.T) {
	const current = "https://registry:5000/v2/app/tags/list?n=2"
	for link, want := range map[string]string{
		"": "",
		`</v2/app/tags/list?n=2&last=b>; rel="next"`: "https://registry:5000/v2/app/tags/list?n=2&last=b",
		`</v2/app/tags/list?n=2&last=b>; rel="prev"`: "",
		`<https://elsewhere/v2/tags>; rel="next"`:    "error",
		`<http://registry:5000/v2/tags>; rel="next"`: "error",
		`<` + current + `>; rel="next"`:              "error",
	} {
		got, err := nextPage(current, link)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("after %q: %q (%v), want %q", link, got, err, want)
		}
	}
}

// Nothing secret goes out in the clear, whatever a registry asks for.
func TestGuard(t *testing.T) {
	r, err := New(Options{Insecure: []string{"plain.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := reference.ParseNormalizedNamed("registry.example.com/app")
	if err != nil {
		t.Fatal(err)
	}
	passed := false
	g := guarded{session: r.Session(t.Context(), ref, Credentials{}), next: tripper(func(*http.Request) (*http.Response, error) {
		passed = true
		return &http.Response{Body: http.NoBody}, nil
	})}
	for _, c := range []struct {
		method, url, auth string
		want              bool
	}{
		{http.MethodGet, "http://registry.example.com/v2/", "", true},
		{http.MethodGet, "http://registry.example.com/v2/", "Basic x", false},
		{http.MethodPost, "http://tokens.example.com/token", "", false},
		{http.MethodGet, "https://registry.example.com/v2/", "Basic x", true},
		{http.MethodPost, "http://plain.example.com/token", "", true},
		{http.MethodPut, "http://127.0.0.1:5000/v2/", "Basic x", true},
	} {
		req := httptest.NewRequestWithContext(t.Context(), c.method, c.url, http.NoBody)
		if c.auth != "" {
			req.Header.Set("Authorization", c.auth)
		}
		passed = false
		res, err := g.RoundTrip(req)
		if err == nil {
			_ = res.Body.Close()
		}
		if passed != c.want || (err == nil) != c.want {
			t.Errorf("%s %s with %q: passed %v, error %v", c.method, c.url, c.auth, passed, err)
		}
	}
}

type tripper func(*http.Request) (*http.Response, error)

func (t tripper) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// A registry with a certificate of one's own authority is trusted once certs.d
// has the authority, and not before. Loopback would be trusted in any case, so
// the name of the registry leads there by the dialer of the test server.
func TestCertificates(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	defer server.Close()
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	certs := t.TempDir()
	const host = "example.com" // stands in the certificate of httptest
	r, err := New(Options{CertDirs: []string{certs}})
	if err != nil {
		t.Fatal(err)
	}
	try := func() error {
		s := r.session(t.Context(), host, Credentials{})
		hosts, err := s.Hosts(host)
		if err != nil {
			return err
		}
		client := hosts[0].Client
		base := client.Transport.(guarded).next.(*http.Transport)
		base.DialTLSContext, base.Proxy = nil, nil
		base.DialContext = server.Client().Transport.(*http.Transport).DialContext
		return s.login(t.Context(), hosts[0])
	}
	if err := try(); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the authority: %v", err)
	}
	dir := filepath.Join(certs, host)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), ca, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := try(); err != nil {
		t.Errorf("with the authority: %v", err)
	}
	for _, name := range []string{"../x", "a/b", "..", ".hidden"} {
		if found, err := r.session(t.Context(), host, Credentials{}).certDir(name); !errdefs.IsNotFound(err) {
			t.Errorf("directory of %q: %q, %v", name, found, err)
		}
	}
}
