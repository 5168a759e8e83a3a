package calls

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/testenv"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

// TestEffects has a shell write to a file.
func TestEffects(t *testing.T) {
	testenv.NeedsRoot(t)
	for _, c := range []struct {
		name   string
		call   string
		effect Effect
		out    string // with "|" and what is in the file
		killed bool
	}{
		{"nothing", "", Effect{}, "code 0|12345678", false},
		{"full at a write", "write", Effect{Error: unix.ENOSPC}, "code 1|", false},
		{"no file", "openat", Effect{Error: unix.EIO}, "Input/output error|none", false},
		{"killed at a write", "write", Effect{Kill: true}, "|", true},
		{"killed in a write", "write", Effect{Half: true, Kill: true}, "|1234", true},
		{"half a write", "write", Effect{Half: true}, "code 0|12345678", false},
		{"killed at a rename", "renameat2", Effect{Kill: true}, "|12345678", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			cmd := exec.Command("/bin/sh", "-c", "printf 12345678 >f && mv -T f g && mv -T g f; echo code $?")
			cmd.Dir = dir
			var out strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &out
			met := 0
			w := &Watch{Decide: func(a Call) Effect {
				if a.Name != c.call || filepath.Dir(a.Path) != dir {
					return Effect{}
				}
				if met++; met > 1 {
					return Effect{}
				}
				return c.effect
			}}
			after, err := w.Prepare(cmd)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(cmd.Start(), after()); err != nil {
				t.Fatal(err)
			}
			err = cmd.Wait()
			killed := strings.Contains(out.String(), "Killed")
			if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
				killed = true
			}
			text, readErr := os.ReadFile(filepath.Join(dir, "f"))
			if readErr != nil {
				text = []byte("none")
			}
			if want, file, _ := strings.Cut(c.out, "|"); !strings.Contains(out.String(), want) || string(text) != file || killed != c.killed {
				t.Errorf("%v, %q, %q, killed: %v, want %+v", err, out.String(), text, killed, c)
			}
			if c.call != "" && met == 0 {
				t.Errorf("no %s was seen", c.call)
			}
		})
	}
}
