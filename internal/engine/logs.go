package engine

import (
	"context"
	"errors"
	"io/fs"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/crilog"
)

// ContainerLogs calls fn for each log line selected. It returns when all were read or, following, when the container
// has ended or is removed, or with the cause of ctx.
func (e *Engine) ContainerLogs(ctx context.Context, ref string, o LogsOptions, fn func(LogEntry) error) error {
	if !o.Stdout && !o.Stderr {
		return invalid("Bad parameters: you must choose at least one stream")
	}
	c, err := e.registry.find(ref)
	if errdefs.IsNotFound(err) {
		return e.readStepLog(ctx, ref, o, fn)
	}
	if err != nil {
		return err
	}
	v := c.view()
	if v.status() == container.StateDead || v.status() == container.StateRemoving {
		return conflict("can not get logs from container which is dead or marked for removal")
	}
	if v.HostConfig.LogConfig.Type == "none" {
		return internal("configured logging driver does not support reading")
	}
	return e.logs(ctx, c, o, fn)
}

func (e *Engine) logs(ctx context.Context, c *ctr, o LogsOptions, fn func(LogEntry) error) error {
	v := c.view()
	details := ""
	if o.Details {
		var err error
		if details, err = logDetails(v); err != nil {
			return err
		}
	}
	follow := o.Follow && (v.live() || o.Always)
	ended, stop := e.logEnd(c, v, follow, o.Always)
	defer stop()
	read, give := readOptions(o, follow), logEntries(details, fn)
	if follow {
		var leave func()
		read.Live, leave = e.followLive(c)
		defer leave()
	}
	for {
		next := c.view().next
		err := crilog.Read(ctx, e.logDir(c.id), read, ended, give)
		switch {
		case errors.Is(err, crilog.ErrNoRun), o.Run > 0 && errors.Is(err, fs.ErrNotExist):
			return notFound("container %s has no run %d in its log", c.id, o.Run)
		case errors.Is(err, fs.ErrNotExist) && follow && o.Always:
			select { // it never ran yet
			case <-next:
				continue
			case <-ended:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			err = nil
		case errors.Is(err, fs.ErrNotExist):
			err = nil // it never ran
		}
		if err == nil && follow && e.life.Err() != nil {
			return ErrShutdown
		}
		return err
	}
}

// readOptions brings options into the log's form.
func readOptions(o LogsOptions, follow bool) crilog.ReadOptions {
	return crilog.ReadOptions{
		Stdout: o.Stdout, Stderr: o.Stderr, Since: o.Since, Until: o.Until, Tail: o.Tail, After: o.After, Run: o.Run, Match: o.Match,
		Follow: follow, Whole: o.Whole, Positions: o.Positions, Unpack: unpackLog,
	}
}

// logEntries brings the log's lines into the engine's form.
func logEntries(details string, fn func(LogEntry) error) func(crilog.Entry) error {
	return func(entry crilog.Entry) error {
		return fn(LogEntry{
			Time: entry.Time, Stream: StreamKind(entry.Stream), Line: entry.Line, Continued: entry.Continued,
			Dropped: entry.Dropped, Damaged: entry.Damaged, Parts: entry.Parts, Number: entry.Number, Run: entry.Run, Details: details,
		})
	}
}

// ErrShutdown tells that following has ended because the daemon does: the log may go on.
var ErrShutdown = errShutdown

// logEnd returns a channel that is closed once nothing more is to be followed: the run that v shows writes no more, or
// always, the container is removed. It is also closed when the daemon ends: a client that follows should not hold it up.
func (e *Engine) logEnd(c *ctr, v *view, follow, always bool) (ended <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(e.life)
	done := make(chan struct{})
	if !follow {
		close(done)
		return done, cancel
	}
	e.goWork(func() {
		defer close(done)
		if !always {
			e.await(ctx, c, v, container.WaitConditionNotRunning)
			return
		}
		select {
		case <-c.gone:
		case <-ctx.Done():
		}
	})
	return done, cancel
}
