package why

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/record/death"
)

// withFiles is a container that has ended and whose files are there.
type withFiles struct {
	*remembered

	top *os.File
}

func (w *withFiles) LookIntoFiles(_ context.Context, _ string, fn func(engine.OpenFiles)) error {
	fn(engine.OpenFiles{Root: w.top, Owner: func(uint32) uint32 { return 0 }})
	return nil
}

// TestDenied holds that a denial is told of what was tried, and that nothing is
// certain which the line leaves open.
func TestDenied(t *testing.T) {
	top := t.TempDir()
	for name, mode := range map[string]os.FileMode{"readable": 0o644, "secret": 0o600, "program": 0o755, "all": 0o666} {
		if err := os.WriteFile(filepath.Join(top, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(top, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(top, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(top)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	tests := []struct {
		name, user, line string
		code             int
		cause            string
		confidence, text string
	}{
		{"write", "1000", "sh: can't create /readable: Permission denied", 1, "permission-denied", api.Certain, "may not write /readable"},
		{"write what is not there", "1000", "touch: /new: Permission denied", 1, "permission-denied", api.Certain, "may not make a file in /"},
		{"read", "1000", "cat: can't open '/secret': Permission denied", 1, "permission-denied", api.Certain, "may neither read nor write /secret"},
		{"execute", "1000", "sh: /readable: Permission denied", 126, "not-executable", api.Certain, "/readable may not be executed: it is 0:0 0644"},
		{"execute as root", "", "sh: /readable: Permission denied", 126, "not-executable", api.Certain, "/readable may not be executed"},
		{"execute, by the words", "1000", "exec /readable: permission denied", 1, "not-executable", api.Certain, "/readable may not be executed"},
		{"execute, or write", "1000", "bash: line 1: /readable: Permission denied", 1, "not-executable", api.Likely, "it may not be written, or read, either"},
		{"execute what may be written", "1000", "sh: 1: /all: Permission denied", 1, "not-executable", api.Certain, "/all may not be executed"},
		{"execute what may be executed", "1000", "sh: /program: Operation not permitted", 126, "permission-denied", api.Likely, "denied something: /program"},
		{"EPERM", "1000", "chown: /readable: Operation not permitted", 1, "permission-denied", api.Likely, "may not write /readable"},
		{"not the path that it is about", "1000", "/readable: line 3: /all: Permission denied", 1, "permission-denied", api.Likely, "may not write /readable"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sub := &engine.Subject{Container: &state.Container{ID: "id", Name: "web", Config: &container.Config{User: tt.user}, HostConfig: &container.HostConfig{}}, Status: container.StateExited}
			sub.Life.Run = 1
			src := &withFiles{&remembered{sub: sub, deaths: []*death.Record{ended(death.Exit{Code: tt.code}, said(tt.line))}}, root}
			w, err := Explain(t.Context(), src, Options{Container: "web"})
			if err != nil || len(w.Verdicts) != 1 {
				t.Fatalf("verdicts %+v, %v, want one", w, err)
			}
			if v := w.Verdicts[0]; v.Cause != tt.cause || v.Confidence != tt.confidence || !strings.Contains(v.Text, tt.text) {
				t.Errorf("verdict %+v, want %s (%s) %q", v, tt.cause, tt.confidence, tt.text)
			}
		})
	}
}
