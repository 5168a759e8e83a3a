package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// traces is all that a container could leave behind.
type traces struct {
	Mounts, Cgroups, Run, Files []string
}

// traces looks for them. Mounts are those of this process's namespace, files
// those that this process has open and that are not of Go's own making.
func (w *world) traces() traces {
	w.t.Helper()
	var tr traces
	data, err := os.ReadFile("/proc/self/mountinfo")
	w.must(err)
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); strings.Contains(line, w.dir) {
			tr.Mounts = append(tr.Mounts, f[4])
		}
	}
	for _, h := range append(w.roots(), w.r.tree.Unified()) {
		if h == "" {
			continue
		}
		entries, _ := os.ReadDir(filepath.Join(h, w.parent))
		for _, e := range entries {
			if e.IsDir() {
				tr.Cgroups = append(tr.Cgroups, filepath.Join(h, e.Name()))
			}
		}
	}
	entries, err := os.ReadDir(filepath.Join(w.dir, "run"))
	w.must(err)
	for _, e := range entries {
		tr.Run = append(tr.Run, e.Name())
	}
	fds, err := os.ReadDir("/proc/self/fd")
	w.must(err)
	for _, e := range fds {
		link, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.Contains(link, "/proc/") && !strings.Contains(link, "eventpoll") && !strings.Contains(link, "eventfd") && !strings.Contains(link, "timerfd") {
			tr.Files = append(tr.Files, kindOfFile(link))
		}
	}
	slices.Sort(tr.Files)
	return tr
}

// kindOfFile is a link's text without the numbers that differ each time.
func kindOfFile(link string) string {
	before, _, _ := strings.Cut(link, "[")
	return before
}

func (w *world) roots() []string {
	var list []string
	for _, h := range w.r.tree.Hierarchies() {
		list = append(list, h.Dir)
	}
	return list
}

// processesOf counts the processes whose command line or cgroup names id.
func processesOf(id string) []string {
	var found []string
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		data, err := os.ReadFile(filepath.Join(d, "cgroup"))
		if err == nil && strings.Contains(string(data), id) {
			cmd, _ := os.ReadFile(filepath.Join(d, "cmdline"))
			found = append(found, filepath.Base(d)+" "+strings.ReplaceAll(string(cmd), "\x00", " "))
		}
	}
	return found
}

// settled are the traces once the shims of containers that have ended are reaped, and their last records synced.
func (w *world) settled() traces {
	w.t.Helper()
	var tr traces
	w.eventually("shims are reaped and records synced", func() bool {
		tr = w.traces()
		pidfds, records := 0, 0
		for _, f := range tr.Files {
			if f == kindOfFile("anon_inode:[pidfd]") {
				pidfds++
			}
			// A group's counters and processes are read once more when its last process has ended.
			if strings.HasPrefix(f, w.dir) || strings.Contains(f, w.parent+"/") {
				records++
			}
		}
		return pidfds <= 1 && records == 0 // the forker's
	})
	return tr
}

func (w *world) wantTraces(want traces) {
	w.t.Helper()
	// What ends in the background gets a moment.
	var diff string
	if !within(5*time.Second, func() bool { diff = cmp.Diff(want, w.traces()); return diff == "" }) {
		w.t.Errorf("something is left behind (-want +got):\n%s", diff)
	}
}

// TestFailureLeavesNothing fails at each step of Create in turn, and in the
// stage and at exec, and looks whether anything remains.
func TestFailureLeavesNothing(t *testing.T) {
	w := newWorld(t)
	src := filepath.Join(w.dir, "src")
	w.must(os.Mkdir(src, 0o755))
	bundle := func() Bundle {
		b := w.bundle("true")
		b.Spec.Mounts = append(b.Spec.Mounts, specs.Mount{Destination: "/data", Type: "bind", Source: src, Options: []string{"rbind"}})
		return b
	}
	w.run(bundle()) // whatever is made once is there now
	var steps []string
	w.r.failAt = func(step string) error { steps = append(steps, step); return nil }
	c := w.create(bundle())
	w.delete(c)
	w.r.failAt = nil
	want := w.settled()
	if len(steps) < 8 {
		t.Fatalf("steps of a creation: %q", steps)
	}
	injected := errors.New("injected")
	for _, step := range steps {
		t.Run("at "+step, func(t *testing.T) {
			w := w.with(t)
			w.r.failAt = func(s string) error {
				if s == step {
					return injected
				}
				return nil
			}
			defer func() { w.r.failAt = nil }()
			b := bundle()
			if _, err := w.r.Create(w.context(), b); !errors.Is(err, injected) {
				t.Fatalf("Create() = %v, want %v", err, injected)
			}
			w.wantTraces(want)
			w.eventually("no process is left", func() bool { return len(processesOf(b.ID)) == 0 })
		})
	}
	for _, tt := range []struct {
		name   string
		change func(*Bundle)
	}{
		{"first file", func(b *Bundle) { b.RootFS.Lower = []string{filepath.Join(b.RootFS.Base, "nosuch")} }},
		{"last file", func(b *Bundle) { b.Spec.Mounts[len(b.Spec.Mounts)-1].Source = "/no/such" }},
		{"mount in the stage", func(b *Bundle) { b.Spec.Mounts[len(b.Spec.Mounts)-1].Destination = "/etc/passwd" }},
		{"cgroup limit", func(b *Bundle) {
			bad := "not-a-cpu"
			b.Spec.Linux.Resources = &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: bad}}
		}},
		{"exec", func(b *Bundle) { b.Spec.Process.Args = []string{"/no/such"} }},
		{"exec with a terminal", func(b *Bundle) { b.Spec.Process.Args = []string{"/no/such"}; b.Terminal = true }},
		{"seccomp filter", func(b *Bundle) {
			seccompDenies("write")(b)
			b.Spec.Linux.Seccomp.Flags = []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_NONE"}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := w.with(t)
			b := bundle()
			tt.change(&b)
			c, err := w.r.Create(w.context(), b)
			if err == nil {
				err = c.Start(w.context())
				w.delete(c)
			}
			if err == nil {
				t.Fatal("nothing failed")
			}
			w.wantTraces(want)
			w.eventually("no process is left", func() bool { return len(processesOf(b.ID)) == 0 })
		})
	}
}

