package conform

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/oci"
	"github.com/portholehq/porthole/internal/runtime"
	"github.com/portholehq/porthole/internal/testenv"
)

// bed is a bundle, with a root filesystem that has a shell, and a runtime to make
// containers of it.
type bed struct {
	t             *testing.T
	runtime, root string
	bundle        string
}

func newBed(t *testing.T) *bed {
	t.Helper()
	testenv.NeedsRoot(t)
	b := &bed{t: t, runtime: runtimeUnderTest(t), root: filepath.Join(t.TempDir(), "state"), bundle: t.TempDir()}
	archives, err := filepath.Glob(filepath.Join(programs(t), "*.tar.gz"))
	if err != nil || len(archives) != 1 {
		t.Fatalf("root filesystems: %v, %v", archives, err)
	}
	rootfs := filepath.Join(b.bundle, "rootfs")
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "tar", "-xf", archives[0], "-C", rootfs).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.must("spec", "--bundle", b.bundle)
	return b
}

// config changes the document: it begins as what spec has written, without a terminal.
func (b *bed) config(change func(s *specs.Spec)) {
	b.t.Helper()
	name := filepath.Join(b.bundle, "config.json")
	raw, err := os.ReadFile(name)
	if err != nil {
		b.t.Fatal(err)
	}
	s := &specs.Spec{}
	if err := json.Unmarshal(raw, s); err != nil {
		b.t.Fatal(err)
	}
	s.Process.Terminal, s.Root.Readonly = false, false
	change(s)
	if raw, err = json.Marshal(s); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(name, raw, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// run runs a command of the runtime; its output goes through a file, which no container
// can hold up by keeping it open.
func (b *bed) run(args ...string) (string, error) {
	b.t.Helper()
	return b.runWith(nil, args...)
}

// runWith is run with open files, from descriptor 3 on.
func (b *bed) runWith(files []*os.File, args ...string) (string, error) {
	b.t.Helper()
	out, err := os.CreateTemp(b.t.TempDir(), "out")
	if err != nil {
		b.t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.CommandContext(b.t.Context(), b.runtime, append([]string{"--root", b.root}, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, out, files
	runErr := cmd.Run()
	text, err := os.ReadFile(out.Name())
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text), runErr
}

func (b *bed) must(args ...string) string {
	b.t.Helper()
	out, err := b.run(args...)
	if err != nil {
		b.t.Fatalf("%q: %v: %s", args, err, out)
	}
	return out
}

// refused runs a command that has to fail with text in its message.
func (b *bed) refused(text string, args ...string) {
	b.t.Helper()
	out, err := b.run(args...)
	if err == nil || !strings.Contains(out, text) {
		b.t.Errorf("%q: %v: %q, want an error with %q", args, err, out, text)
	}
}

func (b *bed) create(id string) {
	b.t.Helper()
	b.deleteLater(id)
	b.must("create", "--bundle", b.bundle, id)
}

// deleteLater leaves nothing of a container when the test has ended.
func (b *bed) deleteLater(id string) {
	b.t.Helper()
	b.t.Cleanup(func() {
		if out, err := exec.Command(b.runtime, "--root", b.root, "delete", "--force", id).CombinedOutput(); err != nil {
			b.t.Errorf("delete --force: %v: %s", err, out)
		}
	})
}

func (b *bed) state(id string) (s specs.State) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(b.must("state", id)), &s); err != nil {
		b.t.Fatal(err)
	}
	return s
}

// await waits until the container has a status.
func (b *bed) await(id string, status specs.ContainerState) {
	b.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if b.state(id).Status == status {
			return
		}
	}
	b.t.Fatalf("container %s is %s, not %s", id, b.state(id).Status, status)
}

func (b *bed) read(name string) string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.bundle, "rootfs", name))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

