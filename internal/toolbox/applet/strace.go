package applet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/syscalls"
	"github.com/portholehq/porthole/internal/sys"
)

const straceUsage = "usage: strace [-cfqtTyZ] [-e CALL,...] [-o FILE] [-s SIZE] {-p PID | COMMAND [ARG...]}"

// strace is one run of the command.
type strace struct {
	mu       sync.Mutex // guards what is printed, against a signal that ends all
	out      io.Writer
	printer  syscalls.Printer
	paths    bool // -y
	stamps   int  // how many -t
	took     bool // -T
	failed   bool // -Z
	quiet    bool
	follow   bool
	counting bool
	wanted   map[string]bool // nil: all calls
	unwanted map[string]bool

	space   int // the pid namespace that /proc shows, if it is another than this process's; else -1
	threads map[int]*tracee
	open    *tracee // whose line has no end yet
	column  int
	sums    map[string]*callSum
	several bool // more than one thread was there
	code    int
	main    int // the command's process; 0: none was started
}

// tracee is a traced thread.
type tracee struct {
	pid     int // as this process counts
	shown   int // as /proc does
	text    *syscalls.Text
	began   time.Time
	skipped bool // its call is not wanted
	fresh   bool // a child that has not run yet
	entered bool // for kernels that do not tell at which end of a call it stopped
}

type callSum struct {
	calls, errors int
	took          time.Duration
}

// straceCommand follows the system calls of a command, or of processes that run.
func straceCommand(std IO, args []string) error {
	s := &strace{out: std.Err, space: -1, threads: map[int]*tracee{}, sums: map[string]*callSum{}}
	pids, command, closeOut, err := s.parse(std, args)
	if err != nil {
		return err
	}
	defer closeOut()
	if foreignProc() {
		ns, err := os.Open("/proc/1/ns/pid")
		if err != nil {
			return fmt.Errorf("open the target's pid namespace: %w", err)
		}
		defer ns.Close()
		s.space = int(ns.Fd())
	}
	// All requests have to come from the thread that attached.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if len(command) > 0 {
		err = s.start(std, command)
	} else {
		err = s.attach(std, pids)
	}
	if err != nil {
		return err
	}
	s.endOnSignal()
	err = s.loop()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.summary()
	if err != nil {
		return err
	}
	if s.code != 0 {
		return exitStatus(s.code)
	}
	return nil
}

func (s *strace) parse(std IO, args []string) (pids []int, command []string, closeOut func(), err error) {
	const flags, valued = "cfqtTyZ", "eopsu"
	end := 0
	for end < len(args) && len(args[end]) > 1 && args[end][0] == '-' {
		word := args[end]
		end++
		if word == "--" {
			break
		}
		for i := 1; i < len(word); i++ {
			if word[i] == 't' {
				s.stamps++
			}
			if strings.IndexByte(valued, word[i]) >= 0 {
				if i == len(word)-1 {
					end++
				}
				break
			}
		}
	}
	end = min(end, len(args))
	o, err := parse(args[:end], flags, valued, nil)
	if err != nil {
		return nil, nil, nil, err
	}
	command = append(o.args, args[end:]...)
	for _, list := range o.values['p'] {
		for _, word := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }) {
			n, err := strconv.Atoi(word)
			if err != nil || n <= 0 {
				return nil, nil, nil, usageError("invalid process id: " + word)
			}
			pids = append(pids, n)
		}
	}
	if (len(pids) == 0) == (len(command) == 0) {
		return nil, nil, nil, usageError("must have PROG [ARGS] or -p PID\n" + straceUsage)
	}
	s.counting, s.follow, s.quiet, s.took, s.paths, s.failed = o.has('c'), o.has('f'), o.has('q'), o.has('T'), o.has('y'), o.has('Z')
	if text := o.value('s', ""); text != "" {
		if s.printer.StringLimit, err = strconv.Atoi(text); err != nil || s.printer.StringLimit <= 0 {
			return nil, nil, nil, usageError("invalid -s argument: " + text)
		}
	}
	for _, expr := range o.values['e'] {
		if err := s.choose(expr); err != nil {
			return nil, nil, nil, err
		}
	}
	closeOut = func() {}
	switch name := o.value('o', ""); name {
	case "", "/dev/stderr":
	case "/dev/stdout": // which a debug session does not have, see foreignProc
		s.out = std.Out
	default:
		f, err := os.Create(name)
		if err != nil {
			return nil, nil, nil, err
		}
		s.out, closeOut = f, func() { _ = f.Close() }
	}
	return pids, command, closeOut, nil
}

