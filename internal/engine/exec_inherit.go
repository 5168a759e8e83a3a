package engine

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/portholehq/porthole/internal/event"
)

// inheritedExec is an exec of an earlier daemon.
type inheritedExec struct {
	id   string
	args []string
	note []byte  // an execNote; nil: not known
	proc Process // nil: it has ended
	exit Exit
}

// execNote is what the shim keeps of an exec for the next daemon.
type execNote struct {
	Request container.ExecCreateRequest `json:"request"` // without the environment, which nobody asks for
	Started time.Time                   `json:"started"`
	Client  *event.Origin               `json:"client,omitempty"`
	Probe   bool                        `json:"probe,omitempty"` // of a health check
	Debug   bool                        `json:"debug,omitempty"` // a session of debug
	// DieWithClient is for the next daemon as for this one: the client lost its stream with the daemon that had it.
	DieWithClient bool `json:"die_with_client,omitempty"`
}

func (n execNote) encode() []byte {
	n.Request.Env, n.Request.ConsoleSize = nil, nil
	b, err := json.Marshal(n)
	if err != nil {
		return nil // the exec is worth more than what the next daemon knows of it
	}
	return b
}

// inheritExecs makes the execs of earlier daemons known: those that run are listed, can be inspected and are waited for;
// of those that ended meanwhile the exit code can be asked for. Their streams are gone: they ended with the daemon that
// had them. Health checks are nobody's any more, and end by themselves.
func (e *Engine) inheritExecs(c *ctr, task Task) {
	for _, in := range task.Inherited() {
		var note execNote
		if json.Unmarshal(in.note, &note) != nil {
			note = execNote{}
		}
		if note.Probe {
			continue
		}
		if len(note.Request.Cmd) == 0 {
			note.Request.Cmd = in.args
		}
		if len(note.Request.Cmd) == 0 {
			note.Request.Cmd = []string{""} // not known
		}
		leave := func() {}
		if note.Debug {
			leave = e.inheritTools(c.id, task)
		}
		x := &execution{id: in.id, c: c, req: note.Request, started: true, startedAt: note.Started, client: note.Client, dieWithClient: note.DieWithClient, proc: in.proc}
		if in.proc == nil {
			x.finish(in.exit.Code)
			e.execs.add(x)
			e.goWork(leave)
			continue
		}
		e.execs.add(x)
		c.update(func(v *view) { v.execs = append(slices.Clone(v.execs), x.id) })
		e.clientGone(x)
		e.goWork(func() {
			select {
			case <-in.proc.Done():
				leave()
				e.noteExecEnd(behalf(note.Client.Follows()), x, in.proc.Exit().Code)
				if note.Debug {
					return
				}
				e.goWork(func() { e.execEnded(behalf(note.Client), x, in.proc, note.Started) })
			case <-e.life.Done():
			}
		})
	}
}

// noteExecEnd notes the end of an exec and tells of it.
func (e *Engine) noteExecEnd(ctx context.Context, x *execution, code int) {
	x.finish(code)
	x.c.update(func(v *view) {
		v.execs = slices.DeleteFunc(slices.Clone(v.execs), func(id string) bool { return id == x.id })
	})
	e.emitAbout(ctx, x, events.ActionExecDie, map[string]string{"execID": x.id, "exitCode": strconv.Itoa(code)})
}
