package syscalls

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// kinds prints arguments by the kind that their signature gives them. A function,
// because the table of signatures is made of it when it is first needed.
var kinds = sync.OnceValue(func() map[string]func(t *Text, i int, a argument) string {
	return map[string]func(t *Text, i int, a argument) string{
		"d":     func(t *Text, i int, _ argument) string { return signed(t.call.Args[i]) },
		"u":     func(t *Text, i int, _ argument) string { return strconv.FormatUint(t.call.Args[i], 10) },
		"x":     func(t *Text, i int, _ argument) string { return hex(t.call.Args[i]) },
		"p":     func(t *Text, i int, _ argument) string { return pointer(t.call.Args[i]) },
		"fd":    func(t *Text, i int, _ argument) string { return t.fd(int32(t.call.Args[i])) },
		"mode":  func(t *Text, i int, _ argument) string { return fmt.Sprintf("%#03o", uint32(t.call.Args[i])) },
		"flags": func(t *Text, i int, a argument) string { return flags(flagSets[a.set], t.call.Args[i]) },
		"enum":  func(t *Text, i int, a argument) string { return enum(a.set, uint64(uint32(t.call.Args[i]))) },
		"signal": func(t *Text, i int, _ argument) string {
			return Signal(syscall.Signal(t.call.Args[i]))
		},
		"dirfd": dirFD, "path": path, "str": str, "buf": buffer, "strings": stringList, "open": openFlags, "openmode": openMode,
		"openhow": openHow, "nodemode": nodeMode, "dev": device, "access": accessMode, "mountdata": mountData,
		"ioctl": ioctl, "fcntl": fcntl, "fcntlarg": fcntlArg, "fds": twoFDs, "int": intAt, "ints": ints, "len": intAt, "offset": offset,
		"stat": statAt, "statx": statxAt, "iov": iov, "msghdr": msghdr, "sockaddr": sockaddr, "socktype": sockType, "sockproto": sockProtocol,
		"sockopt": sockOption, "optval": optionValue, "pollfds": pollFDs, "epollevent": epollEvent, "epollevents": epollEvents,
		"timespec": timespec, "timespec2": timespec2, "timeval": timeval, "itimerspec": itimerspec, "rlimit": rlimit,
		"sigset": sigset, "sigaction": sigaction, "waitstatus": waitStatus, "clone": cloneFlags, "clone3": clone3,
		"futex": futex, "futexarg": futexArg, "futexother": futexOther, "prctlarg": prctlArg, "seccompflags": seccompFlags, "capdata": capData, "uname": uname,
	}
})

// omitted is an argument that the call does not have in this form, as the mode of
// an open that creates nothing.
const omitted = "\x00"

func signed(v uint64) string {
	// An int in a register of 64 bits has the sign in bit 31; offsets use all.
	if v>>32 == 0 {
		return strconv.Itoa(int(int32(uint32(v))))
	}
	return strconv.FormatInt(int64(v), 10)
}

func hex(v uint64) string {
	if v == 0 {
		return "0"
	}
	return fmt.Sprintf("%#x", v)
}

// flags joins the names of bits; what has no name stands as a number.
func flags(set []flag, v uint64) string {
	if v == 0 {
		return "0"
	}
	var names []string
	rest := v
	for _, f := range set {
		if f.value != 0 && rest&f.value == f.value {
			names = append(names, f.name)
			rest &^= f.value
		}
	}
	if rest != 0 {
		names = append(names, fmt.Sprintf("%#x", rest))
	}
	return strings.Join(names, "|")
}

func enumName(set string, v uint64) (string, bool) {
	for _, f := range enums[set] {
		if f.value == v {
			return f.name, true
		}
	}
	return "", false
}

func enum(set string, v uint64) string {
	if name, ok := enumName(set, v); ok {
		return name
	}
	return hex(v)
}

// Signal is the name of a signal, such as SIGTERM or SIGRT_3.
func Signal(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	const firstRealTime = 32
	if s >= firstRealTime && s <= 64 {
		return fmt.Sprintf("SIGRT_%d", s-firstRealTime)
	}
	return strconv.Itoa(int(s))
}

func (t *Text) fd(n int32) string {
	s := strconv.Itoa(int(n))
	if n >= 0 && t.printer != nil && t.printer.FD != nil {
		if name := t.printer.FD(n); name != "" {
			s += "<" + name + ">"
		}
	}
	return s
}

func dirFD(t *Text, i int, _ argument) string {
	if n := int32(t.call.Args[i]); n != unix.AT_FDCWD {
		return t.fd(n)
	}
	return "AT_FDCWD"
}

// stringAt reads up to a NUL. Strings are read by pages: the next one may not be there.
func (t *Text) stringAt(addr uint64, limit int) (text []byte, more, ok bool) {
	const page = 4096
	for len(text) < limit {
		at := addr + uint64(len(text))
		n := min(limit-len(text), page-int(at%page))
		part := t.read(at, n)
		if before, _, ok0 := bytes.Cut(part, []byte{0}); ok0 {
			return append(text, before...), false, true
		}
		text = append(text, part...)
		if len(part) < n {
			return text, true, len(text) > 0 // what was captured ends here
		}
	}
	return text, true, true
}

