package server

import (
	"encoding/json"
	"expvar"
	"fmt"
	"maps"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/debug/look"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/runtime/plan"
)

// planned is a task that knows its isolation plan and what the steps took.
type planned interface {
	Plan() *plan.Plan // nil if an earlier daemon has started the container
	Timings() []plan.Timing
	Warnings() []string
}

func (s *Server) isolation(r *request) error {
	known, err := s.backend.ContainerIsolation(r.name)
	if err != nil {
		return err
	}
	out := api.Isolation{ID: r.name, UsernsNote: known.UsernsNote, Plan: json.RawMessage("null"), Steps: []api.Step{}}
	if known.IDs[1] > 0 {
		out.IDs = &api.IDRange{Host: known.IDs[0], Size: known.IDs[1]}
	}
	if task, ok := known.Task.(planned); ok {
		err = s.addStart(r, &out, task)
	} else {
		err = s.addProspect(r, &out)
	}
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, out)
}

// addStart tells how a container was started, and what the kernel tells of it.
func (s *Server) addStart(r *request, out *api.Isolation, task planned) (err error) {
	if p := task.Plan(); p != nil {
		if out.Plan, err = json.Marshal(p); err != nil {
			return fmt.Errorf("isolation plan: %w", err)
		}
	}
	out.Warnings = task.Warnings()
	for _, t := range task.Timings() {
		out.Steps = append(out.Steps, api.Step{Name: t.Name, Microseconds: t.Microseconds})
	}
	out.Live, err = look.Isolation(r.ctx(), s.backend, r.name)
	return err
}

// addProspect tells how a container would be started.
func (s *Server) addProspect(r *request, out *api.Isolation) error {
	p, err := s.backend.ContainerProspect(r.ctx(), r.name)
	if err != nil {
		return err
	}
	out.Warnings = p.Warnings
	if p.Err != nil {
		out.NoStart = p.Err.Error()
	}
	if p.Plan != nil {
		if out.Plan, err = json.Marshal(p.Plan); err != nil {
			return fmt.Errorf("isolation plan: %w", err)
		}
	}
	out.Expected, err = look.Prospect(r.ctx(), s.backend, r.name, &p)
	return err
}

// engineOperations lists what the engine has under way, the oldest first.
func (s *Server) engineOperations(r *request) error {
	list, err := s.backend.Operations("")
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, showOperations(list))
}

func showOperations(list []engine.Operation) []api.EngineOperation {
	out := make([]api.EngineOperation, 0, len(list))
	for _, o := range list {
		out = append(out, api.EngineOperation{
			ID: o.ID, Verb: o.Verb, Container: o.Container, Name: o.Name, By: actorOrNil(o.By), Since: o.Since,
			AgeMilliseconds: o.Age.Milliseconds(), Slow: o.Slow, WaitsFor: o.WaitsFor,
		})
	}
	return out
}

// daemonState is the daemon's inspector: what it works on, since when, for
// whom, and what it holds open.
func (s *Server) daemonState(r *request) error {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	out := api.Daemon{
		Pid:              os.Getpid(),
		Version:          s.opts.Version,
		StartedAt:        s.opts.StartedAt,
		ReadyAfterMicros: s.readyAfter.Load() / int64(time.Microsecond),
		Goroutines:       runtime.NumGoroutine(),
		HeapBytes:        mem.HeapAlloc,
		RSSBytes:         residentBytes(),
		Fds:              openFds(),
		Parts:            map[string]any{"engine": s.backend.Inspector()},
	}
	open, total := s.ops.list()
	out.Requests = total
	now := time.Now()
	for _, op := range open {
		out.Operations = append(out.Operations, op.show(now))
	}
	out.Parts["server"] = map[string]any{"watched_streams": s.hangups.watched()}
	if s.opts.Inspect != nil {
		maps.Copy(out.Parts, s.opts.Inspect())
	}
	return r.json(http.StatusOK, out)
}

// openFds lists the daemon's file descriptors. One that is closed meanwhile is
// left out.
func openFds() []api.Fd {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	out := make([]api.Fd, 0, len(entries))
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil || strings.HasSuffix(target, "/fd") && strings.HasPrefix(target, "/proc/") {
			continue
		}
		out = append(out, api.Fd{Fd: fd, Target: target})
	}
	slices.SortFunc(out, func(a, b api.Fd) int { return a.Fd - b.Fd })
	return out
}

// residentBytes is the resident memory of this process; 0 if unknown.
func residentBytes() uint64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	words := strings.Fields(string(text))
	if len(words) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(words[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}

func (s *Server) debugVars(r *request) error {
	r.w.Header().Set("Content-Type", "application/json; charset=utf-8")
	vars := map[string]json.RawMessage{}
	expvar.Do(func(kv expvar.KeyValue) { vars[kv.Key] = json.RawMessage(kv.Value.String()) })
	return json.NewEncoder(r.w).Encode(vars)
}

// debugPprof serves the runtime's profiles, without the default mux of
// net/http, which nothing here serves.
func (s *Server) debugPprof(r *request) error {
	handlers := map[string]http.HandlerFunc{
		"cmdline": pprof.Cmdline,
		"profile": pprof.Profile,
		"symbol":  pprof.Symbol,
		"trace":   pprof.Trace,
	}
	name := r.name
	if strings.HasSuffix(r.http.URL.Path, "/symbol") {
		name = "symbol"
	}
	if handle, ok := handlers[name]; ok {
		handle(r.w, r.http)
		return nil
	}
	if name == "" {
		pprof.Index(r.w, r.http)
		return nil
	}
	pprof.Handler(name).ServeHTTP(r.w, r.http)
	return nil
}
