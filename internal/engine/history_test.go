package engine

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/runtime/plan"
	"github.com/portholehq/porthole/internal/toolbox/history"
)

// The shell looks where the tools are.
func TestHistoryPath(t *testing.T) {
	if want := plan.ToolsDir + "/" + history.Name; history.Path != want {
		t.Errorf("the shell looks at %s, the socket is at %s", history.Path, want)
	}
}

// firstProcess is a session's: this one.
type firstProcess struct{ Process }

func (firstProcess) Pid() int { return os.Getpid() }

func TestHistoryIsForShellsOfSessions(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	uid := uint32(1000)
	session := func(origin *event.Origin) *execution {
		return &execution{id: "s", c: newCtr(nil, &state.Container{}), debug: &debugging{}, proc: firstProcess{}, client: origin}
	}
	tests := []struct {
		name    string
		program string
		x       *execution
		given   bool
	}{
		{"the first process of a session", self, session(&event.Origin{UID: &uid}), true},
		{"another program", "/bin/sh", session(&event.Origin{UID: &uid}), false},
		{"no user", self, session(&event.Origin{Address: "192.0.2.1"}), false},
		{"no session", self, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			e := &Engine{log: slog.New(slog.DiscardHandler), execs: newExecTable(), life: ctx}
			e.histories.e, e.histories.store = e, history.NewStore(t.TempDir())
			t.Cleanup(func() { cancel(); e.work.Wait() })
			if err := e.histories.store.Add("1000", "ls"); err != nil {
				t.Fatal(err)
			}
			if tt.x != nil {
				e.execs.byID["s"] = tt.x
			}
			path := filepath.Join(t.TempDir(), history.Name)
			if err := e.histories.listen(path, tt.program); err != nil {
				t.Fatal(err)
			}
			c, list := history.Dial(path)
			if given := c != nil && len(list) == 1; given != tt.given {
				t.Errorf("given: %v, %q; want %v", c != nil, list, tt.given)
			}
			if !tt.given {
				return
			}
			// It is no way to use the daemon up.
			open := []*history.Client{c} // or they would be closed as garbage
			for range connectionsMost - 1 {
				c, _ := history.Dial(path)
				if c == nil {
					t.Error("a further connection is not served")
				}
				open = append(open, c)
			}
			defer runtime.KeepAlive(open)
			conn, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("one too many: %d, %v", n, err)
			}
		})
	}
}
