package script

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-dap"
)

// dlvProgram is Delve: PORTHOLE_TEST_DELVE, or what test/delve/build.sh builds, once.
var dlvProgram = pinned("PORTHOLE_TEST_DELVE", "delve")

const debugged = `package main

import (
	"fmt"
	"time"
)

func main() {
	for n := 41; ; n++ {
		fmt.Println("n is", n)
		time.Sleep(50 * time.Millisecond)
	}
}
`

// debuggedLine is where it prints.
const debuggedLine = 10

// An editor attaches to a debugger that listens on the loopback address of a
// container, with what `porthole ide` has told, and stops at a line of the file on
// the host.
func TestIDE(t *testing.T) {
	begin(t)
	dlv, err := dlvProgram()
	if err != nil {
		t.Fatalf("delve (make delve): %v", err)
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	for name, text := range map[string]string{"main.go": debugged, "go.mod": "module debugged\n\ngo 1.26\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// As if it was built in the container: the program knows its source as /app/main.go.
	build := exec.Command("go", "build", "-gcflags", "-N -l -trimpath="+dir+"=>/app", "-o", "debugged", ".")
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", build, err, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	porthole(t, "run", "-d", "--name", "edited", "--tmpfs", "/tmp", "-e", "HOME=/tmp", "-v", dir+":/app", "-v", dlv+":/usr/bin/dlv:ro", "-w", "/app",
		"busybox", "dlv", "exec", "--headless", "--accept-multiclient", "--listen=127.0.0.1:40000", "/app/debugged")
	var at struct {
		Kind    string
		Address string
		Launch  struct {
			Mode           string           `json:"mode"`
			SubstitutePath []map[string]any `json:"substitutePath"`
		}
	}
	for deadline := time.Now().Add(settling); ; time.Sleep(100 * time.Millisecond) {
		out, err := daemon.Porthole(t.Context(), "ide", "--json", "edited")
		if err == nil {
			if err := json.Unmarshal([]byte(out), &at); err != nil {
				t.Fatal(err)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("ide: %v %s\n%s", err, out, porthole(t, "logs", "edited"))
		}
	}
	if at.Kind != "go" || at.Address != "127.0.0.1:40000" || at.Launch.Mode != "remote" {
		t.Fatalf("ide says %+v", at)
	}
	if again := porthole(t, "ide", "edited"); !strings.Contains(again, "127.0.0.1:40000, until: porthole forward --close edited 40000") || !strings.Contains(again, "/app is "+dir) {
		t.Errorf("ide, again: %s", again)
	}
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", at.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	e := openEditor(t, conn, conn)
	e.ask("initialize", map[string]any{"adapterID": "go", "linesStartAt1": true, "pathFormat": "path"})
	_, events := e.ask("attach", map[string]any{"mode": at.Launch.Mode, "substitutePath": at.Launch.SubstitutePath, "stopOnEntry": true})
	until(e, events, func(*dap.InitializedEvent) bool { return true })
	m, _ := e.ask("setBreakpoints", map[string]any{"source": map[string]string{"path": source}, "breakpoints": []map[string]int{{"line": debuggedLine}}})
	if b := m.(*dap.SetBreakpointsResponse).Body.Breakpoints; len(b) != 1 || !b[0].Verified {
		t.Fatalf("breakpoint: %+v", b)
	}
	_, events = e.ask("configurationDone", nil)
	_, more := e.ask("continue", map[string]any{"threadId": 1})
	stopped := until(e, slices.Concat(events, more), func(s *dap.StoppedEvent) bool { return s.Body.Reason == "breakpoint" })
	m, _ = e.ask("stackTrace", map[string]any{"threadId": stopped.Body.ThreadId})
	frames := m.(*dap.StackTraceResponse).Body.StackFrames
	if len(frames) == 0 || frames[0].Line != debuggedLine || frames[0].Source == nil || frames[0].Source.Path != source {
		t.Fatalf("stopped at %+v", frames)
	}
	m, _ = e.ask("evaluate", map[string]any{"expression": "n", "frameId": frames[0].Id})
	if n := m.(*dap.EvaluateResponse).Body.Result; n != "41" {
		t.Errorf("n is %s", n)
	}
	e.ask("disconnect", map[string]any{"terminateDebuggee": true})
	porthole(t, "rm", "-f", "edited")
}
