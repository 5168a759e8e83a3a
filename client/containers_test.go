package client

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	mobyclient "github.com/moby/moby/client"
)

// TestContainerIDs asks a daemon that knows only-ids and one that does not, with
// and without a version that was asked for.
func TestContainerIDs(t *testing.T) {
	const (
		ids   = `[{"Id":"b"},{"Id":"a"}]`
		whole = `[{"Id":"b","Names":["/web"],"State":"running"},{"Id":"a","Names":["/db"],"State":"exited"}]`
	)
	for _, tt := range []struct{ name, version, path, answer string }{
		{"ours", "", "/containers/json", ids},
		{"docker's", "", "/containers/json", whole},
		{"with a version", "1.51", "/v1.51/containers/json", whole},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				q := r.URL.Query()
				got := []string{r.URL.Path, q.Get("only-ids"), q.Get("all"), q.Get("filters")}
				if diff := cmp.Diff([]string{tt.path, "1", "1", `{"label":{"tier":true}}`}, got); diff != "" {
					t.Error(diff)
				}
				_, _ = w.Write([]byte(tt.answer))
			}))
			defer server.Close()
			c, err := New(Options{Host: server.URL, APIVersion: tt.version})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			got, err := c.ContainerIDs(t.Context(), mobyclient.ContainerListOptions{
				All: true, Filters: make(mobyclient.Filters).Add("label", "tier"),
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"b", "a"}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
