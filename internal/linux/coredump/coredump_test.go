package coredump

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseLimits(t *testing.T) {
	const head = "Limit                     Soft Limit           Hard Limit           Units     \nMax stack size            8388608              unlimited            bytes     \n"
	for _, tt := range []struct {
		name, text string
		want       uint64
		bad        bool
	}{
		{"none", head + "Max core file size        0                    unlimited            bytes     \n", 0, false},
		{"some", head + "Max core file size        100000               unlimited            bytes     \n", 100000, false},
		{"any", head + "Max core file size        unlimited            unlimited            bytes     \n", unix.RLIM_INFINITY, false},
		{"missing", head, 0, true},
		{"cut off", head + "Max core file size", 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := parseLimit(tt.text, "Max core file size"); got != tt.want || (err != nil) != tt.bad {
				t.Errorf("%d, %v", got, err)
			}
		})
	}
}

func TestParseStatus(t *testing.T) {
	const text = "Name:\ta b\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \nNSpid:\t100\t20\t1\nCapEff:\t00000000a80425fb\n"
	var p Process
	if err := p.parseStatus(text); err != nil {
		t.Fatal(err)
	}
	if p.Name != "a b" || p.UID != 1 || p.fsuid != 4 || p.fsgid != 8 || len(p.groups) != 2 || p.Inside != 1 || p.effective != 0xa80425fb {
		t.Errorf("%+v", p)
	}
	for _, line := range strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n") {
		if key, _, _ := strings.Cut(line, ":"); key == "Uid" || key == "Gid" || key == "NSpid" {
			if err := new(Process).parseStatus(strings.Replace(text, line, "", 1)); err == nil {
				t.Errorf("without %s there is no error", key)
			}
		}
	}
}

func TestFree(t *testing.T) {
	const own = "@@/run/porthole/" + SocketName
	gone := "@@" + filepath.Join(t.TempDir(), SocketName)
	for _, tt := range []struct {
		name, pattern string
		free          bool
	}{
		{"the kernel's", "core", true},
		{"none at all", "", false},
		{"ours", own, true},
		{"of a daemon that is gone", gone, true},
		{"another socket that is gone", filepath.Dir(gone) + "/other.sock", false},
		{"a program", "|/usr/lib/systemd/systemd-coredump %P", false},
		{"a file", "/var/crash/%e.%p", false},
		{"named by somebody", "core.%p", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := free(tt.pattern, own); (err == nil) != tt.free {
				t.Error(err)
			}
		})
	}
	live := filepath.Join(t.TempDir(), SocketName)
	l, err := listen(live)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if free("@@"+live, own) == nil {
		t.Error("that of a daemon that runs is free")
	}
}

// TestCreate meets what may lie in a working directory under the name of a core: it is neither written to nor kept open.
func TestCreate(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "precious")
	for name, put := range map[string]func(path string) error{
		"link":      func(path string) error { return os.Symlink(precious, path) },
		"hard link": func(path string) error { return os.Link(precious, path) },
		"pipe":      func(path string) error { return unix.Mkfifo(path, 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"readable":  func(path string) error { return os.WriteFile(path, []byte("of before"), 0o644) },
	} {
		if err := os.WriteFile(precious, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := put(path); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		former, _ := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		f, err := create(fd, name, uint32(os.Getuid()))
		if (err != nil) != (name == "directory") {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			now, err := f.Stat()
			if was, err2 := former.Stat(); err != nil || err2 != nil || os.SameFile(was, now) || now.Mode() != 0o600 {
				t.Errorf("%s: %v, %v, %v: it is the file that was there", name, now, err, err2)
			}
			_ = f.Close()
		}
		_ = former.Close()
		if f, err := create(fd, "new "+name, uint32(os.Getuid()+1)); err == nil {
			_ = f.Close()
			t.Errorf("%s: a file of another user is written to", name)
		}
		f, err = create(fd, "fresh "+name, uint32(os.Getuid()))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := fill(f, strings.NewReader("core"+strings.Repeat("\x00", 1<<20))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Size != 4+1<<20 || st.Blocks > 16 {
			t.Errorf("%s: %d bytes in %d blocks, %v", name, st.Size, st.Blocks, err)
		}
		_ = f.Close()
		_ = unix.Close(fd)
		if text, err := os.ReadFile(precious); err != nil || string(text) != "precious" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}
