package script

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/testenv"
)

// trouble is a container with one thing wrong, and what `porthole why` must call it.
type trouble struct {
	name  string
	cause string
	image string
	run   []string // arguments of run in front of the image
	ask   string   // path that brings it about, of distroless/hello; empty: none
	// pending is for a request whose answer is not waited for.
	pending bool
	do      []string // what brings it about: arguments of porthole
	when    string   // "ended", or "running": the state in which why is asked
}

var troubles = []trouble{
	{name: "crlf", cause: "crlf", image: "broken/crlf", when: "ended"},
	{name: "noloader", cause: "missing-loader", image: "broken/noloader", when: "ended"},
	{name: "wrongarch", cause: "wrong-architecture", image: "broken/wrongarch", when: "ended"},
	{name: "noexec", cause: "not-executable", image: "broken/noexec", when: "ended"},
	{name: "nosuchcmd", cause: "missing-command", image: "broken/nosuchcmd", when: "ended"},
	{name: "pid1-ignores-term", cause: "term-ignored", image: "broken/pid1-ignores-term", do: []string{"stop", "-t", "1"}, when: "ended"},
	{name: "zombies", cause: "zombies", image: "broken/zombies", when: "running"},
	{name: "localhost-bind", cause: "localhost-only", image: "broken/localhost-bind", run: []string{"-p", "127.0.0.1:0:8080"}, when: "running"},
	{name: "readonly", cause: "permission-denied", image: "broken/readonly", when: "ended"},
	{name: "dnsfail", cause: "name-unresolved", image: "broken/dnsfail", run: []string{"--network", "why-net"}, when: "running"},
	{name: "crash", cause: "exited", image: "distroless/hello", ask: "/crash?code=3", when: "ended"},
	{name: "oom", cause: "oom", image: "distroless/hello", run: []string{"-m", "48m", "--memory-swap", "48m"}, ask: "/oom", when: "ended"},
	{name: "fork", cause: "zombies", image: "distroless/hello", ask: "/fork?n=3", when: "running"},
	{name: "spin", cause: "throttled", image: "distroless/hello", run: []string{"--cpus", "0.02"}, ask: "/spin?for=60s", when: "running"},
	{name: "leak-fd", cause: "out-of-fds", image: "distroless/hello", run: []string{"--ulimit", "nofile=64:64"}, ask: "/leak-fd?n=100", when: "running"},
	{name: "slow", cause: "waiting", image: "distroless/hello", ask: "/slow?for=60s", pending: true, when: "running"},
}

// TestWhyConfusion holds that `porthole why` names the cause of each trouble, and
// no other. It prints who was taken for what.
func TestWhyConfusion(t *testing.T) {
	testenv.NeedsRoot(t)
	ctx := t.Context()
	for _, tr := range troubles {
		if err := loadImage(ctx, tr.image); err != nil {
			t.Fatal(err)
		}
	}
	before, err := daemon.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	logged := len(daemon.LogTail(1 << 30))
	t.Cleanup(func() { tidy(t, before, logged) })
	if _, err := daemon.Porthole(ctx, "network", "create", "why-net"); err != nil {
		t.Fatal(err)
	}

	got := make([][]string, len(troubles))
	for i, tr := range troubles {
		if got[i], err = tr.provoke(ctx); err != nil {
			t.Fatalf("%s: %v", tr.name, err)
		}
	}
	t.Log("\n" + matrix(got))
	for i, tr := range troubles {
		if !slices.Equal(got[i], []string{tr.cause}) {
			w, err := tr.why(ctx)
			text, _ := json.MarshalIndent(w, "", "  ")
			t.Errorf("%s: why says %q, want %q alone; now it says %s %v", tr.name, got[i], tr.cause, text, err)
		}
	}
}

func (tr *trouble) why(ctx context.Context) (w api.Why, err error) {
	out, err := daemon.Porthole(ctx, "why", "--json", "why-"+tr.name)
	if err != nil {
		return w, err
	}
	return w, json.Unmarshal([]byte(out), &w)
}

// provoke brings a trouble about and returns the causes that why names. Of a
// container that runs it asks again for a while: samples come once in a second.
func (tr *trouble) provoke(ctx context.Context) ([]string, error) {
	args := append([]string{"run", "-d", "--name", "why-" + tr.name}, tr.run...)
	if _, err := daemon.Porthole(ctx, append(args, tr.image)...); err != nil {
		// A start that fails is the trouble of some.
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || tr.when != "ended" {
			return nil, err
		}
	}
	if tr.image == "distroless/hello" {
		if err := tr.request(ctx); err != nil {
			return nil, err
		}
	}
	if tr.do != nil {
		if err := tr.started(ctx); err != nil {
			return nil, err
		}
		if _, err := daemon.Porthole(ctx, append(tr.do, "why-"+tr.name)...); err != nil {
			return nil, err
		}
	}
	if tr.when == "ended" {
		if _, err := daemon.Porthole(ctx, "wait", "why-"+tr.name); err != nil {
			return nil, err
		}
	}
	var causes []string
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		w, err := tr.why(ctx)
		if err != nil {
			return nil, err
		}
		causes = nil
		for _, v := range w.Verdicts {
			causes = append(causes, v.Cause)
		}
		if tr.when == "ended" || slices.Contains(causes, tr.cause) || time.Now().After(deadline) {
			return causes, nil
		}
	}
}

// started waits until it has said that it has.
func (tr *trouble) started(ctx context.Context) error {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if out, err := daemon.Porthole(ctx, "logs", "why-"+tr.name); err != nil || strings.Contains(out, "started") {
			return err
		}
	}
	return errors.New("it has not started in time")
}

// request waits for the server and asks for the path that brings its trouble about.
func (tr *trouble) request(ctx context.Context) error {
	ip, err := daemon.Porthole(ctx, "inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "why-"+tr.name)
	if err != nil {
		return err
	}
	base := "http://" + strings.TrimSpace(ip) + ":8080"
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err = ask(ctx, base+"/"); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("wait for the server: %w", err)
		}
	}
	switch {
	case tr.pending:
		go func() { _ = ask(ctx, base+tr.ask) }() // ends with the test's context
	case tr.ask != "":
		_ = ask(ctx, base+tr.ask) // whoever is crashed or killed does not answer
	}
	return nil
}

func ask(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// matrix shows in each row a trouble, and in each column a cause: X where it was
// named and true, ! where it was named and false, - where it was missed.
func matrix(got [][]string) string {
	var causes []string
	for i, tr := range troubles {
		causes = append(append(causes, tr.cause), got[i]...)
	}
	slices.Sort(causes)
	causes = slices.Compact(causes)
	var b strings.Builder
	for i, c := range causes {
		fmt.Fprintf(&b, "%2d %s\n", i+1, c)
	}
	fmt.Fprintf(&b, "%-20s", "")
	for i := range causes {
		fmt.Fprintf(&b, "%3d", i+1)
	}
	b.WriteByte('\n')
	for i, tr := range troubles {
		fmt.Fprintf(&b, "%-20s", tr.name)
		for _, c := range causes {
			mark := "."
			switch named := slices.Contains(got[i], c); {
			case named && c == tr.cause:
				mark = "X"
			case named:
				mark = "!"
			case c == tr.cause:
				mark = "-"
			}
			fmt.Fprintf(&b, "%3s", mark)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
