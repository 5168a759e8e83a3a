package whois

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/ledger"
	"github.com/portholehq/porthole/internal/network"
	"github.com/portholehq/porthole/internal/record/death"
	"github.com/portholehq/porthole/internal/testenv"
)

// nothing is a daemon without containers, on a host with some sockets.
type nothing struct{ sockets []network.Socket }

func (nothing) Residents() []engine.Resident { return nil }
func (nothing) Deaths(o engine.DeathsOptions) ([]*death.Record, error) {
	if o.Container == "" { // all of them
		return []*death.Record{{Container: "ae00", Name: "last"}}, nil
	}
	return nil, nil
}
func (nothing) Claim(context.Context, string) (ledger.Claim, error) { return ledger.Claim{}, nil }
func (nothing) NetworkSurvey() (network.Survey, error)              { return network.Survey{}, nil }
func (n nothing) Sockets(*os.File) ([]network.Socket, error)        { return n.sockets, nil }
func (nothing) Places() engine.Places {
	return engine.Places{DataRoot: "/no/data", ExecRoot: "/no/exec", CgroupParent: "/no-group"}
}

// deadMount is a directory with a file system of which nobody answers for, as with
// one of the network whose server is gone.
func deadMount(t *testing.T) (dir string) {
	t.Helper()
	testenv.NeedsRoot(t)
	dir = t.TempDir()
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open /dev/fuse: %v", err)
	}
	if err := unix.Mount("dead", dir, "fuse", unix.MS_NODEV|unix.MS_NOSUID, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", dev)); err != nil {
		t.Fatalf("mount a dead file system: %v", err)
	}
	t.Cleanup(func() {
		_ = unix.Close(dev) // which lets all that wait fail
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// stuck counts the threads of this process that wait for the kernel and cannot be
// woken (state D of proc_pid_stat(5)).
func stuck(t *testing.T) (n int) {
	t.Helper()
	list, err := filepath.Glob("/proc/self/task/*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range list {
		text, err := os.ReadFile(name)
		if err == nil && strings.Contains(string(text), ") D ") {
			n++
		}
	}
	return n
}

// TestDeadFileSystem asks for a path that nobody can look at.
func TestDeadFileSystem(t *testing.T) {
	path := filepath.Join(deadMount(t), "file")
	const times = 20
	found := make(chan string, times)
	for range times {
		go func() {
			w, err := Find(context.WithoutCancel(t.Context()), nothing{}, path)
			if err != nil {
				found <- err.Error()
				return
			}
			found <- w.Found[0].Detail
		}()
	}
	late := time.After(30 * time.Second)
	for range times {
		select {
		case text := <-found:
			if !strings.Contains(text, "does not answer") {
				t.Errorf("it says %q", text)
			}
		case <-late:
			t.Fatal("it waits for the file system")
		}
	}
	if n := stuck(t); n == 0 || n >= times {
		t.Errorf("%d threads wait for the file system, want one", n)
	}
}

// TestNoName asks for what is the end of an interface's name only.
func TestNoName(t *testing.T) {
	if w, err := Find(t.Context(), nothing{}, "@if2"); !errdefs.IsNotFound(err) {
		t.Errorf("%+v, %v", w, err)
	}
}
