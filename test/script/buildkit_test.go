package script

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/moby/buildkit/client"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/tonistiigi/fsutil"
)

// dialBuilder upgrades a connection to the daemon as buildx does.
func dialBuilder(ctx context.Context, path, proto string, header map[string][]string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", daemon.Socket)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://docker"+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", proto)
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, req) //nolint:bodyclose // the connection is the body
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("upgrade: %s", res.Status)
	}
	return bufferedConn{conn, r}, nil
}

type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (b bufferedConn) Read(p []byte) (int, error) { return b.r.Read(p) }

// builderClient connects with BuildKit's own client.
func builderClient(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New(t.Context(), "",
		client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dialBuilder(ctx, "/grpc", "h2c", nil) }),
		client.WithSessionDialer(func(ctx context.Context, proto string, header map[string][]string) (net.Conn, error) {
			return dialBuilder(ctx, "/session", proto, header)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestBuildKitClient builds with BuildKit's own client by the two endpoints that
// buildx uses.
func TestBuildKitClient(t *testing.T) {
	begin(t)
	ctx := t.Context()
	c := builderClient(t)
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("Dockerfile", strings.Join([]string{
		"FROM busybox",
		"COPY file /file",
		"RUN --mount=type=secret,id=token grep -c hush /run/secrets/token >/found && cat /file",
		"RUN --network=none ! ip route | grep -q default",
		"CMD cat /file /found",
	}, "\n"))
	write("file", "from the context\n")
	build := func(name string, attrs map[string]string) (logs string, err error) {
		t.Helper()
		tree, err := fsutil.NewFS(dir)
		if err != nil {
			t.Fatal(err)
		}
		statuses := make(chan *client.SolveStatus)
		done := make(chan struct{})
		var text strings.Builder
		go func() {
			defer close(done)
			for s := range statuses {
				for _, l := range s.Logs {
					text.Write(l.Data)
				}
			}
		}()
		_, err = c.Solve(ctx, nil, client.SolveOpt{
			Frontend: "dockerfile.v0", FrontendAttrs: attrs,
			LocalMounts: map[string]fsutil.FS{"context": tree, "dockerfile": tree},
			Exports:     []client.ExportEntry{{Type: "moby", Attrs: map[string]string{"name": name}}},
			Session:     []session.Attachable{secretsprovider.FromMap(map[string][]byte{"token": []byte("hush")})},
		}, statuses)
		<-done
		return text.String(), err
	}
	logs, err := build("by-buildkit", nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, logs)
	}
	if !strings.Contains(logs, "from the context") {
		t.Errorf("logs: %q", logs)
	}
	if out, err := daemon.Porthole(ctx, "run", "--rm", "by-buildkit"); err != nil || out != "from the context\n1" {
		t.Errorf("the image says %q, %v", out, err)
	}
	if out, err := daemon.Porthole(ctx, "run", "--rm", "by-buildkit", "sh", "-c", "ls /run/secrets /run 2>&1; exit 0"); err != nil || strings.Contains(out, "token") {
		t.Errorf("of the secret there is left %q, %v", out, err)
	}

	write("Dockerfile", "FROM busybox\nRUN echo it was me; echo behind >/left; exit 3\n")
	if logs, err = build("fails", nil); err == nil || !strings.Contains(err.Error(), "exit code: 3") {
		t.Errorf("failing build: %v\n%s", err, logs)
	}
	// What the step has left can be entered.
	if step := regexp.MustCompile(`step:[0-9a-f]{12}`).FindString(logs); step == "" || !strings.Contains(logs, "Dockerfile:2 ended with exit code 3") {
		t.Errorf("logs of the failing build: %q", logs)
	} else if out, err := daemon.Porthole(ctx, "run", "--rm", step, "cat", "/left"); err != nil || out != "behind" {
		t.Errorf("in what the step has left: %q, %v", out, err)
	}

	workers, err := c.ListWorkers(ctx)
	if err != nil || len(workers) != 1 {
		t.Errorf("workers %v, %v", workers, err)
	}
	usage, err := c.DiskUsage(ctx)
	if err != nil || len(usage) == 0 {
		t.Errorf("disk usage %v, %v", usage, err)
	}
	if err := c.Prune(ctx, nil, client.PruneAll); err != nil {
		t.Error(err)
	}
	// What is an image does not go with the cache.
	if out, err := daemon.Porthole(ctx, "run", "--rm", "by-buildkit"); err != nil || out != "from the context\n1" {
		t.Errorf("after the prune the image says %q, %v", out, err)
	}
	if _, err := daemon.Porthole(ctx, "rmi", "by-buildkit"); err != nil {
		t.Error(err)
	}
}

// TestBuildKitDebugger does what the debugger of buildx does: it solves a build
// as a frontend, and runs a shell's process in what a failed step has left and
// in what was there before, with the step's mounts.
func TestBuildKitDebugger(t *testing.T) {
	begin(t)
	ctx := t.Context()
	c := builderClient(t)
	tree, err := fsutil.NewFS(buildDir(t, strings.Join([]string{
		"FROM busybox",
		"ENV WHO=me",
		"RUN echo A >/a",
		"RUN --mount=type=cache,target=/c,id=gateway echo kept >/c/x; echo B >/b; exit 3",
	}, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	statuses := make(chan *client.SolveStatus)
	go func() {
		for range statuses { // of no interest
		}
	}()
	run := func(ctx context.Context, gw gateway.Client, solveErr *errdefs.SolveError, initial bool, script string) string {
		t.Helper()
		op := solveErr.Op.GetExec()
		if op == nil {
			t.Fatalf("the error is not of a step: %v", solveErr)
		}
		var mounts []gateway.Mount
		for i, m := range op.Mounts {
			ids := solveErr.MountIDs
			if initial {
				ids = solveErr.InputIDs
			}
			mounts = append(mounts, gateway.Mount{
				Dest: m.Dest, Selector: m.Selector, Readonly: m.Readonly, MountType: m.MountType, CacheOpt: m.CacheOpt, ResultID: ids[i],
			})
		}
		ctr, err := gw.NewContainer(ctx, gateway.NewContainerRequest{Mounts: mounts, NetMode: op.Network})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ctr.Release(ctx) }()
		var out strings.Builder
		p, err := ctr.Start(ctx, gateway.StartRequest{
			Args: []string{"sh", "-c", script}, Env: op.Meta.Env, Cwd: op.Meta.Cwd, User: op.Meta.User,
			Stdout: nopCloser{&out}, Stderr: nopCloser{&out},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); err != nil {
			t.Errorf("%s: %v", script, err)
		}
		return out.String()
	}
	_, err = c.Build(ctx, client.SolveOpt{
		LocalMounts: map[string]fsutil.FS{"context": tree, "dockerfile": tree},
	}, "test", func(ctx context.Context, gw gateway.Client) (*gateway.Result, error) {
		_, err := gw.Solve(ctx, gateway.SolveRequest{Frontend: "dockerfile.v0", Evaluate: true})
		var solveErr *errdefs.SolveError
		if !errors.As(err, &solveErr) {
			t.Fatalf("the build ends with %v", err)
		}
		if got := run(ctx, gw, solveErr, false, "cat /a /b /c/x; echo $WHO"); got != "A\nB\nkept\nme\n" {
			t.Errorf("after the step: %q", got)
		}
		if got := run(ctx, gw, solveErr, true, "cat /a; test ! -e /b && echo no b"); got != "A\nno b\n" {
			t.Errorf("before the step: %q", got)
		}
		return nil, err
	}, statuses)
	if err == nil {
		t.Error("the build succeeds")
	}
}

// nopCloser is a writer that closing does nothing to.
type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