func TestLife(t *testing.T) {
	b := newBed(t)
	b.config(func(s *specs.Spec) {
		s.Process.Args = []string{"sh", "-c", "while :; do sleep 1; done"}
		s.Linux.CgroupsPath = "life-test/one"
	})
	b.create("one")
	if s := b.state("one"); s.Status != specs.StateCreated || s.Pid == 0 {
		t.Errorf("after create: %+v", s)
	}
	b.refused("not running", "exec", "one", "true")
	b.refused("already exists", "create", "--bundle", b.bundle, "one")
	b.refused("not stopped", "delete", "one")
	if made, err := filepath.Glob("/sys/fs/cgroup/*/porthole-oci/life-test/one"); err != nil || len(made) == 0 {
		t.Errorf("the cgroup is not where the document says: %v, %v", made, err)
	}
	b.must("start", "one")
	b.refused("running state", "start", "one")
	if out, err := b.run("exec", "one", "sh", "-c", "exit 7"); err == nil || err.Error() != "exit status 7" {
		t.Errorf("exec: %v: %s", err, out)
	}
	b.refused("executable file not found", "exec", "one", "nosuch")
	b.must("pause", "one")
	b.await("one", "paused")
	b.refused("paused", "exec", "one", "true")
	b.must("resume", "one")
	b.await("one", specs.StateRunning)
	b.must("update", "--pids-limit", "77", "one")
	if got := b.must("ps", "-f", "json", "one"); !strings.Contains(got, strconv.Itoa(b.state("one").Pid)) {
		t.Errorf("ps lacks pid %d: %s", b.state("one").Pid, got)
	}
	if got := b.must("list", "-q"); got != "one\n" {
		t.Errorf("list: %q", got)
	}
	b.must("kill", "one", "KILL")
	b.await("one", specs.StateStopped)
	b.refused("not running", "kill", "one", "KILL")
	b.must("delete", "one")
	b.refused("does not exist", "state", "one")
	if left, err := filepath.Glob("/sys/fs/cgroup/*/porthole-oci/life-test"); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// The shim becomes the runtime when it is called as one.
func TestShimIsTheRuntimeToo(t *testing.T) {
	b := newBed(t)
	b.config(func(s *specs.Spec) { s.Process.Args = []string{"true"} })
	b.runtime = filepath.Join(filepath.Dir(b.runtime), "porthole-shim")
	b.create("shim")
	b.must("start", "shim")
	b.await("shim", specs.StateStopped)
	b.must("delete", "shim")
}

// Each hook notes its name and the status that it is told; all look for one file, which
// only those in the container's mount namespace have.
func TestHooks(t *testing.T) {
	b := newBed(t)
	rootfs := filepath.Join(b.bundle, "rootfs")
	b.config(func(s *specs.Spec) {
		note := func(name, shell, file string) []specs.Hook {
			return []specs.Hook{{
				Path: shell, Args: []string{"sh", "-c", fmt.Sprintf(`read -r state; echo "%s $state" >>%s`, name, file)},
			}}
		}
		host, inside := "/bin/sh", filepath.Join(rootfs, "notes")
		s.Hooks = &specs.Hooks{
			CreateRuntime: note("createRuntime", host, inside), CreateContainer: note("createContainer", host, inside),
			StartContainer: note("startContainer", "/bin/sh", "/notes"),
			Poststart:      note("poststart", host, inside), Poststop: note("poststop", host, inside),
		}
		s.Process.Args = []string{"sh", "-c", "echo process >>/notes"}
	})
	b.create("hooks")
	b.must("start", "hooks")
	b.await("hooks", specs.StateStopped)
	b.must("delete", "hooks")
	var got []string
	for line := range strings.Lines(b.read("notes")) {
		name, state, _ := strings.Cut(strings.TrimSpace(line), " ")
		var s specs.State
		if state != "" {
			if err := json.Unmarshal([]byte(state), &s); err != nil {
				t.Errorf("%s: state %q: %v", name, state, err)
			}
		}
		if name != "process" { // runs beside poststart
			got = append(got, name+" "+string(s.Status))
		}
	}
	want := "createRuntime created, createContainer created, startContainer created, poststart running, poststop stopped"
	if strings.Join(got, ", ") != want {
		t.Errorf("hooks %q, want %q", got, want)
	}
}

func TestHookThatFailsEndsTheContainer(t *testing.T) {
	for _, kind := range []string{"createRuntime", "createContainer", "startContainer", "poststart"} {
		t.Run(kind, func(t *testing.T) {
			b := newBed(t)
			b.config(func(s *specs.Spec) {
				fails := []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo because >&2; exit 1"}}}
				s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo over >" + b.bundle + "/rootfs/over"}}}}
				switch kind {
				case "createRuntime":
					s.Hooks.CreateRuntime = fails
				case "createContainer":
					s.Hooks.CreateContainer = fails
				case "startContainer":
					s.Hooks.StartContainer = fails
				case "poststart":
					s.Hooks.Poststart = fails
				}
				s.Process.Args = []string{"sleep", "60"}
			})
			out, err := b.run("create", "--bundle", b.bundle, "ends")
			if err == nil {
				out, err = b.run("start", "ends")
			}
			if err == nil || !strings.Contains(out, kind) || !strings.Contains(out, "because") {
				t.Errorf("%v: %q, want an error with the hook's kind and words", err, out)
			}
			b.refused("does not exist", "state", "ends")
			if got := b.read("over"); got != "over\n" {
				t.Errorf("poststop wrote %q", got)
			}
		})
	}
}

// What is not supported is refused by name, and nothing is left of the attempt.
func TestRefused(t *testing.T) {
	b := newBed(t)
	plain := func(*specs.Spec) {}
	for name, c := range map[string]struct {
		change func(s *specs.Spec)
		text   string
		flags  []string
	}{
		"intelRdt":     {func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{} }, "intelRdt", nil},
		"memoryPolicy": {func(s *specs.Spec) { s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{} }, "memoryPolicy", nil},
		"label":        {func(s *specs.Spec) { s.Linux.MountLabel = "x" }, "SELinux", nil},
		"listener": {func(s *specs.Spec) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/x"}
		}, "listener", nil},
		"systemd":       {func(s *specs.Spec) { s.Linux.CgroupsPath = "a:b:c" }, "systemd", nil},
		"root cgroup":   {func(s *specs.Spec) { s.Linux.CgroupsPath = "/" }, "root of the hierarchies", nil},
		"no mounts":     {func(s *specs.Spec) { s.Linux.Namespaces = nil }, "mount namespace", nil},
		"host's sysctl": {func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel.panic": "1"} }, "kernel.panic", nil},
		"terminal":      {func(s *specs.Spec) { s.Process.Terminal = true }, "console socket", nil},
		"no pivot":      {plain, "--no-pivot", []string{"--no-pivot"}},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join(b.bundle, "config.json"))
			if err != nil {
				t.Fatal(err)
			}
			b.config(c.change)
			b.refused(c.text, append([]string{"create", "--bundle", b.bundle, "refused"}, c.flags...)...)
			b.refused("does not exist", "state", "refused")
			if left, _ := filepath.Glob("/sys/fs/cgroup/*/porthole-oci/refused"); len(left) > 0 {
				t.Errorf("left over: %v", left)
			}
			if err := os.WriteFile(filepath.Join(b.bundle, "config.json"), raw, 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A tmpfs with tmpcopyup begins with what it covers, which stays as it is.
func TestCopyUp(t *testing.T) {
	b := newBed(t)
	covered := filepath.Join(b.bundle, "rootfs", "covered")
	if err := os.MkdirAll(filepath.Join(covered, "deep"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(covered, "deep", "file"), []byte("text"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/shadow", filepath.Join(covered, "link")); err != nil {
		t.Fatal(err)
	}
	b.config(func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/covered", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup", "nosuid"}})
		s.Process.Args = []string{"sh", "-c", "cd /covered; { cat deep/file; echo; readlink link; stat -c %a deep deep/file; } >/seen 2>&1; rm -r deep"}
	})
	b.create("up")
	b.must("start", "up")
	b.await("up", specs.StateStopped)
	if got, want := b.read("seen"), "text\n/etc/shadow\n750\n640\n"; got != want {
		t.Errorf("the container has seen %q, want %q", got, want)
	}
	if got := b.read("covered/deep/file"); got != "text" {
		t.Errorf("what is covered is now %q", got)
	}
}