// TestManyContainersLeaveNothing runs many, eight at a time, and then looks whether
// everything is as before.
func TestManyContainersLeaveNothing(t *testing.T) {
	w := newWorld(t)
	w.run(w.bundle("true"))
	ended := w.create(w.bundle("true"))
	w.delete(ended)
	want := w.settled()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failures []error
	limit := make(chan struct{}, 8)
	for i := range orSlow(50, 12) {
		b := w.bundle("sleep", "1000")
		b.IDs.Host += uint32(i) * 65536
		b.Terminal = i%5 == 0
		wg.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			if err := w.cycle(b); err != nil {
				mu.Lock()
				failures = append(failures, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for _, err := range failures {
		t.Error(err)
	}
	w.wantTraces(want)
}

// cycle is a whole life, for use by several goroutines.
func (w *world) cycle(b Bundle) error {
	ctx := w.t.Context()
	c, err := w.r.Create(ctx, b)
	if err != nil {
		return err
	}
	defer c.Delete(ctx)
	if err := c.Start(ctx); err != nil {
		return err
	}
	p, err := c.Exec(ctx, ExecOptions{ID: "x", Process: execProcess("true")})
	if err != nil {
		return err
	}
	if err := p.Start(ctx); err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-time.After(20 * time.Second):
		return fmt.Errorf("exec in %s does not end", b.ID)
	}
	if code := p.Exit().Code; code != 0 {
		return fmt.Errorf("exec in %s ended with %d", b.ID, code)
	}
	return c.Delete(ctx)
}

// TestFewDescriptors creates and deletes containers while this process can open ever more files, from none on. What could not
// be taken back goes once it can, and does not keep the container from running again.
func TestFewDescriptors(t *testing.T) {
	w := newWorld(t)
	w.delete(w.create(w.bundle("true"))) // whatever is made once is there now
	want := w.settled()
	var before unix.Rlimit
	w.must(unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	few := func(n int, f func()) {
		w.t.Helper()
		highest, err := dup(w.r.shim) // the lowest number that is free
		w.must(err)
		free := highest.Fd()
		highest.Close()
		w.must(unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free) + uint64(n), Max: before.Max}))
		defer func() { w.must(unix.Setrlimit(unix.RLIMIT_NOFILE, &before)) }()
		f()
	}
	failed, created := 0, 0
	for n := 0; created < 3; n++ {
		w := w.with(t)
		b := w.bundle("true")
		var c *Container
		var err error
		few(n, func() { c, err = w.r.Create(w.context(), b) })
		switch {
		case err == nil:
			created++
		case !errors.Is(err, unix.EMFILE):
			t.Errorf("with %d files: Create() = %v, want %v", n, err, unix.EMFILE)
		default:
			failed++
			if c, err = w.r.Create(w.context(), b); err != nil {
				t.Fatalf("after one with %d files: Create() = %v", n, err)
			}
		}
		w.must(c.Start(w.context()))
		<-c.Done()
		few(n, func() { err = c.Delete(w.context()) })
		if n%2 == 0 { // else it goes by itself
			w.must(c.Delete(w.context()))
		} else if err != nil {
			if !errors.Is(err, unix.EMFILE) {
				t.Errorf("with %d files: Delete() = %v, want %v", n, err, unix.EMFILE)
			}
			w.eventually("what is left goes", func() bool { return !slices.Contains(w.traces().Run, b.ID) })
		}
		if n > 200 {
			t.Fatal("a container needs more than 200 files")
		}
	}
	if failed == 0 {
		t.Error("nothing failed")
	}
	w.wantTraces(want)
}
