package dap

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-dap"
)

// Editors send the breakpoints of all files that they know: those of another one
// must not take the place of the Dockerfile's.
func TestBreakpointsOfOtherFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"Dockerfile", "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("FROM x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("Dockerfile", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, launched := range []*launchArguments{
		{ContextPath: dir}, {ContextPath: dir, Dockerfile: filepath.Join(dir, "Dockerfile")}, {ContextPath: dir, Dockerfile: filepath.Join(dir, "link")},
	} {
		s := &session{w: &bytes.Buffer{}, launch: launched}
		set := func(file string, line int) {
			r := &dap.SetBreakpointsRequest{}
			r.Arguments.Source.Path, r.Arguments.Breakpoints = file, []dap.SourceBreakpoint{{Line: line}}
			s.setBreakpoints(r)
		}
		set(filepath.Join(dir, "Dockerfile"), 3)
		set(filepath.Join(dir, "other"), 9)
		set(filepath.Join(dir, "none"), 9)
		if !slices.Equal(s.lines, []int{3}) {
			t.Errorf("%+v: breakpoints at %v", launched, s.lines)
		}
		set("", 4) // an editor that has no path
		if !slices.Equal(s.lines, []int{4}) {
			t.Errorf("%+v: breakpoints at %v", launched, s.lines)
		}
	}
}

func TestShownOutput(t *testing.T) {
	var o shownOutput
	part := []byte(strings.Repeat("x", 4096))
	for range mostOutput/len(part) + 2 {
		if n, err := o.Write(part); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := o.String(); len(got) > mostOutput+100 || !strings.HasSuffix(got, "\n8192 bytes more were printed\n") {
		t.Errorf("%d bytes, ending with %q", len(got), got[len(got)-40:])
	}
	var short shownOutput
	_, _ = short.Write([]byte("a\n"))
	if got := short.String(); got != "a\n" {
		t.Errorf("%q", got)
	}
}
