package blackbox

import (
	"syscall"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/linux/calltrace"
	"github.com/portholehq/porthole/internal/linux/syscalls"
)

// Words puts what the kernel tells into the words of the API. It is for one
// goroutine; the zero value is ready.
type Words struct {
	printer syscalls.Printer
}

// Event is an event in words. It keeps nothing of e.
func (w *Words) Event(e *calltrace.Event) *api.TraceEvent {
	out := &api.TraceEvent{
		Time: e.Time.UTC(), PID: e.PIDInside, TID: e.TIDInside, HostPID: e.PID, Name: e.Comm, TookNanoseconds: int64(e.Took),
	}
	switch e.Kind {
	case calltrace.Call:
		w.call(out, e)
	case calltrace.Exec:
		out.Kind, out.File, out.Command, out.Cut, out.Parent = api.TraceExec, e.File, e.Args, e.ArgsCut, e.Parent
	case calltrace.Exit:
		out.Kind = api.TraceExit
		code := e.Status.ExitStatus()
		if e.Status.Signaled() {
			const signalled = 128
			code = signalled + int(e.Status.Signal())
			out.Signal = syscalls.Signal(e.Status.Signal())
		}
		out.ExitCode = &code
	case calltrace.Signal:
		out.Kind, out.Signal, out.Ignored = api.TraceSignal, syscalls.Signal(e.Signal), e.Ignored
		out.Sender = &api.TraceSender{HostPID: e.Sender, Name: e.SenderName, Kernel: e.Kernel}
		if e.FromHere {
			out.Sender.PID = e.SenderIn
		}
	case calltrace.TCP:
		out.Kind, out.Local, out.Remote = api.TraceTCP, e.From.String(), e.To.String()
		out.OldState, out.NewState = e.Old.String(), e.New.String()
	}
	return out
}

func (w *Words) call(out *api.TraceEvent, e *calltrace.Event) {
	text := w.printer.Enter(e.Call, e.Memory)
	out.Kind, out.Call, out.Denied, out.Return = api.TraceCall, text.Name(), e.Denied, e.Ret
	out.Args, out.Result = text.Exit(e.Ret, e.Memory)
	switch {
	case e.Unfinished:
		out.Unfinished, out.Return, out.Result = true, 0, "?"
	case syscalls.Failed(e.Ret):
		out.Return, out.Errno = -1, syscalls.Errno(syscall.Errno(-e.Ret))
	}
}
