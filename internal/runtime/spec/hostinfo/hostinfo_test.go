package hostinfo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/caps"
	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/testenv"
)

func TestGather(t *testing.T) {
	testenv.NeedsRoot(t)
	parent := fmt.Sprintf("/porthole-hostinfo-%d", os.Getpid())
	tree, err := cgroup.Current()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tree.Prune(parent); err != nil {
			t.Error(err)
		}
	})
	host, err := Gather(parent)
	if err != nil {
		t.Fatal(err)
	}
	if host.Arch != runtime.GOARCH || host.NCPU != runtime.NumCPU() || host.Kernel.Kernel < 5 || host.LastCap < 40 || !host.Seccomp {
		t.Errorf("%+v", host)
	}
	if !host.Bounding.Has(caps.Cap(unix.CAP_SYS_ADMIN)) || !host.CgroupNamespaces {
		t.Errorf("bounding set %x, cgroup namespaces %v", host.Bounding, host.CgroupNamespaces)
	}
	if host.Cgroup.Mode != tree.Mode() || !host.Cgroup.Memory || !host.Cgroup.Pids || !host.Cgroup.CPUShares {
		t.Errorf("control groups: %+v", host.Cgroup)
	}
	if host.Cgroup.Cpuset && !strings.HasPrefix(host.Cgroup.CPUs, "0") {
		t.Errorf("processors %q", host.Cgroup.CPUs)
	}
	if _, asked := host.Sysctls["net.ipv4.ping_group_range"]; !asked {
		t.Errorf("parameters %v", host.Sysctls)
	}
}

func TestDevices(t *testing.T) {
	testenv.NeedsRoot(t)
	dir := t.TempDir()
	for name, minor := range map[string]uint32{"null": 3, "sub/zero": 5} {
		path := filepath.Join(dir, "dev", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mknod(path, unix.S_IFCHR|0o640, int(unix.Mkdev(1, minor))); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"link": "dev/null", "dirlink": "dev", "dangling": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "dev/file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path string
		want []string // path major:minor
		err  error
	}{
		{"dev/null", []string{" 1:3"}, nil},
		{"link", []string{" 1:3"}, nil},
		{"dev", []string{"/null 1:3", "/sub/zero 1:5"}, nil},
		{"dirlink", []string{"/null 1:3", "/sub/zero 1:5"}, nil},
		{"dangling", nil, fs.ErrNotExist},
		{"missing", nil, fs.ErrNotExist},
		{"dev/file", nil, errNotADevice},
		{"empty", nil, errNotADevice},
	} {
		list, err := Lookup{}.Devices(filepath.Join(dir, test.path))
		if !errors.Is(err, test.err) {
			t.Errorf("%s: error %v, want %v", test.path, err, test.err)
		}
		var got []string
		for _, d := range list {
			if d.Type != "c" || *d.FileMode != 0o640 {
				t.Errorf("%s: %+v", test.path, d)
			}
			got = append(got, fmt.Sprintf("%s %d:%d", d.Path, d.Major, d.Minor))
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", test.path, diff)
		}
	}
}

func TestAllDevices(t *testing.T) {
	list, err := Lookup{}.AllDevices()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, d := range list {
		found[d.Path] = true
		if strings.HasPrefix(d.Path, "/dev/pts/") || d.Path == "/dev/console" {
			t.Errorf("%s is among them", d.Path)
		}
	}
	if !found["/dev/null"] || !found["/dev/zero"] {
		t.Errorf("only %v", found)
	}
}

func TestPropagation(t *testing.T) {
	testenv.NeedsRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	below := filepath.Join(dir, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		flag          uintptr
		shared, slave bool
	}{{unix.MS_PRIVATE, false, false}, {unix.MS_SHARED, true, false}} {
		if err := unix.Mount("", dir, "", test.flag, ""); err != nil {
			t.Fatal(err)
		}
		at, shared, slave, err := Lookup{}.Propagation(below)
		if err != nil || at != dir || shared != test.shared || slave != test.slave {
			t.Errorf("flag %#x: %q, shared %v, slave %v, %v", test.flag, at, shared, slave, err)
		}
	}
	if _, _, _, err := (Lookup{}).Propagation(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a path that is not there: %v", err)
	}
}
