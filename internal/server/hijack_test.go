package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/portholehq/porthole/internal/engine"
)

// dial sends the head of a request, and early behind it, over a connection of
// its own.
func (d *daemon) dial(t *testing.T, requestHead, early string) (*net.UnixConn, *bufio.Reader) {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: d.socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, strings.ReplaceAll(requestHead, "\n", "\r\n")+"\r\n"+early); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// echo answers each stream with what it was sent, once that has ended.
func echo(_ context.Context, open func() (engine.Stream, error)) error {
	s, err := open()
	if err != nil {
		return err
	}
	in, err := io.ReadAll(s)
	if err != nil {
		return err
	}
	if _, err := s.Write([]byte("got " + string(in))); err != nil {
		return err
	}
	return s.CloseWrite()
}

func TestHijackHeads(t *testing.T) {
	f := &fake{
		attach: func(ctx context.Context, _ engine.AttachOptions, open func() (engine.Stream, error)) error {
			return echo(ctx, open)
		},
		exec: func(ctx context.Context, _ engine.ExecStartOptions, open func() (engine.Stream, error)) error {
			return echo(ctx, open)
		},
	}
	const upgrade = "Connection: Upgrade\nUpgrade: tcp\n"
	tests := []struct {
		name, head, early string
		tty               bool
		status, kind      string
	}{
		{
			"attach", "POST /v1.51/containers/web/attach?stream=1 HTTP/1.1\nHost: d\n" + upgrade, "", false,
			"HTTP/1.1 101 UPGRADED", "application/vnd.docker.multiplexed-stream",
		},
		{
			"attach to a terminal", "POST /v1.51/containers/web/attach?stream=1 HTTP/1.1\nHost: d\n" + upgrade, "", true,
			"HTTP/1.1 101 UPGRADED", "application/vnd.docker.raw-stream",
		},
		{
			"attach before 1.42", "POST /v1.41/containers/web/attach?stream=1 HTTP/1.1\nHost: d\n" + upgrade, "", false,
			"HTTP/1.1 101 UPGRADED", "application/vnd.docker.raw-stream",
		},
		{
			"attach without upgrade", "POST /v1.51/containers/web/attach?stream=1 HTTP/1.1\nHost: d\n", "", false,
			"HTTP/1.1 200 OK", "application/vnd.docker.raw-stream",
		},
		{
			"input right behind the request", "POST /containers/web/attach HTTP/1.1\nHost: d\n" + upgrade, "early ", false,
			"HTTP/1.1 101 UPGRADED", "application/vnd.docker.multiplexed-stream",
		},
		{
			"exec", "POST /v1.51/exec/e1/start HTTP/1.1\nHost: d\nContent-Type: application/json\nContent-Length: 33\n" + upgrade,
			"{\"Detach\":false, \"Tty\": false  }\n", false,
			"HTTP/1.1 101 UPGRADED", "application/vnd.docker.multiplexed-stream",
		},
		{
			"exec with a terminal", "POST /v1.51/exec/e1/start HTTP/1.1\nHost: d\nContent-Type: application/json\nContent-Length: 13\n" + upgrade,
			"{\"Tty\": true}", false,
			"HTTP/1.1 101 UPGRADED", "application/vnd.docker.raw-stream",
		},
		{
			"exec, chunked body", "POST /v1.51/exec/e1/start HTTP/1.1\nHost: d\nContent-Type: application/json\nTransfer-Encoding: chunked\n" + upgrade,
			"2\r\n{}\r\n0\r\n\r\n", false,
			"HTTP/1.1 101 UPGRADED", "application/vnd.docker.multiplexed-stream",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f.tty = tt.tty
			d := serve(t, f)
			early := ""
			if strings.Contains(tt.name, "right behind") {
				early = tt.early
			}
			conn, r := d.dial(t, tt.head, tt.early)
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if got := "HTTP/1.1 " + resp.Status; got != tt.status {
				t.Errorf("status %q, want %q", got, tt.status)
			}
			if got := resp.Header.Get("Content-Type"); got != tt.kind {
				t.Errorf("content type %q, want %q", got, tt.kind)
			}
			if got := resp.Header.Get("Api-Version"); got != MaxVersion {
				t.Errorf("Api-Version %q", got)
			}
			if _, err := io.WriteString(conn, "hello"); err != nil {
				t.Fatal(err)
			}
			if err := conn.CloseWrite(); err != nil { // stdin ends, output goes on
				t.Fatal(err)
			}
			out, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := string(out), "got "+early+"hello"; got != want {
				t.Errorf("output %q, want %q", got, want)
			}
		})
	}
}

func TestAttachRefused(t *testing.T) {
	d := serve(t, &fake{attach: func(context.Context, engine.AttachOptions, func() (engine.Stream, error)) error {
		return errdefs.ErrConflict.WithMessage("container abc is paused, unpause the container before attach")
	}})
	_, r := d.dial(t, "POST /containers/web/attach HTTP/1.1\nHost: d\nConnection: Upgrade\nUpgrade: tcp\n", "")
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 409 || !strings.Contains(string(body), "is paused") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// A client that has ended its input is still there; one that has closed the
// connection is not, and its stream ends although the container is silent.
func TestHangupEndsTheStream(t *testing.T) {
	ended := make(chan error, 1)
	opened := make(chan struct{})
	d := serve(t, &fake{attach: func(ctx context.Context, _ engine.AttachOptions, open func() (engine.Stream, error)) error {
		if _, err := open(); err != nil {
			return err
		}
		close(opened)
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}})
	conn, r := d.dial(t, "POST /containers/web/attach HTTP/1.1\nHost: d\nConnection: Upgrade\nUpgrade: tcp\n", "")
	if _, err := http.ReadResponse(r, nil); err != nil {
		t.Fatal(err)
	}
	<-opened
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("half a close ended the stream: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if d.hangups.watched() != 1 {
		t.Errorf("%d streams watched", d.hangups.watched())
	}
	_ = conn.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the stream goes on without its client")
	}
}

func TestShutdownEndsStreams(t *testing.T) {
	opened := make(chan struct{})
	d := serve(t, &fake{attach: func(ctx context.Context, _ engine.AttachOptions, open func() (engine.Stream, error)) error {
		if _, err := open(); err != nil {
			return err
		}
		close(opened)
		<-ctx.Done()
		return ctx.Err()
	}})
	_, r := d.dial(t, "POST /containers/web/attach HTTP/1.1\nHost: d\nConnection: Upgrade\nUpgrade: tcp\n", "")
	<-opened
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := d.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); err != nil { // the connection is closed
		t.Error(err)
	}
}
