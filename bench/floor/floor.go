// Package floor measures what the kernel alone takes for a container: the same
// namespaces, cgroups, mounts, network interface and filter as one of ours has,
// made by a list of system calls without a runtime, a protocol, a record or a
// log. No engine on this kernel can be much faster with the same isolation. It
// mounts the v1 hierarchies, which takes the longer the more groups the v2 tree
// has; an engine may bind them, as ours does.
//
//	f, err := floor.New(dir, pid) // pid: the first process of a container to take for a model
//	defer f.Close()
//	phases, err := f.Run(floor.Networked)
//	phases, err = f.Exec()
//
// What each does in order is in run.go and exec.go.
package floor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/caps"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/seccomp"
	"github.com/portholehq/porthole/internal/sys"
	"github.com/portholehq/porthole/internal/sys/script"
)

// Phase is a part of what was done, and how long it took. Phases may overlap.
type Phase struct {
	Name string
	Took time.Duration
}

// Total is the name of the phase from the first system call until the end of
// the program was seen.
const Total = "together, until true has ended"

// program is what runs in the container.
const program = "/bin/true"

// firstID is the host's user who is root in the container.
const firstID = 1_500_000_000

// Floor is prepared for measuring. It is not safe for concurrent use.
type Floor struct {
	dir    string // on a filesystem that can be ID-mapped, and which anybody may pass
	pid    int    // of the container that is the model
	parent string // path of a cgroup in each hierarchy, below which the containers' are
	mounts []*mountinfo.Info
	bound  caps.Set // capabilities of the bounding set
	filter []byte
	bridge *bridge
	rounds int
}

// New prepares: it takes mounts, capabilities and the program from the container
// whose first process is pid. It makes files below dir, and a bridge.
func New(dir string, pid int) (*Floor, error) {
	f := &Floor{dir: dir, pid: pid, parent: "/porthole-floor-" + strconv.Itoa(os.Getpid())}
	if err := f.prepare(); err != nil {
		f.Close()
		return nil, fmt.Errorf("prepare the floor: %w", err)
	}
	return f, nil
}

func (f *Floor) prepare() error {
	file, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", f.pid))
	if err != nil {
		return err
	}
	defer file.Close()
	if f.mounts, err = mountinfo.GetMountsFromReader(file, nil); err != nil {
		return err
	}
	f.mounts = parentsFirst(f.mounts)
	if len(f.mounts) == 0 || f.mounts[0].Mountpoint != "/" {
		return errors.New("the model's first mount is not its root")
	}
	if err := f.makeFilter(); err != nil {
		return err
	}
	if err := f.layers(); err != nil {
		return err
	}
	tree, err := cgroup.Current()
	if err != nil {
		return err
	}
	if err := tree.Prepare(f.parent); err != nil {
		return err
	}
	f.bridge, err = newBridge()
	return err
}

// makeFilter compiles the profile of containers that ask for nothing.
func (f *Floor) makeFilter() error {
	bound, err := caps.SetOf(caps.Default())
	if err != nil {
		return err
	}
	f.bound = bound
	profile, err := seccomp.Default(seccomp.Facts{Arch: runtime.GOARCH, Kernel: seccomp.KernelVersion{Kernel: 6, Major: 1}, Capabilities: caps.Default()})
	if err != nil {
		return err
	}
	filter, err := seccomp.Compile(profile, runtime.GOARCH)
	f.filter = sys.SeccompProgram(filter)
	return err
}

func (f *Floor) lower() string { return filepath.Join(f.dir, "lower") }
func (f *Floor) root() string  { return filepath.Join(f.dir, "root") }

