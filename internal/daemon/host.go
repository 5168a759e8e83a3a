package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The oldest kernel with all that the runtime builds on: ID-mapped mounts are
// of 5.12, cgroup.kill of 5.14.
const (
	minKernelMajor = 5
	minKernelMinor = 14
)

// CheckHost tells in one line why Porthole cannot run here, or nil. It asks the
// kernel for what it needs; only for interfaces that cannot be asked for
// without using them it goes by the version.
func CheckHost() error {
	if os.Geteuid() != 0 {
		return errors.New("portholed needs to run as root")
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return fmt.Errorf("ask for the kernel's version: %w", err)
	}
	if err := checkKernel(unix.ByteSliceToString(uts.Release[:])); err != nil {
		return err
	}
	if err := checkCgroup("/sys/fs/cgroup"); err != nil {
		return err
	}
	return checkOverlay()
}

func checkKernel(release string) error {
	major, rest, _ := strings.Cut(release, ".")
	minor := rest
	if i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		minor = rest[:i]
	}
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(minor)
	if errA != nil || errB != nil {
		return nil // a kernel with another way to count is not an old one
	}
	if a < minKernelMajor || (a == minKernelMajor && b < minKernelMinor) {
		return fmt.Errorf("kernel %s is too old: Porthole needs Linux %d.%d or newer", release, minKernelMajor, minKernelMinor)
	}
	return nil
}

// checkCgroup accepts a v2 tree at root, or v1 hierarchies below it.
func checkCgroup(root string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return fmt.Errorf("no control groups: %s: %w", root, err)
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC {
		return nil
	}
	found, err := filepath.Glob(filepath.Join(root, "*", "cgroup.procs"))
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fmt.Errorf("no control groups: nothing is mounted at %s", root)
	}
	return nil
}

// checkOverlay asks for a mount context, which loads the module if there is one.
func checkOverlay() error {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENODEV) {
		return errors.New("the kernel has no overlay filesystem (CONFIG_OVERLAY_FS)")
	}
	if err != nil {
		return fmt.Errorf("ask for the overlay filesystem: %w", err)
	}
	return unix.Close(fd)
}

// FindShim returns the path of porthole-shim: the one given, or the one beside
// this executable, or in ../libexec/porthole.
func FindShim(given string) (string, error) {
	if given != "" {
		if _, err := os.Stat(given); err != nil {
			return "", fmt.Errorf("shim: %w", err)
		}
		return filepath.Abs(given)
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find porthole-shim: %w", err)
	}
	if real, err := filepath.EvalSymlinks(self); err == nil {
		self = real
	}
	dir := filepath.Dir(self)
	places := []string{filepath.Join(dir, "porthole-shim"), filepath.Join(dir, "..", "libexec", "porthole", "porthole-shim")}
	for _, p := range places {
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
			return filepath.Clean(p), nil
		}
	}
	return "", fmt.Errorf("porthole-shim was not found beside %s nor in ../libexec/porthole: name it with --shim", self)
}