// choose takes one -e: [trace=][!]NAME,… where NAME is a call or a class such as
// %file.
func (s *strace) choose(expr string) error {
	if key, rest, ok := strings.Cut(expr, "="); ok {
		if key != "trace" && key != "t" {
			return usageError("only -e trace=… is there")
		}
		expr = rest
	}
	set := &s.wanted
	if rest, ok := strings.CutPrefix(expr, "!"); ok {
		expr, set = rest, &s.unwanted
	}
	if expr == "all" {
		return nil
	}
	if *set == nil {
		*set = map[string]bool{}
	}
	for name := range strings.SplitSeq(expr, ",") {
		if class, ok := strings.CutPrefix(name, "%"); ok || name == "file" || name == "network" || name == "process" {
			names := syscalls.Class(class)
			if len(names) == 0 {
				return usageError("invalid class of system calls: " + name)
			}
			for _, n := range names {
				(*set)[n] = true
			}
			continue
		}
		name = strings.TrimPrefix(name, "?")
		if _, ok := syscalls.Number("", name); !ok {
			return usageError(fmt.Sprintf("invalid system call '%s'", name))
		}
		(*set)[name] = true
	}
	return nil
}

func (s *strace) wants(name string) bool {
	return (s.wanted == nil || s.wanted[name]) && !s.unwanted[name]
}

const straceOptions = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACEEXEC

func (s *strace) options() int {
	o := straceOptions
	if s.follow {
		o |= unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACECLONE
	}
	return o
}

// start runs a command, which stops when it has been executed.
func (s *strace) start(std IO, command []string) error {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return fmt.Errorf("Can't stat '%s': %w", command[0], errors.Unwrap(err))
	}
	cmd := exec.CommandContext(context.Background(), path, command[1:]...)
	cmd.Args[0] = command[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = std.In, std.Out, std.Err
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.main = cmd.Process.Pid
	t := s.add(s.main)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(s.main, &status, syscall.WALL, nil); err != nil {
		return fmt.Errorf("wait for %s: %w", command[0], err)
	}
	if err := unix.PtraceSetOptions(s.main, s.options()|unix.PTRACE_O_EXITKILL); err != nil {
		return fmt.Errorf("trace %s: %w", command[0], err)
	}
	if s.wants("execve") && !s.counting && !s.failed {
		var words []string
		for _, a := range command[:min(len(command), 32)] {
			words = append(words, strconv.Quote(a))
		}
		s.begin(t)
		s.print(fmt.Sprintf("execve(%q, [%s], /* %d vars */)", path, strings.Join(words, ", "), len(os.Environ())))
		s.finish("0")
	}
	return s.resume(t, 0)
}

// attach seizes processes with all of their threads.
func (s *strace) attach(std IO, pids []int) error {
	for _, shown := range pids {
		tids := []int{shown}
		if s.follow {
			entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", shown))
			if err == nil {
				tids = nil
				for _, e := range entries {
					if n, err := strconv.Atoi(e.Name()); err == nil {
						tids = append(tids, n)
					}
				}
			}
		}
		for _, tid := range tids {
			if err := s.seize(tid); err != nil {
				return err
			}
		}
		if !s.quiet {
			text := fmt.Sprintf("strace: Process %d attached", shown)
			if len(tids) > 1 {
				text += fmt.Sprintf(" with %d threads", len(tids))
			}
			fmt.Fprintln(std.Err, text)
		}
	}
	return nil
}

func (s *strace) seize(shown int) error {
	pid := shown
	if s.space >= 0 {
		var err error
		pid, err = sys.PIDFrom(s.space, shown)
		if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) {
			return errors.New("this kernel does not tell the numbers of the container's processes to a session outside of it (Linux 6.11 does); open the session among them: porthole debug --pid")
		}
		if err != nil {
			return fmt.Errorf("attach: process %d: %w", shown, err)
		}
	}
	if err := sys.PtraceSeize(pid, s.options()); err != nil {
		return fmt.Errorf("attach: ptrace(PTRACE_SEIZE, %d): %w", shown, err)
	}
	t := s.add(pid)
	t.shown = shown
	if err := unix.PtraceInterrupt(pid); err != nil {
		return fmt.Errorf("attach: ptrace(PTRACE_INTERRUPT, %d): %w", shown, err)
	}
	return nil
}

func (s *strace) add(pid int) *tracee {
	t := &tracee{pid: pid, shown: pid}
	if s.space >= 0 {
		if n, err := sys.PIDIn(s.space, pid); err == nil {
			t.shown = n
		}
	}
	s.threads[pid] = t
	s.several = s.several || len(s.threads) > 1
	return t
}

// endOnSignal ends all when somebody interrupts: the kernel lets go of the tracees,
// and kills the command if there is one.
func (s *strace) endOnSignal() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for got := range signals {
			if s.main != 0 && got == syscall.SIGINT {
				continue // the terminal has sent it to the command, too, which decides
			}
			s.mu.Lock()
			if s.open != nil {
				fmt.Fprintln(s.out, " <detached ...>")
			}
			s.summary()
			os.Exit(128 + int(got.(syscall.Signal)))
		}
	}()
}