func (t *Text) quoted(addr uint64, limit int) string {
	text, more, ok := t.stringAt(addr, limit+1)
	if !ok {
		return pointer(addr)
	}
	if len(text) > limit {
		text = text[:limit]
	}
	return quote(text, more)
}

func path(t *Text, i int, _ argument) string { return t.quoted(t.call.Args[i], maxPath) }

func str(t *Text, i int, a argument) string {
	if a.out && Failed(t.ret) {
		return pointer(t.call.Args[i])
	}
	return t.quoted(t.call.Args[i], max(t.printer.limit(), 255))
}

// length is how long the memory behind an argument is.
func (t *Text) length(a argument) int {
	switch {
	case a.length == lengthReturned && t.ret < 0:
		return lengthNone
	case a.length == lengthReturned:
		return int(t.ret)
	case a.deref:
		p, ok := t.exactly(t.call.Args[a.length], 4)
		if !ok {
			return 0
		}
		return int(binary.NativeEndian.Uint32(p))
	}
	return int(min(t.call.Args[a.length], 1<<30))
}

// buffer prints bytes of a given number.
func buffer(t *Text, i int, a argument) string {
	n := t.length(a)
	if n < 0 || t.call.Args[i] == 0 {
		return pointer(t.call.Args[i])
	}
	return t.bytesAt(t.call.Args[i], n)
}

func (t *Text) bytesAt(addr uint64, n int) string {
	if n == 0 {
		return `""`
	}
	p := t.read(addr, min(n, t.printer.limit()))
	if len(p) == 0 {
		return pointer(addr)
	}
	return quote(p, len(p) < n)
}

// stringList is argv.
func stringList(t *Text, i int, _ argument) string {
	addr := t.call.Args[i]
	if addr == 0 || !t.call.native() {
		return pointer(addr)
	}
	var list []string
	for ; len(list) < maxListed; addr += wordSize {
		p, ok := t.exactly(addr, wordSize)
		if !ok && len(list) == 0 {
			return pointer(t.call.Args[i])
		}
		if !ok {
			return "[" + strings.Join(list, ", ") + ", ...]"
		}
		at := binary.NativeEndian.Uint64(p)
		if at == 0 {
			return "[" + strings.Join(list, ", ") + "]"
		}
		list = append(list, t.quoted(at, t.printer.limit()))
	}
	return "[" + strings.Join(list, ", ") + ", ...]"
}

const wordSize = 8 // all architectures that Porthole runs on have 64 bits

func openText(v uint64) string {
	mode := [...]string{"O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"}[v&unix.O_ACCMODE]
	if rest := v &^ unix.O_ACCMODE; rest != 0 {
		return mode + "|" + flags(flagSets["open"], rest)
	}
	return mode
}

func openFlags(t *Text, i int, _ argument) string { return openText(uint64(uint32(t.call.Args[i]))) }

// openMode is there only if the call may create something.
func openMode(t *Text, i int, a argument) string {
	if how := t.call.Args[i-1]; how&unix.O_CREAT == 0 && how&unix.O_TMPFILE != unix.O_TMPFILE {
		return omitted
	}
	return fmt.Sprintf("%#03o", uint32(t.call.Args[i]))
}

func openHow(t *Text, i int, _ argument) string {
	p, ok := t.exactly(t.call.Args[i], 24)
	if !ok {
		return pointer(t.call.Args[i])
	}
	how := binary.NativeEndian.Uint64(p)
	text := "{flags=" + openText(how)
	if how&unix.O_CREAT != 0 || how&unix.O_TMPFILE == unix.O_TMPFILE {
		text += fmt.Sprintf(", mode=%#03o", binary.NativeEndian.Uint64(p[8:]))
	}
	return text + ", resolve=" + flags(flagSets["resolve"], binary.NativeEndian.Uint64(p[16:])) + "}"
}

// fileTypes are those of S_IFMT.
var fileTypes = map[uint32]string{
	unix.S_IFREG: "S_IFREG", unix.S_IFDIR: "S_IFDIR", unix.S_IFLNK: "S_IFLNK", unix.S_IFCHR: "S_IFCHR",
	unix.S_IFBLK: "S_IFBLK", unix.S_IFIFO: "S_IFIFO", unix.S_IFSOCK: "S_IFSOCK",
}

func modeText(mode uint32) string {
	text := fmt.Sprintf("%#03o", mode&^unix.S_IFMT)
	if kind := fileTypes[mode&unix.S_IFMT]; kind != "" {
		return kind + "|" + text
	}
	return text
}

func nodeMode(t *Text, i int, _ argument) string { return modeText(uint32(t.call.Args[i])) }

