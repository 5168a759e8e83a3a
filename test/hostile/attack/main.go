// Attack is what runs in hostile containers, one attack by its name:
//
//	attack calls                     makes system calls that a container should not, and prints what each said
//	attack swap A B                  exchanges two names as fast as it can, until it is killed
//	attack listen|dial NAME          uses an abstract Unix socket
//	attack connect PATH...           connects to Unix sockets by path
//	attack key add NAME VALUE        puts a key into the session's and the user's keyring, prints its number
//	attack key get NAME NUMBER       looks for it by name, and reads it by number
//	attack neighbour PID FILE        tries to get at a process, and at a file behind descriptor 3
//	attack devices                   makes devices and opens them
//	attack user                      prints whose rights it has
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	args := os.Args[1:]
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: attack NAME [ARG...]")
		os.Exit(2)
	}
	attack, ok := attacks[args[0]]
	if !ok {
		fmt.Fprintln(os.Stderr, "unknown attack", args[0])
		os.Exit(2)
	}
	attack(args[1:])
}

var attacks = map[string]func([]string){
	"calls": calls, "swap": swap, "listen": listen, "dial": dial, "connect": connect, "key": key, "neighbour": neighbour, "devices": devices,
	"user": func([]string) { fmt.Println(os.Geteuid()) },
}

// said prints how an attempt ended, as "what: EPERM" or "what: done".
func said(what string, err error) {
	text := "done"
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		text = unix.ErrnoName(errno)
	} else if err != nil {
		text = err.Error()
	}
	fmt.Printf("%s: %s\n", what, text)
}

// calls makes each call with arguments that the kernel itself takes, or refuses with another error than a filter does.
func calls([]string) {
	const bad = 8 // nothing is at this address
	for _, c := range []struct {
		name    string
		nr      uintptr
		a, b, c uintptr
	}{
		{"bpf", unix.SYS_BPF, ^uintptr(0), 0, 0},
		{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, 0, 0, 0},
		{"userfaultfd", unix.SYS_USERFAULTFD, 1, 0, 0}, // UFFD_USER_MODE_ONLY, which needs no right
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, 1, bad, 0},
		{"keyctl", unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, keyID(unix.KEY_SPEC_SESSION_KEYRING), 0},
		{"add_key", unix.SYS_ADD_KEY, 0, 0, 0},
		{"request_key", unix.SYS_REQUEST_KEY, 0, 0, 0},
		{"unshare a user namespace", unix.SYS_UNSHARE, unix.CLONE_NEWUSER, 0, 0},
		{"unshare mounts", unix.SYS_UNSHARE, unix.CLONE_NEWNS, 0, 0},
		{"setns", unix.SYS_SETNS, ^uintptr(0), 0, 0},
		{"clone3", unix.SYS_CLONE3, bad, 1, 0}, // too short to clone anything
		{"mount", unix.SYS_MOUNT, 0, 0, 0},
		{"move_mount", unix.SYS_MOVE_MOUNT, ^uintptr(0), 0, 0},
		{"fsopen", unix.SYS_FSOPEN, bad, 0, 0},
		{"open_tree", unix.SYS_OPEN_TREE, ^uintptr(0), 0, 0},
		{"pivot_root", unix.SYS_PIVOT_ROOT, 0, 0, 0},
		{"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, ^uintptr(0), 0, 0},
		{"init_module", unix.SYS_INIT_MODULE, 0, 0, 0},
		{"finit_module", unix.SYS_FINIT_MODULE, ^uintptr(0), 0, 0},
		{"delete_module", unix.SYS_DELETE_MODULE, 0, 0, 0},
		{"kexec_load", unix.SYS_KEXEC_LOAD, 0, 0, ^uintptr(0)},
		{"reboot", unix.SYS_REBOOT, 0, 0, 0}, // without its magic numbers
		{"swapon", unix.SYS_SWAPON, 0, 0, 0},
		{"settimeofday", unix.SYS_SETTIMEOFDAY, bad, bad, 0},
		{"clock_settime", unix.SYS_CLOCK_SETTIME, 0, bad, 0},
		{"syslog", unix.SYS_SYSLOG, 10, 0, 0}, // SYSLOG_ACTION_SIZE_BUFFER
		{"acct", unix.SYS_ACCT, bad, 0, 0},
		{"quotactl", unix.SYS_QUOTACTL, 0, 0, 0},
		{"personality that executes what can be read", unix.SYS_PERSONALITY, 0x0400000, 0, 0},
	} {
		_, _, errno := unix.RawSyscall6(c.nr, c.a, c.b, c.c, 0, 0, 0)
		var err error
		if errno != 0 {
			err = errno
		}
		said(c.name, err)
	}
}

