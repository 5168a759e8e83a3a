package exhaust

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/testenv"
	"github.com/portholehq/porthole/test/bed"
)

// pidMax is how many processes there can be in a world, which the kernel sets for each pid namespace.
const pidMax = "/proc/sys/kernel/pid_max"

// ownPidMax tells whether a pid namespace has such a number of its own, which the root of its user namespace may write then.
// Without that it is the host's, and nobody else may.
func ownPidMax() error {
	cmd := exec.Command("sh", "-c", "mount -t proc proc /proc && : >>"+pidMax)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: 100000, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: 100000, Size: 1}},
		Credential:  &syscall.Credential{},
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: kernel.pid_max of a pid namespace: %w: %s", errors.ErrUnsupported, err, out)
	}
	return nil
}

// fewPids lowers how many processes there can be here, for the time of the test.
func fewPids(t *testing.T, n int) {
	t.Helper()
	testenv.NeedsRoot(t)
	if os.Getenv("PORTHOLE_TEST_UML") == "" { // a machine of its own
		testenv.NeedsKernel(t, "6.14", ownPidMax())
	}
	before, err := os.ReadFile(pidMax)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pidMax, []byte(strconv.Itoa(n)), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(pidMax, before, 0); err != nil {
			t.Error(err)
		}
	})
}

// bomb starts as many processes as it gets, but no more than the world can have. The shell ends when it gets none, and
// another takes its place.
const bomb = `sh -c 'i=0; while [ $i -lt 1300 ]; do sleep 2000 & i=$((i+1)); done'; sleep 2000 & exec sleep 3000`

