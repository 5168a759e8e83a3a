// Package waits tells what a thread waits for in the kernel where signals do not
// reach it, which ps(1) shows as state D: in which function it sleeps, which
// system call brought it there, on which file of which file system, and what ends
// that.
//
//	for _, w := range waits.Find(ctx, pids) {
//		fmt.Println(w.Text())   // it waits in write on /data/log: ext4 of /dev/loop0 at /data is frozen
//		fmt.Println(w.Remedies()) // fsfreeze -u /srv/data
//	}
//
// Everything is read from /proc. What may wait for the stuck thread itself, as
// its stack and its system call do while it executes a program, is given up after
// a moment; then less is told. No file of the thread is opened or looked at.
//
// The names of functions are the kernel's own and differ between versions: those
// of Linux 5.10 to 6.18 are known. Of one that is not known only the name is told.
package waits

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/patient"
	"github.com/portholehq/porthole/internal/linux/shellword"
	"github.com/portholehq/porthole/internal/linux/syscalls"
)

// patience is how long each look at a thread may take.
const patience = 500 * time.Millisecond

// Wait is what one thread waits for.
type Wait struct {
	PID     int // of the process
	Thread  int // PID, if it is the first thread
	Command string
	Channel string   // the kernel's function that it sleeps in; empty: not told
	Stack   []string // functions of the kernel that it is in, the innermost first; nil: not told
	Call    string   // the system call as strace(1) prints it, without a result; empty: it is in none, or that is not told
	Name    string   // of the system call; empty as Call is
	File    string   // path as the thread would name it; empty: not known
	Mount   Mount    // that File is on; zero: not known
	// Switches is how often the thread has gone to sleep so far: it changes when the thread has been woken up meanwhile.
	Switches int
	Killed   bool  // SIGKILL is pending: it ends as soon as what it waits for comes
	Child    *Wait // what it waits for, where that is a child that has begun with vfork(2); nil: it is not, or is not known
	cause    cause
}

// Mount is where a file is.
type Mount struct {
	Point  string // as the thread sees it
	Type   string
	Source string // as mountinfo has it: a device, a server's export
	Device string // its number, MAJOR:MINOR
	// Below is what an overlay writes to; nil: it is none, or is not known.
	Below *Mount
	// Host is where the caller of this package sees the same file system; empty: nowhere.
	Host string
}

func (m *Mount) String() string {
	text := printable(m.Type) // of FUSE its second part is chosen by who mounts it
	if m.Source != "" && m.Source != "none" && m.Source != m.Type {
		text += " of " + printable(m.Source)
	}
	return text + " at " + printable(m.Point)
}

// maxThreads are looked at of one process.
const maxThreads = 256

// Uninterruptible returns a thread of a process that is in state D, by its
// number; 0: there is none, or no process.
func Uninterruptible(pid int) int {
	if state(fmt.Sprintf("/proc/%d/stat", pid)) == 'D' {
		return pid
	}
	dir, err := os.Open(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return 0
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxThreads)
	if err != nil || len(names) < 2 {
		return 0
	}
	for _, name := range names {
		if state(fmt.Sprintf("/proc/%d/task/%s/stat", pid, name)) == 'D' {
			if tid, err := strconv.Atoi(name); err == nil {
				return tid
			}
		}
	}
	return 0
}

// state is the state in a stat file; 0: there is none.
func state(path string) byte {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	// pid (comm) state …: comm may hold anything.
	if end := bytes.LastIndex(text, []byte(") ")); end >= 0 && len(text) > end+2 {
		return text[end+2]
	}
	return 0
}

// maxFound are looked at closely.
const maxFound = 16

// Find looks at those of some processes that have a thread in state D, at most
// 16 of them. It may be one that only passes through it.
func Find(ctx context.Context, pids []int) []Wait {
	var list []Wait
	for _, s := range sleepers(ctx, pids) {
		list = append(list, Look(ctx, s.PID, s.Thread))
	}
	return list
}

// Sleepers is Find without a look at what they wait for: only process, thread,
// Killed and Switches are told. It never waits for the process.
func Sleepers(ctx context.Context, pids []int) []Wait {
	list := sleepers(ctx, pids)
	for i := range list {
		list[i].status(fmt.Sprintf("/proc/%d/task/%d/status", list[i].PID, list[i].Thread))
	}
	return list
}

func sleepers(ctx context.Context, pids []int) []Wait {
	var list []Wait
	for _, pid := range pids {
		if ctx.Err() != nil || len(list) == maxFound {
			break
		}
		if tid := Uninterruptible(pid); tid != 0 {
			list = append(list, Wait{PID: pid, Thread: tid})
		}
	}
	return list
}

// Look tells what a thread waits for. Of one that is gone nothing is told.
func Look(ctx context.Context, pid, thread int) Wait { return look(ctx, pid, thread, true) }

func look(ctx context.Context, pid, thread int, children bool) Wait {
	w := Wait{PID: pid, Thread: thread}
	dir := fmt.Sprintf("/proc/%d/task/%d", pid, thread)
	if text, err := os.ReadFile(dir + "/comm"); err == nil {
		w.Command = printable(strings.TrimSpace(string(text)))
	}
	if text, err := os.ReadFile(dir + "/wchan"); err == nil && string(text) != "0" {
		w.Channel = string(text)
	}
	w.status(dir + "/status")
	// These wait for a thread that executes a program (exec_update_lock).
	w.Stack = within(ctx, dir+"/stack", func() []string { return stack(dir + "/stack") })
	var files []syscalls.Operand
	if call := within(ctx, dir+"/syscall", func() *syscalls.Call { return inCall(dir + "/syscall") }); call != nil {
		w.Name = call.Name()
		w.Call, files = w.words(ctx, *call)
	}
	for _, f := range files {
		if w.File = w.path(dir, f); w.File != "" {
			break
		}
	}
	w.cause = causeOf(&w)
	table := within(ctx, dir+"/mountinfo", func() *mounts { return readMounts(dir + "/mountinfo") })
	w.Mount = table.of(&w)
	if w.cause == vfork && children {
		w.Child = child(ctx, pid, thread)
	}
	return w
}

