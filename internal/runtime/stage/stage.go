// Package stage executes a plan: it is the short-lived process between the
// clone of new namespaces and the user's program.
//
// The shim starts it with one end of a socket pair as descriptor 3 and sends it a
// [plan.Plan] with file descriptors, of which the first three are the future
// standard streams; the conversation is drawn in internal/shim/wire. [Main] never
// returns: it ends in execve or, after telling what failed, in exit.
//
// Everything that the kernel keeps per thread (credentials, capabilities,
// namespaces, the filter, the keyring) is done on the one locked thread that
// executes the program in the end; Go's other threads disappear at execve.
//
// The stage is as privileged as the container's user namespace allows and runs
// beside code that may be hostile (exec), so it is not dumpable from its first
// moment, resolves no path outside of openat2(RESOLVE_IN_ROOT), and keeps no
// descriptor of the host's filesystem but those that came with the plan.
package stage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/runtime/plan"
	"github.com/portholehq/porthole/internal/shim/wire"
	"github.com/portholehq/porthole/internal/sys"
)

// Main is the whole life of a stage process. It does not return.
func Main() {
	runtime.LockOSThread() // the program has done that in an init, to be on the main thread
	// Nobody may look into or trace this process, whatever its rights.
	if err := sys.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		os.Exit(1)
	}
	conn := wire.NewStageConn(wire.StageFD)
	s := &stage{conn: conn}
	err := s.run()
	if !errors.Is(err, io.EOF) { // the shim has gone: nobody to tell
		s.fail(err)
	}
	os.Exit(1)
}

// stage is the state that steps share.
type stage struct {
	conn  *wire.Conn
	plan  *plan.Plan
	files []*os.File

	root    *os.File // the container's root directory
	pivoted bool
	maskDir *os.File // an empty read-only directory, attached somewhere
	user    identity
	caps    *plan.Capabilities

	step    *plan.Step
	barrier *plan.Step // ready was said there, and go is awaited
	meeting *os.File   // the socket of the rendezvous, nil if there is none
	kept    []*os.File // of OpKeep
	timings []wire.Step
}

func (s *stage) run() error {
	if err := s.receive(); err != nil {
		return err
	}
	unix.Umask(0)
	err := s.execute()
	if err == nil {
		err = errors.New("the plan ends without executing anything")
	}
	// What fails after ready is told after go: in between nobody listens.
	if e := s.awaitGo(); e != nil {
		return e
	}
	return err
}

// execute does the steps in order. Without error it does not return, unless the
// last one is missing.
func (s *stage) execute() error {
	for i := range s.plan.Steps {
		st := &s.plan.Steps[i]
		s.step = st
		begin := time.Now()
		if st.Op == plan.OpRendezvous || st.Op.Last() {
			return s.finish(s.plan.Steps[i:])
		}
		if st.Op == plan.OpBarrier {
			if err := s.ready(st); err != nil {
				return err
			}
			continue
		}
		if err := s.do(st); err != nil {
			return err
		}
		s.took(st.Name, begin)
	}
	return nil
}

func (s *stage) took(name string, begin time.Time) {
	s.timings = append(s.timings, wire.Step{Name: name, Microseconds: time.Since(begin).Microseconds()})
}

func (s *stage) receive() error {
	begin := time.Now()
	word, files, err := s.conn.RecvWord()
	if err != nil {
		return err
	}
	if word.Name != wire.StagePlan {
		return fmt.Errorf("message %q where the plan was due", word.Name)
	}
	s.took("receive plan", begin)
	begin = time.Now()
	if files, err = wire.TakeStdio(files); err != nil {
		return err
	}
	s.files = files
	if s.plan, err = plan.Decode(word.Payload); err != nil {
		return err
	}
	if len(files) != len(s.plan.Files) {
		return fmt.Errorf("plan has %d files, %d came", len(s.plan.Files), len(files))
	}
	s.took("decode plan", begin)
	return nil
}