// TestPids lets containers take all processes that they get.
func TestPids(t *testing.T) {
	fewPids(t, 1300)
	w := newWorld(t, bed.Options{Args: strings.Fields(os.Getenv("PORTHOLE_TEST_DAEMON_ARGS"))}, nil)
	w.must("run", "-d", "--name", "bystander", "busybox", "ping", "-i", "0.1", "127.0.0.1")
	// lives fails unless the daemon and the other containers go on as if nothing were.
	lives := func(w *world) {
		w.t.Helper()
		for _, args := range [][]string{{"ps", "-a"}, {"info"}, {"inspect", "bystander"}, {"stats", "--no-stream"}, {"top", "bystander"}} {
			w.must(args...)
		}
		last := w.must("logs", "--tail", "1", "bystander")
		eventually(w.t, "the bystander goes on", func() bool { return w.must("logs", "--tail", "1", "bystander") != last })
	}
	start := func(w *world, name string) {
		w.must("run", "-d", "--name", name, "busybox", "sh", "-c", bomb)
		w.until("can't fork", "logs", name)
	}
	attack(t, w, "a container starts processes for ever", func(w *world) string {
		said(w.t, w.must("info", "--security"), "processes", "one without --pids-limit")
		start(w, "bomb")
		lives(w)
		if out := w.must("run", "--rm", "busybox", "echo", "ran"); out != "ran" {
			w.t.Errorf("beside it: %q", out)
		}
		w.must("exec", "bystander", "true")
		w.full("bomb")
		said(w.t, w.must("why", "bomb"), "out-of-pids")
		if limit := w.must("inspect", "-f", "{{.HostConfig.PidsLimit}}", "bomb"); limit != "<nil>" {
			w.t.Errorf("its own limit is %s", limit)
		}
		count := len(strings.Split(w.must("top", "bomb"), "\n")) - 1
		w.must("rm", "-f", "bomb")
		return fmt.Sprintf("%d processes; others start, it is removed", count)
	})
	attack(t, w, "two containers start processes for ever", func(w *world) string {
		const fresh = 6
		for i := range fresh {
			w.must("run", "-d", "--name", fmt.Sprint("fresh", i), "busybox", "sleep", "1000")
		}
		start(w, "one")
		start(w, "two")
		out, err := w.try("run", "--rm", "busybox", "echo", "ran")
		if said(w.t, out, "resource temporarily unavailable", "hint: "); err == nil {
			w.t.Error("a third container has room")
		}
		// The first exec is what a shim needs most threads for. One at a time: the test has an eighth of all processes left.
		for i := range fresh {
			if out, err := w.try("exec", fmt.Sprint("fresh", i), "true"); err != nil {
				said(w.t, out, "resource temporarily unavailable", "hint: ")
			}
		}
		lives(w)
		if live := strings.Fields(w.must("ps", "-q", "--filter", "name=fresh")); len(live) != fresh {
			w.t.Errorf("of %d containers in which an exec was tried %d run", fresh, len(live))
		}
		w.must("rm", "-f", "one", "two")
		if out := w.must("run", "--rm", "busybox", "echo", "ran"); out != "ran" {
			w.t.Errorf("after them: %q", out)
		}
		return "nothing else starts meanwhile, and nothing ends"
	})
	attack(t, w, "five containers in groups of their own start processes for ever", func(w *world) string {
		const bombs = 5
		taken := 0
		for i := range bombs {
			parent, name := fmt.Sprint(w.CgroupParent, "-", i), fmt.Sprint("bomb", i)
			w.t.Cleanup(func() { removeGroups(w.t, parent) })
			w.must("run", "-d", "--name", name, "--cgroup-parent", parent, "busybox", "sh", "-c", bomb)
		}
		for i := range bombs {
			name := fmt.Sprint("bomb", i)
			w.until("can't fork", "logs", name)
			w.until("sleep 3000", "top", name)
			w.full(name)
			said(w.t, w.must("why", name), "out-of-pids")
			taken += len(strings.Split(w.must("top", name), "\n")) - 1
		}
		lives(w)
		if out := w.must("run", "--rm", "busybox", "echo", "ran"); out != "ran" {
			w.t.Errorf("beside them: %q", out)
		}
		return fmt.Sprintf("%d processes together; others start", taken)
	})
	attack(t, w, "there is room for a few processes only", func(w *world) string {
		dir := w.pidsDir()
		before := readFile(w.t, filepath.Join(dir, "pids.max"))
		ran, refused := 0, 0
		for _, free := range []int{0, 1, 2, 4, 6, 8, 12, 16} {
			for _, args := range [][]string{{"run", "--rm", "busybox", "echo", "ran"}, {"exec", "bystander", "echo", "ran"}} {
				count := number(w.t, readFile(w.t, filepath.Join(dir, "pids.current")))
				if err := os.WriteFile(filepath.Join(dir, "pids.max"), []byte(strconv.Itoa(count+free)), 0); err != nil {
					w.t.Fatal(err)
				}
				out, err := w.try(args...)
				if err == nil && out == "ran" {
					ran++
					continue
				}
				refused++
				said(w.t, out, "resource temporarily unavailable", "hint: ")
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "pids.max"), []byte(before), 0); err != nil {
			w.t.Fatal(err)
		}
		lives(w)
		return fmt.Sprintf("%d ran, %d were refused", ran, refused)
	})
	attack(t, w, "a container starts as many processes as its own limit", func(w *world) string {
		w.must("run", "-d", "--name", "bomb", "--pids-limit", "20", "busybox", "sh", "-c", bomb)
		w.until("can't fork", "logs", "bomb")
		w.until("sleep 3000", "top", "bomb") // an exec could take the place of its last process, and end it so
		w.full("bomb")
		w.must("update", "--pids-limit", "-1", "bomb")
		w.must("exec", "bomb", "sh", "-c", "true | true")
		return "no more than that until it is lifted"
	})
}

// full sees that a container can start no further process, and that this is told: by the engine where a process is born
// in the container's group, by the shell where it is put there afterwards.
func (w *world) full(name string) {
	w.t.Helper()
	out := ""
	eventually(w.t, "it is full", func() (full bool) {
		var err error
		out, err = w.try("exec", name, "sh", "-c", "true | true")
		return err != nil
	})
	if said(w.t, strings.ToLower(out), "resource temporarily unavailable"); strings.Contains(out, "exec failed") {
		said(w.t, out, "hint: ")
	}
}

// removeGroups removes the groups at a path, which nobody is in.
func removeGroups(t *testing.T, path string) {
	t.Helper()
	dirs, err := filepath.Glob("/sys/fs/cgroup/*" + path)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range append(dirs, "/sys/fs/cgroup"+path) {
		for _, d := range []string{filepath.Join(dir, "shims"), dir} {
			if err := unix.Rmdir(d); err != nil && !errors.Is(err, unix.ENOENT) {
				t.Errorf("remove %s: %v", d, err)
			}
		}
	}
}

// pidsDir is the group of all containers in the hierarchy that counts processes.
func (w *world) pidsDir() string {
	w.t.Helper()
	for _, root := range []string{"/sys/fs/cgroup/pids", "/sys/fs/cgroup"} {
		if dir := filepath.Join(root, w.CgroupParent); exists(filepath.Join(dir, "pids.max")) {
			return dir
		}
	}
	w.t.Fatal("nobody counts processes")
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}
