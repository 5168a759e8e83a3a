package build

import (
	"context"
	"errors"
	"strings"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"

	"github.com/portholehq/porthole/api"
)

// record begins the record of a build that is debugged. The caller ends it by end.
// It has the instructions as they are in the end, with what became of each; what
// BuildKit would tell of vertices is not in it, since each instruction is a job of
// its own and may be done several times.
func (s *debugSession) record(ctx context.Context) (end func(ctx context.Context, image string, err error), err error) {
	b := s.b
	b.trim()
	s.recording, err = b.recordings.begin(ctx, b.history, b.log, doorDebug, &controlapi.SolveRequest{
		Ref: b.newID(s.o.ID), FrontendAttrs: s.attrs,
		Exporters: []*controlapi.Exporter{{Type: "moby", Attrs: map[string]string{"name": strings.Join(s.o.Tags, ",")}}},
	})
	if err != nil {
		return nil, err
	}
	s.recording.relist(s.attrs["filename"], s.text, s.list, 0, func(*api.BuildStep) {})
	return func(ctx context.Context, image string, err error) {
		s.recording.end(ctx, &controlapi.SolveResponse{ExporterResponse: map[string]string{"containerimage.config.digest": image}}, err)
		b.recordings.remove(s.recording)
	}, nil
}

// note changes what is recorded of the next instruction.
func (s *debugSession) note(change func(*api.BuildStep)) {
	s.mu.Lock()
	text, list := s.text, s.list
	s.mu.Unlock()
	s.recording.relist(s.attrs["filename"], text, list, s.next, change)
}

// begun notes that the next instruction is being done, if not for the first time.
func (s *debugSession) begun() {
	s.note(func(b *api.BuildStep) {
		b.State, b.StartedAt, b.EndedAt = api.BuildRunning, time.Now().UTC(), time.Time{}
		b.ID, b.Process, b.Error, b.Ended, b.ExitCode = "", "", "", false, 0
	})
}

// over notes how the next instruction has ended.
func (s *debugSession) over(err error) {
	s.classic.mu.Lock()
	did, ran := s.classic.did, s.classic.ran
	s.classic.mu.Unlock()
	s.note(func(b *api.BuildStep) {
		b.EndedAt, b.ID, b.Process = time.Now().UTC(), ran, ran
		switch {
		case err != nil:
			b.State, b.Error = api.BuildFailed, describeError(err)
			var exit *gatewayapi.ExitError
			if errors.As(err, &exit) && exit.ExitCode != gatewayapi.UnknownExitStatus {
				b.Ended, b.ExitCode = true, int(exit.ExitCode)
			}
		case did || ran != "":
			b.State, b.Ended = api.BuildDone, ran != ""
		default:
			b.State = api.StepCached
			if strings.HasPrefix(strings.ToUpper(b.Instruction), "FROM ") {
				b.State = api.BuildDone
			}
		}
	})
}

// relist makes the steps of the record those of a list that may have been edited.
// What became of those up to the one that is next stays, and that one is changed.
func (r *recording) relist(file, text string, list []instruction, next int, change func(*api.BuildStep)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.build.Steps
	r.build.Steps, r.build.Text = nil, text
	for i, in := range list {
		if !in.works && !in.from {
			continue
		}
		s := api.BuildStep{State: api.StepWaiting}
		n := len(r.build.Steps)
		if i <= next && n < len(before) {
			s = before[n]
		}
		s.Number, s.Name, s.File, s.First, s.Last, s.Instruction = n+1, in.head, file, in.start, in.end, in.head
		s.Runs = in.command != ""
		if i == next {
			change(&s)
		}
		r.build.Steps = append(r.build.Steps, s)
	}
	r.change()
}
