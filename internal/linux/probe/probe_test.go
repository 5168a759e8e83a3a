package probe

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/portholehq/porthole/internal/testenv"
)

func TestUnsupportedError(t *testing.T) {
	for _, test := range []struct {
		err  UnsupportedError
		want string
	}{
		{UnsupportedError{Feature: "time travel"}, "time travel not supported"},
		{UnsupportedError{Feature: "time travel", Since: Version{9, 1}}, "time travel not supported (needs Linux 9.1 or newer)"},
		{UnsupportedError{Feature: "time travel", Since: Version{9, 1}, Detail: "no flux"}, "time travel not supported: no flux (needs Linux 9.1 or newer)"},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
		if !IsUnsupported(&test.err) || IsUnsupported(errors.New("x")) || IsUnsupported(nil) {
			t.Error("IsUnsupported is wrong")
		}
	}
}

func TestParseVersion(t *testing.T) {
	for release, want := range map[string]Version{"6.18.44-fc": {6, 18}, "5.14": {5, 14}, "6.1.0-13-amd64": {6, 1}, "7.0-rc1": {7, 0}} {
		if got, err := ParseVersion(release); err != nil || got != want {
			t.Errorf("%q: %v, %v", release, got, err)
		}
	}
	if _, err := ParseVersion("next"); err == nil {
		t.Error("nonsense was taken")
	}
	for _, v := range []struct {
		a, b Version
		less bool
	}{{Version{5, 9}, Version{5, 14}, true}, {Version{5, 14}, Version{5, 14}, false}, {Version{6, 0}, Version{5, 14}, false}, {Version{4, 20}, Version{5, 0}, true}} {
		if v.a.Less(v.b) != v.less {
			t.Errorf("%v < %v: %v", v.a, v.b, !v.less)
		}
	}
}

func TestFloor(t *testing.T) {
	// Nothing of this project runs on an older kernel, its tests included.
	if err := Floor(); err != nil {
		t.Error(err)
	}
}

func TestKernelHasTheBasics(t *testing.T) {
	for name, err := range map[string]error{
		"mount API": MountAPI(), "seccomp": Seccomp(), "cgroup namespaces": Namespace("cgroup"), "user namespaces": Namespace("user"),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Namespace("nonsense"); !IsUnsupported(err) {
		t.Errorf("a namespace that nobody has: %v", err)
	}
}

// TestAnswersAreYesOrNo holds that the optional probes can tell on this machine.
func TestAnswersAreYesOrNo(t *testing.T) {
	if err := Pressure(); err != nil && !IsUnsupported(err) {
		t.Errorf("pressure: %v", err)
	}
}

func TestMountsAsRoot(t *testing.T) {
	testenv.NeedsRoot(t)
	if err := Filesystem("tmpfs"); err != nil {
		t.Error(err)
	}
	if err := Filesystem("nonsense"); !IsUnsupported(err) || !strings.Contains(err.Error(), "nonsense filesystem not supported") {
		t.Errorf("a filesystem that nobody has: %v", err)
	}
	if err := LowerdirPlus(); err != nil && !IsUnsupported(err) {
		t.Error(err)
	}
	v, _, err := Kernel()
	if err != nil {
		t.Fatal(err)
	}
	if err := LowerdirPlus(); err != nil && !v.Less(Version{6, 7}) {
		t.Errorf("Linux %v: %v", v, err)
	}
}

func TestUserNamespaces(t *testing.T) {
	testenv.NeedsRoot(t)
	before := processes(t)
	if err := UserNamespaces(); err != nil {
		t.Error(err)
	}
	if err := IDMapped(t.TempDir()); err != nil && !IsUnsupported(err) {
		t.Errorf("temporary directory: %v", err)
	}
	if err := IDMapped("/proc"); !IsUnsupported(err) || !strings.Contains(err.Error(), `its filesystem (proc) cannot do it`) {
		t.Errorf("/proc: %v", err)
	}
	if err := IDMapped("/nonexistent"); err == nil || IsUnsupported(err) {
		t.Errorf("a directory that is not there: %v", err)
	}
	if after := processes(t); after != before {
		t.Errorf("%d children before, %d after", before, after)
	}
}

// processes counts our children, by any of our threads.
func processes(t *testing.T) int {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, task := range tasks {
		text, err := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		if err == nil {
			n += len(strings.Fields(string(text)))
		}
	}
	return n
}

func BenchmarkIDMapped(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		if err := IDMapped(dir); err != nil {
			b.Fatal(err)
		}
	}
}
