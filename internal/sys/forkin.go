package sys

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe" // and for linkname

	"golang.org/x/sys/unix"
)

// The Go runtime's preparations for a fork by somebody else than package syscall; it
// keeps these names for such (runtime/proc.go).

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// Joining is a namespace that a process enters before it executes: setns(2) on File with
// Flag, CLONE_NEW*.
type Joining struct {
	File *os.File
	Flag int
}

// cloneArgs is struct clone_args of linux/sched.h, up to Linux 5.7.
type cloneArgs struct {
	flags, pidFD, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// forkPlan is all that the child needs, made before the fork.
type forkPlan struct {
	clone    cloneArgs
	joins    []joinFD
	files    []int // become 0, 1, ...
	report   int   // gets a step and an errno if something fails
	path     *byte
	args     []*byte
	env      []*byte
	template [2]uint32
}

type joinFD struct{ fd, flag uintptr }

// The steps of which the child reports a failure.
const (
	stepJoin = iota + 1
	stepUser
	stepFiles
	stepExec
)

var forkSteps = map[uint32]string{stepJoin: "setns", stepUser: "become root of the namespace", stepFiles: "dup3", stepExec: "execve"}

// above is where descriptors are put that must not be in the way of the child's own.
const above = 32

// ForkIn starts a program in namespaces that a process with threads cannot enter, which
// are those of users and of time: the child has one thread. Flags are CLONE_NEW* for new
// namespaces, made first. It enters the namespaces in
// order and becomes user and group 0 of where it is then, without further groups. Files
// become its descriptors 0 and following; cgroup, if not nil, is the directory of the v2
// cgroup that it is born into. The result is a child of this process.
func ForkIn(path string, args, env []string, flags uintptr, joins []Joining, files []*os.File, cgroup *os.File) (*os.Process, error) {
	p := &forkPlan{}
	p.clone.flags, p.clone.exitSignal = uint64(flags), uint64(unix.SIGCHLD)
	if cgroup != nil {
		p.clone.flags, p.clone.cgroup = p.clone.flags|unix.CLONE_INTO_CGROUP, uint64(cgroup.Fd())
	}
	var err error
	if p.path, err = syscall.BytePtrFromString(path); err != nil {
		return nil, err
	}
	if p.args, err = syscall.SlicePtrFromStrings(args); err != nil {
		return nil, err
	}
	if p.env, err = syscall.SlicePtrFromStrings(env); err != nil {
		return nil, err
	}
	var opened []int
	defer func() {
		for _, fd := range opened {
			unix.Close(fd)
		}
	}()
	for _, f := range files {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, above)
		if err != nil {
			return nil, os.NewSyscallError("fcntl", err)
		}
		opened, p.files = append(opened, fd), append(p.files, fd)
	}
	for _, j := range joins {
		p.joins = append(p.joins, joinFD{j.File.Fd(), uintptr(j.Flag)})
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	opened = append(opened, pipe[0])
	p.report, err = unix.FcntlInt(uintptr(pipe[1]), unix.F_DUPFD_CLOEXEC, above)
	unix.Close(pipe[1])
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	syscall.ForkLock.Lock()
	pid, errno := p.fork()
	syscall.ForkLock.Unlock()
	unix.Close(p.report)
	runtime.KeepAlive(joins)
	runtime.KeepAlive(cgroup)
	if errno != 0 {
		return nil, os.NewSyscallError("clone3", errno)
	}
	return p.started(pid, pipe[0])
}

// started waits until the child has executed, or has told why not.
func (p *forkPlan) started(pid, report int) (*os.Process, error) {
	proc, err := os.FindProcess(pid)
	if err != nil {
		return nil, err
	}
	var told [2]uint32
	buf := unsafe.Slice((*byte)(unsafe.Pointer(&told)), unsafe.Sizeof(told))
	n := 0
	for {
		if n, err = unix.Read(report, buf); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err == nil && n == 0 {
		return proc, nil
	}
	_ = proc.Kill() // it ends by itself
	_, _ = proc.Wait()
	if err != nil || n != len(buf) {
		return nil, fmt.Errorf("read the child's report: %d bytes, %w", n, err)
	}
	return nil, os.NewSyscallError(forkSteps[told[0]], syscall.Errno(told[1]))
}

// fork forks. The child has no Go runtime to speak of: nothing between the fork and its
// end may allocate, grow the stack or call into the scheduler.
//
//go:noinline
//go:norace
//go:nocheckptr
func (p *forkPlan) fork() (pid int, errno syscall.Errno) {
	beforeFork()
	r1, _, errno := syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&p.clone)), unsafe.Sizeof(p.clone), 0)
	if errno != 0 || r1 != 0 {
		afterFork()
		return int(r1), errno
	}
	afterForkInChild()
	var step uint32
	for i := range p.joins {
		if _, _, errno = syscall.RawSyscall(unix.SYS_SETNS, p.joins[i].fd, p.joins[i].flag, 0); errno != 0 {
			step = stepJoin
			goto failed
		}
	}
	step = stepUser
	if _, _, errno = syscall.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); errno != 0 {
		goto failed
	}
	if _, _, errno = syscall.RawSyscall(unix.SYS_SETRESGID, 0, 0, 0); errno != 0 {
		goto failed
	}
	if _, _, errno = syscall.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0); errno != 0 {
		goto failed
	}
	step = stepFiles
	for i := range p.files {
		if _, _, errno = syscall.RawSyscall(unix.SYS_DUP3, uintptr(p.files[i]), uintptr(i), 0); errno != 0 {
			goto failed
		}
	}
	step = stepExec
	_, _, errno = syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(p.path)), uintptr(unsafe.Pointer(&p.args[0])), uintptr(unsafe.Pointer(&p.env[0])))
failed:
	p.template[0], p.template[1] = step, uint32(errno)
	_, _, _ = syscall.RawSyscall(unix.SYS_WRITE, uintptr(p.report), uintptr(unsafe.Pointer(&p.template)), unsafe.Sizeof(p.template))
	for {
		_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 127, 0, 0)
	}
}
