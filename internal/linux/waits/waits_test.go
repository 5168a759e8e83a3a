package waits

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/syscalls"
	"github.com/portholehq/porthole/internal/testenv"
)

func TestCause(t *testing.T) {
	ext4 := Mount{Point: "/data", Type: "ext4", Source: "/dev/loop0", Device: "7:0", Host: "/srv/data"}
	for _, tt := range []struct {
		name     string
		w        Wait
		text     string
		remedies []string
	}{
		{
			"frozen, write",
			Wait{Channel: "percpu_rwsem_wait", Stack: []string{"percpu_rwsem_wait", "vfs_write", "ksys_write", "do_syscall_64"}, Name: "write", File: "/data/log", Mount: ext4},
			"it waits in write on /data/log: ext4 of /dev/loop0 at /data is frozen",
			[]string{"fsfreeze -u /srv/data"},
		},
		{
			"frozen, a file is made",
			Wait{PID: 7, Channel: "percpu_rwsem_wait", Stack: []string{"percpu_rwsem_wait", "mnt_want_write", "path_openat"}, Name: "openat", File: "/data/new\n", Mount: Mount{Point: "/data", Type: "ext4", Source: "/dev/loop0"}},
			`it waits in openat on "/data/new\n": ext4 of /dev/loop0 at /data is frozen`,
			[]string{"nsenter -t 7 -m fsfreeze -u /data"},
		},
		{
			"frozen, below an overlay",
			Wait{Channel: "percpu_rwsem_wait", Stack: []string{"percpu_rwsem_wait", "vfs_iter_write", "ovl_write_iter", "vfs_write"}, Name: "write", File: "/x", Mount: Mount{Point: "/", Type: "overlay", Source: "overlay", Below: &ext4}},
			"it waits in write on /x: the file system under it, ext4 of /dev/loop0 at /data of the host, is frozen",
			[]string{"fsfreeze -u /srv/data"},
		},
		{
			"a fork that waits for a move between control groups",
			Wait{Channel: "percpu_rwsem_wait", Stack: []string{"percpu_rwsem_wait", "cgroup_can_fork", "copy_process", "kernel_clone"}, Name: "clone"},
			"it waits in clone: something in the kernel is locked by another process, which may be stuck itself", nil,
		},
		{
			"FUSE",
			Wait{Channel: "request_wait_answer", Name: "newfstatat", File: "/mnt/x", Mount: Mount{Point: "/mnt", Type: "fuse.sshfs", Source: "host:", Device: "0:52"}},
			"it waits in newfstatat on /mnt/x: the server of fuse.sshfs of host: at /mnt does not answer",
			[]string{"echo 1 > /sys/fs/fuse/connections/52/abort   # its calls fail then", "or let its server go on, or kill that"},
		},
		{
			"a lock on the way to a server",
			Wait{Channel: "rwsem_down_read_slowpath", Stack: []string{"rwsem_down_read_slowpath", "nfs_start_io_read", "nfs_file_read"}, Name: "read", File: "/mnt/x"},
			"it waits in read on /mnt/x: the server of an NFS file system does not answer",
			[]string{"look whether the server can be reached"},
		},
		{
			"disk",
			Wait{Channel: "folio_wait_bit_common", Stack: []string{"folio_wait_bit_common", "filemap_read"}, Name: "read", File: "/data/log", Mount: ext4},
			"it waits in read on /data/log: the disk of ext4 of /dev/loop0 at /data does not answer",
			[]string{"dmesg   # what the disk says"},
		},
		{
			"vfork",
			Wait{Channel: "kernel_clone", Name: "vfork", Child: &Wait{PID: 9, Command: "sh", Channel: "request_wait_answer", Name: "execve", File: "/mnt/p", cause: fuse}},
			"it waits in vfork: its child sh (pid 9 on the host) has to execute a program or to end, and that waits in execve on /mnt/p: the server of a FUSE file system does not answer",
			[]string{"let the server of the FUSE file system go on, or kill it"},
		},
		{"not known", Wait{Channel: "some_new_function"}, "it waits in the kernel's some_new_function", nil},
		{"nothing told", Wait{}, "it waits in the kernel", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.w.cause = causeOf(&tt.w)
			if diff := cmp.Diff(tt.text, tt.w.Text()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.remedies, tt.w.Remedies()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseCall(t *testing.T) {
	for text, want := range map[string]*syscalls.Call{
		"running\n":                          nil,
		"-1 0x7ffeb73b17b8 0x7f48f9774350\n": nil,
		"1 0x1 0x55c45fdeaac0 0x2 0x0 0x2 0x3 0x7ffeb73b17b8 0x7f48f9774350\n": {Number: 1, Args: [6]uint64{1, 0x55c45fdeaac0, 2, 0, 2, 3}},
		"4 0x1 0x5fdeaac0 0x2 0x0 0x2 0x3 0xffeb73b8 0xf7774350\n":             nil, // of 32 bits
		"": nil,
	} {
		if diff := cmp.Diff(want, parseCall(text)); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

// vforkIn has TestMain make a child by vfork(2) that cannot enter a directory.
const vforkIn = "PORTHOLE_WAITS_VFORK_IN"

func TestMain(m *testing.M) {
	dir := os.Getenv(vforkIn)
	if dir == "" {
		os.Exit(m.Run())
	}
	// Not by exec, which would look at the directory first; nor would this with an empty Sys.
	_, err := os.StartProcess("/proc/self/exe", []string{"child"}, &os.ProcAttr{Dir: dir, Sys: &syscall.SysProcAttr{}})
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestLook has a child of vfork(2) look into a file system of which nobody
// answers, so that the thread that made it is in state D. That is a thread of
// another process: the runtime of Go cannot collect garbage while it waits.
func TestLook(t *testing.T) {
	testenv.NeedsRoot(t)
	dir := t.TempDir()
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("dead", dir, "fuse", unix.MS_NODEV|unix.MS_NOSUID, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", dev)); err != nil {
		unix.Close(dev)
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), vforkIn+"="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(dev) // all calls fail from here on
		_ = cmd.Wait()  // with an error, of course
	})

	deadline, tick := time.After(20*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for {
		var w Wait
		if tid := Uninterruptible(cmd.Process.Pid); tid != 0 {
			w = Look(t.Context(), cmd.Process.Pid, tid)
		}
		text := w.Text()
		if strings.Contains(text, "has to execute a program or to end, and that waits in chdir on "+dir+": the server of fuse of dead at "+dir+" does not answer") {
			if w.Child == nil || !slices.ContainsFunc(w.Remedies(), func(s string) bool { return strings.Contains(s, "/sys/fs/fuse/connections/") }) {
				t.Errorf("remedies %q", w.Remedies())
			}
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after 20 s: %s\n%+v", text, w)
		}
	}
}

// TestFindNothing: a process that computes or sleeps is not found.
func TestFindNothing(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	// exec itself may be waited for.
	for deadline := time.Now().Add(10 * time.Second); ; {
		found := Find(t.Context(), []int{cmd.Process.Pid, 1 << 30})
		if len(found) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", found)
		}
	}
}
