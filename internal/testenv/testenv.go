// Package testenv tells tests what the machine can do, and keeps account of
// what it cannot.
//
// A test that needs root, a program or a kernel feature asks here:
//
//	testenv.NeedsRoot(t)
//	testenv.NeedsProgram(t, "nft")
//	testenv.NeedsKernel(t, "5.14", probe())
//
// Tests do not call t.Skip themselves. Where the environment variable
// PORTHOLE_TEST_SKIPS names a file, every skip is written there with its
// reason, and `make test` ends by printing and counting them. Where
// PORTHOLE_TEST_STRICT is set, a lack that the machine of a full run must not
// have (root, programs) fails the test.
package testenv

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Skip ends the test as skipped and puts the reason on the list of the run.
func Skip(t testing.TB, format string, args ...any) {
	t.Helper()
	reason := fmt.Sprintf(format, args...)
	if path := os.Getenv("PORTHOLE_TEST_SKIPS"); path != "" {
		if err := record(path, t.Name(), reason); err != nil {
			t.Fatalf("record skip %q: %v", reason, err)
		}
	}
	t.Skip(reason)
}

// record appends one line. O_APPEND keeps the lines of packages that are tested
// at the same time apart.
func record(path, test, reason string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s: %s\n", test, strings.ReplaceAll(reason, "\n", " "))
	return errors.Join(err, f.Close())
}

// lack skips, or fails where the run must be complete.
func lack(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("PORTHOLE_TEST_STRICT") != "" {
		t.Fatalf(format, args...)
	}
	Skip(t, format, args...)
}

// NeedsRoot skips the test if it does not run as the real root.
func NeedsRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		lack(t, "needs root")
	}
	data, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		t.Fatalf("read uid_map: %v", err)
	}
	if f := strings.Fields(string(data)); len(f) != 3 || f[0] != "0" || f[1] != "0" {
		lack(t, "needs the root of the host, not of a user namespace")
	}
}

// NeedsProgram skips the test if a program is not on the path. It returns where
// it is.
func NeedsProgram(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		lack(t, "needs the program %s", name)
	}
	return path
}

// NeedsKernel judges what a probe of a kernel feature said. Nil goes on.
// errors.ErrUnsupported skips the test on a kernel older than since (as in
// "6.3"), and fails it on others: a feature that we thought to be there and is
// not is news. Any other error fails the test.
func NeedsKernel(t testing.TB, since string, probed error) {
	t.Helper()
	if probed == nil {
		return
	}
	if !errors.Is(probed, errors.ErrUnsupported) {
		t.Fatalf("probe could not tell: %v", probed)
	}
	release := KernelRelease(t)
	if !olderThan(release, since) {
		t.Fatalf("kernel %s should have this since %s: %v", release, since, probed)
	}
	Skip(t, "kernel %s is older than %s: %v", release, since, probed)
}

// KernelRelease returns what uname -r prints.
func KernelRelease(t testing.TB) string {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatalf("uname: %v", err)
	}
	return unix.ByteSliceToString(u.Release[:])
}

// olderThan compares the first two numbers of two releases.
func olderThan(release, since string) bool {
	a, b := version(release), version(since)
	if a[0] != b[0] {
		return a[0] < b[0]
	}
	return a[1] < b[1]
}

func version(s string) (v [2]int) {
	for i, part := range strings.SplitN(s, ".", 3) {
		if i == len(v) {
			break
		}
		digits := part[:len(part)-len(strings.TrimLeft(part, "0123456789"))]
		v[i], _ = strconv.Atoi(digits) // no digits: 0
	}
	return v
}
