package death

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/kmsg"
)

// Cause is why something ended, in one word.
type Cause string

// The causes.
const (
	Completed  Cause = "completed"   // it ended by itself, with code 0
	Failed     Cause = "failed"      // it ended by itself, with another code
	Crashed    Cause = "crashed"     // by a signal that a process brings upon itself, such as SIGSEGV
	OutOfMem   Cause = "oom"         // the kernel killed it for want of memory
	Stopped    Cause = "stopped"     // the engine was asked to end it
	TimedOut   Cause = "timed-out"   // it was asked to end, did not, and was killed
	Killed     Cause = "killed"      // by a signal that came from elsewhere
	ShimEnded  Cause = "shim-ended"  // the shim beside it ended before it, and the engine ended it for that
	NotStarted Cause = "not-started" // its program could not be started
	Lost       Cause = "lost"        // nobody saw it end
)

// Judge names the cause from the rest of a record. The engine's own doing comes
// first, because whoever stops a container knows why it ended; an OOM kill counts
// if it hit the process that ended.
func Judge(r *Record) Cause {
	signal := r.Exit.Signal
	switch {
	case r.StartError != nil:
		return NotStarted
	case !r.Exit.Observed && r.Shim == nil:
		return Lost
	case !r.Exit.Observed && r.Stop == nil:
		return ShimEnded
	case signal == syscall.SIGKILL && r.hitByOOM() && (r.Stop == nil || r.Stop.Signal != syscall.SIGKILL && !r.Stop.TimedOut):
		return OutOfMem
	case r.Stop != nil && r.Stop.TimedOut && signal == syscall.SIGKILL:
		return TimedOut
	case r.Stop != nil:
		return Stopped
	case r.Exit.Core || crashes(signal):
		return Crashed
	case signal != 0:
		return Killed
	case r.Exit.Code == 0:
		return Completed
	}
	return Failed
}

// hitByOOM reports whether the process that ended was a victim. Where the kernel
// counted kills without telling of whom, a kill by the kernel is likely enough:
// nobody else is known to have sent SIGKILL.
func (r *Record) hitByOOM() bool {
	for _, k := range r.OOMKills {
		if k.First {
			return true
		}
	}
	return len(r.OOMKills) == 0 && r.OOMCount > 0 && r.Sender == nil
}

// From says from where the signal came that ended a process.
type From string

// The senders. Who else on the host has sent a signal is known only where a
// [Sender] is.
const (
	FromNobody  From = ""             // no signal ended it
	FromClient  From = "client"       // the engine was asked to send it
	FromEngine  From = "engine"       // nobody asked the engine: the container's shim had ended
	FromOOM     From = "oom-killer"   // the kernel, for want of memory
	FromItself  From = "itself"       // the kernel or the program, over an error in the program
	FromOutside From = "not-by-us"    // neither the engine nor, as far as is known, the kernel
	FromUnknown From = "not-observed" // nobody saw the end
)

// SignalFrom says from where the signal came that ended the process.
func (r *Record) SignalFrom() From {
	switch {
	case !r.Exit.Observed && r.Shim == nil:
		return FromUnknown
	case r.Exit.Signal == 0:
		return FromNobody
	}
	switch r.Cause {
	case OutOfMem:
		return FromOOM
	case Stopped, TimedOut:
		return FromClient
	case Crashed:
		return FromItself
	case ShimEnded:
		return FromEngine
	case Completed, Failed, Killed, NotStarted, Lost:
	}
	if r.Sender != nil && r.Sender.Itself {
		return FromItself
	}
	return FromOutside
}

// Text tells the cause in one short line.
func (r *Record) Text() string {
	switch r.Cause {
	case Completed:
		return "ended by itself"
	case Failed:
		return "failed by itself with code " + strconv.Itoa(r.Exit.Code)
	case Crashed:
		return "crashed by " + unix.SignalName(r.Exit.Signal) + coreNote(r.Exit.Core)
	case OutOfMem:
		return "out of memory" + r.oomNote()
	case Stopped:
		return "ended by " + r.Stop.Action + signalNote(r.Stop.Signal)
	case TimedOut:
		return r.late()
	case Killed:
		if s := r.Sender; s != nil {
			return "killed by " + unix.SignalName(r.Exit.Signal) + ", not by us: " + s.Text()
		}
		return "killed by " + unix.SignalName(r.Exit.Signal) + ", not by us"
	case ShimEnded:
		return r.Shim.Text()
	case NotStarted:
		return "not started: " + r.StartError.Message
	case Lost:
		return "not observed: nobody was there to see it end"
	}
	return string(r.Cause)
}

