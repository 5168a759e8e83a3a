// Package syscalls tells system calls in words: their names, and their
// arguments and results as strace(1) prints them.
//
//	call := syscalls.Call{Arch: "amd64", Number: 257, Args: [6]uint64{…}}
//	text := (&syscalls.Printer{}).Enter(call, memory)
//	…                       // the call returns
//	args, result := text.Exit(-2, memory)
//	// call.Name()+args+" = "+result: openat(AT_FDCWD, "/etc/x", O_RDONLY) = -1 ENOENT (No such file or directory)
//
// Arguments that the kernel reads are printed at Enter, since the memory may be
// another's by the time of the return; those that it fills in at Exit. What the
// caller's memory does not give away, because a page is not there or nobody
// captured it, is printed as an address. [Captures] tells which memory a tracer
// has to take with it that cannot look later.
//
// Memory layouts and flags are those of the architecture that this program was
// built for. A call of another one, as of a 32-bit program, is printed with its
// names and strings, and its structures as addresses.
//
// Programs that read these lines find them as strace has them where strace has
// one way to print a call; long structures are cut short, as strace does
// without -v.
package syscalls

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"github.com/portholehq/porthole/internal/linux/seccomp"
)

// Call is a system call as its registers have it.
type Call struct {
	Arch   string // as GOARCH; empty: that of this program
	Number uint32
	Args   [6]uint64
}

// arch is the architecture with its default.
func (c Call) arch() string {
	if c.Arch == "" {
		return runtime.GOARCH
	}
	return c.Arch
}

// native tells whether structures in memory are laid out as this program knows them.
func (c Call) native() bool { return c.arch() == runtime.GOARCH }

// Name is the name of the call as in its manual page, or syscall_0x270f for a
// number that is not known.
func (c Call) Name() string { return Name(c.Arch, c.Number) }

// Name is the name of a number on an architecture, named as GOARCH; empty is
// that of this program. One that is not known is syscall_0x…, as strace has it.
func Name(arch string, number uint32) string {
	if arch == "" {
		arch = runtime.GOARCH
	}
	if name, ok := seccomp.Name(arch, number); ok {
		return name
	}
	return fmt.Sprintf("syscall_%#x", number)
}

// Number is the reverse of [Name], which it takes as well in its form for
// numbers that are not known.
func Number(arch, name string) (uint32, bool) {
	if arch == "" {
		arch = runtime.GOARCH
	}
	if n, ok := seccomp.NumberOn(arch, name); ok {
		return n, true
	}
	if hex, ok := strings.CutPrefix(name, "syscall_"); ok {
		n, err := strconv.ParseUint(hex, 0, 32)
		return uint32(n), err == nil
	}
	return 0, false
}

// Memory reads what the caller of a system call has at an address: as many
// bytes as there are, up to len(p). None is an error.
type Memory interface {
	ReadMemory(addr uint64, p []byte) (n int, err error)
}

// Printer has the ways in which calls are printed. The zero Printer prints as
// strace does without options.
type Printer struct {
	StringLimit int // bytes that are shown of a string or buffer, but not of a path; 0: 32
	// FD names what is behind a descriptor, as in 3</etc/passwd>; nil or an
	// empty answer: the number alone.
	FD func(fd int32) string
}

const (
	defaultStringLimit = 32
	maxPath            = 4096 // PATH_MAX
	maxListed          = 32   // of an array, as strace without -v
)

func (p *Printer) limit() int {
	if p == nil || p.StringLimit == 0 {
		return defaultStringLimit
	}
	return p.StringLimit
}

// Text is a call that is being printed.
type Text struct {
	printer *Printer
	call    Call
	name    string
	sig     []argument
	done    []string // by argument; those that the kernel fills in are empty until the exit
	mem     Memory
	ret     int64
	leaving bool
}

// Enter prints what is known before the call. Memory may be nil.
func (p *Printer) Enter(c Call, m Memory) *Text {
	t := &Text{printer: p, call: c, name: c.Name(), mem: m}
	t.sig = signature(t.name)
	t.done = make([]string, len(t.sig))
	for i, a := range t.sig {
		if !a.out {
			t.done[i] = a.print(t, i, a)
		}
	}
	return t
}

// Name is the name of the call.
func (t *Text) Name() string { return t.name }

// Args is the arguments so far, without the closing parenthesis: (3, what the
// call waits for is not there yet.
func (t *Text) Args() string { return "(" + strings.Join(t.known(false), ", ") }

// known is the arguments up to the first that is still to come; all: of those
// the addresses.
func (t *Text) known(all bool) []string {
	var list []string
	for i, s := range t.done {
		if s == omitted {
			continue
		}
		if s == "" {
			if !all {
				list = append(list, "")
				break
			}
			s = pointer(t.call.Args[i])
		}
		list = append(list, s)
	}
	return list
}

// Exit prints the rest. Ret is what the kernel returned: a negative error number
// where it failed. Memory is read again, and may be nil.
func (t *Text) Exit(ret int64, m Memory) (args, result string) {
	t.ret, t.mem, t.leaving = ret, m, true
	for i, a := range t.sig {
		if a.out {
			t.done[i] = a.print(t, i, a)
		}
	}
	result = Result(t.name, ret)
	if ready := t.readyFDs(); ready != "" {
		result += " (" + ready + ")"
	}
	return "(" + strings.Join(t.known(true), ", ") + ")", result
}

// Retry prints strings again that were not in memory when the call began: the
// kernel has brought the page in meanwhile. It is for a tracer that could not
// wait for the page, and has to come before Exit.
func (t *Text) Retry(m Memory) {
	t.mem = m
	for i, a := range t.sig {
		if !a.out && t.call.Args[i] != 0 && t.done[i] == pointer(t.call.Args[i]) {
			t.done[i] = a.print(t, i, a)
		}
	}
}

// Failed tells whether a return value is an error.
func Failed(ret int64) bool { return ret < 0 && ret >= -4095 }

// read returns what is at an address, up to n bytes.
func (t *Text) read(addr uint64, n int) []byte {
	if t.mem == nil || addr == 0 || n <= 0 {
		return nil
	}
	p := make([]byte, n)
	got, err := t.mem.ReadMemory(addr, p)
	if err != nil {
		return nil
	}
	return p[:got]
}

// exactly is like read for what is of no use in part.
func (t *Text) exactly(addr uint64, n int) ([]byte, bool) {
	p := t.read(addr, n)
	return p, len(p) == n
}
