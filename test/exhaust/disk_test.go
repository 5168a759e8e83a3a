package exhaust

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/test/bed"
)

// filler is the file that takes what is left of a disk.
const filler = "filler"

// TestFullDisk fills the disk below the data root.
func TestFullDisk(t *testing.T) {
	for _, d := range []struct {
		name  string
		mount func(t *testing.T, dir string)
	}{
		{"ext4", func(t *testing.T, dir string) { bed.Ext4(t, dir, 64<<20) }},
		{"tmpfs", func(t *testing.T, dir string) { mount(t, "-t", "tmpfs", "-o", "size=64m", "tmpfs", dir) }},
	} {
		t.Run(d.name, func(t *testing.T) {
			w := newWorld(t, bed.Options{}, func(dir string) {
				data := filepath.Join(dir, "data")
				if err := os.Mkdir(data, 0o711); err != nil {
					t.Fatal(err)
				}
				d.mount(t, data)
			})
			w.must("run", "-d", "--name", "bystander", "busybox", "sh", "-c", "i=0; while sleep 0.05; do i=$((i+1)); echo $i; done")
			before := w.snapshot()
			fullDisk(t, w)
			w.cleared(before, "bystander")
		})
	}
}

func mount(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "mount", args...).CombinedOutput(); err != nil {
		t.Fatalf("mount %v: %v\n%s", args, err, out)
	}
}

