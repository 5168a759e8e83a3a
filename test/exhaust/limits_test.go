package exhaust

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portholehq/porthole/test/bed"
)

// fewFiles is a folder with the programs, of which the daemon can have no more than so many files open.
func fewFiles(t *testing.T, n int) string {
	t.Helper()
	from, to := os.Getenv("PORTHOLE_TEST_BIN"), t.TempDir()
	if from == "" {
		t.Fatal("PORTHOLE_TEST_BIN names no folder")
	}
	from, err := filepath.Abs(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"porthole", "porthole-shim", "porthole-build"} {
		if err := os.Symlink(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			t.Fatal(err)
		}
	}
	script := fmt.Sprintf("#!/bin/sh\nulimit -n %d\nexec %s/portholed \"$@\"\n", n, from)
	if err := os.WriteFile(filepath.Join(to, "portholed"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return to
}

// TestFewFiles starts a daemon that can have few files open.
func TestFewFiles(t *testing.T) {
	w := newWorld(t, bed.Options{Bin: fewFiles(t, 256)}, nil)
	said(t, w.LogTail(1<<30), "the hard limit of open files is low\" files=256 ")
	said(t, w.both("info"), "WARNING: The daemon can have no more than 256 files open")
	w.must("run", "-d", "--name", "bystander", "busybox", "sleep", "1000")
	attack(t, w, "more containers than the daemon can have files for", func(w *world) string {
		started, out := 0, ""
		for ; started < 256; started++ {
			var err error
			if out, err = w.try("run", "-d", "--network", "none", "busybox", "sleep", "1000"); err != nil {
				break
			}
		}
		said(w.t, out, "too many open files", "hint: ")
		if live := len(strings.Fields(w.must("ps", "-q"))); live != started+1 {
			w.t.Errorf("of %d containers %d run", started+1, live)
		}
		// One of them makes room for others.
		w.must("rm", "-f", strings.Fields(w.must("ps", "-q"))[0])
		return fmt.Sprintf("the daemon has said so when it began; %d run, and no more", started)
	})
	w.must("run", "--rm", "busybox", "true")
}

// TestUlimit asks for more than anybody can have.
func TestUlimit(t *testing.T) {
	w := newWorld(t, bed.Options{}, nil)
	w.must("run", "-d", "--name", "bystander", "busybox", "sleep", "1000")
	attack(t, w, "a limit above the kernel's", func(w *world) string {
		const limit = "nofile=2147483584:2147483584" // fs.nr_open cannot be as high
		for _, args := range [][]string{
			{"run", "--rm", "--ulimit", limit, "busybox", "true"},
			{"run", "--name", "kept", "--ulimit", limit, "busybox", "true"},
			{"start", "kept"},
		} {
			out, err := w.try(args...)
			if said(w.t, out, "error setting rlimit type 7: operation not permitted", "hint: "); err == nil {
				w.t.Errorf("%q succeeds", args)
			}
		}
		return "refused in Docker's words"
	})
}

// TestPorts takes all ports that are for those who name none.
func TestPorts(t *testing.T) {
	const file = "/proc/sys/net/ipv4/ip_local_port_range" // of the network namespace
	w := newWorld(t, bed.Options{}, nil)
	w.must("run", "-d", "--name", "bystander", "busybox", "sleep", "1000")
	before := readFile(t, file)
	if err := os.WriteFile(file, []byte("50000 50002"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(file, []byte(before), 0); err != nil {
			t.Error(err)
		}
	})
	attack(t, w, "more published ports than there are", func(w *world) string {
		for i := range 3 {
			w.must("run", "-d", "--name", fmt.Sprint("port", i), "-p", "80", "busybox", "sleep", "1000")
		}
		now := w.snapshot()
		out, err := w.try("run", "-d", "--rm", "-p", "80", "busybox", "sleep", "1000")
		if said(w.t, out, "all ports are allocated", "hint: "); err == nil {
			w.t.Error("a fourth container has a port")
		}
		w.settled(now)
		w.must("run", "--rm", "-p", "127.0.0.1:50010:80", "busybox", "true")
		w.must("rm", "-f", "port1")
		w.must("run", "-d", "--name", "again", "-p", "80", "busybox", "sleep", "1000")
		return "three have one, the fourth is refused until one is given back"
	})
}