// ownRoot gives the root filesystem to the container's root.
func (b *bed) ownRoot(host int) {
	b.t.Helper()
	rootfs := filepath.Join(b.bundle, "rootfs")
	for dir := rootfs; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) { // not only the host's root looks in
		info, err := os.Stat(dir)
		if err == nil {
			err = os.Chmod(dir, info.Mode()|0o055)
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
	if err := filepath.WalkDir(rootfs, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, host, host)
	}); err != nil {
		b.t.Fatal(err)
	}
}

// An exec enters all namespaces of the container, those of users and of time as well.
func TestExecIsInTheNamespaces(t *testing.T) {
	b := newBed(t)
	b.config(func(s *specs.Spec) {
		s.Process.Args = []string{"sleep", "60"}
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace}, specs.LinuxNamespace{Type: specs.UserNamespace})
		ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 300000, Size: 1000}}
		s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
	})
	b.ownRoot(300000)
	b.create("inside")
	b.must("start", "inside")
	pid := b.state("inside").Pid
	for _, kind := range []string{"user", "time", "mnt", "pid", "net", "ipc", "uts", "cgroup"} {
		want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(b.must("exec", "inside", "readlink", "/proc/self/ns/"+kind)); got != want {
			t.Errorf("exec is in %s, the container in %s", got, want)
		}
	}
	if got := strings.Fields(b.must("exec", "inside", "cat", "/proc/self/cgroup")); !strings.HasSuffix(strings.Join(got, " "), "/") {
		t.Errorf("exec is in cgroups %q, not in the root of the namespace", got)
	}
	if out, err := b.run("exec", "inside", "sh", "-c", "exit 9"); err == nil || err.Error() != "exit status 9" {
		t.Errorf("exec: %v: %s", err, out)
	}
}

