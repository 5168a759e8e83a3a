package syscalls

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/caps"
)

var native = binary.NativeEndian

// filled returns what the kernel has written at an argument's address: nothing
// if the call failed, or if the layout is another architecture's.
func (t *Text) filled(i, n int) ([]byte, bool) {
	if t.leaving && Failed(t.ret) {
		return nil, false
	}
	return t.structure(i, n)
}

// structure returns n bytes at an argument's address.
func (t *Text) structure(i, n int) ([]byte, bool) {
	if !t.call.native() {
		return nil, false
	}
	return t.exactly(t.call.Args[i], n)
}

func capability(v uint64) string {
	if v > math.MaxInt32 {
		return hex(v)
	}
	return caps.Cap(v).String()
}

func twoFDs(t *Text, i int, _ argument) string {
	p, ok := t.filled(i, 8)
	if !ok {
		return pointer(t.call.Args[i])
	}
	return "[" + t.fd(int32(native.Uint32(p))) + ", " + t.fd(int32(native.Uint32(p[4:]))) + "]"
}

func intAt(t *Text, i int, _ argument) string {
	p, ok := t.filled(i, 4)
	if !ok {
		return pointer(t.call.Args[i])
	}
	return fmt.Sprintf("[%d]", int32(native.Uint32(p)))
}

