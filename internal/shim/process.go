package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/racing"
	"github.com/portholehq/porthole/internal/shim/wire"
)

// The life of a process. Only settle and the methods create, exec and goOn
// move it on, under Server.mu.
type status uint8

const (
	starting status = iota // forked; the stage has not said ready
	created                // the stage waits for go
	going                  // go was sent
	running                // exec succeeded
	failed                 // no user code ever ran
)

func (s status) String() string {
	switch s {
	case running:
		return wire.StatusRunning
	case created, going:
		return wire.StatusCreated
	default:
		return wire.StatusNone
	}
}

// process is one child: a stage first, the user's program later.
type process struct {
	id    string
	args  []string
	pid   int
	pidfd *os.File
	stage *wire.Conn
	// endedEarly says that the stage ended in the middle of a conversation. Its
	// partner in that sets it, and reads it.
	endedEarly bool

	exited  chan struct{} // closed when reaped; exit and over are set before
	exit    wire.Exit
	over    time.Time     // has a reading of the clock that nobody sets, which times that are told have not
	settled chan struct{} // closed when status is running or failed for good
	told    chan struct{} // closed when the daemon knows how the start went

	// Guarded by Server.mu.
	status    status
	startedAt time.Time
	began     time.Time // startedAt, with such a reading
	steps     []wire.Step
	note      json.RawMessage // see wire.ExecSpec
}

// birth says where a process is forked.
type birth struct {
	flags  uintptr  // CLONE_NEW*
	cgroup *os.File // directory of a v2 cgroup, or nil
	pidns  *os.File // a pid namespace to be born in, or nil
	beside *process // to be born in the namespaces of, or nil
	// outside says that beside's pid namespace is none of them.
	outside bool
	// expected says that the stage that expect has forked was born like that.
	expected bool
}

func (b birth) close() {
	b.cgroup.Close() // nil is fine
	b.pidns.Close()
}

// attr is the birth as the fork takes it.
func (b birth) attr() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: b.flags}
	if b.cgroup != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(b.cgroup.Fd())
	}
	return attr
}

// fork starts a stage with its end of the sync socket as descriptor 3. Whose it
// is to be it learns with the plan.
func (s *Server) fork(at birth) (*process, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("start stage: %w", err)
	}
	defer null.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make stage socket: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "stage")
	defer theirs.Close()
	ours, err := connOf(pair[0])
	if err != nil {
		return nil, err
	}
	p := &process{
		stage:  wire.NewConn(ours),
		exited: make(chan struct{}), settled: make(chan struct{}), told: make(chan struct{}),
	}
	start := func() error {
		return p.start(s.cfg.Executable, s.cfg.StageArgs, []*os.File{null, null, racing.Stderr(null), theirs}, at.attr())
	}
	switch {
	case at.beside != nil && at.outside:
		err = at.beside.outside(start)
	case at.beside != nil:
		err = s.onThreshold(at.beside, start)
	case at.pidns != nil:
		err = inPIDNamespace(at.pidns, start)
	default:
		err = start()
	}
	if err != nil {
		ours.Close()
		return nil, err
	}
	// It has to be collected however it ends, and at once: the first process of
	// a pid namespace cannot end before all others there are collected.
	s.wg.Go(func() {
		if err := p.wait(); err != nil {
			s.note(err)
		}
	})
	return p, nil
}

func connOf(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("use socket: %w", err)
	}
	return c.(*net.UnixConn), nil
}

// start forks and executes with exactly the given descriptors.
func (p *process) start(path string, args []string, files []*os.File, attr *syscall.SysProcAttr) error {
	pid, pidfd, err := startProcess(path, args, childEnv(), files, attr)
	if err != nil {
		return err
	}
	p.pid, p.pidfd = pid, pidfd
	return nil
}

// startSession starts a process that does not share the shim's session.
func startSession(path string, args, env []string, files []*os.File) (int, *os.File, error) {
	return startProcess(path, args, env, files, &syscall.SysProcAttr{Setsid: true})
}