func coreNote(core bool) string {
	if core {
		return ", core dumped"
	}
	return ""
}

func signalNote(s syscall.Signal) string {
	if s == 0 {
		return ""
	}
	return " (" + unix.SignalName(s) + ")"
}

// late tells of a stop that the process did not heed.
func (r *Record) late() string {
	what := "did not end the process"
	if m := r.Signals; m != nil && !m.Handles(r.Stop.Signal) {
		what = "ignored" // a container's first process is not ended by a signal that it does not handle
	}
	return fmt.Sprintf("%s %s, KILL after %g s", strings.TrimPrefix(unix.SignalName(r.Stop.Signal), "SIG"), what, r.Stop.Timeout.Seconds())
}

func (r *Record) oomNote() string {
	if len(r.OOMKills) == 0 {
		return ""
	}
	return ": " + r.OOMKills[len(r.OOMKills)-1].Text()
}

// Text tells of a kill in one line.
func (k OOMKill) Text() string {
	text := fmt.Sprintf("%s (pid %d) was killed with %s resident", k.Task, k.PID, units.BytesSize(float64(k.RSS)))
	switch k.Whose {
	case MachineLimit:
		return text + ", the machine had no memory left"
	case OuterLimit:
		return text + fmt.Sprintf(", the limit of %s of group %s was reached", units.BytesSize(float64(k.Limit)), k.Group)
	case InnerLimit:
		return text + fmt.Sprintf(", the limit of %s of the container's own group %s was reached", units.BytesSize(float64(k.Limit)), k.Group)
	case OwnLimit:
	}
	return text + fmt.Sprintf(", the container's limit of %s was reached", units.BytesSize(float64(k.Limit)))
}

// LargestText names the processes that held most in one line; empty: they are not known.
func (k OOMKill) LargestText() string {
	parts := make([]string, len(k.Largest))
	for i, t := range k.Largest {
		parts[i] = fmt.Sprintf("%s (pid %d) %s", t.Task, t.PID, units.BytesSize(float64(t.RSS)))
		if t.Swap > 0 {
			parts[i] += fmt.Sprintf(" and %s swapped out", units.BytesSize(float64(t.Swap)))
		}
	}
	return strings.Join(parts, ", ")
}

// crashes reports whether a signal is one that tells of an error in the program.
func crashes(s syscall.Signal) bool {
	switch s {
	case syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGILL, syscall.SIGFPE, syscall.SIGABRT, syscall.SIGTRAP, syscall.SIGSYS:
		return true
	}
	return false
}

// OOMKillIn takes what the kernel told of a kill, if the victim was in the
// container whose processes are in control group app or below it. Pid is the
// host's number of the process that the record is about.
func OOMKillIn(k kmsg.OOMKill, app string, pid int) (kill OOMKill, ok bool) {
	if !within(k.TaskGroup, app) {
		return OOMKill{}, false
	}
	kill = OOMKill{
		Time: k.Time, Task: k.Task, PID: k.PID, UID: k.UID, RSS: k.RSS(), Group: k.OOMGroup,
		Limit: k.Limit, Usage: k.Usage, Swap: k.Swap, Invoker: k.Invoker, First: k.PID == pid,
	}
	for _, t := range k.Largest {
		kill.Largest = append(kill.Largest, OOMTask{Task: t.Task, PID: t.PID, UID: t.UID, RSS: t.RSS, Swap: t.Swap})
	}
	switch {
	case k.OOMGroup == "":
		kill.Whose = MachineLimit
	case k.OOMGroup == app:
		kill.Whose = OwnLimit
	case within(k.OOMGroup, app):
		kill.Whose = InnerLimit
	default:
		kill.Whose = OuterLimit
	}
	return kill, true
}

// within reports whether a group is another or below it.
func within(group, other string) bool {
	return group == other || strings.HasPrefix(group, strings.TrimSuffix(other, "/")+"/")
}