func ints(t *Text, i int, a argument) string {
	n := t.length(a)
	if n < 0 {
		return pointer(t.call.Args[i])
	}
	if n == 0 {
		return "[]"
	}
	shown := min(n, maxListed)
	p, ok := t.structure(i, 4*shown)
	if !ok {
		return pointer(t.call.Args[i])
	}
	var list []string
	for ; len(p) > 0; p = p[4:] {
		list = append(list, strconv.Itoa(int(int32(native.Uint32(p)))))
	}
	if shown < n {
		list = append(list, "...")
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// offset is a position that the call moves on.
func offset(t *Text, i int, _ argument) string {
	p, ok := t.structure(i, 8)
	if !ok {
		return pointer(t.call.Args[i])
	}
	return fmt.Sprintf("[%d]", int64(native.Uint64(p)))
}

// statAt prints the part of struct stat that strace prints without -v.
func statAt(t *Text, i int, _ argument) string {
	p, ok := t.filled(i, statSize)
	if !ok {
		return pointer(t.call.Args[i])
	}
	var st unix.Stat_t
	if _, err := binary.Decode(p, native, &st); err != nil {
		return pointer(t.call.Args[i])
	}
	text := "{st_mode=" + modeText(st.Mode)
	if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFCHR || kind == unix.S_IFBLK {
		text += ", st_rdev=" + deviceText(st.Rdev)
	} else {
		text += fmt.Sprintf(", st_size=%d", st.Size)
	}
	return text + ", ...}"
}

var statSize = binary.Size(unix.Stat_t{})

// statxAt prints what is the same on all architectures, see statx(2).
func statxAt(t *Text, i int, _ argument) string {
	const sizeEnd = 48
	p, ok := t.filled(i, sizeEnd)
	if !ok {
		return pointer(t.call.Args[i])
	}
	return fmt.Sprintf("{stx_mask=%s, stx_mode=%s, stx_size=%d, ...}",
		flags(flagSets["statxmask"], uint64(native.Uint32(p))), modeText(uint32(native.Uint16(p[28:]))), native.Uint64(p[40:]))
}

// iov prints the parts of a scattered buffer: what is in them as far as the
// call used it, and their lengths.
func iov(t *Text, i int, a argument) string {
	n := int(min(t.call.Args[a.length], 1<<20))
	if a.out && Failed(t.ret) || !t.call.native() {
		return pointer(t.call.Args[i])
	}
	left := int64(math.MaxInt64)
	if a.out {
		left = t.ret
	}
	return t.iovAt(t.call.Args[i], n, left)
}

func (t *Text) iovAt(addr uint64, n int, left int64) string {
	if addr == 0 || n == 0 {
		if addr == 0 {
			return "NULL"
		}
		return "[]"
	}
	var list []string
	for k := range min(n, maxListed) {
		p, ok := t.exactly(addr+uint64(k)*2*wordSize, 2*wordSize)
		if !ok {
			break
		}
		base, length := native.Uint64(p), native.Uint64(p[wordSize:])
		text := t.bytesAt(base, int(min(int64(min(length, math.MaxInt32)), left)))
		left -= min(left, int64(min(length, math.MaxInt32)))
		list = append(list, fmt.Sprintf("{iov_base=%s, iov_len=%d}", text, length))
	}
	if len(list) == 0 {
		return pointer(addr)
	}
	if len(list) < n {
		list = append(list, "...")
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// msghdr is struct user_msghdr of include/linux/socket.h.
func msghdr(t *Text, i int, a argument) string {
	const size = 56
	p, ok := t.filled(i, size)
	if !ok {
		return pointer(t.call.Args[i])
	}
	name, nameLen := native.Uint64(p), native.Uint32(p[8:])
	left := int64(math.MaxInt64)
	if a.out {
		left = t.ret
	}
	text := "{msg_name=" + t.sockaddrAt(name, int(nameLen)) + fmt.Sprintf(", msg_namelen=%d", nameLen)
	count := native.Uint64(p[24:])
	text += ", msg_iov=" + t.iovAt(native.Uint64(p[16:]), int(min(count, 1<<20)), left) + fmt.Sprintf(", msg_iovlen=%d", count)
	if n := native.Uint64(p[40:]); n != 0 {
		text += fmt.Sprintf(", msg_controllen=%d", n)
	}
	return text + ", msg_flags=" + flags(flagSets["msg"], uint64(native.Uint32(p[48:]))) + "}"
}

// pollFDs are printed as they are asked for; which are ready is said after the result.
func pollFDs(t *Text, i int, a argument) string {
	n := min(t.length(a), maxListed)
	const size = 8
	p, ok := t.structure(i, size*n)
	if !ok || n == 0 {
		if n == 0 {
			return "[]"
		}
		return pointer(t.call.Args[i])
	}
	var list []string
	for ; len(p) > 0; p = p[size:] {
		list = append(list, fmt.Sprintf("{fd=%s, events=%s}", t.fd(int32(native.Uint32(p))), flags(flagSets["poll"], uint64(native.Uint16(p[4:])))))
	}
	if n < t.length(a) {
		list = append(list, "...")
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// readyFDs is the note behind the result of poll(2).
func (t *Text) readyFDs() string {
	if t.name != "poll" && t.name != "ppoll" || t.ret <= 0 {
		return ""
	}
	const size = 8
	p, ok := t.structure(0, size*int(min(t.call.Args[1], maxListed)))
	if !ok {
		return ""
	}
	var list []string
	for ; len(p) > 0; p = p[size:] {
		if got := native.Uint16(p[6:]); got != 0 {
			list = append(list, fmt.Sprintf("{fd=%s, revents=%s}", t.fd(int32(native.Uint32(p))), flags(flagSets["poll"], uint64(got))))
		}
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// epollSize is that of struct epoll_event, which is packed on x86 only.
func (t *Text) epollSize() int {
	if t.call.arch() == "amd64" {
		return 12
	}
	return 16
}

func (t *Text) epollText(p []byte) string {
	return fmt.Sprintf("{events=%s, data=%#x}", flags(flagSets["epoll"], uint64(native.Uint32(p))), native.Uint64(p[t.epollSize()-8:]))
}

func epollEvent(t *Text, i int, _ argument) string {
	p, ok := t.structure(i, t.epollSize())
	if !ok {
		return pointer(t.call.Args[i])
	}
	return t.epollText(p)
}

func epollEvents(t *Text, i int, a argument) string {
	n := t.length(a)
	if n < 0 {
		return pointer(t.call.Args[i])
	}
	size := t.epollSize()
	p, ok := t.structure(i, size*min(n, maxListed))
	if n == 0 {
		return "[]"
	}
	if !ok {
		return pointer(t.call.Args[i])
	}
	var list []string
	for ; len(p) > 0; p = p[size:] {
		list = append(list, t.epollText(p))
	}
	if n > maxListed {
		list = append(list, "...")
	}
	return "[" + strings.Join(list, ", ") + "]"
}

const timeSize = 16 // of struct timespec, and of struct timeval

// seconds is a time; unit names its second field.
func seconds(p []byte, unit string) string {
	return fmt.Sprintf("{tv_sec=%d, %s=%d}", int64(native.Uint64(p)), unit, int64(native.Uint64(p[wordSize:])))
}

func timespec(t *Text, i int, _ argument) string {
	p, ok := t.filled(i, timeSize)
	if !ok {
		return pointer(t.call.Args[i])
	}
	return seconds(p, "tv_nsec")
}

func timeval(t *Text, i int, _ argument) string {
	p, ok := t.filled(i, timeSize)
	if !ok {
		return pointer(t.call.Args[i])
	}
	return seconds(p, "tv_usec")
}

// timespec2 is the times of utimensat(2).
func timespec2(t *Text, i int, _ argument) string {
	p, ok := t.structure(i, 2*timeSize)
	if !ok {
		return pointer(t.call.Args[i])
	}
	one := func(p []byte) string {
		switch native.Uint64(p[wordSize:]) {
		case unix.UTIME_NOW:
			return "UTIME_NOW"
		case unix.UTIME_OMIT:
			return "UTIME_OMIT"
		}
		return seconds(p, "tv_nsec")
	}
	return "[" + one(p) + ", " + one(p[timeSize:]) + "]"
}

func itimerspec(t *Text, i int, _ argument) string {
	p, ok := t.filled(i, 2*timeSize)
	if !ok {
		return pointer(t.call.Args[i])
	}
	return "{it_interval=" + seconds(p, "tv_nsec") + ", it_value=" + seconds(p[timeSize:], "tv_nsec") + "}"
}

func rlimit(t *Text, i int, _ argument) string {
	p, ok := t.filled(i, 2*wordSize)
	if !ok {
		return pointer(t.call.Args[i])
	}
	one := func(v uint64) string {
		const kilo = 1024
		switch {
		case v == math.MaxUint64:
			return "RLIM64_INFINITY"
		case v > kilo && v%kilo == 0:
			return fmt.Sprintf("%d*1024", v/kilo)
		}
		return strconv.FormatUint(v, 10)
	}
	return "{rlim_cur=" + one(native.Uint64(p)) + ", rlim_max=" + one(native.Uint64(p[wordSize:])) + "}"
}

func sigset(t *Text, i int, _ argument) string {
	p, ok := t.filled(i, wordSize)
	if !ok {
		return pointer(t.call.Args[i])
	}
	return signalSet(native.Uint64(p))
}

// signalSet prints a mask, or what is not in it where that is shorter.
func signalSet(set uint64) string {
	sign := ""
	const most = 40
	if bits.OnesCount64(set) > most {
		sign, set = "~", ^set
	}
	var list []string
	for ; set != 0; set &= set - 1 {
		list = append(list, strings.TrimPrefix(Signal(syscall.Signal(bits.TrailingZeros64(set)+1)), "SIG"))
	}
	return sign + "[" + strings.Join(list, " ") + "]"
}

// sigaction is struct kernel_sigaction: handler, flags, restorer where the
// architecture has one, mask.
func sigaction(t *Text, i int, _ argument) string {
	const restorer = 0x04000000
	size := 4 * wordSize
	if t.call.arch() != "amd64" {
		size = 3 * wordSize
	}
	p, ok := t.filled(i, size)
	if !ok {
		return pointer(t.call.Args[i])
	}
	handler := [...]string{"SIG_DFL", "SIG_IGN"}
	text := "{sa_handler="
	if h := native.Uint64(p); h < uint64(len(handler)) {
		text += handler[h]
	} else {
		text += pointer(h)
	}
	how := native.Uint64(p[wordSize:])
	text += ", sa_mask=" + signalSet(native.Uint64(p[size-wordSize:])) + ", sa_flags=" + flags(flagSets["sa"], how)
	if how&restorer != 0 && size == 4*wordSize {
		text += ", sa_restorer=" + pointer(native.Uint64(p[2*wordSize:]))
	}
	return text + "}"
}

func waitStatus(t *Text, i int, _ argument) string {
	if t.ret == 0 {
		return pointer(t.call.Args[i])
	}
	p, ok := t.filled(i, 4)
	if !ok {
		return pointer(t.call.Args[i])
	}
	return "[" + WaitStatus(syscall.WaitStatus(native.Uint32(p))) + "]"
}

// WaitStatus prints a status of wait(2) by its macros.
func WaitStatus(s syscall.WaitStatus) string {
	switch {
	case s.Exited():
		return fmt.Sprintf("{WIFEXITED(s) && WEXITSTATUS(s) == %d}", s.ExitStatus())
	case s.Signaled():
		core := ""
		if s.CoreDump() {
			core = " && WCOREDUMP(s)"
		}
		return fmt.Sprintf("{WIFSIGNALED(s) && WTERMSIG(s) == %s%s}", Signal(s.Signal()), core)
	case s.Stopped():
		return fmt.Sprintf("{WIFSTOPPED(s) && WSTOPSIG(s) == %s}", Signal(s.StopSignal()))
	case s.Continued():
		return "{WIFCONTINUED(s)}"
	}
	return fmt.Sprintf("%#x", uint32(s))
}

// clone3 is struct clone_args up to the stack.
func clone3(t *Text, i int, _ argument) string {
	const size = 64
	p, ok := t.structure(i, size)
	if !ok {
		return pointer(t.call.Args[i])
	}
	text := "{flags=" + flags(flagSets["clone"], native.Uint64(p))
	if s := native.Uint64(p[32:]); s != 0 {
		text += ", exit_signal=" + Signal(syscall.Signal(s))
	}
	return text + fmt.Sprintf(", stack=%s, stack_size=%#x, ...}", pointer(native.Uint64(p[40:])), native.Uint64(p[48:]))
}

// capData is the sets of capset(2) in version 3: three pairs of halves.
func capData(t *Text, i int, _ argument) string {
	p, ok := t.structure(i, 24)
	if !ok {
		return pointer(t.call.Args[i])
	}
	one := func(k int) string {
		set := uint64(native.Uint32(p[4*k:])) | uint64(native.Uint32(p[12+4*k:]))<<32
		return fmt.Sprintf("%#x", set)
	}
	return "{effective=" + one(0) + ", permitted=" + one(1) + ", inheritable=" + one(2) + "}"
}

func uname(t *Text, i int, _ argument) string {
	const field = 65
	p, ok := t.filled(i, 2*field)
	if !ok {
		return pointer(t.call.Args[i])
	}
	text := func(p []byte) string {
		s, _, _ := bytes.Cut(p, []byte{0})
		return quote(s, false)
	}
	return "{sysname=" + text(p[:field]) + ", nodename=" + text(p[field:]) + ", ...}"
}