func startProcess(path string, args, env []string, files []*os.File, attr *syscall.SysProcAttr) (int, *os.File, error) {
	fds := make([]uintptr, len(files))
	for i, f := range files {
		if err := control(f, func(fd int) error { fds[i] = uintptr(fd); return nil }); err != nil {
			return 0, nil, err
		}
	}
	pidfd := -1
	attr.PidFD = &pidfd
	pid, _, err := syscall.StartProcess(path, args, &syscall.ProcAttr{Env: env, Files: fds, Sys: attr})
	if err != nil {
		return 0, nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	if pidfd < 0 {
		// Only kernels before 5.2 give none.
		discardChild(pid)
		return 0, nil, fmt.Errorf("start %s: the kernel gave no pidfd", args[0])
	}
	// With a nonblocking pidfd the network poller waits, not a thread.
	if err := unix.SetNonblock(pidfd, true); err != nil {
		discardChild(pid)
		unix.Close(pidfd)
		return 0, nil, fmt.Errorf("use pidfd: %w", err)
	}
	return pid, os.NewFile(uintptr(pidfd), "pidfd"), nil
}

// discardChild ends a child that cannot be watched.
func discardChild(pid int) {
	_ = syscall.Kill(pid, syscall.SIGKILL)
	_, _ = syscall.Wait4(pid, nil, 0, nil)
}

// childEnv is all the environment that our own re-executions get; the user's
// program gets its own from the plan.
func childEnv() []string { return []string{"GOMAXPROCS=1"} }

// signal sends sig through the pidfd, so that it can hit nobody else.
func (p *process) signal(sig syscall.Signal) error {
	err := control(p.pidfd, func(fd int) error { return unix.PidfdSendSignal(fd, sig, nil, 0) })
	if errors.Is(err, os.ErrClosed) {
		return noProcess(p.id) // reaped meanwhile
	}
	if err != nil {
		return fmt.Errorf("send signal %d to process %q: %w", int(sig), p.id, err)
	}
	return nil
}

// wait reaps the process.
func (p *process) wait() error {
	exit, err := reap(p.pid, p.pidfd)
	p.exit, p.over = exit, time.Now()
	p.pidfd.Close()
	close(p.exited)
	return err
}

// reap waits for a child without keeping a thread busy, then collects it. The
// pid cannot have been reused: nobody else collects it.
func reap(pid int, pidfd *os.File) (wire.Exit, error) {
	rc, err := pidfd.SyscallConn()
	if err != nil {
		return wire.Exit{}, err
	}
	var ws unix.WaitStatus
	var ru unix.Rusage
	var oom *int
	var masks *wire.SignalMasks
	var werr error
	err = rc.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 0); err == unix.EINTR || n == 0 && err == nil {
			return false
		}
		oom, masks = oomScoreAdj(pid), signalMasks(pid)
		for {
			var got int
			got, werr = unix.Wait4(pid, &ws, unix.WNOHANG, &ru)
			if werr == unix.EINTR {
				continue
			}
			return got == pid || werr != nil
		}
	})
	if err = errors.Join(err, werr); err != nil {
		return wire.Exit{At: time.Now().UTC(), Code: 255}, fmt.Errorf("wait for pid %d: %w", pid, err)
	}
	e := exitOf(ws, ru, oom, time.Now().UTC())
	e.Signals = masks
	return e, nil
}

func exitOf(ws unix.WaitStatus, ru unix.Rusage, oom *int, at time.Time) wire.Exit {
	e := wire.Exit{
		Status:             uint32(ws),
		Code:               ws.ExitStatus(),
		At:                 at,
		UserMicroseconds:   ru.Utime.Nano() / 1000,
		SystemMicroseconds: ru.Stime.Nano() / 1000,
		MaxRSSBytes:        ru.Maxrss << 10,
		OOMScoreAdj:        oom,
	}
	if ws.Signaled() {
		e.Signal = ws.Signal()
		e.Code = 128 + int(ws.Signal())
		e.Core = ws.CoreDump()
	}
	return e
}

