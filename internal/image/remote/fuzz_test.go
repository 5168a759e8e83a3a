package remote

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/distribution/reference"
)

func FuzzNextPage(f *testing.F) {
	const current = "https://registry:5000/v2/app/tags/list?n=2"
	for _, link := range []string{
		`</v2/app/tags/list?n=2&last=b>; rel="next"`, `<//elsewhere/v2>; rel="next"`, `<https://user@registry:5000/>; rel="next"`, `<?a#b>; rel="next"`, `< >`,
	} {
		f.Add(current, link)
	}
	f.Fuzz(func(t *testing.T, current, link string) {
		base, err := url.Parse(current)
		if err != nil || base.String() != current || base.Host == "" {
			return
		}
		next, err := nextPage(current, link)
		if err != nil || next == "" {
			return
		}
		u, err := url.Parse(next)
		if err != nil || u.Scheme != base.Scheme || u.Host != base.Host || next == current {
			t.Errorf("after %q, %q: %q, %v", current, link, next, err)
		}
	})
}

// FuzzTags has a registry answer anything: first with a status, headers and a body,
// then with a body, and who gives tokens with the first one. Credentials never go out
// in the clear, and the registry cannot make us ask for ever.
func FuzzTags(f *testing.F) {
	f.Add(401, `Bearer realm="https://auth.example.com/token",service="x"`, "", []byte(`{"token":"t"}`), []byte(`{"tags":["a"]}`))
	f.Add(401, `Basic realm="x"`, `</v2/app/tags/list?last=a>; rel="next"`, []byte(`{"errors":[{"code":"DENIED","message":"no"}]}`), []byte(`{"tags":["b"]}`))
	f.Add(200, `Bearer realm="http://auth.example.com/token"`, `</v2>; rel="next"`, []byte(`{"tags":null}`), []byte(`{`))
	f.Add(307, `Bearer realm=`, ``, []byte(``), []byte(`{"tags":["\u0000"]}`))
	f.Fuzz(func(t *testing.T, status int, challenge, link string, first, then []byte) {
		if status < 200 || status > 599 {
			return
		}
		r, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		ref, err := reference.ParseNormalizedNamed("registry.example.com/app")
		if err != nil {
			t.Fatal(err)
		}
		const password = "s3cret"
		s := r.Session(t.Context(), ref, Credentials{Username: "user", Password: password})
		asked := 0
		answer := tripper(func(req *http.Request) (*http.Response, error) {
			asked++
			if req.URL.Scheme != "http" && req.URL.Scheme != "https" || req.URL.Host == "" {
				return nil, errors.New("unsupported") // by net/http
			}
			body := []byte(nil)
			if req.Body != nil {
				body, _ = io.ReadAll(req.Body)
			}
			auth := req.Header.Get("Authorization")
			secret := auth != "" || bytes.Contains(body, []byte(password)) || strings.Contains(req.URL.String(), password)
			if secret && req.URL.Scheme != "https" {
				t.Errorf("%s %s with credentials", req.Method, req.URL)
			}
			h := http.Header{}
			code, text := http.StatusOK, then
			if req.URL.Host != "registry.example.com" {
				text = first // a token
			}
			if asked == 1 {
				code, text = status, first
				if clean(challenge) {
					h.Set("WWW-Authenticate", challenge)
				}
				if clean(link) {
					h.Set("Link", link)
				}
			}
			return &http.Response{StatusCode: code, Status: http.StatusText(code), Header: h, Body: io.NopCloser(bytes.NewReader(text)), Request: req, ProtoMajor: 1, ProtoMinor: 1}, nil
		})
		hosts, err := s.Hosts("registry.example.com")
		if err != nil {
			t.Fatal(err)
		}
		var tags []string
		for _, h := range hosts {
			h.Client.Transport = guarded{next: answer, session: s}
			if got, err := s.tagsAt(t.Context(), h, "app"); err == nil {
				tags = got
			}
		}
		for _, tag := range tags {
			if len(tag) > maxTag {
				t.Errorf("a tag of %d bytes", len(tag))
			}
		}
		if asked > 100 {
			t.Errorf("%d requests", asked)
		}
	})
}

// clean tells whether a value may be one of a header that came by HTTP.
func clean(value string) bool {
	return !strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}