// loop waits for the tracees until there are none.
func (s *strace) loop() error {
	for len(s.threads) > 0 {
		var status syscall.WaitStatus
		// Only those of this thread: the Go runtime may wait for other children.
		pid, err := syscall.Wait4(-1, &status, syscall.WALL|unix.WNOTHREAD, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.ECHILD):
			return nil
		case err != nil:
			return fmt.Errorf("wait for a tracee: %w", err)
		}
		s.mu.Lock()
		err = s.stopped(pid, status)
		s.mu.Unlock()
		if err != nil && !errors.Is(err, syscall.ESRCH) { // it was killed meanwhile, which wait tells
			return err
		}
	}
	return nil
}

func (s *strace) stopped(pid int, status syscall.WaitStatus) error {
	t := s.threads[pid]
	if t == nil {
		t = s.add(pid) // a child, which stops before it runs
		t.fresh = s.main != 0
	}
	if status.Exited() || status.Signaled() {
		s.ended(t, status)
		return nil
	}
	sig := status.StopSignal()
	event := int(status) >> 16
	switch {
	case sig == syscall.SIGTRAP|0x80:
		return s.call(t)
	case event == unix.PTRACE_EVENT_EXEC:
		s.executed(t)
		return s.resume(t, 0)
	case event == unix.PTRACE_EVENT_STOP:
		switch sig {
		case syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU:
			s.line(t, fmt.Sprintf("--- stopped by %s ---", syscalls.Signal(sig)))
			return sys.PtraceListen(pid)
		}
		return s.resume(t, 0)
	case event != 0 || t.fresh && sig == syscall.SIGSTOP:
		t.fresh = false
		return s.resume(t, 0)
	}
	s.line(t, fmt.Sprintf("--- %s ---", syscalls.Signal(sig)))
	return s.resume(t, sig)
}

// executed: a thread that executes a program becomes the first of its process, and
// the others end without a word.
func (s *strace) executed(t *tracee) {
	former, err := unix.PtraceGetEventMsg(t.pid)
	if err != nil || int(former) == t.pid {
		return
	}
	if old := s.threads[int(former)]; old != nil {
		t.text, t.began, t.skipped, t.entered = old.text, old.began, old.skipped, old.entered
		delete(s.threads, int(former))
	}
}

func (s *strace) resume(t *tracee, sig syscall.Signal) error {
	return unix.PtraceSyscall(t.pid, int(sig))
}

func (s *strace) ended(t *tracee, status syscall.WaitStatus) {
	delete(s.threads, t.pid)
	if s.open == t {
		s.print(" <unfinished ...>")
		s.newline()
	}
	if status.Signaled() {
		core := ""
		if status.CoreDump() {
			core = " (core dumped)"
		}
		s.line(t, fmt.Sprintf("+++ killed by %s%s +++", syscalls.Signal(status.Signal()), core))
	} else {
		s.line(t, fmt.Sprintf("+++ exited with %d +++", status.ExitStatus()))
	}
	if t.pid == s.main {
		s.code = status.ExitStatus()
		if status.Signaled() {
			s.code = 128 + int(status.Signal())
		}
	}
}

// call is one of the two ends of a call.
func (s *strace) call(t *tracee) error {
	at, err := where(t)
	if err != nil {
		return err
	}
	if at.Op == unix.PTRACE_SYSCALL_INFO_ENTRY {
		s.enter(t, &at)
	} else {
		s.exit(t, &at)
	}
	return s.resume(t, 0)
}

// where asks at which end of which call a thread has stopped. Kernels that do not
// tell have the registers; the ends take turns then.
func where(t *tracee) (sys.SyscallStop, error) {
	at, err := sys.PtraceSyscallInfo(t.pid)
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		if at, err = fromRegisters(t.pid, t.entered); err != nil {
			err = fmt.Errorf("this kernel does not tell by ptrace which system call a thread is at: %w", err)
		}
	}
	t.entered = at.Op == unix.PTRACE_SYSCALL_INFO_ENTRY
	return at, err
}

var auditArchs = map[uint32]string{
	unix.AUDIT_ARCH_X86_64: "amd64", unix.AUDIT_ARCH_I386: "386", unix.AUDIT_ARCH_AARCH64: "arm64", unix.AUDIT_ARCH_ARM: "arm",
}