// oomScoreAdj reads what a zombie still tells.
func oomScoreAdj(pid int) *int {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/oom_score_adj")
	if err != nil {
		return nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return nil
	}
	return &n
}

// signalMasks reads what a zombie still tells of its signals: the kernel keeps
// their handling until it is reaped (release_task).
func signalMasks(pid int) *wire.SignalMasks {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return nil
	}
	m, found := new(wire.SignalMasks), 0
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		var to *uint64
		switch key {
		case "SigBlk":
			to = &m.Blocked
		case "SigIgn":
			to = &m.Ignored
		case "SigCgt":
			to = &m.Caught
		default:
			continue
		}
		if *to, err = strconv.ParseUint(strings.TrimSpace(value), 16, 64); err != nil {
			return nil
		}
		found++
	}
	if found != 3 {
		return nil
	}
	return m
}

// prepare hands standard streams and plan to the stage and waits until it is
// ready. The result is the master of its terminal, if it opened one; the caller
// closes it.
func (p *process) prepare(plan []byte, stdio [3]*os.File, files []*os.File) (pty *os.File, err error) {
	if err := p.stage.SendWord(wire.StagePlan, plan, slices.Concat(stdio[:], files)...); err != nil {
		return nil, p.diagnose("plan", err)
	}
	for {
		word, files, err := p.stage.RecvWord()
		if err == nil && word.Name == wire.StagePTY && len(files) == 1 && pty == nil {
			pty = files[0]
			continue
		}
		closeFiles(files)
		if err == nil && word.Name == wire.StageReady {
			return pty, nil
		}
		if pty != nil {
			pty.Close()
		}
		return nil, p.refusal("prepare", word, err)
	}
}

// release lets the stage go on and waits until it has become the user's
// program.
func (p *process) release() ([]wire.Step, error) {
	if err := p.stage.SendWord(wire.StageGo, nil); err != nil {
		return nil, p.diagnose("go", err)
	}
	var steps []wire.Step
	for {
		word, files, err := p.stage.RecvWord()
		closeFiles(files)
		switch {
		case err == nil && word.Name == wire.StageTimings:
			if steps, err = wire.ParseSteps(word.Payload); err != nil {
				return nil, fmt.Errorf("timings of the stage: %w", err)
			}
		case errors.Is(err, io.EOF) && steps != nil:
			return steps, nil
		default:
			return nil, p.refusal("go", word, err)
		}
	}
}

// refusal turns what came instead of the expected word into an error.
func (p *process) refusal(step string, word wire.Word, err error) error {
	switch {
	case err != nil:
		return p.diagnose(step, err)
	case word.Name == wire.StageFailed:
		e := &wire.Error{Step: step, Message: "the stage gave no reason"}
		if err := decode(word.Payload, e); err != nil {
			return fmt.Errorf("failure of the stage: %w", err)
		}
		return e
	default:
		return &wire.Error{Step: step, Message: fmt.Sprintf("%s: unexpected word %q from the stage", step, word.Name)}
	}
}

// diagnose names the reason of a broken conversation: mostly the death of the
// stage, which is known a moment later.
func (p *process) diagnose(step string, err error) error {
	select {
	case <-p.exited:
		p.endedEarly = true
		return &wire.Error{Step: step, Message: fmt.Sprintf("%s: %s: %s", step, wire.StageEnded, describe(p.exit))}
	case <-time.After(time.Second):
		return &wire.Error{Step: step, Message: fmt.Sprintf("%s: conversation with the stage: %v", step, err)}
	}
}

func describe(e wire.Exit) string {
	if e.Signal != 0 {
		return fmt.Sprintf("signal %d (%s)", int(e.Signal), e.Signal)
	}
	return fmt.Sprintf("exit status %d", e.Code)
}
