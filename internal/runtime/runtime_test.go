package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/runtime/plan"
)

// with is the same world for a subtest.
func (w *world) with(t *testing.T) *world {
	c := *w
	c.t = t
	return &c
}

// userNamespaces runs a test in a user namespace of its own and in the host's.
func userNamespaces(t *testing.T, f func(w *world, change func(*Bundle))) {
	w := newWorld(t)
	t.Run("own user namespace", func(t *testing.T) { f(w.with(t), func(*Bundle) {}) })
	t.Run("host user namespace", func(t *testing.T) { f(w.with(t), onHost) })
}

func TestPlainContainer(t *testing.T) {
	userNamespaces(t, func(w *world, change func(*Bundle)) {
		b := w.bundle("sh", "-c", "echo hello; echo problem >&2; id -u; hostname; exit 3")
		change(&b)
		out, exit := w.run(b)
		if diff := cmp.Diff("0\nbox\nhello\nproblem\n", sortLines(out)); diff != "" {
			w.t.Errorf("output (-want +got):\n%s", diff)
		}
		if exit.Code != 3 || !exit.Observed {
			w.t.Errorf("exit = %+v, want code 3, observed", exit)
		}
		if onDisk, err := ReadExit(b.StateDir); err != nil || onDisk.Code != 3 {
			w.t.Errorf("ReadExit() = %+v, %v, want code 3", onDisk, err)
		}
	})
}

// sortLines makes the two output streams comparable, which have no order
// between them.
func sortLines(s string) string {
	lines := strings.SplitAfter(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// idMapOf reads a process's uid_map.
func (w *world) idMapOf(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", pid))
	w.must(err)
	return strings.Join(strings.Fields(string(data)), " ")
}

// TestRootInsideIsNobodyOutside is the point of it all: uid 0 in the container is
// an unprivileged uid of the host, image files keep their owners inside, and
// what is written through a bind mount belongs on the host to whom it says inside.
func TestRootInsideIsNobodyOutside(t *testing.T) {
	w := newWorld(t)
	src := filepath.Join(w.dir, "src")
	w.must(os.Mkdir(src, 0o755))
	w.must(os.WriteFile(filepath.Join(src, "hosts-own"), nil, 0o600))
	w.must(os.Chown(filepath.Join(w.image, "home/app"), 1000, 1000))
	b := w.shell(`
		stat -c "%u:%g %n" /data/hosts-own /bin/busybox /home/app /etc
		echo x >/data/by-root; chown 1000:1000 /home/app; echo y >/written; mkdir /data/dir
		echo z >/data/by-app; chown 1000:29 /data/by-app
		sleep 1000`)
	b.Spec.Mounts = append(b.Spec.Mounts, specs.Mount{Destination: "/data", Type: "bind", Source: src, Options: []string{"rbind", "rprivate"}})
	c := w.create(b)
	conn, err := c.Attach(w.context(), AttachOptions{Stdout: true, Stderr: true})
	w.must(err)
	defer conn.Close()
	w.must(c.Start(w.context()))
	w.waitFor(filepath.Join(src, "by-app"))
	w.eventually("by-app has its owner", func() bool { return w.owner(filepath.Join(src, "by-app")) == "1000:29" })

	if got, want := w.owner(fmt.Sprintf("/proc/%d", c.Pid())), fmt.Sprintf("%d:%d", testIDs.Host, testIDs.Host); got != want {
		t.Errorf("the host sees the process as %s, want %s", got, want)
	}
	if got, want := w.idMapOf(c.Pid()), fmt.Sprintf("0 %d %d", testIDs.Host, testIDs.Size); got != want {
		t.Errorf("uid_map = %q, want %q", got, want)
	}
	upper := b.RootFS.Upper
	for name, want := range map[string]string{
		filepath.Join(src, "by-root"): "0:0", filepath.Join(src, "dir"): "0:0", filepath.Join(src, "hosts-own"): "0:0",
		filepath.Join(upper, "written"): "0:0", filepath.Join(upper, "home/app"): "1000:1000",
	} {
		if got := w.owner(name); got != want {
			t.Errorf("owner of %s on the host = %s, want %s", name, got, want)
		}
	}
	w.must(c.Kill(w.context()))
	out := w.read(conn, false)
	if diff := cmp.Diff("0:0 /data/hosts-own\n0:0 /bin/busybox\n1000:1000 /home/app\n0:0 /etc\n", out); diff != "" {
		t.Errorf("owners inside (-want +got):\n%s", diff)
	}
}

func (w *world) owner(name string) string {
	w.t.Helper()
	info, err := os.Lstat(name)
	w.must(err)
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid)
}

// waitFor waits until a file exists.
func (w *world) waitFor(name string) {
	w.t.Helper()
	w.eventually(name+" exists", func() bool { _, err := os.Stat(name); return err == nil })
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	if !within(30*time.Second, ok) {
		w.t.Fatalf("not within 30 seconds: %s", what)
	}
}

// within tells whether ok comes true in time.
func within(limit time.Duration, ok func() bool) bool {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(limit); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			return false
		}
	}
	return true
}

