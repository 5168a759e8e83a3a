package floor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/sys/script"
)

// Network says whether a container is on a network.
type Network bool

// The networks of [Floor.Run].
const (
	Networked Network = true
	None      Network = false
)

// run is one container.
type run struct {
	f       *Floor
	network Network
	dir     string // upper layer and work directory
	groups  *groups
	s       *script.Script
	mapped  gate // opened when the child may become root and mount
	wired   gate // opened when it has its network
	fds     map[int]fdArg
	files   []*os.File

	// Indexes of times in the script.
	woken, joined, mounted, pivoted, rights, exec int
}

// fdArg is where a descriptor has to go in the script that is made later.
type fdArg struct{ call, arg int }

// The places of descriptors that are made when the child lives: of the root
// filesystem and of /dev. Binds have the index of their mount.
const (
	rootFD = -1
	devFD  = -2
)

// Run makes a container, has it execute true, waits for its end, and removes all
// of it. The phases are in the order in which they begin.
func (f *Floor) Run(network Network) ([]Phase, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	f.rounds++
	r := &run{f: f, network: network, fds: map[int]fdArg{}, dir: filepath.Join(f.dir, "rounds", strconv.Itoa(f.rounds))}
	phases, err := r.run()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the floor of a run: %w", err), f.retryRemove(f.child()))
	}
	return phases, nil
}

func (r *run) run() (phases []Phase, err error) {
	defer func() {
		for _, file := range r.files {
			file.Close()
		}
		r.mapped.Close()
		r.wired.Close()
	}()
	for _, d := range []string{r.dir, r.dir + "/upper", r.dir + "/work"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, err
		}
	}
	defer os.RemoveAll(r.dir)
	if r.mapped, err = newGate(); err != nil {
		return nil, err
	}
	if r.wired, err = newGate(); err != nil {
		return nil, err
	}

	begin := script.Now()
	r.groups, err = r.f.makeGroups()
	defer r.groups.Close()
	if err != nil {
		return nil, err
	}
	grouped := script.Now()
	if err := r.write(); err != nil {
		return nil, err
	}
	written := script.Now()
	pid, err := r.s.Start(script.Clone{
		Flags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Cgroup: uintptr(r.groups.v2),
	})
	if err != nil {
		return nil, err
	}
	cloned := script.Now()
	prepared, wired, err := r.beside(pid)
	if err != nil {
		abandon(pid)
		return nil, err
	}
	if err := wait(pid, r.s); err != nil {
		return nil, err
	}
	end := script.Now()
	// What the script took to write is no work of the kernel.
	begin, grouped = begin+(written-grouped), written
	if err := r.tearDown(); err != nil {
		return nil, err
	}
	gone := script.Now()

	at := r.s.At
	phases = []Phase{
		{"cgroups made, their files opened", grouped - begin},
		{"clone with six new namespaces", cloned - grouped},
		{"id maps, overlay, /dev, id-mapped binds", prepared - cloned},
		{"child: joins cgroups, cgroup namespace", at(r.joined) - at(r.woken)},
		{"child: mounts and masks", at(r.mounted) - at(r.joined)},
		{"child: pivot, old root away, host name", at(r.pivoted) - at(r.mounted)},
	}
	if r.network == Networked {
		phases = append(phases, Phase{"veth pair, bridge, address, route", wired - prepared})
	}
	return append(phases,
		Phase{"child: capabilities, seccomp filter", at(r.exec) - at(r.rights)},
		Phase{"exec of true, its end seen", end - at(r.exec)},
		Phase{Total, end - begin},
		Phase{"interface and cgroups removed", gone - end},
	), nil
}

// beside is what this process does while the child is there.
func (r *run) beside(pid int) (prepared, wired time.Duration, err error) {
	if err := mapIDs(pid); err != nil {
		return 0, 0, err
	}
	if err := r.prepare(pid); err != nil {
		return 0, 0, err
	}
	prepared = script.Now()
	if err := r.mapped.open(); err != nil {
		return 0, 0, err
	}
	if r.network == Networked {
		if err := r.f.bridge.attach(pid); err != nil {
			return 0, 0, err
		}
	}
	wired = script.Now()
	return prepared, wired, r.wired.open()
}

func mapIDs(pid int) error {
	for _, name := range []string{"uid_map", "gid_map"} {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, name), fmt.Appendf(nil, "0 %d 65536\n", firstID), 0); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes the mounts that the container's own root could not make, and puts