// The process gets what was left open for it, its limits, its scheduler, and a time and
// user namespace of its own.
func TestProcess(t *testing.T) {
	b := newBed(t)
	script := `read -r line <&3; echo "$line" >/seen; cat /proc/self/uid_map /proc/uptime >>/seen; ulimit -n >>/seen; cat /proc/self/oom_score_adj >>/seen`
	b.config(func(s *specs.Spec) {
		s.Process.Args = []string{"sh", "-c", script}
		score := 500
		s.Process.OOMScoreAdj = &score
		s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch}
		s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_IDLE}
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace}, specs.LinuxNamespace{Type: specs.UserNamespace})
		ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 300000, Size: 1000}}
		s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
		s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1000000000}}
	})
	b.ownRoot(300000)
	kept := filepath.Join(t.TempDir(), "kept")
	if err := os.WriteFile(kept, []byte("kept open\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(kept)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b.deleteLater("process")
	if out, err := b.runWith([]*os.File{f}, "create", "--bundle", b.bundle, "--preserve-fds", "1", "process"); err != nil {
		t.Fatalf("create: %v: %s", err, out)
	}
	pid := b.state("process").Pid
	if attr, err := unix.SchedGetAttr(pid, 0); err != nil || attr.Policy != unix.SCHED_BATCH {
		t.Errorf("scheduler %+v, %v", attr, err)
	}
	const ofProcess, classShift, idle = 1, 13, 3 // ioprio_get(2)
	if got, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, ofProcess, uintptr(pid), 0); errno != 0 || got>>classShift != idle {
		t.Errorf("I/O priority %#x, %v", got, errno)
	}
	b.must("start", "process")
	b.await("process", specs.StateStopped)
	got := strings.Fields(b.read("seen"))
	b.must("delete", "process")
	if len(got) != 9 || strings.Join(got[:5], " ") != "kept open 0 300000 1000" || len(got[5]) < len("1000000000.00") || got[7] != "1024" || got[8] != "500" {
		t.Errorf("the process has seen %q", got)
	}
}