// fill takes all that is left of the disk.
func (w *world) fill() {
	w.t.Helper()
	f, err := os.OpenFile(filepath.Join(w.DataRoot(), filler), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
			size /= 16
		} else if err != nil {
			w.t.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil && !errors.Is(err, unix.ENOSPC) {
		w.t.Fatal(err)
	}
}

func (w *world) empty() {
	w.t.Helper()
	if err := os.Remove(filepath.Join(w.DataRoot(), filler)); err != nil {
		w.t.Fatal(err)
	}
}

// full is what users are told.
const full = "no space left on device"

func fullDisk(t *testing.T, w *world) {
	attack(t, w, "all verbs on a full disk", func(w *world) string {
		w.must("run", "--name", "old", "busybox", "seq", "10")
		w.must("run", "--name", "removed", "busybox", "true")
		w.must("run", "-d", "--name", "again", "busybox", "sleep", "1000")
		var many []string
		for i := range 20 {
			many = append(many, fmt.Sprintf("one-of-many-%d", i))
			w.must("create", "--name", many[i], "busybox", "true")
		}
		w.must("tag", "busybox", "other:1")
		context := t.TempDir()
		if err := os.WriteFile(filepath.Join(context, "Dockerfile"), []byte("FROM busybox\nRUN dd if=/dev/urandom of=/big bs=1M count=1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		w.fill()
		refused := [][]string{
			{"run", "--rm", "busybox", "echo", "ran"},
			{"load", "-q", "-i", bed.Archive("broken/zombies")},
			{"build", "-q", context},
			{"commit", "old", "new"},
			{"cp", w.Program("porthole-shim"), "old:/big"},
		}
		for _, args := range refused {
			w.fill() // what the one before has left may be room enough for the next
			out, err := w.try(args...)
			if said(w.t, strings.ToLower(out), full); err == nil {
				w.t.Errorf("%q succeeds: %s", args, out)
			}
			if !strings.Contains(out, "hint: see what takes the space") {
				w.t.Errorf("%q gives no hint: %s", args, out)
			}
		}
		out, err := w.try("exec", "bystander", "dd", "if=/dev/zero", "of=/x", "bs=1M", "count=1")
		if said(w.t, strings.ToLower(out), full); err == nil {
			w.t.Error("the container writes on")
		}
		// Until something is removed.
		said(w.t, w.both("info"), "WARNING: The disk of the data root is full")
		answered := [][]string{
			{"ps", "-a"},
			{"logs", "old"},
			{"inspect", "old"},
			{"stats", "--no-stream"},
			{"system", "df"},
			{"events", "--since", "10s", "--until", "0s"},
			{"rename", "old", "older"},
			{"stop", "-t", "0", "again"},
			{"rm", "removed"},
			{"image", "prune", "-f"},
			{"builder", "prune", "-af"},
			{"volume", "prune", "-f"},
		}
		for _, name := range many {
			answered = append(answered, []string{"rename", name, name + "-renamed"}, []string{"rm", name + "-renamed"})
		}
		answered = append(answered, []string{"rmi", "other:1"})
		for _, args := range answered {
			w.fill() // what the one before has made room for is not what the next needs
			w.must(args...)
		}
		w.empty()
		w.must("start", "again")
		if out := w.must("run", "--rm", "busybox", "echo", "ran"); out != "ran" {
			w.t.Errorf("once there is room: %q", out)
		}
		if out := w.must("info"); strings.Contains(out, "is full") {
			w.t.Error("info still says that the disk is full")
		}
		return fmt.Sprintf("%d verbs refused, %d went on", len(refused), len(answered))
	})
	// It prints on USR1, and ends with 7 on USR2.
	const printer = `trap "seq 11 50000; touch /t/printed" USR1; trap "echo last; exit 7" USR2; seq 10; touch /t/ready; while :; do sleep 0.02; done`
	start := func(w *world) {
		w.must("run", "-d", "--name", "printer", "--tmpfs", "/t", "busybox", "sh", "-c", printer)
		eventually(w.t, "it is ready", func() bool { _, err := w.try("exec", "printer", "test", "-e", "/t/ready"); return err == nil })
	}
	attack(t, w, "a container prints on a full disk", func(w *world) string {
		start(w)
		w.fill()
		w.must("kill", "-s", "USR1", "printer")
		eventually(w.t, "it has printed", func() bool { _, err := w.try("exec", "printer", "test", "-e", "/t/printed"); return err == nil })
		w.empty()
		w.must("kill", "-s", "USR2", "printer")
		w.until("Exited (7)", "ps", "-a", "--filter", "name=printer")
		out := w.both("logs", "printer")
		there, total := linesOf(w.t, out, 50001)
		if !strings.HasSuffix(out, "last") {
			w.t.Errorf("it ends so: %q", out[max(0, len(out)-100):])
		}
		return fmt.Sprintf("it never waited; of 50,001 lines %d are there, and %d told to be dropped", there, total)
	})
	attack(t, w, "a container ends on a full disk while no daemon runs", func(w *world) string {
		start(w)
		pid := w.pid("printer")
		w.fill()
		if err := w.Kill(); err != nil {
			w.t.Fatal(err)
		}
		w.send(pid, unix.SIGUSR2)
		gone(w.t, pid)
		if err := w.Start(); err != nil {
			w.t.Fatal(err)
		}
		w.until("Exited (7)", "ps", "-a", "--filter", "name=printer")
		said(w.t, w.both("info"), "WARNING: The disk of the data root is full")
		w.must("logs", "printer")
		w.empty()
		return "the next daemon starts on the full disk, and knows the exit code"
	})
	attack(t, w, "a daemon is killed on a full disk after it was told of an end", func(w *world) string {
		start(w)
		w.fill()
		w.must("kill", "-s", "USR2", "printer")
		w.until("Exited (7)", "ps", "-a", "--filter", "name=printer")
		w.fill()
		if err := errors.Join(w.Kill(), w.Start()); err != nil {
			w.t.Fatal(err)
		}
		w.until("Exited (7)", "ps", "-a", "--filter", "name=printer")
		said(w.t, w.must("why", "printer"), "code 7")
		w.empty()
		return "so does the next one"
	})
}

// TestInodes takes all files that the file system of the data root can have.
func TestInodes(t *testing.T) {
	w := newWorld(t, bed.Options{}, func(dir string) {
		data := filepath.Join(dir, "data")
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatal(err)
		}
		mount(t, "-t", "tmpfs", "-o", "size=64m,nr_inodes=4k", "tmpfs", data)
	})
	w.must("run", "-d", "--name", "bystander", "busybox", "sh", "-c", "i=0; while sleep 0.05; do i=$((i+1)); echo $i; done")
	attack(t, w, "no file can be made any more", func(w *world) string {
		w.must("run", "--name", "old", "busybox", "seq", "10")
		w.must("run", "--name", "removed", "busybox", "true")
		w.must("run", "-d", "--name", "again", "busybox", "sleep", "1000")
		dir := filepath.Join(w.DataRoot(), filler)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		made := 0
		take := func() {
			w.t.Helper()
			for ; ; made++ {
				f, err := os.Create(filepath.Join(dir, strconv.Itoa(made)))
				if errors.Is(err, unix.ENOSPC) {
					return
				}
				if err = errors.Join(err, f.Close()); err != nil {
					w.t.Fatal(err)
				}
			}
		}
		take()
		refused := [][]string{
			{"run", "--rm", "busybox", "echo", "ran"},
			{"load", "-q", "-i", bed.Archive("broken/zombies")},
			{"commit", "old", "new"},
			{"volume", "create", "more"},
		}
		for _, args := range refused {
			take()
			out, err := w.try(args...)
			if said(w.t, strings.ToLower(out), full); err == nil {
				w.t.Errorf("%q succeeds: %s", args, out)
			}
		}
		take()
		said(w.t, w.both("info"), "WARNING: The disk of the data root has no inodes left")
		for _, args := range [][]string{{"ps", "-a"}, {"logs", "old"}, {"inspect", "old"}, {"stop", "-t", "0", "again"}, {"rm", "removed"}, {"image", "prune", "-f"}} {
			w.must(args...)
		}
		if err := os.RemoveAll(dir); err != nil {
			w.t.Fatal(err)
		}
		w.must("start", "again")
		if out := w.must("run", "--rm", "busybox", "echo", "ran"); out != "ran" {
			w.t.Errorf("once there are files: %q", out)
		}
		return fmt.Sprintf("%d files took them all; %d verbs refused", made, len(refused))
	})
}