func device(t *Text, i int, _ argument) string {
	mode := uint32(t.call.Args[i-1]) & unix.S_IFMT
	if mode != unix.S_IFCHR && mode != unix.S_IFBLK {
		return omitted
	}
	return deviceText(t.call.Args[i])
}

func deviceText(dev uint64) string {
	return fmt.Sprintf("makedev(%#x, %#x)", unix.Major(dev), unix.Minor(dev))
}

func accessMode(t *Text, i int, _ argument) string {
	if t.call.Args[i] == 0 {
		return "F_OK"
	}
	return flags(flagSets["access"], t.call.Args[i])
}

// mountData is text for most file systems.
func mountData(t *Text, i int, _ argument) string { return t.quoted(t.call.Args[i], 255) }

// ioctl is the command by its name, or taken apart as _IOC(2) has it.
func ioctl(t *Text, i int, _ argument) string {
	v := uint64(uint32(t.call.Args[i]))
	if name, ok := enumName("ioctl", v); ok {
		return name
	}
	dirs := [...]string{"_IOC_NONE", "_IOC_WRITE", "_IOC_READ", "_IOC_READ|_IOC_WRITE"}
	return fmt.Sprintf("_IOC(%s, %#x, %#x, %#x)", dirs[v>>30], v>>8&0xff, v&0xff, v>>16&0x3fff)
}

func fcntl(t *Text, i int, _ argument) string { return enum("fcntl", uint64(uint32(t.call.Args[i]))) }

func fcntlArg(t *Text, i int, _ argument) string {
	v := t.call.Args[i]
	switch int(t.call.Args[i-1]) {
	case unix.F_GETFD, unix.F_GETFL, unix.F_GETOWN, unix.F_GETPIPE_SZ, unix.F_GETLEASE, unix.F_GETSIG, unix.F_GET_SEALS:
		return omitted
	case unix.F_SETFD:
		return flags(flagSets["fdflags"], v)
	case unix.F_SETFL:
		return openText(v)
	case unix.F_ADD_SEALS:
		return flags(flagSets["seals"], v)
	case unix.F_DUPFD, unix.F_DUPFD_CLOEXEC, unix.F_SETPIPE_SZ, unix.F_SETOWN:
		return signed(v)
	}
	return pointer(v)
}

// cloneFlags are flags with the signal of the end in the lowest byte.
func cloneFlags(t *Text, i int, _ argument) string { return cloneText(t.call.Args[i]) }

func cloneText(v uint64) string {
	text := flags(flagSets["clone"], v&^0xff)
	if s := syscall.Signal(v & 0xff); s != 0 {
		if text == "0" {
			return Signal(s)
		}
		return text + "|" + Signal(s)
	}
	return text
}

const (
	futexPrivate  = 128
	futexRealtime = 256
)

func futex(t *Text, i int, _ argument) string {
	op := uint64(uint32(t.call.Args[i]))
	text := enum("futex", op&^(futexPrivate|futexRealtime))
	if op&futexPrivate != 0 {
		text += "_PRIVATE"
	}
	if op&futexRealtime != 0 {
		text += "|FUTEX_CLOCK_REALTIME"
	}
	return text
}

// futexArg is a time for those that wait, and a number for the others.
func futexArg(t *Text, i int, a argument) string {
	switch op := t.call.Args[1] &^ (futexPrivate | futexRealtime); op {
	case 0, 6, 9, 11, 13: // FUTEX_WAIT, LOCK_PI, WAIT_BITSET, WAIT_REQUEUE_PI, LOCK_PI2
		return timespec(t, i, a)
	case 1, 7, 8: // FUTEX_WAKE, UNLOCK_PI, TRYLOCK_PI
		return omitted
	}
	return hex(t.call.Args[i])
}

// futexOther are arguments that few operations have.
func futexOther(t *Text, i int, _ argument) string {
	switch op := t.call.Args[1] &^ (futexPrivate | futexRealtime); op {
	case 0, 1, 6, 7, 8, 13: // FUTEX_WAIT, WAKE, LOCK_PI, UNLOCK_PI, TRYLOCK_PI, LOCK_PI2
		return omitted
	}
	return hex(t.call.Args[i])
}

func prctlArg(t *Text, i int, _ argument) string {
	v := t.call.Args[i]
	switch int(t.call.Args[0]) {
	case unix.PR_SET_NAME:
		return t.quoted(v, 15)
	case unix.PR_SET_PDEATHSIG:
		return Signal(syscall.Signal(v))
	case unix.PR_CAPBSET_DROP, unix.PR_CAPBSET_READ:
		return capability(v)
	}
	return hex(v)
}

func seccompFlags(t *Text, i int, _ argument) string {
	if t.call.Args[0] != unix.SECCOMP_SET_MODE_FILTER {
		return hex(t.call.Args[i])
	}
	return flags(flagSets["seccompflags"], t.call.Args[i])
}
