// Package probe asks the kernel what it can do.
//
// A probe answers in one of three ways: nil means yes; an [*UnsupportedError],
// which says since when the kernel can, means no; any other error means that it
// could not be told. Only the first two are worth remembering. No probe concludes
// from the version of the kernel that something is there; only [Kernel] and
// [Floor] look at the version at all.
//
// Probes that need root or a writable directory say so.
package probe

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// UnsupportedError says that the kernel, as it is built and configured, lacks
// something.
type UnsupportedError struct {
	Feature string  // what was asked for
	Since   Version // first version that can have it; zero if the version does not matter
	Detail  string  // the evidence, or what to change; may be empty
}

// Error names the feature, the evidence and the version.
func (e *UnsupportedError) Error() string {
	var b strings.Builder
	b.WriteString(e.Feature + " not supported")
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Since != (Version{}) {
		fmt.Fprintf(&b, " (needs Linux %s or newer)", e.Since)
	}
	return b.String()
}

// IsUnsupported tells whether an error means no, as against could not tell.
func IsUnsupported(err error) bool {
	var unsupported *UnsupportedError
	return errors.As(err, &unsupported)
}

// Version is a kernel's version up to its second number.
type Version struct{ Major, Minor int }

// String writes the version as in 5.14.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Less tells whether v is older than other.
func (v Version) Less(other Version) bool {
	return v.Major < other.Major || v.Major == other.Major && v.Minor < other.Minor
}

// ParseVersion reads the beginning of a release such as "6.1.0-13-amd64".
func ParseVersion(release string) (Version, error) {
	var v Version
	if _, err := fmt.Sscanf(release, "%d.%d", &v.Major, &v.Minor); err != nil {
		return Version{}, fmt.Errorf("parse kernel release %q: %w", release, err)
	}
	return v, nil
}

// Kernel returns the running kernel's version and its whole release text.
func Kernel() (Version, string, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return Version{}, "", fmt.Errorf("ask for kernel release: %w", err)
	}
	release := unix.ByteSliceToString(uts.Release[:])
	v, err := ParseVersion(release)
	return v, release, err
}

// Oldest is the oldest kernel that Porthole runs on: the first with cgroup.kill,
// and with everything that ID-mapped overlays need.
var Oldest = Version{Major: 5, Minor: 14}

// Floor tells whether the running kernel is new enough.
func Floor() error {
	v, release, err := Kernel()
	if err != nil {
		return err
	}
	if v.Less(Oldest) {
		return &UnsupportedError{Feature: "Linux " + release, Since: Oldest}
	}
	return nil
}

// Seccomp tells whether system call filters can be loaded.
func Seccomp() error {
	// Without a program the kernel complains of its address, if it takes programs at all.
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, 0, 0, 0)
	switch {
	case errors.Is(err, unix.EFAULT), errors.Is(err, unix.EACCES):
		return nil
	case errors.Is(err, unix.EINVAL):
		return &UnsupportedError{Feature: "seccomp filter", Since: Version{3, 5}, Detail: "the kernel is built without CONFIG_SECCOMP_FILTER"}
	}
	return fmt.Errorf("ask for seccomp filters: %w", err)
}

// Pressure tells whether the kernel measures pressure (PSI).
func Pressure() error {
	const file = "/proc/pressure/cpu"
	text, err := os.ReadFile(file)
	switch {
	case err == nil && len(text) > 0:
		return nil
	case errors.Is(err, os.ErrNotExist):
		return &UnsupportedError{Feature: "pressure stall information", Since: Version{4, 20}, Detail: "the kernel is built without CONFIG_PSI"}
	case errors.Is(err, unix.EOPNOTSUPP):
		return &UnsupportedError{Feature: "pressure stall information", Since: Version{4, 20}, Detail: "switched off; boot with psi=1"}
	case err == nil:
		err = errors.New("the file is empty")
	}
	return fmt.Errorf("read %s: %w", file, err)
}

// Namespace tells whether the kernel has a kind of namespace, named as in
// /proc/self/ns: "cgroup", "user", "time".
func Namespace(kind string) error {
	_, err := os.Lstat("/proc/self/ns/" + kind)
	if errors.Is(err, os.ErrNotExist) {
		return &UnsupportedError{Feature: kind + " namespaces", Detail: "the kernel is built without them"}
	}
	if err != nil {
		return fmt.Errorf("ask for %s namespaces: %w", kind, err)
	}
	return nil
}
