package death

import (
	"strings"
	"syscall"

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
	case !r.Exit.Observed:
		return Lost
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