// do executes one step that comes before the last ones.
func (s *stage) do(st *plan.Step) error {
	switch st.Op {
	case plan.OpSetns:
		return s.setns(st)
	case plan.OpCopyMounts:
		return s.copyMounts()
	case plan.OpCarry:
		return s.carry(st)
	case plan.OpTools:
		return s.tools(st)
	case plan.OpPropagation:
		return mount.Propagate(st.Path, st.Flags)
	case plan.OpRoot:
		return s.attachRoot(st)
	case plan.OpMount:
		return s.mount(st.Mount)
	case plan.OpNode:
		return s.node(st.Node)
	case plan.OpSymlink:
		return s.symlink(st.Path, st.Value)
	case plan.OpDirectory:
		return s.directory(st.Path)
	case plan.OpTerminal:
		return s.terminal(st)
	case plan.OpSession:
		return newSession()
	case plan.OpMask:
		return s.mask(st.Path)
	case plan.OpReadonlyPath:
		return s.readonlyPath(st.Path)
	case plan.OpPivot:
		return s.pivot()
	case plan.OpAttributes:
		return s.attributes(st)
	case plan.OpCgroup:
		return s.enterCgroups(st)
	case plan.OpHostname:
		return os.NewSyscallError("sethostname", unix.Sethostname([]byte(st.Value)))
	case plan.OpDomainname:
		return os.NewSyscallError("setdomainname", unix.Setdomainname([]byte(st.Value)))
	case plan.OpSysctl:
		return s.sysctl(st.Path, st.Value)
	case plan.OpHold:
		return s.hold()
	case plan.OpKeep:
		s.kept = s.files[st.File : st.File+st.Count]
		return nil
	case plan.OpLoopback:
		return ns.LoopbackUp()
	case plan.OpKeyring:
		return keyring(st.Value)
	case plan.OpUnshare:
		return os.NewSyscallError("unshare", unix.Unshare(int(st.Flags)))
	case plan.OpPersonality:
		return os.NewSyscallError("personality", sys.Personality(st.Flags))
	case plan.OpUser:
		return s.becomeUser(st.User)
	case plan.OpWorkdir:
		return workdir(st.Path)
	case plan.OpCapabilities:
		return s.boundCapabilities(st.Capabilities)
	case plan.OpAppArmor:
		return s.appArmor(st.Value)
	case plan.OpNoNewPrivs:
		return os.NewSyscallError("prctl", sys.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	case plan.OpRlimit, plan.OpSeccomp, plan.OpExec, plan.OpBarrier, plan.OpRendezvous:
		return fmt.Errorf("operation %q is none of these", st.Op) // execute does them
	}
	return fmt.Errorf("unknown operation %q", st.Op)
}

// ready lets the daemon go on with its own part, and the stage with the rest of
// its steps but exec.
func (s *stage) ready(barrier *plan.Step) error {
	if err := s.conn.SendWord(wire.StageReady, nil); err != nil {
		return err
	}
	s.barrier = barrier
	return nil
}

// awaitGo waits until the daemon has done its part, if it was told ready.
func (s *stage) awaitGo() error {
	if s.barrier == nil {
		return nil
	}
	defer s.took(s.barrier.Name, time.Now())
	s.barrier = nil
	return s.goOrders()
}

// goOrders waits for go and does what came with it.
func (s *stage) goOrders() error {
	word, _, err := s.conn.RecvWord()
	if err != nil {
		return err
	}
	if word.Name != wire.StageGo {
		return fmt.Errorf("message %q where go was due", word.Name)
	}
	return runOrders(word.Payload)
}

// setns enters a namespace. For a mount namespace the thread needs a root and
// working directory of its own, and finds itself at the namespace's root.
func (s *stage) setns(st *plan.Step) error {
	f := s.files[st.File]
	if st.Flags&unix.CLONE_NEWNS != 0 {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return os.NewSyscallError("unshare", err)
		}
	}
	if err := unix.Setns(int(f.Fd()), int(st.Flags)); err != nil {
		return os.NewSyscallError("setns", err)
	}
	f.Close()
	if st.Flags&unix.CLONE_NEWNS == 0 {
		return nil
	}
	return s.takeRoot()
}

// takeRoot makes the present root the container's.
func (s *stage) takeRoot() error {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/", Err: err}
	}
	s.root, s.pivoted = os.NewFile(uintptr(fd), "/"), true
	return nil
}

// fail tells the shim what went wrong. The message is that of the error; the
// step stands beside it.
func (s *stage) fail(err error) {
	f := wire.Error{Message: err.Error()}
	if s.step != nil {
		f.Step = s.step.Name
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		f.Errno = errno
	}
	if pe := (*os.PathError)(nil); errors.As(err, &pe) {
		f.Path = pe.Path
	}
	raw, err := json.Marshal(f)
	if err != nil {
		return // of strings and a number: it cannot be
	}
	// A shim that has gone is the only reason for an error, and then nobody is left to tell.
	_ = s.conn.SendWord(wire.StageFailed, raw)
}
