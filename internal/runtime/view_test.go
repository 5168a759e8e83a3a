package runtime

import (
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/runtime/plan"
	"github.com/portholehq/porthole/internal/testenv"
)

// probeVariable makes the test binary a tool in a container.
const probeVariable = "PORTHOLE_TEST_PROBE"

// probe is that tool: it prints which signals the target's first process
// catches, by stopping and tracing it.
func probe() int {
	if err := tracePid1(); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("traced")
	return 0
}

func tracePid1() error {
	runtime.LockOSThread()
	// The number that the target's first process has for this one.
	f, err := os.Open("/proc/1/ns/pid")
	if err != nil {
		return err
	}
	pid, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.NS_GET_PID_FROM_PIDNS, 1)
	if errno != 0 {
		return fmt.Errorf("translate pid: %w", errno)
	}
	if err := unix.PtraceSeize(int(pid)); err != nil {
		return fmt.Errorf("seize: %w", err)
	}
	if err := unix.PtraceInterrupt(int(pid)); err != nil {
		return fmt.Errorf("interrupt: %w", err)
	}
	var st unix.WaitStatus
	if _, err := unix.Wait4(int(pid), &st, unix.WALL, nil); err != nil || !st.Stopped() {
		return fmt.Errorf("wait: %w, status %#x", err, st)
	}
	return unix.PtraceDetach(int(pid))
}

// tools makes a directory with the test binary as a tool.
func (w *world) tools() *os.File {
	w.t.Helper()
	dir := filepath.Join(w.dir, "tools")
	w.must(os.MkdirAll(filepath.Join(dir, "bin"), 0o755))
	data, err := os.ReadFile("/proc/self/exe")
	w.must(err)
	w.must(os.WriteFile(filepath.Join(dir, "bin", "probe"), data, 0o755))
	f, err := os.Open(dir)
	w.must(err)
	w.t.Cleanup(func() { f.Close() })
	return f
}

// traits are what a container could see of a tool, and what a tool may not
// change.
func (w *world) traits(c *Container) string {
	w.t.Helper()
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", c.Pid()))
	w.must(err)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.Pid()))
	w.must(err)
	var out strings.Builder
	fmt.Fprintf(&out, "mounts %x\n", sha256.Sum256(table))
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "CapEff:") || strings.HasPrefix(line, "Seccomp:") || strings.HasPrefix(line, "TracerPid:") {
			out.WriteString(line)
		}
	}
	pids, err := c.group.Pids()
	w.must(err)
	return out.String() + fmt.Sprintf("processes %d\n", len(pids))
}

func TestViewIsNotSeen(t *testing.T) {
	w := newWorld(t)
	b := w.bundle("sleep", "1000")
	c := w.start(b)
	before := w.traits(c)
	view := &View{Tools: w.tools()}
	inTool := func(args ...string) ExecOptions {
		p := execProcess(args...)
		allRights(t)(p)
		p.Env = append(p.Env, probeVariable+"=ptrace")
		return ExecOptions{Process: p, Tool: true, View: view, NoSeccomp: true}
	}
	for _, frozen := range []bool{false, true} {
		if frozen {
			w.must(c.Freeze(w.context()))
		}
		out, exit := w.execWith(c, inTool("sh", "-c", "ls /proc/fs/nfsd/bin; ps -o pid,args; mount | grep -c nfsd; ls /proc/self"))
		want := "probe\nPID   COMMAND\n    1 sleep 1000\n"
		if !strings.HasPrefix(out, want) {
			t.Errorf("frozen %t: the tool sees %q, %v; want it to begin with %q", frozen, out, exit, want)
		}
	}
	w.must(c.Thaw(w.context()))
	if diff := cmp.Diff(before, w.traits(c)); diff != "" {
		t.Errorf("what the container sees (-before +after):\n%s", diff)
	}
	if out, _ := w.execWith(c, ExecOptions{Process: execProcess("sh", "-c", "ls /proc/fs/nfsd; ls /dev/pts")}); out != "ptmx\n" {
		t.Errorf("the container sees %q, want no tools and no terminal", out)
	}
}

func TestViewMayTrace(t *testing.T) {
	w := newWorld(t)
	testenv.NeedsKernel(t, "6.11", translatesPids())
	if dynamic(t) {
		testenv.Skip(t, "the container has no libraries for this test binary: set CGO_ENABLED=0")
	}
	c := w.start(w.bundle("sleep", "1000"))
	before := w.traits(c)
	p := execProcess(plan.ToolsDir + "/bin/probe")
	p.Env = append(p.Env, probeVariable+"=ptrace")
	allRights(t)(p)
	out, exit := w.execWith(c, ExecOptions{Process: p, Tool: true, View: &View{Tools: w.tools()}, NoSeccomp: true})
	if out != "traced\n" || exit.Code != 0 {
		t.Errorf("output %q, exit %v", out, exit)
	}
	if diff := cmp.Diff(before, w.traits(c)); diff != "" {
		t.Errorf("the container (-before +after):\n%s", diff)
	}
}

// dynamic tells whether the test binary needs libraries.
func dynamic(t *testing.T) bool {
	t.Helper()
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return true
		}
	}
	return false
}

// translatesPids asks whether the kernel tells which number a process has in
// another pid namespace.
func translatesPids() error {
	f, err := os.Open("/proc/self/ns/pid")
	if err != nil {
		return err
	}
	defer f.Close()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.NS_GET_PID_FROM_PIDNS, uintptr(os.Getpid())); errno != 0 {
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, errno)
	}
	return nil
}

