package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/daemon"
	"github.com/portholehq/porthole/internal/server"
	"github.com/portholehq/porthole/internal/undo"
)

// process is a running daemon.
type process struct {
	config atomic.Pointer[daemon.Config]
	level  *slog.LevelVar
	log    *slog.Logger
	parts  *parts
	server *server.Server
	// listeners are set before the server answers, and not changed.
	listeners []net.Listener
}

// What may change while the daemon runs is asked for each time.
func (p *process) debug() bool      { return p.config.Load().Debug }
func (p *process) labels() []string { return p.config.Load().Labels }

// run is the daemon's life, from the settings to the end. Containers are left
// running.
func run(config *daemon.Config, started time.Time) (err error) {
	level := new(slog.LevelVar)
	level.Set(config.Level())
	p := &process{level: level, log: daemon.NewLogger(os.Stderr, config.LogFormat, level)}
	p.config.Store(config)
	daemon.RedirectLogrus(p.log)

	// Modes that this program gives are what they say, whoever starts it.
	unix.Umask(0o022)
	// A closed pipe at the end of the log is an error to write, not the end.
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1)
	defer signal.Stop(signals)

	daemon.TellFileLimit(p.log)
	var steps undo.Stack
	defer func() { err = errors.Join(err, steps.Run()) }()

	hold, err := daemon.Claim(config)
	if err != nil {
		return err
	}
	steps.Add(hold.Release)

	ctx := context.Background()
	if p.parts, err = open(ctx, p, &steps); err != nil {
		return err
	}
	if p.server, err = p.newServer(started); err != nil {
		return err
	}
	listeners, err := daemon.Listen(ctx, config, p.log)
	if err != nil {
		return err
	}
	p.listeners = listeners
	if err := config.CloseExecRoot(listeners); err != nil {
		p.log.Warn("who may pass through the exec root is as before", "dir", config.ExecRoot, "err", err)
	}
	return p.serve(listeners, signals, started)
}

func (p *process) newServer(started time.Time) (*server.Server, error) {
	return server.New(server.Options{
		Backend:   p.parts.engine,
		Builder:   p.parts.builder,
		Logger:    p.log,
		Version:   version,
		Debug:     p.debug,
		StartedAt: started,
		Inspect:   p.parts.inspect,
		// The listeners are there before the first request.
		Protection: func() []api.SecurityCheck { return p.config.Load().Protection(p.listeners) },
	})
}

// serve answers on the listeners until a signal or a broken listener ends it.
func (p *process) serve(listeners []net.Listener, signals <-chan os.Signal, started time.Time) error {
	var serving errgroup.Group
	broken := make(chan error, len(listeners))
	for _, l := range listeners {
		serving.Go(func() error {
			err := p.server.Serve(l)
			broken <- err
			return err
		})
		p.log.Info("API listen", "on", l.Addr().Network()+"://"+l.Addr().String())
	}
	p.log.Info("daemon has completed initialization", "version", version, "commit", commit, "after", time.Since(started))
	p.notify(systemd.SdNotifyReady)

	err := p.loop(signals, broken)
	p.notify(systemd.SdNotifyStopping)
	p.log.Info("daemon stops, containers go on")
	ctx, cancel := context.WithTimeout(context.Background(), p.config.Load().StopGrace())
	defer cancel()
	if shutdown := p.server.Shutdown(ctx); shutdown != nil && !errors.Is(shutdown, context.DeadlineExceeded) {
		err = errors.Join(err, shutdown)
	}
	return errors.Join(err, serving.Wait())
}

// loop handles signals until one of them, or a broken listener, ends the
// daemon.
func (p *process) loop(signals <-chan os.Signal, broken <-chan error) error {
	for {
		select {
		case err := <-broken:
			return err
		case sig := <-signals:
			switch sig {
			case syscall.SIGHUP:
				p.reload()
			case syscall.SIGUSR1:
				p.dump()
			default:
				p.log.Info("processing signal", "signal", sig.String())
				go forceAfter(signals, 2, p.log)
				return nil
			}
		}
	}
}

// forceAfter ends the process at once when so many more signals ask for it:
// somebody is out of patience.
func forceAfter(signals <-chan os.Signal, more int, log *slog.Logger) {
	for sig := range signals {
		n, ok := sig.(syscall.Signal)
		if !ok || (n != syscall.SIGINT && n != syscall.SIGTERM) {
			continue
		}
		if more--; more > 0 {
			log.Info("already stopping", "signal", sig.String(), "more_to_force", more)
			continue
		}
		log.Warn("stop was forced")
		os.Exit(128 + int(n))
	}
}

// reload reads the settings again. A file that is wrong changes nothing.
func (p *process) reload() {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) == nil {
		p.notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", systemd.SdNotifyReloading, now.Nano()/1000))
	}
	defer p.notify(systemd.SdNotifyReady)

	next, _, err := settings(os.Args[1:])
	if err != nil {
		p.log.Error("settings were not reloaded", "err", err)
		return
	}
	merged, ignored := p.config.Load().Reload(next)
	if err := p.parts.registries.Set(registryOptions(merged)); err != nil {
		p.log.Error("settings were not reloaded", "err", err)
		return
	}
	p.config.Store(merged)
	p.level.Set(merged.Level())
	if len(ignored) > 0 {
		p.log.Warn("settings take effect with the next start only", "settings", ignored)
	}
	p.parts.reloaded(context.Background(), merged.Attributes())
	p.log.Info("settings reloaded", "debug", merged.Debug, "labels", merged.Labels)
}

// dump writes all goroutines' stacks to a file.
func (p *process) dump() {
	path, err := daemon.DumpStacks(p.config.Load().ExecRoot)
	if err != nil {
		p.log.Error("goroutine stacks were not dumped", "err", err)
		return
	}
	p.log.Info("goroutine stacks dumped", "path", path)
}

// notify tells systemd, if it started us.
func (p *process) notify(state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		p.log.Warn("systemd was not notified", "state", state, "err", err)
	}
}
