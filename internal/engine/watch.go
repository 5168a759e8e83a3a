package engine

import (
	"context"
	"path/filepath"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/record/watch"
)

// watchDir is where in the data root is when nobody watched.
const watchDir = "watch"

// watchMark is how often it is noted that there is a watch: a daemon that is killed has watched up to so much later than
// can be known.
const watchMark = time.Second

// Unwatched is a time of a run in which nobody watched what the processes did.
type Unwatched struct {
	Run int
	watch.Gap
}

// openWatch opens the book of the times in which nobody watched, where somebody can.
func (e *Engine) openWatch() (err error) {
	if e.deps.Witness != nil {
		e.gaps, err = watch.Open(filepath.Join(e.config.DataRoot, watchDir))
	}
	return err
}

// keepWatch notes that there is a watch, from when on, and until when.
func (e *Engine) keepWatch() {
	if e.deps.Witness == nil {
		return
	}
	began, err := e.deps.Witness.Began(e.life)
	if err != nil || began.IsZero() {
		return // whoever asks what processes do is told why nobody knows
	}
	e.noteWatch(e.gaps.Begun(began))
	ticker := time.NewTicker(watchMark)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			// The disk has its rest where nothing runs.
			if e.anyRuns() {
				e.markWatch()
			}
		case <-e.life.Done():
			return
		}
	}
}

// markWatch notes that all up to now is written down.
func (e *Engine) markWatch() {
	ctx, cancel := context.WithTimeout(e.life, drainWait)
	defer cancel()
	now := time.Now()
	e.drainActivity(ctx)
	if ctx.Err() == nil {
		e.noteWatch(e.gaps.Alive(now))
	}
}

func (e *Engine) noteWatch(err error) {
	if err != nil {
		e.log.Warn("when processes of containers were not watched may not be known later", "err", err)
	}
}

// watchBegins notes that there is a watch when a container starts after a time in which none ran.
func (e *Engine) watchBegins() {
	if now := time.Now(); now.Sub(e.gaps.Marked()) > 2*watchMark {
		e.noteWatch(e.gaps.Alive(now))
	}
}

func (e *Engine) anyRuns() bool {
	for _, c := range e.registry.all() {
		if s := c.view().status(); s == container.StateRunning || s == container.StatePaused {
			return true
		}
	}
	return false
}

// ContainerUnwatched returns the times of a container's runs in which nobody watched, the oldest first.
func (e *Engine) ContainerUnwatched(ref string) (list []Unwatched, err error) {
	v, err := e.viewOf(ref)
	if err != nil {
		return nil, err
	}
	for _, r := range v.Life.Runs {
		if r.StartedAt.IsZero() {
			continue
		}
		for _, g := range e.gaps.Between(r.StartedAt, r.FinishedAt) {
			list = append(list, Unwatched{r.Number, g})
		}
	}
	return list, nil
}
