package engine

import (
	"context"
	"errors"
	"io/fs"

	"github.com/moby/moby/api/types/container"

	"github.com/portholehq/porthole/internal/crilog"
)

// ContainerLogs calls fn for each log line selected. It returns when all were read or, following, when the container
// has ended or is removed, or with the cause of ctx.
func (e *Engine) ContainerLogs(ctx context.Context, ref string, o LogsOptions, fn func(LogEntry) error) error {
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	if !o.Stdout && !o.Stderr {
		return invalid("Bad parameters: you must choose at least one stream")
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
		details = logDetails(v)
	}
	ended, stop := e.logEnd(c, v)
	defer stop()
	read := crilog.ReadOptions{Stdout: o.Stdout, Stderr: o.Stderr, Since: o.Since, Until: o.Until, Tail: o.Tail, Follow: o.Follow && v.live(), Unpack: unpackLog}
	err := crilog.Read(ctx, e.logDir(c.id), read, ended, func(entry crilog.Entry) error {
		return fn(LogEntry{Time: entry.Time, Stream: StreamKind(entry.Stream), Line: entry.Line, Continued: entry.Continued, Dropped: entry.Dropped, Details: details})
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it never ran
	}
	return err
}

// logEnd returns a channel that is closed once the run that v shows writes no more.
func (e *Engine) logEnd(c *ctr, v *view) (ended <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(e.life)
	done := make(chan struct{})
	if !v.live() {
		close(done)
		return done, cancel
	}
	e.goWork(func() {
		// Also when the daemon ends: a client that follows should not hold it up.
		defer close(done)
		e.await(ctx, c, v, container.WaitConditionNotRunning)
	})
	return done, cancel
}
