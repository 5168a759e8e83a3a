package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/probe"
)

// CheckHost tells in one line why Porthole cannot run here, or nil.
func CheckHost() error {
	if os.Geteuid() != 0 {
		return errors.New("needs to be run as root")
	}
	if err := probe.Floor(); err != nil {
		return err
	}
	if _, err := cgroup.Current(); err != nil {
		return fmt.Errorf("no control groups: %w", err)
	}
	return checkOverlay()
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
