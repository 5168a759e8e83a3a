package server

import (
	"net/http"
	"strconv"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/record/activity"
	"github.com/portholehq/porthole/internal/record/death"
)

func (s *Server) deaths(r *request) error {
	o := engine.DeathsOptions{Container: r.name, Execs: r.flag("execs")}
	var err error
	if o.Run, _, err = r.number("run"); err != nil {
		return err
	}
	if o.Limit, _, err = r.number("limit"); err != nil {
		return err
	}
	if o.Run < 0 || o.Limit < 0 {
		return invalid("run and limit must not be negative")
	}
	if o.Since, err = r.timestamp("since"); err != nil {
		return invalid("invalid value for 'since': %w", err)
	}
	list, err := s.backend.Deaths(o)
	if err != nil {
		return err
	}
	out := make([]api.Death, len(list))
	for i, d := range list {
		out[i] = deathForm(d)
	}
	return r.json(http.StatusOK, out)
}

// deathForm is the wire's form of a record.
func deathForm(d *death.Record) api.Death {
	out := api.Death{
		ContainerID: d.Container, Name: d.Name, Image: d.Image, ImageID: d.ImageID, Run: d.Run, ExecID: d.Exec,
		Command: d.Command, Step: d.Step, Finding: (*api.FileFinding)(d.Finding), TTY: d.TTY, AutoRemove: d.Removed, CreatedAt: d.Created, StartedAt: d.Started, FinishedAt: d.Finished, Ran: d.Ran,
		Cause: string(d.Cause), Text: d.Text(), Observed: d.Exit.Observed, ExitCode: d.Exit.Code, WaitStatus: d.Exit.WaitStatus,
		Signal: signalName(d.Exit.Signal), Core: d.Exit.Core, SignalFrom: string(d.SignalFrom()), StartedBy: actorOrNil(d.StartedBy),
		OOMCount: d.OOMCount, Restarts: d.Restarts, WillRestart: d.WillRestart, DaemonAbsent: d.DaemonAbsent,
		Limits: api.DeathLimits(d.Limits),
	}
	if e := d.StartError; e != nil {
		out.StartError = &api.DeathStartError{Step: e.Step, Path: e.Path, Errno: int(e.Errno), Message: e.Message, Finding: (*api.FileFinding)(e.Finding)}
	}
	if stop := d.Stop; stop != nil {
		out.Stop = &api.DeathStop{
			Action: stop.Action, Signal: signalName(stop.Signal), At: stop.At, TimeoutSeconds: stop.Timeout.Seconds(),
			TimedOut: stop.TimedOut, By: actorOrNil(stop.By),
		}
	}
	if c := d.Core; c != nil {
		out.CorePath, out.CoreID, out.CoreBytes, out.CoreHandler = c.Path, c.ID, c.Bytes, c.Handler
	}
	out.OOMKills = oomKillForms(d.OOMKills)
	for _, x := range d.Denials {
		out.Denials = append(out.Denials, api.Denial(x))
	}
	if l := d.Learned; l != nil {
		out.Learned = &api.Learned{Count: l.Count, Paths: l.Paths, AtRoot: l.AtRoot, Unknown: l.Unknown}
		for _, dir := range l.Dirs {
			out.Learned.Dirs = append(out.Learned.Dirs, api.LearnedDir(dir))
		}
	}
	for _, g := range d.Unwatched {
		out.Unwatched = append(out.Unwatched, api.TimeSpan(g))
	}
	for i := range d.Activity {
		out.Activity = append(out.Activity, deathActivity(&d.Activity[i]))
	}
	out.Sender = deathSender(d.Sender)
	if s := d.Shim; s != nil {
		out.Shim = &api.DeathShim{PID: s.PID, OOMKilled: s.OOM, Sender: deathSender(s.Sender)}
		if s.Signal != 0 {
			out.Shim.Signal = signalName(s.Signal)
		}
	}
	if m := d.Signals; m != nil {
		out.Signals = &api.SignalMasks{Blocked: signalNames(m.Blocked), Ignored: signalNames(m.Ignored), Caught: signalNames(m.Caught)}
	}
	if h := d.Health; h != nil {
		out.Health = &api.DeathHealth{Status: h.Status, FailingStreak: h.FailingStreak, LastOutput: h.LastOutput}
	}
	deathPast(&out, d)
	return out
}

func deathActivity(x *activity.Entry) api.DeathActivity {
	out := api.DeathActivity{Time: x.Time, Kind: string(x.Kind), PID: x.PID, Process: x.Process(), Signal: signalName(x.Signal), Remote: x.Remote, Text: x.Text()}
	if x.Kind == activity.Exit {
		code := x.Code
		if x.Signal != 0 {
			const signalled = 128
			code = signalled + int(x.Signal)
		}
		out.ExitCode = &code
	}
	return out
}

func oomKillForms(kills []death.OOMKill) []api.OOMKill {
	var out []api.OOMKill
	for _, k := range kills {
		form := api.OOMKill{
			Time: k.Time, Task: k.Task, PID: k.PID, UID: k.UID, RSS: k.RSS, Whose: string(k.Whose), Group: k.Group,
			Limit: k.Limit, Usage: k.Usage, Swap: k.Swap, Invoker: k.Invoker, First: k.First, LargestAfter: k.LargestAfter,
		}
		for _, t := range k.Largest {
			form.Largest = append(form.Largest, api.OOMTask(t))
		}
		out = append(out, form)
	}
	return out
}

// deathPast fills in what it did before.
func deathPast(out *api.Death, d *death.Record) {
	for _, l := range d.LastLines {
		line := api.DeathLine{Time: l.Time, Stream: l.Stream}
		if utf8.Valid(l.Text) {
			line.Text = string(l.Text)
		} else {
			line.Bytes = l.Text
		}
		out.LastLines = append(out.LastLines, line)
	}
	out.LastSamples = engine.SampleForms(d.LastSamples)
	for _, step := range d.Plan {
		out.Plan = append(out.Plan, api.Step{Name: step.Name, Microseconds: int64(step.Took / time.Microsecond)})
	}
}

// signalName is as in signal(7); empty for no signal.
func signalName(s syscall.Signal) string {
	const rtmin = 34 // as libc counts them
	switch name := unix.SignalName(s); {
	case s == 0 || name != "":
		return name
	case s == rtmin:
		return "SIGRTMIN"
	case s > rtmin:
		return "SIGRTMIN+" + strconv.Itoa(int(s)-rtmin)
	}
	return "SIG" + strconv.Itoa(int(s))
}

// signalNames are those of a mask, bit n-1 for signal n.
func signalNames(mask uint64) []string {
	var out []string
	for n := range 64 {
		if mask&(1<<n) != 0 {
			out = append(out, signalName(syscall.Signal(n+1)))
		}
	}
	return out
}

func deathSender(s *death.Sender) *api.DeathSender {
	if s == nil {
		return nil
	}
	return &api.DeathSender{
		PID: s.PID, PIDInside: s.Inside, UID: s.UID, Command: s.Command, ContainerID: s.Container, ContainerName: s.ContainerName,
		Itself: s.Itself, Parent: s.Parent, ParentName: s.ParentName, Signal: signalName(s.Signal), At: s.At, Source: s.Source,
	}
}
