package syscalls

import (
	"bytes"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func words(v ...uint64) []byte {
	var b []byte
	for _, w := range v {
		b = native.AppendUint64(b, w)
	}
	return b
}

func halves(v ...uint32) []byte {
	var b []byte
	for _, w := range v {
		b = native.AppendUint32(b, w)
	}
	return b
}

// number is that of a call on this architecture: some exist on some only.
func number(t *testing.T, name string) (uint32, bool) {
	t.Helper()
	n, ok := Number("", name)
	return n, ok
}

func TestPrint(t *testing.T) {
	passwd := Snippet{0x1000, []byte("/etc/passwd\x00")}
	other := Snippet{0x2000, []byte("/tmp/\x01\"x\"\n\x00")}
	inet := Snippet{0x3000, []byte{unix.AF_INET, 0, 0, 80, 10, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0}}
	inet6 := append([]byte{unix.AF_INET6, 0, 1, 187, 0, 0, 0, 0}, append(append(make([]byte, 15), 1), 0, 0, 0, 0)...)
	long := Snippet{0x4000, bytes.Repeat([]byte("x"), 64)}
	cwd := ^uint64(99) // AT_FDCWD
	for _, c := range []struct {
		name string
		args []uint64
		mem  Snippets
		ret  int64
		want string
	}{
		{"openat", []uint64{cwd, 0x1000, unix.O_CLOEXEC, 0o777}, Snippets{passwd}, 3, `openat(AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 3`},
		{"openat", []uint64{cwd & 0xffffffff, 0x2000, unix.O_CREAT | unix.O_WRONLY, 0o644}, Snippets{other}, -int64(unix.EACCES), `openat(AT_FDCWD, "/tmp/\1\"x\"\n", O_WRONLY|O_CREAT, 0644) = -1 EACCES (Permission denied)`},
		{"openat", []uint64{5, 0x9000, unix.O_RDWR}, nil, -int64(unix.EFAULT), `openat(5, 0x9000, O_RDWR) = -1 EFAULT (Bad address)`},
		{"read", []uint64{3, 0x4000, 128}, Snippets{long}, 64, `read(3, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"..., 128) = 64`},
		{"read", []uint64{3, 0x4000, 128}, Snippets{long}, 0, `read(3, "", 128) = 0`},
		{"read", []uint64{3, 0x4000, 128}, Snippets{long}, -int64(unix.EAGAIN), `read(3, 0x4000, 128) = -1 EAGAIN (Resource temporarily unavailable)`},
		{"write", []uint64{1, 0x4000, 2}, Snippets{long}, 2, `write(1, "xx", 2) = 2`},
		{"connect", []uint64{3, 0x3000, 16}, Snippets{inet}, -int64(unix.ECONNREFUSED), `connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("10.0.0.5")}, 16) = -1 ECONNREFUSED (Connection refused)`},
		{"connect", []uint64{3, 0x3000, 28}, Snippets{{0x3000, inet6}}, 0, `connect(3, {sa_family=AF_INET6, sin6_port=htons(443), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::1", &sin6_addr), sin6_scope_id=0}, 28) = 0`},
		{"connect", []uint64{3, 0x3000, 7}, Snippets{{0x3000, []byte("\x01\x00\x00abcd")}}, 0, `connect(3, {sa_family=AF_UNIX, sun_path=@"abcd"}, 7) = 0`},
		{"accept4", []uint64{3, 0x3000, 0x5000, unix.SOCK_CLOEXEC}, Snippets{inet, {0x5000, halves(16)}}, 4, `accept4(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("10.0.0.5")}, [16], SOCK_CLOEXEC) = 4`},
		{"socket", []uint64{unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_CLOEXEC, unix.IPPROTO_TCP}, nil, 3, `socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_TCP) = 3`},
		{"setsockopt", []uint64{3, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0x5000, 4}, Snippets{{0x5000, halves(1)}}, 0, `setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0`},
		{"pipe2", []uint64{0x5000, unix.O_CLOEXEC}, Snippets{{0x5000, halves(3, 4)}}, 0, `pipe2([3, 4], O_CLOEXEC) = 0`},
		{"mmap", []uint64{0, 4096, unix.PROT_READ | unix.PROT_WRITE, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, 0xffffffff, 0}, nil, 0x7f0000001000, `mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000001000`},
		{"execve", []uint64{0x1000, 0x5000, 0x6000}, Snippets{passwd, {0x5000, words(0x1000, 0x2000, 0)}, other}, 0, `execve("/etc/passwd", ["/etc/passwd", "/tmp/\1\"x\"\n"], 0x6000) = 0`},
		{"writev", []uint64{1, 0x5000, 2}, Snippets{{0x5000, words(0x4000, 3, 0x4000, 0)}, long}, 3, `writev(1, [{iov_base="xxx", iov_len=3}, {iov_base="", iov_len=0}], 2) = 3`},
		{"readv", []uint64{1, 0x5000, 2}, Snippets{{0x5000, words(0x4000, 3, 0x4000, 10)}, long}, 4, `readv(1, [{iov_base="xxx", iov_len=3}, {iov_base="x", iov_len=10}], 2) = 4`},
		{"kill", []uint64{1, 15}, nil, 0, `kill(1, SIGTERM) = 0`},
		{"unshare", []uint64{unix.CLONE_NEWNS | unix.CLONE_NEWUSER}, nil, -int64(unix.EPERM), `unshare(CLONE_NEWNS|CLONE_NEWUSER) = -1 EPERM (Operation not permitted)`},
		{"nanosleep", []uint64{0x5000, 0}, Snippets{{0x5000, words(1, 500)}}, -516, `nanosleep({tv_sec=1, tv_nsec=500}, NULL) = ? ERESTART_RESTARTBLOCK (Interrupted by signal)`},
		{"ppoll", []uint64{0x5000, 1, 0, 0, 8}, Snippets{{0x5000, []byte{3, 0, 0, 0, unix.POLLIN, 0, unix.POLLIN | unix.POLLHUP, 0}}}, 1, `ppoll([{fd=3, events=POLLIN}], 1, NULL, NULL, 8) = 1 ([{fd=3, revents=POLLIN|POLLHUP}])`},
		{"wait4", []uint64{^uint64(0), 0x5000, 0, 0}, Snippets{{0x5000, halves(9)}}, 7, `wait4(-1, [{WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL}], 0, NULL) = 7`},
		{"futex", []uint64{0x5000, 128, 2, 0, 0, 0}, nil, 0, `futex(0x5000, FUTEX_WAIT_PRIVATE, 2, NULL) = 0`},
		{"futex", []uint64{0x5000, 129, 1, 7, 7, 7}, nil, 1, `futex(0x5000, FUTEX_WAKE_PRIVATE, 1) = 1`},
		{"rt_sigprocmask", []uint64{0, 0x5000, 0, 8}, Snippets{{0x5000, words(1<<(unix.SIGCHLD-1) | 1)}}, 0, `rt_sigprocmask(SIG_BLOCK, [HUP CHLD], NULL, 8) = 0`},
		{"fcntl", []uint64{3, unix.F_SETFL, unix.O_RDWR | unix.O_NONBLOCK}, nil, 0, `fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0`},
		{"fcntl", []uint64{3, unix.F_GETFD, 77}, nil, 1, `fcntl(3, F_GETFD) = 1`},
		{"prlimit64", []uint64{0, unix.RLIMIT_NOFILE, 0, 0x5000}, Snippets{{0x5000, words(1024, ^uint64(0))}}, 0, `prlimit64(0, RLIMIT_NOFILE, NULL, {rlim_cur=1024, rlim_max=RLIM64_INFINITY}) = 0`},
		{"mount", []uint64{0x1000, 0x1000, 0, unix.MS_BIND | unix.MS_REC, 0}, Snippets{passwd}, 0, `mount("/etc/passwd", "/etc/passwd", NULL, MS_BIND|MS_REC, NULL) = 0`},
		{"clone", []uint64{unix.CLONE_VM | unix.CLONE_VFORK | uint64(unix.SIGCHLD), 0, 0, 0, 0}, nil, 9, `clone(CLONE_VM|CLONE_VFORK|SIGCHLD, NULL, NULL, NULL, NULL) = 9`},
		{"exit_group", []uint64{3}, nil, 0, `exit_group(3) = ?`},
	} {
		n, ok := number(t, c.name)
		if !ok {
			t.Errorf("%s has no number", c.name)
			continue
		}
		call := Call{Number: n}
		copy(call.Args[:], c.args)
		text := (&Printer{}).Enter(call, c.mem)
		args, result := text.Exit(c.ret, c.mem)
		if diff := cmp.Diff(c.want, text.Name()+args+" = "+result); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestUnfinished(t *testing.T) {
	n, _ := Number("", "read")
	text := (&Printer{}).Enter(Call{Number: n, Args: [6]uint64{3, 0x1000, 10}}, nil)
	if got, want := text.Args(), "(3, "; got != want {
		t.Errorf("before the return: %q, want %q", got, want)
	}
}

func TestDescriptorNames(t *testing.T) {
	n, _ := Number("", "close")
	p := &Printer{FD: func(fd int32) string { return strings.Repeat("x", int(fd)) }}
	if args, _ := p.Enter(Call{Number: n, Args: [6]uint64{2}}, nil).Exit(0, nil); args != "(2<xx>)" {
		t.Errorf("got %q", args)
	}
}

// TestRetry: a page that was missing at first is there when the call returns.
func TestRetry(t *testing.T) {
	n, _ := Number("", "chdir")
	text := (&Printer{}).Enter(Call{Number: n, Args: [6]uint64{0x1000}}, nil)
	m := Snippets{{0x1000, []byte("/a\x00")}}
	text.Retry(m)
	if args, _ := text.Exit(0, m); args != `("/a")` {
		t.Errorf("got %q", args)
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		arch string
		n    uint32
		want string
	}{
		{"amd64", 257, "openat"},
		{"arm64", 56, "openat"},
		{"386", 295, "openat"},
		{"amd64", 9999, "syscall_0x270f"},
		{"amd64", 1<<30 | 257, "openat"},
		{"none", 1, "syscall_0x1"},
	} {
		if got := Name(c.arch, c.n); got != c.want {
			t.Errorf("%s %d: %s, want %s", c.arch, c.n, got, c.want)
		}
	}
	for _, name := range []string{"openat", "syscall_0x270f"} {
		n, ok := Number("amd64", name)
		if !ok || Name("amd64", n) != name {
			t.Errorf("%s does not come back: %d, %v", name, n, ok)
		}
	}
	if _, ok := Number("amd64", "opennat"); ok {
		t.Error("opennat has a number")
	}
}

// TestForeign: structures of a 32-bit program are not taken for ours.
func TestForeign(t *testing.T) {
	n, _ := Number("386", "nanosleep")
	text := (&Printer{}).Enter(Call{Arch: "386", Number: n, Args: [6]uint64{0x1000}}, Snippets{{0x1000, words(1, 2)}})
	if got := text.Args(); !strings.HasPrefix(got, "(0x1000, ") {
		t.Errorf("got %q", got)
	}
}

// TestSignatures: each names kinds and sets that exist, and a call that exists.
func TestSignatures(t *testing.T) {
	for name, sig := range parsed() {
		_, amd := Number("amd64", name)
		_, arm := Number("arm64", name)
		if !amd && !arm {
			t.Errorf("%s is no system call", name)
		}
		if len(sig) > 6 {
			t.Errorf("%s has %d arguments", name, len(sig))
		}
		for i, a := range sig {
			if a.print == nil {
				t.Errorf("%s, argument %d: kind %q is not known", name, i, a.kind)
			}
			if a.kind == "flags" && flagSets[a.set] == nil || a.kind == "enum" && enums[a.set] == nil {
				t.Errorf("%s, argument %d: set %q is not known", name, i, a.set)
			}
			if a.length >= len(sig) {
				t.Errorf("%s, argument %d: its length is in argument %d", name, i, a.length)
			}
		}
		for _, c := range Captures(name) {
			if c.Size <= 0 || c.Size > captureString {
				t.Errorf("%s: captures %d bytes", name, c.Size)
			}
		}
	}
}

func TestCaptures(t *testing.T) {
	want := []Capture{
		{Arg: 1, What: CaptureString, Length: -1, Size: captureString},
	}
	if diff := cmp.Diff(want, Captures("openat")); diff != "" {
		t.Errorf("openat (-want +got):\n%s", diff)
	}
	if i := slices.IndexFunc(Captures("accept"), func(c Capture) bool { return c.Exit && c.Arg == 1 }); i < 0 {
		t.Error("the address that accept fills in is not captured")
	}
}

func TestResult(t *testing.T) {
	for _, c := range []struct {
		name string
		ret  int64
		want string
	}{
		{"read", 5, "5"},
		{"brk", 0x1000, "0x1000"},
		{"read", -int64(syscall.ENOSYS), "-1 ENOSYS (Function not implemented)"},
		{"read", -512, "? ERESTARTSYS (To be restarted if SA_RESTART is set)"},
		{"mmap", -4096, "0xfffffffffffff000"},
		{"umask", 18, "022"},
	} {
		if got := Result(c.name, c.ret); got != c.want {
			t.Errorf("%s %d: %q, want %q", c.name, c.ret, got, c.want)
		}
	}
}

// FuzzPrint: whatever registers and memory hold, it is printed.
func FuzzPrint(f *testing.F) {
	f.Add(uint32(257), uint64(0x1000), uint64(2), int64(3), []byte("/etc\x00"))
	f.Add(uint32(7), uint64(0x1000), ^uint64(0), int64(-1), bytes.Repeat([]byte{0xff}, 100))
	f.Fuzz(func(t *testing.T, n uint32, addr, count uint64, ret int64, mem []byte) {
		m := Snippets{{addr, mem}}
		for k := range 6 {
			args := [6]uint64{count, count, count, count, count, count}
			args[k] = addr
			if k > 0 {
				args[k-1] = addr
			}
			text := (&Printer{}).Enter(Call{Number: n % 480, Args: args}, m)
			if got, _ := text.Exit(ret, m); !strings.HasPrefix(got, "(") || strings.Contains(got, "\x00") {
				t.Errorf("%s: %q", text.Name(), got)
			}
		}
	})
}