func TestProcessIsInItsCgroups(t *testing.T) {
	userNamespaces(t, func(w *world, change func(*Bundle)) {
		b := w.bundle("sleep", "1000")
		change(&b)
		c := w.start(b)
		p := w.exec(c, "sleep", "1000")
		tool, err := c.Exec(w.context(), ExecOptions{ID: "tool", Process: execProcess("sleep", "1000"), Tool: true})
		w.must(err)
		w.must(tool.Start(w.context()))
		w.wantCgroup(c.Pid(), w.parent+"/"+c.ID()+"/app")
		w.wantCgroup(p.Pid(), w.parent+"/"+c.ID()+"/app")
		w.wantCgroup(tool.Pid(), w.parent+"/"+c.ID()+"/debug")
		shims, err := c.shimPids()
		w.must(err)
		if len(shims) != 1 {
			w.t.Fatalf("shims of the container = %v, want one", shims)
		}
		w.wantShimCgroup(shims[0], c)
		if got := w.oomScore(c.Pid()); got != "0" {
			w.t.Errorf("OOM score of the process = %s, want 0", got)
		}
	})
}

// wantShimCgroup: one group for all shims on v1, one for each on v2, where the
// kernel makes it in no time and it tells whose shim it is.
func (w *world) wantShimCgroup(pid int, c *Container) {
	w.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	w.must(err)
	own := w.parent + "/" + c.ID() + "/shim"
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		want := own
		if parts[1] != "" && w.r.tree.Unified() != "" {
			want = w.parent + "/shims"
		}
		if parts[2] != want {
			w.t.Errorf("shim %d is in %s of %q, want %s", pid, parts[2], parts[1], want)
		}
	}
}

func (w *world) wantCgroup(pid int, want string) {
	w.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	w.must(err)
	for line := range strings.Lines(string(data)) {
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); parts[2] != want {
			w.t.Errorf("process %d is in %s of %q, want %s", pid, parts[2], parts[1], want)
		}
	}
}

func (w *world) oomScore(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	w.must(err)
	return strings.TrimSpace(string(data))
}