// parentsFirst orders mounts so that each comes after the one that it is in: the kernel lists them as they were made, and
// what was put together elsewhere before it was attached has its inner ones first.
func parentsFirst(mounts []*mountinfo.Info) []*mountinfo.Info {
	ids := map[int]bool{}
	for _, m := range mounts {
		ids[m.ID] = true
	}
	var list []*mountinfo.Info
	placed := map[int]bool{}
	for len(list) < len(mounts) {
		before := len(list)
		for _, m := range mounts {
			if !placed[m.ID] && (placed[m.Parent] || !ids[m.Parent]) {
				placed[m.ID] = true
				list = append(list, m)
			}
		}
		if len(list) == before { // a circle, which no kernel makes
			return mounts
		}
	}
	return list
}

// layers makes the image's layer, with the program and what mounts need, and the
// empty files that are bound.
func (f *Floor) layers() error {
	for _, d := range []string{f.lower(), f.root(), filepath.Join(f.lower(), "bin"), filepath.Join(f.dir, "rounds")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/root%s", f.pid, program))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(f.lower(), program), text, 0o755); err != nil {
		return err
	}
	for _, m := range f.mounts[1:] {
		info, err := os.Stat(fmt.Sprintf("/proc/%d/root%s", f.pid, m.Mountpoint))
		if err != nil {
			return err
		}
		target := filepath.Join(f.lower(), m.Mountpoint)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if info.IsDir() {
			err = os.MkdirAll(target, 0o755)
		} else {
			err = os.WriteFile(target, nil, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(f.dir, "bound"), nil, 0o644)
}

// Close removes what New has made.
func (f *Floor) Close() error {
	var err error
	if f.bridge != nil {
		err = f.bridge.Close()
	}
	return errors.Join(err, f.retryRemove(f.child()), f.removeGroups(f.parent))
}

// child is the path of the container's cgroup.
func (f *Floor) child() string { return f.parent + "/box" }

// groupDirs are a cgroup's directories: of each v1 hierarchy, and last of the
// v2 tree if there is one.
func groupDirs(path string) (dirs []string, v2 bool, err error) {
	tree, err := cgroup.Current()
	if err != nil {
		return nil, false, err
	}
	for _, h := range tree.Hierarchies() {
		dirs = append(dirs, filepath.Join(h.Dir, path))
	}
	if tree.Unified() != "" {
		dirs, v2 = append(dirs, filepath.Join(tree.Unified(), path)), true
	}
	return dirs, v2, nil
}

func (f *Floor) removeGroups(path string) error {
	dirs, _, err := groupDirs(path)
	for _, d := range dirs {
		if e := unix.Rmdir(d); e != nil && e != unix.ENOENT {
			err = errors.Join(err, &os.PathError{Op: "rmdir", Path: d, Err: e})
		}
	}
	return err
}

// groups are our cgroup's open files.
type groups struct {
	tasks []int // of the v1 hierarchies
	v2    int   // the directory in the v2 tree; 0: there is none
}

// makeGroups makes the cgroup everywhere.
func (f *Floor) makeGroups() (*groups, error) {
	dirs, v2, err := groupDirs(f.child())
	if err != nil {
		return nil, err
	}
	g := &groups{}
	for i, d := range dirs {
		if err := unix.Mkdir(d, 0o755); err != nil {
			return g, &os.PathError{Op: "mkdir", Path: d, Err: err}
		}
		if v2 && i == len(dirs)-1 {
			g.v2, err = unix.Open(d, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		} else {
			err = g.openTasks(d)
		}
		if err != nil {
			return g, err
		}
	}
	return g, nil
}

// openGroups opens the model's own cgroup everywhere.
func (f *Floor) openGroups() (*groups, error) {
	tree, err := cgroup.Current()
	if err != nil {
		return nil, err
	}
	paths, err := cgroups.ParseCgroupFile(fmt.Sprintf("/proc/%d/cgroup", f.pid))
	if err != nil {
		return nil, err
	}
	g := &groups{}
	for _, h := range tree.Hierarchies() {
		if err := g.openTasks(filepath.Join(h.Dir, paths[h.Controllers[0]])); err != nil {
			g.Close()
			return nil, err
		}
	}
	if tree.Unified() == "" {
		return g, nil
	}
	if g.v2, err = unix.Open(filepath.Join(tree.Unified(), paths[""]), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

func (g *groups) openTasks(dir string) error {
	fd, err := unix.Open(filepath.Join(dir, "tasks"), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir + "/tasks", Err: err}
	}
	g.tasks = append(g.tasks, fd)
	return nil
}

func (g *groups) Close() {
	for _, fd := range g.tasks {
		unix.Close(fd)
	}
	if g.v2 != 0 {
		unix.Close(g.v2)
	}
}

// join has the child enter the v1 cgroups.
func (g *groups) join(s *script.Script) {
	for _, fd := range g.tasks {
		s.Call(unix.SYS_WRITE, fd, []byte("0"), 1)
	}
}

// becomeRoot has the child be root of its user namespace, in a keyring of its own.
func becomeRoot(s *script.Script) {
	s.Call(unix.SYS_SETGROUPS, 0, 0)
	s.Call(unix.SYS_SETRESGID, 0, 0, 0)
	s.Call(unix.SYS_SETRESUID, 0, 0, 0)
	s.Call(unix.SYS_SETSID)
	s.Try(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, "_ses.floor") // not every kernel has keyrings
}

// execute has the child give up rights and execute the program. It returns the
// indexes of the times before the rights and before the program.
func (f *Floor) execute(s *script.Script) (rights, exec int) {
	rights = s.Time()
	for n := range 64 {
		if f.bound&(1<<n) == 0 {
			s.Try(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n, 0, 0, 0) // the kernel has not as many
		}
	}
	s.Call(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, s.Filter(f.filter))
	header, data := f.capabilities()
	s.Call(unix.SYS_CAPSET, header, data)
	exec = s.Time()
	s.Call(unix.SYS_EXECVE, program, []string{filepath.Base(program)}, []string{"PATH=/bin"})
	return rights, exec
}

// capabilities are the arguments of capset(2): all that the bounding set has, none
// inheritable.
func (f *Floor) capabilities() (header, data []byte) {
	header, data = make([]byte, 8), make([]byte, 24)
	binary.NativeEndian.PutUint32(header, unix.LINUX_CAPABILITY_VERSION_3)
	for i, word := range []uint32{uint32(f.bound), uint32(f.bound >> 32)} {
		binary.NativeEndian.PutUint32(data[12*i:], word)   // effective
		binary.NativeEndian.PutUint32(data[12*i+4:], word) // permitted
	}
	return header, data
}

// wait waits for the child's end and says whether all went well.
func wait(pid int, s *script.Script) error {
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &ws, 0, nil)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("wait4", err)
		}
	}
	if err := s.Failed(); err != nil {
		return err
	}
	if !ws.Exited() || ws.ExitStatus() != 0 {
		return fmt.Errorf("%s: %w", program, errors.New(describe(ws)))
	}
	return nil
}

func describe(ws unix.WaitStatus) string {
	if ws.Signaled() {
		return "killed by " + ws.Signal().String()
	}
	return "exit code " + strconv.Itoa(ws.ExitStatus())
}

// gate is what the child waits at: a read from a pipe.
type gate struct{ r, w int }

func newGate() (gate, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return gate{}, os.NewSyscallError("pipe2", err)
	}
	return gate{p[0], p[1]}, nil
}

func (g gate) await(s *script.Script) { s.Call(unix.SYS_READ, g.r, make([]byte, 1), 1) }

func (g gate) open() error {
	_, err := unix.Write(g.w, []byte{0})
	return os.NewSyscallError("write", err)
}

func (g gate) Close() {
	unix.Close(g.r)
	unix.Close(g.w)
}

// abandon ends a child that cannot go on.
func abandon(pid int) {
	_ = unix.Kill(pid, syscall.SIGKILL)
	_, _ = unix.Wait4(pid, nil, 0, nil)
}