func (s *strace) enter(t *tracee, at *sys.SyscallStop) {
	call := syscalls.Call{Arch: auditArchs[at.Arch], Number: uint32(at.Number), Args: at.Args}
	p := s.printer
	if s.paths {
		p.FD = func(fd int32) string {
			name, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", t.shown, fd))
			return name
		}
	}
	t.text = p.Enter(call, memory(t.pid))
	t.began = time.Now()
	t.skipped = !s.wants(t.text.Name())
	if t.skipped || s.counting || s.failed {
		return
	}
	s.begin(t)
	s.print(t.text.Name() + t.text.Args())
	if name := t.text.Name(); name == "exit" || name == "exit_group" { // which do not return
		s.print(")")
		s.finish("?")
		t.text = nil
	}
}

func (s *strace) exit(t *tracee, at *sys.SyscallStop) {
	took := time.Since(t.began)
	text := t.text
	t.text = nil
	if text == nil || t.skipped || s.failed && !syscalls.Failed(at.Return) {
		return // it began before we were there, or nobody asks
	}
	if s.counting {
		s.count(text.Name(), took, syscalls.Failed(at.Return))
		return
	}
	before := text.Args()
	args, result := text.Exit(at.Return, memory(t.pid))
	switch {
	case s.failed:
		s.begin(t)
		s.print(text.Name() + args)
	case s.open == t:
		s.print(strings.TrimPrefix(args, before))
	default:
		s.begin(t)
		s.print("<... " + text.Name() + " resumed>" + strings.TrimPrefix(args, before))
	}
	if s.took {
		result += fmt.Sprintf(" <%.6f>", took.Seconds())
	}
	s.finish(result)
}

// begin starts a line about a thread, and breaks off that of another.
func (s *strace) begin(t *tracee) {
	if s.open != nil {
		s.print(" <unfinished ...>")
		s.newline()
	}
	s.open = t
	if s.several {
		s.print(fmt.Sprintf("[pid %5d] ", t.shown))
	}
	now := time.Now()
	switch s.stamps {
	case 0:
	case 1:
		s.print(now.Format("15:04:05 "))
	case 2:
		s.print(now.Format("15:04:05.000000 "))
	default:
		s.print(fmt.Sprintf("%d.%06d ", now.Unix(), now.Nanosecond()/1000))
	}
}

// resultColumn is where results stand, if there is room.
const resultColumn = 39

func (s *strace) finish(result string) {
	pad := max(resultColumn-s.column, 0)
	s.print(strings.Repeat(" ", pad) + " = " + result)
	s.newline()
}

func (s *strace) print(text string) {
	_, _ = io.WriteString(s.out, text)
	s.column += len(text)
}

func (s *strace) newline() {
	_, _ = io.WriteString(s.out, "\n")
	s.column, s.open = 0, nil
}

// line is a whole line about a thread that is none of a call.
func (s *strace) line(t *tracee, text string) {
	if s.counting || s.quiet && strings.HasPrefix(text, "+++") {
		return
	}
	s.begin(t)
	s.print(text)
	s.newline()
}

func (s *strace) count(name string, took time.Duration, failed bool) {
	c := s.sums[name]
	if c == nil {
		c = &callSum{}
		s.sums[name] = c
	}
	c.calls++
	c.took += took
	if failed {
		c.errors++
	}
}

// summary is the table of -c.
func (s *strace) summary() {
	if !s.counting {
		return
	}
	var names []string
	var all callSum
	for name, c := range s.sums {
		names = append(names, name)
		all.calls, all.errors, all.took = all.calls+c.calls, all.errors+c.errors, all.took+c.took
	}
	slices.SortFunc(names, func(a, b string) int { return int(s.sums[b].took - s.sums[a].took) })
	row := func(c *callSum, name string) {
		errs := ""
		if c.errors > 0 {
			errs = strconv.Itoa(c.errors)
		}
		percent := 100.0
		if all.took > 0 {
			percent = 100 * c.took.Seconds() / all.took.Seconds()
		}
		fmt.Fprintf(s.out, "%6.2f %11.6f %11d %9d %9s %s\n", percent, c.took.Seconds(), c.took.Microseconds()/int64(max(c.calls, 1)), c.calls, errs, name)
	}
	const rule = "------ ----------- ----------- --------- --------- ----------------"
	fmt.Fprintf(s.out, "%% time     seconds  usecs/call     calls    errors syscall\n%s\n", rule)
	for _, name := range names {
		row(s.sums[name], name)
	}
	fmt.Fprintln(s.out, rule)
	row(&all, "total")
}

// memory is that of another process.
type memory int

// ReadMemory reads as process_vm_readv(2) does.
func (m memory) ReadMemory(addr uint64, p []byte) (int, error) {
	local := []unix.Iovec{{Base: &p[0]}}
	local[0].SetLen(len(p))
	return unix.ProcessVMReadv(int(m), local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(p)}}, 0)
}