func TestStdin(t *testing.T) {
	w := newWorld(t)
	b := w.shell("cat; echo end")
	b.OpenStdin, b.StdinOnce = true, true
	c := w.create(b)
	conn, err := c.Attach(w.context(), AttachOptions{Stdin: true, Stdout: true, CloseStdin: true})
	w.must(err)
	defer conn.Close()
	w.must(c.Start(w.context()))
	_, err = conn.WriteString("through\n")
	w.must(err)
	rc, err := conn.SyscallConn()
	w.must(err)
	w.must(rc.Control(func(fd uintptr) { err = syscall.Shutdown(int(fd), syscall.SHUT_WR) }))
	w.must(err)
	if diff := cmp.Diff("through\nend\n", w.read(conn, false)); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func TestTerminal(t *testing.T) {
	userNamespaces(t, func(w *world, change func(*Bundle)) {
		b := w.shell("tty; stty size; test -c /dev/console && echo console; ls -l /dev/pts/0 | cut -c1-10 2>/dev/null; echo written >/dev/tty; ps -o pid,args | head -2")
		b.Terminal, b.ConsoleSize = true, [2]uint16{33, 111}
		change(&b)
		out, exit := w.run(b)
		if !strings.HasPrefix(out, "/dev/pts/0\n33 111\nconsole\n") || !strings.Contains(out, "written\n") || exit.Code != 0 {
			w.t.Errorf("output %q, exit %+v", out, exit)
		}
	})
}

func TestInit(t *testing.T) {
	userNamespaces(t, func(w *world, change func(*Bundle)) {
		b := w.shell("sh -c 'sleep 0.05 &' ; sleep 0.3; ps -o pid,comm,stat; kill -TERM $$")
		b.Init = true
		change(&b)
		out, exit := w.run(b)
		if !strings.Contains(out, " 1 porthole-init") {
			w.t.Errorf("no init as process 1:\n%s", out)
		}
		if strings.Contains(out, "Z") {
			w.t.Errorf("zombies are left:\n%s", out)
		}
		if exit.Code != 128+15 {
			w.t.Errorf("exit = %+v, want 143", exit)
		}
		b = w.bundle("nosuch")
		b.Init = true
		change(&b)
		w.wantStartError(b, `exec: "nosuch": executable file not found in $PATH`, syscall.ENOENT)
	})
}

func TestExecOnContainerWithInit(t *testing.T) {
	w := newWorld(t)
	b := w.bundle("sleep", "1000")
	b.Init = true
	c := w.start(b)
	if out, exit := w.execRun(c, "echo", "in"); out != "in\n" || exit.Code != 0 {
		t.Errorf("exec = %q, %+v", out, exit)
	}
}

func (w *world) wantStartError(b Bundle, message string, errno syscall.Errno) {
	w.t.Helper()
	c, err := w.r.Create(w.context(), b)
	if err == nil {
		defer w.delete(c)
		err = c.Start(w.context())
	}
	var se *StartError
	if !errors.As(err, &se) {
		w.t.Fatalf("error = %v (%T), want a *StartError", err, err)
	}
	if se.Message != message || se.Errno != errno {
		w.t.Errorf("error = %q, errno %v\nwant    %q, errno %v", se.Message, se.Errno, message, errno)
	}
}

func TestStartErrors(t *testing.T) {
	w := newWorld(t)
	w.must(os.WriteFile(filepath.Join(w.image, "bin/script"), []byte("#!/no/such/interpreter\n"), 0o755))
	w.must(os.WriteFile(filepath.Join(w.image, "bin/crap"), []byte("\x7fNOTELF"), 0o755))
	w.must(os.WriteFile(filepath.Join(w.image, "bin/rootonly"), []byte("#!/bin/sh\n"), 0o700))
	file := filepath.Join(w.dir, "file")
	w.must(os.WriteFile(file, nil, 0o644))
	bind := func(src, dst string) func(*Bundle) {
		return func(b *Bundle) {
			b.Spec.Mounts = append(b.Spec.Mounts, specs.Mount{Destination: dst, Type: "bind", Source: src, Options: []string{"rbind"}})
		}
	}
	user := func(name string) func(*Bundle) {
		return func(b *Bundle) { b.Spec.Process.User.Username = name }
	}
	tests := []struct {
		name    string
		args    []string
		change  func(*Bundle)
		message string
		errno   syscall.Errno
	}{
		{"missing command", []string{"nosuch"}, nil, `exec: "nosuch": executable file not found in $PATH`, syscall.ENOENT},
		{"missing path", []string{"/no/such"}, nil, `exec: "/no/such": stat /no/such: no such file or directory`, syscall.ENOENT},
		{"not executable", []string{"/etc/plain"}, nil, `exec: "/etc/plain": permission denied`, syscall.EACCES},
		{"directory", []string{"/etc"}, nil, `exec: "/etc": is a directory`, syscall.EISDIR},
		{"not for this user", []string{"/bin/rootonly"}, user("app"), `exec: "/bin/rootonly": permission denied`, syscall.EACCES},
		{"missing interpreter", []string{"script"}, nil, `exec /bin/script: no such file or directory`, syscall.ENOENT},
		{"no program", []string{"/bin/crap"}, nil, `exec /bin/crap: exec format error`, syscall.ENOEXEC},
		{"unknown user", []string{"true"}, user("nobody-such"), `unable to find user nobody-such: no matching entries in passwd file`, 0},
		{"unknown group", []string{"true"}, user("app:nosuch"), `unable to find group nosuch: no matching entries in group file`, 0},
		{"missing source", []string{"true"}, bind("/no/such/source", "/x"), `error mounting "/no/such/source" to rootfs at "/x": open /no/such/source: no such file or directory`, syscall.ENOENT},
		{"file onto directory", []string{"true"}, bind(file, "/etc"), `error mounting "` + file + `" to rootfs at "/etc": mount /etc: not a directory`, syscall.ENOTDIR},
		{"directory onto file", []string{"true"}, bind(w.dir, "/etc/plain"), `error mounting "` + w.dir + `" to rootfs at "/etc/plain": mount /etc/plain: not a directory`, syscall.ENOTDIR},
		{"mount in proc", []string{"true"}, bind(w.dir, "/proc/sys"), `error mounting "` + w.dir + `" to rootfs at "/proc/sys": "/proc/sys" cannot be mounted because it is inside /proc`, 0},
		{"unknown sysctl", []string{"true"}, func(b *Bundle) { b.Spec.Linux.Sysctl = map[string]string{"net.no.such": "1"} }, `set sysctl net.no.such: open /proc/sys/net/no/such: no such file or directory`, syscall.ENOENT},
		{"bad tmpfs option", []string{"true"}, func(b *Bundle) {
			b.Spec.Mounts = append(b.Spec.Mounts, specs.Mount{Destination: "/t", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=much"}})
		}, `error mounting "tmpfs" to rootfs at "/t": set size=much on tmpfs: invalid argument (tmpfs: Bad value for 'size')`, syscall.EINVAL},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := w.with(t)
			b := w.bundle(tt.args...)
			if tt.change != nil {
				tt.change(&b)
			}
			w.wantStartError(b, tt.message, tt.errno)
		})
	}
}

func TestRefusedBundles(t *testing.T) {
	w := newWorld(t)
	tests := []struct {
		name   string
		change func(*Bundle)
		class  func(error) bool
	}{
		{"no args", func(b *Bundle) { b.Spec.Process.Args = nil }, errdefs.IsInvalidArgument},
		{"NUL in args", func(b *Bundle) { b.Spec.Process.Args = []string{"a\x00b"} }, errdefs.IsInvalidArgument},
		{"relative cwd", func(b *Bundle) { b.Spec.Process.Cwd = "here" }, errdefs.IsInvalidArgument},
		{"relative target", func(b *Bundle) { b.Spec.Mounts[0].Destination = "proc" }, errdefs.IsInvalidArgument},
		{"bad id", func(b *Bundle) { b.ID = "../x" }, errdefs.IsInvalidArgument},
		{"hooks", func(b *Bundle) { b.Spec.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/x"}}} }, errdefs.IsNotImplemented},
		{"time namespace", func(b *Bundle) {
			b.Spec.Linux.Namespaces = append(b.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
		}, errdefs.IsNotImplemented},
		{"unknown capability", func(b *Bundle) { b.Spec.Process.Capabilities.Bounding = []string{"CAP_NONE"} }, errdefs.IsInvalidArgument},
		{"unknown limit", func(b *Bundle) { b.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_X"}} }, errdefs.IsInvalidArgument},
		{"host network in a user namespace", func(b *Bundle) {
			b.Spec.Linux.Namespaces = slices.DeleteFunc(b.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
		}, errdefs.IsInvalidArgument},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := w.with(t)
			b := w.bundle("true")
			tt.change(&b)
			c, err := w.r.Create(w.context(), b)
			if err == nil {
				w.delete(c)
			}
			if !tt.class(err) {
				t.Errorf("Create() = %v, of another class", err)
			}
		})
	}
}

func TestUnmappableMount(t *testing.T) {
	w := newWorld(t)
	b := w.bundle("true")
	b.Spec.Mounts = append(b.Spec.Mounts, specs.Mount{Destination: "/hostproc", Type: "bind", Source: "/proc", Options: []string{"bind"}})
	c, err := w.r.Create(w.context(), b)
	if err == nil {
		w.delete(c)
	}
	var ue *UnmappableError
	if !errors.As(err, &ue) || ue.Path != "/proc" {
		t.Errorf("Create() = %v, want an *UnmappableError about /proc", err)
	}
	onHost(&b)
	if _, exit := w.run(b); exit.Code != 0 {
		t.Errorf("exit in the host's user namespace = %+v, want 0", exit)
	}
}

func TestKillAndFreeze(t *testing.T) {
	w := newWorld(t)
	c := w.start(w.shell("sleep 1000 & sleep 1000"))
	p := w.exec(c, "sleep", "1000")
	w.must(c.Freeze(w.context()))
	if frozen, err := c.Frozen(); err != nil || !frozen {
		t.Errorf("Frozen() = %v, %v after Freeze", frozen, err)
	}
	w.must(c.Thaw(w.context()))
	if frozen, err := c.Frozen(); err != nil || frozen {
		t.Errorf("Frozen() = %v, %v after Thaw", frozen, err)
	}
	w.must(c.Freeze(w.context()))
	w.must(c.Kill(w.context()))
	w.wait(c.Done())
	w.wait(p.Done())
	if e := c.Exit(); e.Signal != syscall.SIGKILL || e.Code != 137 || !e.Observed {
		t.Errorf("exit = %+v, want SIGKILL, observed", e)
	}
	if e := p.Exit(); e.Code != 137 {
		t.Errorf("exit of exec = %+v, want 137", e)
	}
	w.delete(c)
	w.delete(c)
}

func TestSignal(t *testing.T) {
	w := newWorld(t)
	b := w.shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done")
	c := w.create(b)
	conn, err := c.Attach(w.context(), AttachOptions{Stdout: true})
	w.must(err)
	defer conn.Close()
	w.must(c.Start(w.context()))
	w.must(func() error { _, err := conn.Read(make([]byte, 64)); return err }())
	w.must(c.Signal(w.context(), syscall.SIGTERM))
	w.wait(c.Done())
	if e := c.Exit(); e.Code != 7 {
		t.Errorf("exit = %+v, want 7", e)
	}
}

func TestOOMKill(t *testing.T) {
	w := newWorld(t)
	b := w.shell("dd if=/dev/zero of=/dev/null bs=200M count=1; exit $?")
	limit := int64(32 << 20)
	b.Spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
	_, exit := w.run(b)
	if !exit.OOMKilled {
		t.Errorf("exit = %+v, want OOMKilled", exit)
	}
}

func TestLoad(t *testing.T) {
	w := newWorld(t)
	b := w.shell("while ! test -e /stop; do sleep 0.02; done; exit 9")
	first := w.start(b)
	p := w.exec(first, "sleep", "1000")
	// What a daemon that was killed leaves: a connection that goes away.
	w.must(first.Release())

	c, err := w.r.Load(w.context(), b.ID, b.StateDir, b.LogDir)
	w.must(err)
	defer w.delete(c)
	if c.Pid() != first.Pid() || c.IDs() != testIDs || c.StartedAt().IsZero() || c.Cgroup().Path() != first.Cgroup().Path() {
		t.Errorf("adopted: pid %d, ids %+v, started %v, cgroup %s", c.Pid(), c.IDs(), c.StartedAt(), c.Cgroup().Path())
	}
	if diff := cmp.Diff(first.Plan(), c.Plan()); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	if found := c.Process(p.ID()); found == nil || found.Pid() != p.Pid() {
		t.Errorf("Process(%q) = %+v, want pid %d", p.ID(), found, p.Pid())
	}
	if out, _ := w.execRun(c, "touch", "/stop"); out != "" {
		t.Errorf("exec after Load wrote %q", out)
	}
	w.wait(c.Done())
	if e := c.Exit(); e.Code != 9 || !e.Observed {
		t.Errorf("exit = %+v, want 9, observed", e)
	}
}

func TestLoadOfNothing(t *testing.T) {
	w := newWorld(t)
	if _, err := w.r.Load(w.context(), "nosuch", w.dir, w.dir); !errdefs.IsNotFound(err) {
		t.Errorf("Load() = %v, want not found", err)
	}
}

// TestEndWhileNobodyLooks is a container that ends while the daemon is dead.
func TestEndWhileNobodyLooks(t *testing.T) {
	w := newWorld(t)
	b := w.shell("sleep 0.1; exit 11")
	c := w.start(b)
	w.must(c.Release())
	w.eventually("the exit is on disk", func() bool { _, err := ReadExit(b.StateDir); return err == nil })
	w.eventually("the shim has ended", func() bool { pids, err := c.shimPids(); return err == nil && len(pids) == 0 })
	if _, err := w.r.Load(w.context(), b.ID, b.StateDir, b.LogDir); !errdefs.IsNotFound(err) {
		t.Errorf("Load() = %v, want not found", err)
	}
	if e, err := ReadExit(b.StateDir); err != nil || e.Code != 11 {
		t.Errorf("ReadExit() = %+v, %v, want 11", e, err)
	}
	if c.group.Exists() {
		t.Error("the cgroup is left")
	}
	if _, err := os.Stat(c.runDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the run directory is left: %v", err)
	}
}

func TestShimKilled(t *testing.T) {
	w := newWorld(t)
	b := w.bundle("sleep", "1000")
	c := w.start(b)
	p := w.exec(c, "sleep", "1000")
	pids, err := c.shimPids()
	w.must(err)
	for _, pid := range pids {
		w.must(syscall.Kill(pid, syscall.SIGKILL))
	}
	w.wait(c.Done())
	w.wait(p.Done())
	if e := c.Exit(); e.Observed || e.Code != 137 {
		t.Errorf("exit = %+v, want 137, not observed", e)
	}
	if left, err := c.group.Pids(); err != nil || len(left) != 0 {
		t.Errorf("processes left = %v, %v", left, err)
	}
	w.delete(c)
}

func TestNeverStarted(t *testing.T) {
	w := newWorld(t)
	c := w.create(w.bundle("true"))
	if err := syscall.Kill(c.Pid(), 0); err != nil {
		t.Errorf("the stage does not wait: %v", err)
	}
	w.delete(c)
	if err := syscall.Kill(c.Pid(), 0); err == nil {
		t.Error("the stage is left")
	}
}

func TestManyLayers(t *testing.T) {
	w := newWorld(t)
	b := w.bundle("cat", "/which", "/layer120", "/layer3")
	layers := b.RootFS.Base
	for i := range 121 {
		dir := filepath.Join(layers, "l:a,y"+strconv.Itoa(i))
		w.must(os.Mkdir(dir, 0o755))
		w.must(os.WriteFile(filepath.Join(dir, "which"), fmt.Appendf(nil, "%d\n", i), 0o644))
		w.must(os.WriteFile(filepath.Join(dir, "layer"+strconv.Itoa(i)), fmt.Appendf(nil, "is %d\n", i), 0o644))
		b.RootFS.Lower = append([]string{dir}, b.RootFS.Lower...)
	}
	out, _ := w.run(b)
	if diff := cmp.Diff("120\nis 120\nis 3\n", out); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestOverlayByAttachedLayers takes the way of kernels before 6.15.
func TestOverlayByAttachedLayers(t *testing.T) {
	w := newWorld(t)
	w.r.attachLayers = true
	b := w.shell("echo x >/new; stat -c %u:%g /new /etc")
	out, _ := w.run(b)
	if diff := cmp.Diff("0:0\n0:0\n", out); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := w.owner(filepath.Join(b.RootFS.Upper, "new")); got != "0:0" {
		t.Errorf("owner on disk = %s, want 0:0", got)
	}
}

func TestCgroupPath(t *testing.T) {
	w := newWorld(t)
	b := w.bundle("sleep", "1000")
	b.Spec.Linux.CgroupsPath = w.parent + "/deeper/" + b.ID
	c := w.start(b)
	w.wantCgroup(c.Pid(), b.Spec.Linux.CgroupsPath+"/app")
	w.delete(c)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	w.must(cgroup.New(w.parent + "/deeper").Destroy(ctx))
}

// TestForkerKilled goes on without the helper that forks shims.
func TestForkerKilled(t *testing.T) {
	w := newWorld(t)
	w.run(w.bundle("true"))
	first := w.r.forker
	if first == nil {
		t.Fatal("no forker was used")
	}
	w.must(syscall.Kill(first.Pid(), syscall.SIGKILL))
	if out, _ := w.run(w.bundle("echo", "again")); out != "again\n" {
		t.Errorf("output %q", out)
	}
	if w.r.forker == first {
		t.Error("the dead forker is still in use")
	}
}

// TestCutOff is a conversation that breaks while the shim lives.
func TestCutOff(t *testing.T) {
	w := newWorld(t)
	c := w.start(w.shell("while ! test -e /stop; do sleep 0.02; done; exit 4"))
	p := w.exec(c, "sleep", "1000")
	quick := w.exec(c, "sh", "-c", "sleep 0.2; exit 6")
	old := c.shim()
	w.must(old.Close())
	w.eventually("the conversation goes on", func() bool { return c.shim() != old })
	w.wait(quick.Done())
	if e := quick.Exit(); e.Code != 6 || !e.Observed {
		t.Errorf("exit of the exec = %+v, want 6, observed", e)
	}
	select {
	case <-p.Done():
		t.Errorf("a process that runs is taken for ended: %+v", p.Exit())
	case <-c.Done():
		t.Errorf("a container that runs is taken for ended: %+v", c.Exit())
	default:
	}
	w.execRun(c, "touch", "/stop")
	w.wait(c.Done())
	if e := c.Exit(); e.Code != 4 || !e.Observed {
		t.Errorf("exit = %+v, want 4, observed", e)
	}
}

func TestShimID(t *testing.T) {
	id := identify(os.Getpid())
	if id.PID != os.Getpid() || id.Start == "" {
		t.Fatalf("identify() = %+v", id)
	}
	if again := identify(os.Getpid()); again != id {
		t.Errorf("identify() = %+v, then %+v", id, again)
	}
	if gone := identify(1 << 30); gone != (shimID{}) {
		t.Errorf("identify() of no process = %+v", gone)
	}
}

// To mount a v1 hierarchy takes as long as there are groups in the v2 tree: no
// start may do it, only one into a cgroup namespace that is there already.
func TestCgroupMountsAreBound(t *testing.T) {
	w := newWorld(t)
	tree, err := cgroup.Current()
	w.must(err)
	judged := 0
	for _, s := range w.start(w.bundle("sleep", "100000")).Plan().Steps {
		if s.Op != plan.OpMount || s.Mount.Describe != "cgroup" {
			continue
		}
		judged++
		switch {
		case tree.Mode() == cgroup.V2 && s.Mount.FS != "cgroup2":
			t.Errorf("%s: is a mount of %q, want cgroup2", s.Name, s.Mount.FS)
		case tree.Mode() != cgroup.V2 && s.Mount.FS != "":
			t.Errorf("%s: is a mount of %q, want a bind", s.Name, s.Mount.FS)
		}
	}
	if judged == 0 {
		t.Error("no step mounts a cgroup")
	}
}
