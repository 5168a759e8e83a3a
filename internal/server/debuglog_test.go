package server

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLoggedURI(t *testing.T) {
	for _, test := range []struct{ source, want string }{
		{"", "/v1.51/images/create?tag=1"},
		{"-", "/v1.51/images/create?fromSrc=-&tag=1"},
		{"http://h/x.tar", "/v1.51/images/create?fromSrc=http%3A%2F%2Fh%2Fx.tar&tag=1"},
		{"https://me:hush@h/x.tar?sig=hush", "/v1.51/images/create?fromSrc=https%3A%2F%2Fh%2Fx.tar&tag=1"},
		{"me:hush@h/x.tar", "/v1.51/images/create?fromSrc=%2A%2A%2A%2A%2A&tag=1"},
		{"h/x.tar?sig=hush", "/v1.51/images/create?fromSrc=%2A%2A%2A%2A%2A&tag=1"},
		{"http://h%zz/hush", "/v1.51/images/create?fromSrc=%2A%2A%2A%2A%2A&tag=1"},
	} {
		query := url.Values{"tag": {"1"}}
		if test.source != "" {
			query.Set("fromSrc", test.source)
		}
		got := loggedURI(httptest.NewRequestWithContext(t.Context(), "POST", "/v1.51/images/create?"+query.Encode(), nil))
		if got != test.want || strings.Contains(got, "hush") {
			t.Errorf("%q: %s, want %s", test.source, got, test.want)
		}
	}
}

func TestMaskArguments(t *testing.T) {
	got := maskArguments(strings.Fields("porthole login -u me -p hush --password hush --password=hush https://me:hush@h/x?sig=hush h"))
	want := strings.Fields("porthole login -u me -p ***** --password ***** --password=***** https://h/x h")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	got = maskArguments(strings.Fields("porthole run -p 8080:80 busybox"))
	if diff := cmp.Diff(strings.Fields("porthole run -p 8080:80 busybox"), got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
