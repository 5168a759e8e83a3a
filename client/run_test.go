package client

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/api"
)

// takeOver answers an upgrade with a head's further lines and text behind it,
// once it has read as many bytes of input.
func takeOver(t *testing.T, lines, text string, input int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"+lines+"\r\n")
		got := make([]byte, input)
		if _, err := io.ReadFull(rw, got); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(conn, text+string(got))
	}
}

// on returns a client of a daemon with one endpoint.
func on(t *testing.T, pattern string, h http.HandlerFunc) *Client {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc(pattern, h)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	c, err := New(Options{Host: "tcp://" + server.Listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestRun(t *testing.T) {
	const head = api.CreatedHeader + `: {"Id":"abc","Warnings":["so so"]}` + "\r\n"
	const output = "\x01\x00\x00\x00\x00\x00\x00\x02hi\x02\x00\x00\x00\x00\x00\x00\x01!"
	for _, tt := range []struct {
		name, text string
		end        *api.End
	}{
		{"end", output + "\x04\x00\x00\x00\x00\x00\x00\x0e" + `{"ExitCode":3}`, &api.End{ExitCode: 3}},
		{"no end", output, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := on(t, "POST /porthole/containers/run", takeOver(t, head, tt.text, 0))
			run, err := c.Run(t.Context(), RunOptions{Stdout: true, Request: container.CreateRequest{Config: &container.Config{}}})
			if err != nil {
				t.Fatal(err)
			}
			defer run.Close()
			if run.ID != "abc" || len(run.Warnings) != 1 {
				t.Errorf("created %q %q", run.ID, run.Warnings)
			}
			got, err := io.ReadAll(iotest.OneByteReader(run))
			if err != nil || string(got) != output {
				t.Errorf("output %q %v", got, err)
			}
			end, err := run.End()
			if diff := cmp.Diff(tt.end, end); diff != "" || err != nil {
				t.Errorf("%v, end (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestRunThatWasRefused(t *testing.T) {
	end := `{"Refused":{"message":"no way","hint":"pray","status":409}}`
	c := on(t, "POST /porthole/containers/run", takeOver(t, api.CreatedHeader+": {}\r\n", "\x04\x00\x00\x00\x00\x00\x00"+string(rune(len(end)))+end, 0))
	run, err := c.Run(t.Context(), RunOptions{Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	if _, err := io.ReadAll(run); err != nil {
		t.Error(err)
	}
	_, err = run.End()
	if !errdefs.IsConflict(err) || err.Error() != "Error response from daemon: no way" || c.Hint(err) != "pray" {
		t.Errorf("%v, hint %q", err, c.Hint(err))
	}
}

func TestRunWithoutStreams(t *testing.T) {
	c := on(t, "POST /porthole/containers/run", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(body), `"CapAdd":["ALL","CAP_NET_ADMIN"]`) || r.URL.Query().Get("name") != "web" {
			t.Errorf("%s %s", r.URL, body)
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"Id":"abc","Warnings":[],"Refused":{"message":"no","status":400}}`)
	})
	run, err := c.Run(t.Context(), RunOptions{Name: "web", Request: container.CreateRequest{
		Config: &container.Config{}, HostConfig: &container.HostConfig{CapAdd: []string{"net_admin", "all", "CAP_NET_ADMIN"}},
	}})
	if err != nil || run.ID != "abc" {
		t.Fatalf("%+v %v", run, err)
	}
	if _, err := run.End(); !errdefs.IsInvalidArgument(err) {
		t.Errorf("end: %v", err)
	}
	if err := run.Close(); err != nil {
		t.Error(err)
	}
}

func TestExecInOneRequest(t *testing.T) {
	c := on(t, "POST /porthole/containers/{name}/exec", takeOver(t, "", "\x01\x00\x00\x00\x00\x00\x00\x05", 5))
	s, err := c.Exec(t.Context(), "web", container.ExecCreateRequest{Cmd: []string{"cat"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := io.WriteString(s, "typed"); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(s); err != nil || !strings.HasSuffix(string(got), "typed") {
		t.Errorf("%q %v", got, err)
	}
}

// TestRunNotPorthole is a Docker Engine, which has none of our endpoints.
func TestRunNotPorthole(t *testing.T) {
	c := on(t, "/", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"message":"page not found"}`)
	})
	for _, stdout := range []bool{true, false} {
		if _, err := c.Run(t.Context(), RunOptions{Stdout: stdout}); !errors.Is(err, ErrNotPorthole) {
			t.Errorf("Run() = %v", err)
		}
	}
	if _, err := c.Exec(t.Context(), "web", container.ExecCreateRequest{}); !errors.Is(err, ErrNotPorthole) {
		t.Errorf("Exec() = %v", err)
	}
}