// their descriptors into the script.
func (r *run) prepare(pid int) error {
	userns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err != nil {
		return err
	}
	r.files = append(r.files, userns)
	base, err := r.mapped1(r.f.dir, userns)
	if err != nil {
		return err
	}
	rel := filepath.Join("rounds", filepath.Base(r.dir))
	root, err := mount.Overlay(mount.OverlayOptions{Base: base, Lower: []string{"lower"}, Upper: rel + "/upper", Work: rel + "/work"})
	if err != nil {
		return err
	}
	r.give(rootFD, root)
	for i, m := range r.f.mounts {
		var file *os.File
		switch {
		case m.Mountpoint == "/dev":
			file, err = newDev()
			i = devFD
		case r.isBound(m):
			file, err = r.mapped1(filepath.Join(r.f.dir, "bound"), userns)
		default:
			continue
		}
		if err != nil {
			return err
		}
		r.give(i, file)
	}
	return nil
}

func (r *run) give(i int, file *os.File) {
	r.files = append(r.files, file)
	at := r.fds[i]
	r.s.SetArg(at.call, at.arg, file.Fd())
}

// mapped1 is an ID-mapped clone of one file or directory.
func (r *run) mapped1(name string, userns *os.File) (*os.File, error) {
	src, err := mount.OpenSource(name, "")
	if err != nil {
		return nil, err
	}
	defer src.Close()
	m, err := mount.Clone(src, mount.Single)
	if err != nil {
		return nil, err
	}
	r.files = append(r.files, m)
	return m, mount.IDMap(m, userns, mount.Single)
}

// newDev makes /dev with its nodes and links.
func newDev() (*os.File, error) {
	m, err := mount.New("tmpfs", "tmpfs", []string{"size=65536k", "mode=755", fmt.Sprintf("uid=%d", firstID), fmt.Sprintf("gid=%d", firstID)}, unix.MOUNT_ATTR_NOSUID)
	if err != nil {
		return nil, err
	}
	fd := int(m.Fd())
	for _, n := range []struct {
		name         string
		major, minor uint32
	}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}} {
		err = errors.Join(err, unix.Mknodat(fd, n.name, unix.S_IFCHR|0o666, int(unix.Mkdev(n.major, n.minor))))
	}
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "core": "/proc/kcore", "ptmx": "pts/ptmx",
	} {
		err = errors.Join(err, unix.Symlinkat(target, fd, name))
	}
	for _, name := range []string{"pts", "shm", "mqueue"} {
		err = errors.Join(err, unix.Mkdirat(fd, name, 0o755))
	}
	return m, err
}

