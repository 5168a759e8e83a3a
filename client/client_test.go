package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	mobyclient "github.com/moby/moby/client"

	"github.com/portholehq/porthole/api"
)

// daemon answers like one, on a unix socket.
func daemon(t *testing.T) *Client {
	t.Helper()
	refuse := func(w http.ResponseWriter, status int, e api.Error) {
		text, _ := json.Marshal(e)
		w.Header().Set(api.ErrorHeader, string(text))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(text)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.51") })
	mux.HandleFunc("POST /v1.51/containers/web/start", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })
	mux.HandleFunc("POST /v1.51/containers/nope/start", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, 404, api.Error{Message: "No such container: nope", Hint: "porthole ps -a"})
	})
	mux.HandleFunc("POST /v1.51/containers/web/attach", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, 409, api.Error{Message: "container web is paused", Hint: "porthole unpause web"})
	})
	mux.HandleFunc("POST /v1.51/exec/e1/start", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		line, _ := rw.ReadString('\n')
		_, _ = io.WriteString(conn, "got "+line)
	})
	mux.HandleFunc("GET /porthole/daemon", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(api.Daemon{Pid: 7})
	})
	mux.HandleFunc("GET /porthole/operations", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode([]api.EngineOperation{{ID: 3, Verb: "start"}})
	})
	mux.HandleFunc("GET /porthole/containers/nope/isolation", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, 404, api.Error{Message: "No such container: nope", Hint: "porthole ps -a"})
	})
	mux.HandleFunc("GET /porthole/containers/web/isolation", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, 404, api.Error{Message: "page not found"})
	})
	mux.HandleFunc("GET /debug/pprof/goroutine", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "goroutine 1, "+r.URL.RawQuery)
	})
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: mux}}
	srv.Start()
	t.Cleanup(srv.Close)
	c, err := New(Options{Host: "unix://" + path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestErrorsAndHints(t *testing.T) {
	c := daemon(t)
	if _, err := c.ContainerStart(t.Context(), "web", mobyclient.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := c.ClientVersion(); got != "1.51" {
		t.Errorf("negotiated %q", got)
	}
	_, err := c.ContainerStart(t.Context(), "nope", mobyclient.ContainerStartOptions{})
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "No such container: nope") {
		t.Errorf("error %v", err)
	}
	if got := c.Hint(err); got != "porthole ps -a" {
		t.Errorf("hint %q", got)
	}
	for _, err := range []error{nil, errors.New("something of our own")} {
		if got := c.Hint(err); got != "" {
			t.Errorf("hint for %v: %q", err, got)
		}
	}
}

func TestAttachRefusedInWords(t *testing.T) {
	c := daemon(t)
	_, err := c.ContainerAttach(t.Context(), "web", mobyclient.ContainerAttachOptions{Stream: true})
	if err == nil || err.Error() != "Error response from daemon: container web is paused" || !errdefs.IsConflict(err) {
		t.Errorf("error %v", err)
	}
	if got := c.Hint(err); got != "porthole unpause web" {
		t.Errorf("hint %q", got)
	}
}

func TestExecStream(t *testing.T) {
	c := daemon(t)
	s, err := c.ExecAttach(t.Context(), "e1", mobyclient.ExecAttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := io.WriteString(s.Conn, "hello\n"); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(s.Reader)
	if err != nil || string(out) != "got hello\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestOwnEndpoints(t *testing.T) {
	c := daemon(t)
	if state, err := c.DaemonState(t.Context()); err != nil || state.Pid != 7 {
		t.Errorf("%+v, %v", state, err)
	}
	if list, err := c.Operations(t.Context()); err != nil || len(list) != 1 || list[0].Verb != "start" {
		t.Errorf("operations: %+v, %v", list, err)
	}
	_, err := c.Isolation(t.Context(), "nope")
	if !errdefs.IsNotFound(err) || c.Hint(err) != "porthole ps -a" {
		t.Errorf("error %v, hint %q", err, c.Hint(err))
	}
	if _, err := c.Isolation(t.Context(), "web"); !errors.Is(err, ErrNotPorthole) {
		t.Errorf("a Docker Engine: %v", err)
	}
	if text, err := c.Stacks(t.Context()); err != nil || text != "goroutine 1, debug=2" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	var r refusals
	for i := range 10 * keptRefusals {
		r.add(refusal{Error: api.Error{Message: fmt.Sprintf("<%d>", i)}})
	}
	if len(r.last) != keptRefusals || cap(r.last) > 2*keptRefusals {
		t.Errorf("%d kept, room for %d", len(r.last), cap(r.last))
	}
	newest := fmt.Sprintf("<%d>", 10*keptRefusals-1)
	if _, ok := r.find(func(e refusal) bool { return e.Message == newest }); !ok {
		t.Error("the newest is gone")
	}
}

func TestNoDaemon(t *testing.T) {
	c, err := New(Options{Host: "unix://" + filepath.Join(t.TempDir(), "none")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.DaemonState(t.Context()); err == nil || !strings.Contains(err.Error(), "Is the docker daemon running?") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("had enough")
	cancel(why)
	if _, err := c.DaemonState(ctx); !errors.Is(err, why) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestHosts(t *testing.T) {
	tests := []struct {
		name          string
		host          string
		env           map[string]string
		want, dialled string
		err           string
	}{
		{name: "default", want: DefaultHost, dialled: DefaultHost},
		{name: "Docker's variable", env: map[string]string{"DOCKER_HOST": "tcp://a:1"}, want: "tcp://a:1", dialled: "tcp://a:1"},
		{name: "ours wins", env: map[string]string{"DOCKER_HOST": "tcp://a:1", "PORTHOLE_HOST": "unix:///x"}, want: "unix:///x", dialled: "unix:///x"},
		{name: "option wins", host: "tcp://b:2", env: map[string]string{"PORTHOLE_HOST": "unix:///x"}, want: "tcp://b:2", dialled: "tcp://b:2"},
		{name: "http", host: "http://b:2", want: "http://b:2", dialled: "tcp://b:2"},
		{name: "https", host: "https://b:2", want: "https://b:2", dialled: "tcp://b:2"},
		{name: "ssh", host: "ssh://me@b", want: "ssh://me@b", dialled: "http://porthole.ssh.localhost"},
		{name: "no protocol", host: "b:2", err: "unable to parse docker host `b:2`"},
		{name: "unknown protocol", host: "npipe:////./pipe/x", err: "is not supported"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, name := range []string{"DOCKER_HOST", "PORTHOLE_HOST", "DOCKER_TLS", "DOCKER_TLS_VERIFY"} {
				t.Setenv(name, tt.env[name])
			}
			c, err := New(Options{Host: tt.host})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.Host() != tt.want || c.DaemonHost() != tt.dialled {
				t.Errorf("host %q, dialled %q", c.Host(), c.DaemonHost())
			}
		})
	}
}

func TestTLSFromEnv(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"cert.pem", "key.pem"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, key, ca := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "ca.pem")
	tests := []struct {
		name        string
		tls, verify string
		want        *TLS
	}{
		{"neither", "", "", nil},
		{"tls", "1", "", &TLS{CertFile: cert, KeyFile: key, SkipVerify: true}},
		{"verify", "", "1", &TLS{CAFile: ca, CertFile: cert, KeyFile: key}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("DOCKER_CERT_PATH", dir)
			t.Setenv("DOCKER_TLS", tt.tls)
			t.Setenv("DOCKER_TLS_VERIFY", tt.verify)
			if diff := cmp.Diff(tt.want, TLSFromEnv()); diff != "" {
				t.Error(diff)
			}
		})
	}
	// A certificate authority that is missing must not widen trust.
	if _, err := New(Options{Host: "tcp://a:1", TLS: TLSFromDir(t.TempDir(), true)}); err == nil {
		t.Error("verification without an authority")
	}
}

func TestTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.51")
		if r.URL.Path == "/porthole/daemon" {
			_, _ = io.WriteString(w, `{"Pid":9}`)
		}
	}))
	defer srv.Close()
	host := "tcp://" + srv.Listener.Addr().String()
	c, err := New(Options{Host: host, TLS: &TLS{SkipVerify: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Ping(t.Context(), mobyclient.PingOptions{}); err != nil {
		t.Error(err)
	}
	if state, err := c.DaemonState(t.Context()); err != nil || state.Pid != 9 {
		t.Errorf("%+v, %v", state, err)
	}
	if c, err = New(Options{Host: host, TLS: &TLS{}}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Ping(t.Context(), mobyclient.PingOptions{}); err == nil {
		t.Error("a certificate of nobody was accepted")
	}
}

func TestSSHArgs(t *testing.T) {
	tests := []struct {
		host string
		want string
		err  string
	}{
		{host: "ssh://h", want: "-o ConnectTimeout=30 -T -- h porthole system dial-stdio"},
		{host: "ssh://me@h:22", want: "-o ConnectTimeout=30 -T -l me -p 22 -- h porthole system dial-stdio"},
		{host: "ssh://h/run/it's.sock", want: `-o ConnectTimeout=30 -T -- h porthole '--host=unix:///run/it'\''s.sock' system dial-stdio`},
		{host: "ssh://-oProxyCommand=x", want: "-o ConnectTimeout=30 -T -- -oProxyCommand=x porthole system dial-stdio"},
		{host: "ssh://me:secret@h", err: "plain-text password is not supported"},
		{host: "ssh://", err: "no host specified"},
		{host: "ssh://h?x=1", err: "query parameters are not allowed"},
		{host: "ssh://h#x", err: "fragments are not allowed"},
	}
	for _, tt := range tests {
		t.Run(tt.host, func(t *testing.T) {
			got, err := sshArgs(tt.host)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCommandConn(t *testing.T) {
	conn, err := startCommand("sh", "-c", `read line; echo "got $line"; read line || echo "input has ended"`)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); err != nil || line != "got hello\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if line, err := r.ReadString('\n'); err != nil || line != "input has ended\n" {
		t.Errorf("%q, %v", line, err)
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the end: %v", err)
	}
}

func TestCommandConnTellsWhyItBroke(t *testing.T) {
	conn, err := startCommand("sh", "-c", `echo "Permission denied (publickey)." >&2; exit 255`)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = conn.Read(make([]byte, 1))
	for _, want := range []string{"exit status 255", "porthole is installed", "stderr=Permission denied (publickey)."} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestCommandConnCloseEndsTheProcess(t *testing.T) {
	conn, err := startCommand("sleep", "100")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if c := conn.(*commandConn); c.cmd.ProcessState == nil {
		t.Error("the process goes on")
	}
}