// With a root of its own, a tool changes nothing in the container.
func TestViewWithOwnRoot(t *testing.T) {
	userNamespaces(t, func(w *world, change func(*Bundle)) {
		b := w.bundle("sleep", "1000")
		change(&b)
		c := w.start(b)
		before := w.traits(c)
		layers, session := filepath.Join(w.dir, "layers"), "session"+randomName()
		for _, d := range []string{"upper", "work"} {
			w.must(os.MkdirAll(filepath.Join(layers, session, d), 0o755))
		}
		view := &View{
			Tools: w.tools(), Inside: b.IDs.Size == 0,
			Root: Layers{
				Base: layers, Lower: append([]string{b.RootFS.Upper}, b.RootFS.Lower...),
				Upper: filepath.Join(layers, session, "upper"), Work: filepath.Join(layers, session, "work"),
			},
		}
		out, exit := w.execWith(c, ExecOptions{
			Process: execProcess("sh", "-c", "echo x >/new; rm /etc/plain; ls /etc; ls /dev/null /proc/1/status"), Tool: true, View: view,
		})
		if want := "group\npasswd\n/dev/null\n/proc/1/status\n"; out != want || exit.Code != 0 {
			w.t.Errorf("output %q, exit %v; want %q", out, exit, want)
		}
		if diff := cmp.Diff(before, w.traits(c)); diff != "" {
			w.t.Errorf("the container (-before +after):\n%s", diff)
		}
		if _, err := os.Stat(filepath.Join(b.RootFS.Upper, "new")); !os.IsNotExist(err) {
			w.t.Errorf("the container has the tool's file: %v", err)
		}
		if _, err := os.Stat(filepath.Join(layers, session, "upper", "new")); err != nil {
			w.t.Error(err)
		}
	})
}

// A tool with a root of its own cannot write to what is mounted in it, wherever
// that is and whatever filesystem it is on.
func TestViewWithOwnRootKeepsMounts(t *testing.T) {
	w := newWorld(t)
	hosts := filepath.Join(w.dir, "hosts")
	w.must(os.MkdirAll(hosts, 0o755))
	w.must(unix.Mount("tmpfs", hosts, "tmpfs", 0, "mode=777"))
	t.Cleanup(func() { w.must(unix.Unmount(hosts, unix.MNT_DETACH)) })
	plain := filepath.Join(w.dir, "plain")
	w.must(os.Mkdir(plain, 0o777))
	w.must(os.Chmod(plain, 0o777))
	b := w.bundle("sleep", "1000")
	onHost(&b) // of old kernels no tmpfs can be ID-mapped
	bind := []string{"rbind", "rprivate"}
	b.Spec.Mounts = append(
		b.Spec.Mounts,
		specs.Mount{Destination: "/tmpfs", Type: "bind", Source: hosts, Options: bind},
		specs.Mount{Destination: "/scratch", Type: "tmpfs", Source: "tmpfs"},
		specs.Mount{Destination: "/scratch/below", Type: "bind", Source: plain, Options: bind},
	)
	c := w.start(b)
	layers := filepath.Join(w.dir, "layers")
	view := &View{Tools: w.tools(), Inside: true, Root: Layers{
		Base: layers, Lower: append([]string{b.RootFS.Upper}, b.RootFS.Lower...),
		Upper: filepath.Join(layers, "own", "upper"), Work: filepath.Join(layers, "own", "work"),
	}}
	w.must(os.MkdirAll(view.Root.Upper, 0o755))
	w.must(os.MkdirAll(view.Root.Work, 0o755))
	out, _ := w.execWith(c, ExecOptions{
		Process: execProcess("sh", "-c", "for d in /tmpfs /scratch /scratch/below /dev/shm /etc; do touch $d/new 2>/dev/null && echo $d; done"), Tool: true, View: view,
	})
	if want := "/etc\n"; out != want {
		t.Errorf("it could write to %q, want only %q", out, want)
	}
}

// What a container has put where the tools belong is not taken for procfs.
func TestViewRefusesFalseProc(t *testing.T) {
	w := newWorld(t)
	b := w.bundle("sh", "-c", "mount -t tmpfs none /proc/fs && mkdir -p /proc/fs/nfsd && sleep 1000")
	allRights(t)(b.Spec.Process)
	b.Spec.Linux.ReadonlyPaths = nil
	c := w.start(b)
	w.eventually("the container has mounted something", func() bool {
		table, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", c.Pid()))
		if err != nil || !strings.Contains(string(table), " /proc/fs ") {
			return false
		}
		_, err = os.Stat(fmt.Sprintf("/proc/%d/root/proc/fs/nfsd", c.Pid()))
		return err == nil
	})
	p := execProcess("true")
	_, err := c.Exec(w.context(), ExecOptions{ID: "tool", Process: p, Tool: true, View: &View{Tools: w.tools()}})
	if err == nil || !strings.Contains(err.Error(), "something else than procfs") {
		t.Errorf("error %v", err)
	}
}

// Tools that are left are ended, and others can follow them.
func TestEndTools(t *testing.T) {
	w := newWorld(t)
	c := w.start(w.bundle("sleep", "1000"))
	view := &View{Tools: w.tools()}
	for range 2 {
		tool, err := c.Exec(w.context(), ExecOptions{ID: "tool" + randomName(), Process: execProcess("sleep", "1000"), Tool: true, View: view})
		w.must(err)
		w.must(tool.Start(w.context()))
		w.wantCgroup(tool.Pid(), w.parent+"/"+c.ID()+"/"+string(cgroup.Debug))
		w.must(c.EndTools(w.context()))
		w.wait(tool.Done())
	}
	select {
	case <-c.Done():
		t.Error("the container has ended, too")
	default:
	}
}
