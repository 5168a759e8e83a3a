package remote

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
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

// A search names its registry, which is no name of a host then.
func TestSearchOfNoHost(t *testing.T) {
	r, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, term := range []string{"fd00::/64", "host:port/x", "[::1/x"} {
		if _, err := r.Search(t.Context(), term, 25, Credentials{}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("search for %q: %v", term, err)
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

// fakeRegistry opens a session with one on loopback.
func fakeRegistry(t *testing.T, handler http.HandlerFunc) (*Session, reference.Named) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	r, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := reference.ParseNormalizedNamed(strings.TrimPrefix(server.URL, "http://") + "/app")
	if err != nil {
		t.Fatal(err)
	}
	s := r.Session(t.Context(), ref, Credentials{Username: "tester", Password: "secret"})
	t.Cleanup(s.Close)
	return s, ref
}

// A list of tags that never ends is not followed for ever, and what stands for a
// tag in it is not kept whatever its length.
func TestEndlessTags(t *testing.T) {
	asked := 0
	s, ref := fakeRegistry(t, func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Header().Set("Link", fmt.Sprintf(`</v2/app/tags/list?last=%d>; rel="next"`, asked))
		_, _ = io.WriteString(w, `{"tags":[]}`)
		if asked > 3*maxPages {
			panic(http.ErrAbortHandler)
		}
	})
	if _, err := s.Tags(t.Context(), ref); !errdefs.IsResourceExhausted(err) || asked != maxPages {
		t.Errorf("after %d pages: %v", asked, err)
	}
	s, ref = fakeRegistry(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"tags":["latest","%s"]}`, strings.Repeat("t", maxTag+1))
	})
	if tags, err := s.Tags(t.Context(), ref); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a long tag: %d tags, %v", len(tags), err)
	}
}

// No answer but a blob is read without end, wherever the registry has it from:
// the whole of a token is kept in memory.
func TestEndlessAnswers(t *testing.T) {
	var sent atomic.Int64
	endless := func(w http.ResponseWriter) {
		line := []byte(strings.Repeat("x", 64<<10))
		_, _ = io.WriteString(w, `{"token":"`)
		for sent.Store(0); sent.Load() < 16*maxAnswer; sent.Add(int64(len(line))) {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
		_, _ = io.WriteString(w, `"}`)
	}
	token := "/v2/app/blobs/token"
	s, ref := fakeRegistry(t, func(w http.ResponseWriter, req *http.Request) {
		switch {
		case req.URL.Path == token && req.Method == http.MethodPost:
			w.WriteHeader(http.StatusNotFound) // then the library asks by GET
		case req.URL.Path == token:
			endless(w)
		case req.URL.Path == "/v2/app/manifests/latest":
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			endless(w)
		default:
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s%s",service="s",scope="repository:app:pull"`, req.Host, token))
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	if _, err := s.Tags(t.Context(), ref); !errdefs.IsResourceExhausted(err) {
		t.Errorf("a token without end: %.200v", err)
	}
	// The rest is what the sockets hold.
	if n := sent.Load(); n > 2*maxAnswer {
		t.Errorf("%d bytes of a token were taken", n)
	}
	if _, _, err := s.Resolver().Resolve(t.Context(), ref.String()+":latest"); !errdefs.IsResourceExhausted(err) {
		t.Errorf("a manifest without end: %.200v", err)
	}
}

// What a token server redirects to does not see the password, which is in the
// body of the request.
func TestTokenRedirect(t *testing.T) {
	for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		var seen atomic.Value
		thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			body, _ := io.ReadAll(req.Body)
			seen.Store(string(body) + req.Header.Get("Authorization"))
			_, _ = io.WriteString(w, `{"token":"x","access_token":"x"}`)
		}))
		s, ref := fakeRegistry(t, func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/token" {
				http.Redirect(w, req, thief.URL, status)
				return
			}
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="s",scope="repository:app:pull"`, req.Host))
			w.WriteHeader(http.StatusUnauthorized)
		})
		if _, err := s.Tags(t.Context(), ref); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%d: %v", status, err)
		}
		if got, _ := seen.Load().(string); strings.Contains(got, "secret") || strings.Contains(got, "Basic") {
			t.Errorf("%d: the thief got %q", status, got)
		}
		thief.Close()
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
