package engine

import (
	"context"
	"time"

	"github.com/moby/moby/api/types/container"
)

// once is what a single run of a container is to have in place of the container's own configuration. The container is
// made ready for it, then clients attach, for whom a terminal makes a difference, then it is started. Any other start
// in between is as ever, and what was made ready is forgotten.
type once struct {
	config  *container.Config
	token   string
	until   time.Time
	running bool
}

// onceTime is how long a container stays ready.
const onceTime = 30 * time.Second

// OnceOptions say what is different in a single run.
type OnceOptions struct {
	Cmd   []string // in place of entrypoint and command; empty: the container's own
	TTY   bool     // a terminal
	Stdin bool     // keep standard input open
}

// ContainerOnce makes a container that does not run ready to be started once with a command of its own. The token is for
// ContainerStartOnce.
func (e *Engine) ContainerOnce(ctx context.Context, ref string, o OnceOptions) (token string, err error) {
	c, done, err := e.operate(ctx, "start once", ref)
	if err != nil {
		return "", err
	}
	defer done()
	release, err := c.turn.take(ctx, "start once")
	if err != nil {
		return "", err
	}
	defer release()
	v := c.view()
	if v.live() {
		return "", conflict("container %s is %s: it can be started once when it has ended", v.Name, v.status())
	}
	if err := startable(c, v); err != nil {
		return "", err
	}
	config := *v.Config
	if len(o.Cmd) > 0 {
		config.Entrypoint, config.Cmd = nil, o.Cmd
	}
	config.Tty, config.OpenStdin, config.StdinOnce = o.TTY, o.Stdin, o.Stdin
	config.Healthcheck = nil // it is about the container's own program
	x := &once{config: &config, token: randomID(), until: time.Now().Add(onceTime)}
	c.update(func(v *view) { v.once = x })
	return x.token, nil
}

// ContainerStartOnce starts a container as ContainerOnce has made it ready. Its configuration stays as it is, and its
// restart policy is off until the next start.
func (e *Engine) ContainerStartOnce(ctx context.Context, ref, token string) error {
	return e.startByHand(ctx, "start once", ref, func(v *view) (*once, error) {
		if v.once == nil || v.once.token != token || time.Now().After(v.once.until) {
			return nil, conflict("container %s is not ready to be started once: it was started meanwhile, or that took too long", v.Name)
		}
		return v.once, nil
	})
}

// runOnce makes the next run what x says; nil: as ever. The restart policy is off until another start.
func (v *view) runOnce(x *once) {
	if x == nil {
		return
	}
	run := *x
	run.running = true
	v.once, v.noRestart, v.Life.Once = &run, true, run.config
}

// resumeOnce is for a run that an earlier daemon has started.
func (v *view) resumeOnce() {
	if v.Life.Once != nil {
		v.runOnce(&once{config: v.Life.Once})
	}
}

// config is what the present run has, or the next one that is attached to already.
func (v *view) config() *container.Config {
	if v.once != nil && (v.once.running || time.Now().Before(v.once.until)) {
		return v.once.config
	}
	return v.Config
}

// asRun is the view with the configuration of the run that is being started.
func (v *view) asRun() *view {
	if v.once == nil || !v.once.running {
		return v
	}
	run, rec := *v, *v.Container
	rec.Config = v.once.config
	rec.Path, rec.Args = command(rec.Config)
	run.Container = &rec
	return &run
}