// within is the zero value if there is no answer in time.
func within[T any](ctx context.Context, key string, fn func() T) T {
	value, _ := patient.Within(ctx, key, patience, func() (T, error) { return fn(), nil })
	return value
}

// status reads what a thread's status file tells.
func (w *Wait) status(path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "SigPnd", "ShdPnd":
			mask, err := strconv.ParseUint(value, 16, 64)
			w.Killed = w.Killed || err == nil && mask&(1<<(unix.SIGKILL-1)) != 0
		case "voluntary_ctxt_switches":
			w.Switches, _ = strconv.Atoi(value) // 0: it cannot be told whether it was woken up
		}
	}
}

// stack is the names of the functions, without addresses.
func stack(path string) []string {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var list []string
	for line := range strings.Lines(string(text)) {
		// [<0>] name+0x15f/0x1d0 [module]
		_, name, ok := strings.Cut(strings.TrimSpace(line), "] ")
		name, _, _ = strings.Cut(name, "+")
		if ok && name != "" && !strings.HasPrefix(name, "0x") {
			list = append(list, name)
		}
	}
	return list
}

// inCall is the system call that a thread is in; nil: none, or it is not told.
func inCall(path string) *syscalls.Call {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return parseCall(string(text))
}

// parseCall reads /proc/PID/syscall, see proc_pid_syscall(5): "running", "-1 SP PC"
// outside of a call, or the number, six arguments, SP and PC.
func parseCall(text string) *syscalls.Call {
	f := strings.Fields(text)
	if len(f) != 9 {
		return nil
	}
	n, err := strconv.ParseUint(f[0], 10, 32)
	if err != nil {
		return nil
	}
	c := &syscalls.Call{Number: uint32(n)}
	for i := range c.Args {
		if c.Args[i], err = strconv.ParseUint(f[1+i], 0, 64); err != nil {
			return nil
		}
	}
	// A program of 32 bits has other numbers, and its stack below 4 GiB.
	if sp, err := strconv.ParseUint(f[7], 0, 64); err != nil || sp < 1<<32 {
		return nil
	}
	return c
}

// words prints a call, and tells which files it is about.
func (w *Wait) words(ctx context.Context, c syscalls.Call) (string, []syscalls.Operand) {
	type printed struct {
		text  string
		files []syscalls.Operand
	}
	show := func(m syscalls.Memory) printed {
		text := (&syscalls.Printer{FD: func(fd int32) string {
			name, err := os.Readlink(fmt.Sprintf("/proc/%d/task/%d/fd/%d", w.PID, w.Thread, fd))
			if err != nil {
				return ""
			}
			return name
		}}).Enter(c, m)
		args := text.Args()
		if rest, ok := strings.CutSuffix(args, ", "); ok {
			args = rest + ", …" // what the kernel fills in at the return
		}
		return printed{text.Name() + args + ")", syscalls.Operands(c, m)}
	}
	// Its memory may be locked by what it waits in.
	p := within(ctx, fmt.Sprintf("memory of %d", w.PID), func() *printed { p := show(memory(w.PID)); return &p })
	if p == nil {
		without := show(nil)
		p = &without
	}
	return p.text, p.files
}

// memory is that of a process.
type memory int

// ReadMemory implements [syscalls.Memory], a page at a time until one cannot be read.
func (m memory) ReadMemory(addr uint64, p []byte) (read int, err error) {
	page := uint64(os.Getpagesize())
	for read < len(p) && err == nil {
		at := addr + uint64(read)
		part := p[read:min(len(p), read+int(page-at%page))]
		local := []unix.Iovec{{Base: &part[0]}}
		local[0].SetLen(len(part))
		var n int
		n, err = unix.ProcessVMReadv(int(m), local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(part)}}, 0)
		read += max(n, 0)
	}
	if read > 0 {
		err = nil
	}
	return read, err
}

// path names a file as the thread would. Links that lead elsewhere are not followed: that could wait.
func (w *Wait) path(dir string, f syscalls.Operand) string {
	if strings.HasPrefix(f.Path, "/") {
		return f.Path
	}
	link := fmt.Sprintf("%s/fd/%d", dir, f.FD)
	if f.FD == unix.AT_FDCWD {
		link = dir + "/cwd"
	}
	at, err := os.Readlink(link)
	if err != nil || !strings.HasPrefix(at, "/") {
		return ""
	}
	if f.Path == "" {
		return strings.TrimSuffix(at, " (deleted)")
	}
	return strings.TrimSuffix(at, "/") + "/" + f.Path
}

// child is what a child waits for, that keeps the thread waiting until it has
// executed a program or ended.
func child(ctx context.Context, pid, thread int) *Wait {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, thread))
	if err != nil {
		return nil
	}
	var last *Wait
	for name := range strings.FieldsSeq(string(text)) {
		n, err := strconv.Atoi(name)
		if err != nil || state(fmt.Sprintf("/proc/%d/stat", n)) == 'Z' {
			continue
		}
		w := look(ctx, n, n, false)
		last = &w // the list is in the order of their birth
	}
	return last
}

// shown is a name in a command for people to copy; what would not show there has a stand-in.
func shown(s string) string {
	return shellword.Quote(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s))
}

// printable quotes what would not show.
func printable(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}
