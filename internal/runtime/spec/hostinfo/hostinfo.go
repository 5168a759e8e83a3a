// Package hostinfo gathers the facts about this host from which package spec
// makes documents.
//
// [Gather] is called once when the daemon starts; what it returns is completed
// with the daemon's configuration.
package hostinfo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/apparmor"
	"github.com/portholehq/porthole/internal/linux/caps"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/probe"
	"github.com/portholehq/porthole/internal/linux/seccomp"
	"github.com/portholehq/porthole/internal/runtime/spec"
)

// Gather asks the kernel. CgroupParent is the group below which containers are
// made; it is made if it is not there.
func Gather(cgroupParent string) (spec.Host, error) {
	version, _, err := probe.Kernel()
	if err != nil {
		return spec.Host{}, err
	}
	last, err := caps.Last()
	if err != nil {
		return spec.Host{}, err
	}
	bounding, err := caps.Bounding()
	if err != nil {
		return spec.Host{}, err
	}
	tree, err := cgroup.Current()
	if err != nil {
		return spec.Host{}, err
	}
	support, err := tree.Support(cgroupParent)
	if err != nil {
		return spec.Host{}, err
	}
	return spec.Host{
		Arch:             runtime.GOARCH,
		Kernel:           seccomp.KernelVersion{Kernel: uint64(version.Major), Major: uint64(version.Minor)},
		NCPU:             runtime.NumCPU(),
		Cgroup:           support,
		LastCap:          last,
		Bounding:         bounding,
		Seccomp:          probe.Seccomp() == nil,
		AppArmor:         apparmor.Host{}.Enabled() == nil,
		CgroupNamespaces: probe.Namespace("cgroup") == nil,
		IPv4Forwarding:   forwarding(),
		Sysctls:          sysctls("net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start"),
		ThermalThrottle:  thermalThrottle(),
		Lookup:           Lookup{},
	}, nil
}

func forwarding() bool {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	return err == nil && strings.TrimSpace(string(text)) == "1"
}

func sysctls(names ...string) map[string]bool {
	found := make(map[string]bool)
	for _, name := range names {
		_, err := os.Stat("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
		found[name] = err == nil
	}
	return found
}

func thermalThrottle() []string {
	// The pattern is well-formed, which is all that Glob complains of.
	list, _ := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle")
	return list
}

// Lookup answers about this host.
type Lookup struct{}

var _ spec.Lookup = Lookup{}

var errNotADevice = errors.New("not a device node")

// Devices returns the device at a path or those below a directory.
func (Lookup) Devices(path string) ([]specs.LinuxDevice, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		// Docker's wording has the failed system call in it.
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return nil, err
		}
		return nil, err
	}
	d, err := device(resolved)
	if err == nil {
		d.Path = ""
		return []specs.LinuxDevice{d}, nil
	}
	if !errors.Is(err, errNotADevice) {
		return nil, err
	}
	list := below(resolved, nil)
	for i := range list {
		list[i].Path = strings.TrimPrefix(list[i].Path, resolved)
	}
	if len(list) == 0 {
		return nil, errNotADevice
	}
	return list, nil
}

// AllDevices returns what is below /dev, except for what a container has of its
// own: terminals, shared memory, queues and the console.
func (Lookup) AllDevices() ([]specs.LinuxDevice, error) {
	return below("/dev", []string{"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"}), nil
}

// below collects the devices in a directory and the directories in it. What
// cannot be looked at is left out, as what vanishes meanwhile.
func below(dir string, skip []string) []specs.LinuxDevice {
	var list []specs.LinuxDevice
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil //nolint:nilerr // what cannot be looked at is left out
		case path != dir && slices.Contains(skip, entry.Name()):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d, err := device(path); err == nil {
			list = append(list, d)
		}
		return nil
	})
	return list
}

// device describes the character or block device at a path.
func device(path string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return specs.LinuxDevice{}, err
	}
	kind, ok := map[uint32]string{unix.S_IFBLK: "b", unix.S_IFCHR: "c"}[st.Mode&unix.S_IFMT]
	if !ok {
		return specs.LinuxDevice{}, errNotADevice
	}
	mode := os.FileMode(st.Mode &^ unix.S_IFMT)
	return specs.LinuxDevice{
		Path: path, Type: kind, FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
		Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
	}, nil
}

// Propagation returns the mount that a path is on.
func (Lookup) Propagation(path string) (mountPoint string, shared, slave bool, err error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", false, false, err
	}
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(resolved))
	if err != nil {
		return "", false, false, fmt.Errorf("look for the mount of %q: %w", path, err)
	}
	var found *mountinfo.Info
	for _, m := range mounts {
		// The last of several mounts at the same place is the one on top.
		if found == nil || len(m.Mountpoint) >= len(found.Mountpoint) {
			found = m
		}
	}
	if found == nil {
		return "", false, false, fmt.Errorf("Can't find mount point of %s", path)
	}
	for tag := range strings.FieldsSeq(found.Optional) {
		shared = shared || strings.HasPrefix(tag, "shared:")
		slave = slave || strings.HasPrefix(tag, "master:")
	}
	return found.Mountpoint, shared, slave, nil
}