func keyID(id int) uintptr { return uintptr(id) }

func swap(names []string) {
	fmt.Println("swapping")
	for {
		if err := unix.Renameat2(unix.AT_FDCWD, names[0], unix.AT_FDCWD, names[1], unix.RENAME_EXCHANGE); err != nil {
			said("swap", err)
			return
		}
	}
}

func listen(names []string) {
	l, err := net.Listen("unix", "@"+names[0])
	said("listen", err)
	if err != nil {
		return
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_ = conn.Close()
	}
}

func dial(names []string) {
	conn, err := net.Dial("unix", "@"+names[0])
	said("dial", err)
	if err == nil {
		_ = conn.Close()
	}
}

func connect(paths []string) {
	for _, path := range paths {
		said(path, connectTo(path))
	}
}

// connectTo knows no longest path.
func connectTo(path string) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	conn, err := net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d", fd))
	if err == nil {
		_ = conn.Close()
	}
	return err
}

func key(args []string) {
	switch args[0] {
	case "add":
		for _, ring := range []int{unix.KEY_SPEC_SESSION_KEYRING, unix.KEY_SPEC_USER_KEYRING} {
			id, err := unix.AddKey("user", args[1], []byte(args[2]), ring)
			if err != nil {
				said("add", err)
				continue
			}
			fmt.Println(id)
		}
	case "get":
		for _, ring := range []int{unix.KEY_SPEC_SESSION_KEYRING, unix.KEY_SPEC_USER_KEYRING, unix.KEY_SPEC_USER_SESSION_KEYRING} {
			_, err := unix.KeyctlSearch(ring, "user", args[1], 0)
			said("search "+strconv.Itoa(ring), err)
		}
		for _, text := range args[2:] {
			id, err := strconv.Atoi(text)
			if err != nil {
				said("number", err)
				continue
			}
			buf := make([]byte, 100)
			_, err = unix.KeyctlBuffer(unix.KEYCTL_READ, id, buf, 0)
			said("read", err)
		}
	}
}

// neighbour has descriptor 3 open at the top of the target's files, and sees the target by its number.
func neighbour(args []string) {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		said("number", err)
		return
	}
	proc := "/proc/" + args[0] + "/"
	said("signal", unix.Kill(pid, 0))
	for _, name := range []string{"environ", "maps", "mem"} {
		said("open "+name, tryOpen(proc+name))
	}
	for _, name := range []string{"root", "cwd", "exe", "ns/mnt", "ns/user"} {
		_, err := os.Readlink(proc + name)
		said("link "+name, err)
	}
	said("files through /proc", tryOpen(proc+"root/"+args[1]))
	fd, err := unix.Openat(3, args[1], unix.O_RDONLY|unix.O_NOFOLLOW, 0)
	said("file on the disk", err)
	if err == nil {
		_ = unix.Close(fd)
	}
	said("trace", unix.PtraceSeize(pid))
	buf := make([]byte, 8)
	local := []unix.Iovec{{Base: &buf[0], Len: 8}}
	_, err = unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
	said("read memory", err)
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		_, err = unix.PidfdGetfd(pidfd, 0, 0)
		said("take a descriptor", err)
		said("enter its mounts", unix.Setns(pidfd, unix.CLONE_NEWNS))
	} else {
		said("open by number", err)
	}
}

func tryOpen(name string) error {
	f, err := os.Open(name)
	if err == nil {
		_ = f.Close()
	}
	return err
}

// devices makes those that lead to the kernel's memory, disks and other machines' consoles.
func devices([]string) {
	for _, d := range []struct {
		name         string
		mode         uint32
		major, minor uint32
	}{
		{"mem", unix.S_IFCHR, 1, 1},
		{"kmsg", unix.S_IFCHR, 1, 11},
		{"disk", unix.S_IFBLK, 254, 0},
		{"loop", unix.S_IFBLK, 7, 0},
		{"fuse", unix.S_IFCHR, 10, 229},
		{"tun", unix.S_IFCHR, 10, 200},
		{"console", unix.S_IFCHR, 5, 1},
		{"zero", unix.S_IFCHR, 1, 5},
	} {
		for _, dir := range []string{"/tmp/", "/dev/"} {
			name := dir + "made-" + d.name
			err := unix.Mknod(name, d.mode|0o666, int(unix.Mkdev(d.major, d.minor)))
			said("make "+strings.TrimPrefix(name, "/"), err)
			if err == nil {
				said("open "+strings.TrimPrefix(name, "/"), tryOpen(name))
				_ = os.Remove(name)
			}
		}
	}
}