// Who has the pid of a container that has ended is not entered.
func TestExecIntoAnother(t *testing.T) {
	b := newBed(t)
	b.config(func(s *specs.Spec) { s.Process.Args = []string{"sleep", "60"} })
	b.create("another")
	b.must("start", "another")
	pid := b.state("another").Pid
	start, err := runtime.StartTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	rt, err := runtime.New(runtime.Options{ExecRoot: b.root, CgroupParent: oci.Parent, ShimPath: filepath.Join(filepath.Dir(b.runtime), "porthole-shim")})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	tree, err := cgroup.Current()
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	exec := func(start string) error {
		proc, err := rt.ExecBare(&runtime.BareExec{
			ID: "another", PID: pid, Start: start, Spec: &specs.Spec{}, Process: &specs.Process{Args: []string{"echo", "entered"}, Cwd: "/", Env: []string{"PATH=/bin"}},
			Cgroup: tree.Whole(oci.Parent + "/another"), Stdio: [3]*os.File{out, out, out},
		})
		if err == nil {
			_, err = proc.Wait()
		}
		return err
	}
	if err := exec("1"); err == nil || !strings.Contains(err.Error(), "has ended meanwhile") {
		t.Errorf("into another: %v", err)
	}
	if said := read(t, out); said != "" {
		t.Errorf("another was entered: %q", said)
	}
	if err := exec(start); err != nil {
		t.Errorf("into the container: %v", err)
	}
	if said := read(t, out); said != "entered\n" {
		t.Errorf("the container said %q", said)
	}
}

func read(t *testing.T, f *os.File) string {
	t.Helper()
	text, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestCreatedIsInItsGroups: a container's process is in all its control groups from create on.
func TestCreatedIsInItsGroups(t *testing.T) {
	b := newBed(t)
	b.config(func(s *specs.Spec) {
		s.Linux.CgroupsPath = ""
		s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.CgroupNamespace })
	})
	check := func(id string) error {
		if out, err := b.run("create", "--bundle", b.bundle, id); err != nil {
			return fmt.Errorf("create: %w: %s", err, out)
		}
		var s specs.State
		out, err := b.run("state", id)
		if err == nil {
			err = json.Unmarshal([]byte(out), &s)
		}
		if err != nil {
			return fmt.Errorf("state: %w: %s", err, out)
		}
		groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", s.Pid))
		if out, e := b.run("delete", "--force", id); e != nil {
			return fmt.Errorf("delete: %w: %s", e, out)
		}
		for line := range strings.Lines(string(groups)) {
			if !strings.Contains(line, id) {
				return fmt.Errorf("container %s is in\n%s", id, groups)
			}
		}
		return err
	}
	// It was not in one of twelve, with other work beside.
	var creators errgroup.Group
	for i := range 8 {
		creators.Go(func() error {
			for n := range 25 {
				if err := check(fmt.Sprintf("created%d-%d", i, n)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := creators.Wait(); err != nil {
		t.Error(err)
	}
}

// TestMemoryLimits: a process whose memory may not grow comes to life all the same, with a
// long list of accounts to be read on the way.
func TestMemoryLimits(t *testing.T) {
	b := newBed(t)
	var accounts strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&accounts, "user%d:x:%d:%d:a user:/home:/bin/sh\n", i, i, i)
	}
	if err := os.WriteFile(filepath.Join(b.bundle, "rootfs/etc/passwd"), []byte(accounts.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	b.config(func(s *specs.Spec) {
		s.Process.Args = []string{"sh", "-c", "sleep 1000"}
		s.Process.Rlimits = []specs.POSIXRlimit{
			{Type: "RLIMIT_AS", Soft: 256 << 20, Hard: 256 << 20}, {Type: "RLIMIT_DATA", Soft: 2 << 20, Hard: 2 << 20},
		}
	})
	for i := range 30 { // it failed in one of five
		id := fmt.Sprintf("memory-%d", i)
		b.deleteLater(id)
		out := b.must("create", "--bundle", b.bundle, id) + b.must("start", id)
		if out != "" {
			t.Fatalf("container %d: %s", i, out)
		}
		b.must("delete", "--force", id)
	}
}
