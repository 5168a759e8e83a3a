package arm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/portholehq/porthole/internal/failpoint"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		text string
		want plan
		bad  bool
	}{
		{text: "", want: plan{dir: "/d", first: 1}},
		{text: "a.b=kill", want: plan{dir: "/d", point: "a.b", first: 1}},
		{text: "a.b=enospc@7", want: plan{dir: "/d", point: "a.b", effect: syscall.ENOSPC, first: 7}},
		{text: "a.b=eio", want: plan{dir: "/d", point: "a.b", effect: syscall.EIO, first: 1}},
		{text: "a.b", bad: true},
		{text: "=kill", bad: true},
		{text: "a.b=panic", bad: true},
		{text: "a.b=kill@", bad: true},
		{text: "a.b=kill@0", bad: true},
	} {
		got, err := parse("/d", c.text)
		if (err != nil) != c.bad || err == nil && got != c.want {
			t.Errorf("parse(%q) = %+v, %v, want %+v, error: %v", c.text, got, err, c.want, c.bad)
		}
	}
	if _, err := parse("d", "a.b=kill"); err == nil {
		t.Error("a directory that is not absolute is taken")
	}
}

func TestErrors(t *testing.T) {
	p, err := parse(t.TempDir(), "a.b=eio@11")
	if err != nil {
		t.Fatal(err)
	}
	defer failpoint.Set(p.at)()
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if err := failpoint.Hit("a.b"); err != nil {
				t.Errorf("of the first ten one says %v", err)
			}
		})
	}
	all.Wait()
	for range 2 {
		if err := failpoint.Hit("a.b"); !errors.Is(err, syscall.EIO) {
			t.Errorf("after the tenth Hit says %v, want %v", err, syscall.EIO)
		}
	}
	failpoint.Pass("a.c")
	if err := os.WriteFile(filepath.Join(p.dir, Over), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := failpoint.Hit("a.b"); err != nil {
		t.Errorf("once it is over Hit says %v", err)
	}
	for point, want := range map[string]int{"a.b": 13, "a.c": 1} {
		if text, err := os.ReadFile(filepath.Join(p.dir, point)); err != nil || len(text) != want {
			t.Errorf("%s is counted as %d, %v, want %d", point, len(text), err, want)
		}
	}
}

// TestDeath has this binary run itself.
func TestDeath(t *testing.T) {
	if os.Getenv(Variable) != "" {
		if err := FromEnvironment(); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			os.Stdout.WriteString("hit\n")
			failpoint.Pass("a.b")
		}
		os.Stdout.WriteString("over\n")
		os.Exit(0)
	}
	dir := t.TempDir()
	for _, want := range []string{"hit hit", "hit hit hit hit hit over"} { // it dies once
		cmd := exec.Command("/proc/self/exe", "-test.run", "^TestDeath$")
		cmd.Env = []string{DirVariable + "=" + dir, Variable + "=a.b=kill@2"}
		out, err := cmd.Output()
		died := false
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			status, ok := exit.Sys().(syscall.WaitStatus)
			died = ok && status.Signaled() && status.Signal() == syscall.SIGKILL
		}
		if died {
			if text, err := os.ReadFile(filepath.Join(dir, Died)); err != nil || string(text) != fmt.Sprintln(cmd.Process.Pid) {
				t.Errorf("%q, %v has died, want %d", text, err, cmd.Process.Pid)
			}
		}
		if got := strings.Join(strings.Fields(string(out)), " "); got != want || died != !strings.Contains(want, "over") {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
}