// write writes what the child does.
func (r *run) write() error {
	r.s = script.New()
	s := r.s
	r.mapped.await(s)
	r.woken = s.Time()
	becomeRoot(s)
	r.groups.join(s)
	s.Call(unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	r.joined = s.Time()
	if err := r.mounts(); err != nil {
		return err
	}
	r.mounted = s.Time()
	s.Call(unix.SYS_CHDIR, r.f.root())
	s.Call(unix.SYS_PIVOT_ROOT, ".", ".")
	s.Call(unix.SYS_UMOUNT2, ".", unix.MNT_DETACH)
	s.Call(unix.SYS_CHDIR, "/")
	s.Call(unix.SYS_SETHOSTNAME, "floor", len("floor"))
	r.pivoted = s.Time()
	r.wired.await(s)
	r.rights, r.exec = r.f.execute(s)
	return nil
}

// isBound says whether m is a file or directory of a disk: the container's root
// and, in /etc, its hosts and names.
func (r *run) isBound(m *mountinfo.Info) bool {
	return m.Mountpoint != "/" && m.Mountpoint != "/dev" && !isVirtual(m.FSType)
}

func isVirtual(fstype string) bool {
	switch fstype {
	case "proc", "sysfs", "mqueue", "devpts", "tmpfs", "devtmpfs", "cgroup", "cgroup2":
		return true
	}
	return false
}

// mounts has the child make all mounts of the model, in the same order.
func (r *run) mounts() error {
	s := r.s
	s.Call(unix.SYS_MOUNT, "none", "/", uintptr(0), unix.MS_REC|unix.MS_PRIVATE, uintptr(0))
	first := map[[2]int]string{} // where a filesystem was mounted first
	for i, m := range r.f.mounts {
		target := filepath.Join(r.f.root(), m.Mountpoint)
		device := [2]int{m.Major, m.Minor}
		switch {
		case m.Mountpoint == "/":
			r.move(rootFD, target)
		case m.Mountpoint == "/dev":
			r.move(devFD, target)
		case r.isBound(m):
			r.move(i, target)
		case m.FSType == "devtmpfs":
			// The host's device, by which files are masked.
			s.Call(unix.SYS_MOUNT, filepath.Join("/dev", m.Root), target, uintptr(0), unix.MS_BIND, uintptr(0))
		case first[device] != "" && m.FSType != "cgroup" && m.FSType != "cgroup2":
			r.bindAgain(m, first[device], target)
		default:
			r.fresh(m, target)
			first[device] = target
		}
	}
	for _, m := range r.f.mounts {
		// It was made writable for the mounts in it.
		if m.FSType == "tmpfs" && m.Mountpoint == cgroupDir && isReadOnly(m) {
			s.Call(unix.SYS_MOUNT, uintptr(0), filepath.Join(r.f.root(), m.Mountpoint), uintptr(0), unix.MS_REMOUNT|unix.MS_BIND|flags(m), uintptr(0))
		}
	}
	return nil
}

const cgroupDir = "/sys/fs/cgroup"

func (r *run) move(i int, target string) {
	call := r.s.Call(unix.SYS_MOVE_MOUNT, 0, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
	r.fds[i] = fdArg{call, 0}
}

// bindAgain binds a part of what is mounted already, such as /proc/sys on itself,
// with flags of its own.
func (r *run) bindAgain(m *mountinfo.Info, first, target string) {
	r.s.Call(unix.SYS_MOUNT, filepath.Join(first, m.Root), target, uintptr(0), unix.MS_BIND, uintptr(0))
	r.s.Call(unix.SYS_MOUNT, uintptr(0), target, uintptr(0), unix.MS_REMOUNT|unix.MS_BIND|flags(m), uintptr(0))
}

// fresh makes a new mount of a filesystem.
func (r *run) fresh(m *mountinfo.Info, target string) {
	var data string
	fl := flags(m)
	switch m.FSType {
	case "devpts":
		data = "newinstance,ptmxmode=0666,mode=0620,gid=5"
	case "tmpfs":
		data = "mode=755"
		if m.Mountpoint == cgroupDir {
			fl &^= unix.MS_RDONLY
		}
	case "cgroup":
		data = controllers(m.VFSOptions)
		// The controllers' directories are in the tmpfs, and not in the image.
		r.s.Call(unix.SYS_MKDIR, target, 0o755)
	}
	r.s.Call(unix.SYS_MOUNT, m.FSType, target, m.FSType, fl, data)
}

// controllers are the options that name a v1 hierarchy.
func controllers(options string) string {
	var list []string
	for o := range strings.SplitSeq(options, ",") {
		switch {
		case strings.HasPrefix(o, "name="):
			list = append(list, "none", o)
		case o != "rw" && o != "ro" && !strings.HasPrefix(o, "release_agent="):
			list = append(list, o)
		}
	}
	return strings.Join(list, ",")
}

func isReadOnly(m *mountinfo.Info) bool { return flags(m)&unix.MS_RDONLY != 0 }

// flags are MS_* of a mount.
func flags(m *mountinfo.Info) int {
	fl := 0
	for o := range strings.SplitSeq(m.Options, ",") {
		switch o {
		case "ro":
			fl |= unix.MS_RDONLY
		case "nosuid":
			fl |= unix.MS_NOSUID
		case "nodev":
			fl |= unix.MS_NODEV
		case "noexec":
			fl |= unix.MS_NOEXEC
		}
	}
	return fl
}

// tearDown removes what does not go with the child: its namespaces and mounts do,
// and the kernel clears them away in its own time.
func (r *run) tearDown() error {
	r.groups.Close()
	r.groups = &groups{}
	var err error
	if r.network == Networked {
		err = r.f.bridge.detach()
	}
	return errors.Join(err, r.f.retryRemove(r.f.child()))
}

// retryRemove removes the cgroups, which are busy until the kernel has done with
// the child.
func (f *Floor) retryRemove(path string) error {
	for deadline := time.Now().Add(time.Second); ; {
		err := f.removeGroups(path)
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			return err
		}
	}
}
