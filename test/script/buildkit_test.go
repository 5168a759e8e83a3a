package script

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
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

// TestBuildKitClient builds with BuildKit's own client by the two endpoints that
// buildx uses.
func TestBuildKitClient(t *testing.T) {
	begin(t)
	ctx := t.Context()
	c, err := client.New(ctx, "",
		client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dialBuilder(ctx, "/grpc", "h2c", nil) }),
		client.WithSessionDialer(func(ctx context.Context, proto string, header map[string][]string) (net.Conn, error) {
			return dialBuilder(ctx, "/session", proto, header)
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

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
