package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/coredump"
	"github.com/portholehq/porthole/internal/record/core"
)

// coreCapture is how the cores of crashed processes come to the engine. It is not changed once New has returned.
type coreCapture struct {
	capture *coredump.Capture // nil: they do not
	err     error             // why not; nil: nobody has asked for it
}

// openCores begins to take cores, or puts back what a daemon that was killed has left.
func (e *Engine) openCores(ctx context.Context) {
	if e.deps.Cores == nil {
		return
	}
	socket := filepath.Join(e.config.ExecRoot, coredump.SocketName)
	if !e.config.CoreDumps {
		restored, err := coredump.Restore(socket)
		switch {
		case err != nil:
			e.log.Warn("core_pattern was not put back", "err", err)
		case restored:
			e.log.Info("core_pattern was put back, which a daemon had left")
		}
		return
	}
	c := &e.cores
	c.capture, c.err = coredump.Open(ctx, coredump.Options{Socket: socket, Take: e.takeCore, Logger: e.log})
	if c.err != nil {
		e.log.Warn("cores are not kept", "err", c.err)
		return
	}
	e.log.Info("cores of containers are kept", "socket", socket)
}

func (e *Engine) closeCores() {
	if e.cores.capture == nil {
		return
	}
	if err := e.cores.capture.Close(); err != nil {
		e.log.Error("core_pattern was not put back", "err", err)
	}
}

// coreStatus tells whether cores are kept, and why not if somebody has asked for it.
func (e *Engine) coreStatus() (bool, error) {
	if e.cores.capture == nil {
		return false, e.cores.err
	}
	if pattern, lost := e.cores.capture.Lost(); lost {
		return false, &coredump.TakenError{Pattern: pattern}
	}
	return true, nil
}

// takeCore has the core of a process kept if that is a container's own; nil: it is not.
func (e *Engine) takeCore(_ context.Context, p *coredump.Process) func(io.Reader) error {
	id := inOwnGroup(p.Cgroups, e.config.CgroupParent)
	if id == "" {
		return nil
	}
	c, err := e.registry.find(id)
	if err != nil || c.id != id {
		return nil
	}
	v := c.view()
	rec := &core.Record{
		Container: v.ID, Name: v.Name, Image: v.Config.Image, Run: v.Life.Run, Time: time.Now().UTC(),
		PID: p.PID, Inside: p.Inside, First: p.PID == v.pid() || v.pid() == 0 && p.Inside == 1, Process: p.Name, UID: p.UID,
	}
	if v.pid() == 0 { // it has crashed before its start was noted
		rec.Run++
	}
	return func(elf io.Reader) error {
		limit := int64(min(p.Limit, uint64(e.deps.Cores.MaxCore())))
		if err := e.deps.Cores.Keep(rec, elf, limit); err != nil {
			return err
		}
		e.emit(behalf(v.startedBy().Follows()), v, actionCore, map[string]string{
			"core": rec.ID, "process": rec.Process, "pid": strconv.Itoa(rec.Inside), "signal": unix.SignalName(rec.Signal),
			"bytes": strconv.FormatInt(rec.Bytes, 10),
		})
		return nil
	}
}

// actionCore is the event of a core that was kept.
const actionCore events.Action = "core"

// inOwnGroup finds, in a process's /proc/PID/cgroup, the container that it is a process of, and not only a helper for; empty:
// none.
func inOwnGroup(groups, parent string) string {
	for line := range strings.Lines(groups) {
		const fields = 3 // number, controllers, path
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", fields)
		if len(f) < fields {
			continue
		}
		rest, ok := strings.CutPrefix(f[2], parent+"/")
		if !ok {
			continue
		}
		id, sub, _ := strings.Cut(rest, "/")
		if first, _, _ := strings.Cut(sub, "/"); wholeID.MatchString(id) && first == string(cgroup.App) {
			return id
		}
	}
	return ""
}

// keptCore is the core of a container's first process, of the run that v shows; nil: none was kept.
func (e *Engine) keptCore(v *view) *core.Record {
	if e.deps.Cores == nil {
		return nil
	}
	for _, r := range e.deps.Cores.List() {
		if r.Container == v.ID && r.Run == v.Life.Run && (r.First || v.task != nil && v.task.Pid() == r.PID) {
			return r
		}
	}
	return nil
}

// Cores are the cores that are kept, the newest first: all, or those of a container, by name or id, or the beginning of one.
// Without any of a container that does not exist (any more) the error is errdefs.ErrNotFound.
func (e *Engine) Cores(ref string) ([]*core.Record, error) {
	if e.deps.Cores == nil {
		return nil, nil
	}
	if ref == "" {
		return e.deps.Cores.List(), nil
	}
	match := func(r *core.Record) bool {
		return strings.HasPrefix(r.Container, ref) || r.Name == strings.TrimPrefix(ref, "/")
	}
	c, err := e.registry.find(ref)
	if err == nil {
		match = func(r *core.Record) bool { return r.Container == c.id }
	}
	var list []*core.Record
	for _, r := range e.deps.Cores.List() {
		if match(r) {
			list = append(list, r)
		}
	}
	if err != nil && len(list) == 0 {
		return nil, err
	}
	return list, nil
}

// Core finds a core by its id, or the beginning of it, or the newest of a container.
func (e *Engine) Core(ref string) (*core.Record, error) {
	r, err := e.coreByID(ref)
	if !errdefs.IsNotFound(err) {
		return r, err
	}
	list, err := e.Cores(ref)
	switch {
	case err != nil:
		return nil, errNoSuchCore(ref)
	case len(list) == 0:
		return nil, errdefs.ErrNotFound.WithMessage("container " + ref + " has left no core that is kept")
	}
	return list[0], nil
}

func (e *Engine) coreByID(ref string) (found *core.Record, err error) {
	if ref == "" || e.deps.Cores == nil {
		return nil, errNoSuchCore(ref)
	}
	for _, r := range e.deps.Cores.List() {
		if !strings.HasPrefix(r.ID, ref) {
			continue
		}
		if found != nil {
			return nil, errdefs.ErrInvalidArgument.WithMessage("multiple cores found with the beginning " + ref)
		}
		found = r
	}
	if found == nil {
		return nil, errNoSuchCore(ref)
	}
	return found, nil
}

func errNoSuchCore(ref string) error { return errdefs.ErrNotFound.WithMessage("No such core: " + ref) }

// CoreRead opens the ELF file of a core. The caller closes it.
func (e *Engine) CoreRead(r *core.Record) (io.ReadCloser, error) {
	f, err := e.deps.Cores.Read(r.ID)
	if err != nil {
		return nil, fmt.Errorf("core %s: %w", r.ID, err)
	}
	return f, nil
}

// CoreRemove removes a core, by its id or the beginning of it.
func (e *Engine) CoreRemove(ref string) error {
	r, err := e.coreByID(ref)
	if err != nil {
		return err
	}
	if err := e.deps.Cores.Remove(r.ID); err != nil && !errors.Is(err, core.ErrNotFound) {
		return err
	}
	return nil
}
