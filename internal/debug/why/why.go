// Package why names the cause of a container's trouble: why it ended, why it does
// not start, why it does not answer.
//
// [Explain] collects evidence (the death record, the runs, the last lines, the
// samples, the health log, and of a container that lives its processes, sockets
// and files) and applies the rules of this package to it. Each rule looks for one
// cause and answers with a verdict: what, how sure, from what it is known, and
// what to try next. Rules that know more come first, so that "may not write
// /etc/app.conf" stands before "ended by itself with code 1".
//
// Nothing is guessed aloud: a rule without evidence is silent, and what could not
// be found out is listed as such. Nothing is changed, and no read waits for a
// container that is stuck.
package why

import (
	"context"
	"time"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/network/keeper"
	"github.com/portholehq/porthole/internal/record/death"
)

// Source is where evidence comes from: the engine.
type Source interface {
	Subject(ref string) (engine.Subject, error)
	Deaths(o engine.DeathsOptions) ([]*death.Record, error)
	LastLines(ref string) ([]death.Line, error)
	ContainerSamples(ctx context.Context, ref string, o engine.SamplesOptions, fn func(*api.Sample) error) error
	ContainerQueries(ctx context.Context, ref string) (keeper.Queries, error)
	LookIntoFiles(ctx context.Context, ref string, fn func(engine.OpenFiles)) error
	Events(ctx context.Context, o engine.EventsOptions, fn engine.EventFunc) error
	ContainerUnwatched(ref string) ([]engine.Unwatched, error)
	Operations(ref string) ([]engine.Operation, error)
	VolumeUsers(volume, but string) []string
}

var _ Source = (*engine.Engine)(nil)

// Options select what is explained.
type Options struct {
	Container string // name or id, also of one that was removed
	Run       int    // 0: the present or last one
	History   bool
}

// rule looks for one kind of cause.
type rule func(*evidence) []api.Verdict

// deadRules are for a run that has ended; the first that finds something is the
// answer. How it ended is the last: it adds nothing to why.
var deadRules = []rule{notStarted, refusedCommand, deniedCall, byWords, ending}

// liveRules are for one that goes on.
var liveRules = []rule{
	paused, frozen, oomSurvivor, crashLoop, stuck, descriptors, processes, zombies, throttled, busy, unhealthy, listeners, liveDenied, liveWords, mounts,
}

// Explain says why. A container of which nothing is known gives errdefs.ErrNotFound.
func Explain(ctx context.Context, src Source, o Options) (*api.Why, error) {
	e, err := collect(ctx, src, o)
	if err != nil {
		return nil, err
	}
	out := &api.Why{ContainerID: e.id, Name: e.name, Image: e.image, Status: e.status, Run: e.run, Verdicts: []api.Verdict{}}
	switch {
	case e.lives():
		for _, r := range liveRules {
			out.Verdicts = append(out.Verdicts, r(e)...)
		}
		if len(out.Verdicts) == 0 {
			out.Verdicts = waiting(e)
		}
	case e.death == nil:
		out.Verdicts = neverRan(e)
	default:
		out.Verdicts = append(out.Verdicts, crashLoop(e)...)
		for _, r := range deadRules {
			if found := r(e); len(found) > 0 {
				out.Verdicts = append(out.Verdicts, found...)
				break
			}
		}
	}
	out.Summary, out.Notes, out.Unknown = e.summary(), e.notes(), e.unknown
	out.LastWords = e.lastWords()
	if o.History {
		out.History = e.history()
	}
	return out, nil
}

func verdict(cause, confidence, text string, evidence []string, next ...string) []api.Verdict {
	return []api.Verdict{{Cause: cause, Text: text, Confidence: confidence, Evidence: evidence, Next: next}}
}

// settle is how far two looks at processes lie apart: what shows in both lasts.
const settle = 150 * time.Millisecond
