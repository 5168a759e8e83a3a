package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/event"
	"github.com/portholehq/porthole/internal/ledger"
	"github.com/portholehq/porthole/internal/problem"
	"github.com/portholehq/porthole/internal/record/activity"
	"github.com/portholehq/porthole/internal/record/core"
	"github.com/portholehq/porthole/internal/record/death"
	"github.com/portholehq/porthole/internal/record/health"
	"github.com/portholehq/porthole/internal/runtime/plan"
)

const fakeID = "4b9d3e6c5f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4"

// fake is a backend with one container, "web". Verbs without a method here
// panic, which the server has to survive.
type fake struct {
	Backend

	mu      sync.Mutex
	created []container.CreateRequest

	tty         bool
	waits       chan container.WaitResponse
	logs        func(ctx context.Context, o engine.LogsOptions, fn func(engine.LogEntry) error) error
	attach      func(ctx context.Context, o engine.AttachOptions, open func() (engine.Stream, error)) error
	exec        func(ctx context.Context, o engine.ExecStartOptions, open func() (engine.Stream, error)) error
	events      []events.Message
	eventsAsked engine.EventsOptions
	deaths      []*death.Record
	deathsAsked engine.DeathsOptions
	loadErr     error
	loaded      []byte
	run         func(ctx context.Context, o engine.RunOptions, made func(container.CreateResponse) (engine.Stream, error)) (engine.RunEnd, error)
	code        *int // of execs that are inspected
}

func (f *fake) find(ref string) error {
	if ref == "web" || ref == fakeID {
		return nil
	}
	return problem.WithHint(errdefs.ErrNotFound.WithMessage("No such container: "+ref), "porthole ps -a")
}

func (f *fake) Info(context.Context) (*system.Info, error) {
	return &system.Info{ID: "x", ServerVersion: "0.1", ContainerdCommit: system.Commit{ID: "abc"}}, nil
}

func (f *fake) Version(context.Context) (*system.VersionResponse, error) {
	return &system.VersionResponse{Version: "0.1", Os: "linux", Components: []system.ComponentVersion{
		{Name: "Engine", Version: "0.1", Details: map[string]string{"ApiVersion": ""}},
	}}, nil
}

func (f *fake) Facts() engine.Facts {
	return engine.Facts{NoUserNamespaces: errors.New("no mapping"), IDsPerContainer: 65536, CgroupMode: "v2"}
}

func (f *fake) Surrendered(context.Context) []engine.Surrender { return nil }

func (f *fake) Ledger(context.Context) (*ledger.Ledger, error) {
	return &ledger.Ledger{Root: "/data"}, nil
}

func (f *fake) OrphansPrune(context.Context) ([]ledger.Account, error) {
	return []ledger.Account{{Claim: ledger.Claim{Owner: ledger.Orphan, Path: "x"}, Size: ledger.Size{Disk: 4096}}}, nil
}

func (f *fake) Operations(ref string) ([]engine.Operation, error) {
	if ref != "" && f.find(ref) != nil {
		return nil, f.find(ref)
	}
	return []engine.Operation{{
		ID: 3, Verb: "exec start", Container: fakeID, Name: "web", Age: 12 * time.Second, Slow: true, WaitsFor: "pause",
		By: &event.Origin{UID: new(uint32(1000)), PID: 42, Command: []string{"docker", "exec", "web", "true"}},
	}}, nil
}

func (f *fake) Inspector() engine.Inspection { return engine.Inspection{Containers: 1} }

func (f *fake) Events(ctx context.Context, o engine.EventsOptions, fn engine.EventFunc) error {
	if err := o.Filters.Check("type"); err != nil {
		return err
	}
	o.Opened()
	f.mu.Lock()
	f.eventsAsked = o
	f.mu.Unlock()
	for i, m := range f.events {
		if err := fn(event.Record{Seq: uint64(i + 1), Message: m, By: event.OriginOf(ctx)}); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) ContainerCreate(_ context.Context, _ string, req container.CreateRequest, _ *ocispec.Platform) (container.CreateResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if req.Image == "missing" {
		return container.CreateResponse{}, errdefs.ErrNotFound.WithMessage("No such image: missing:latest")
	}
	if req.Image == "taken" {
		return container.CreateResponse{}, errdefs.ErrConflict.WithMessage(`Conflict. The container name "/web" is already in use by container "abc".`)
	}
	f.created = append(f.created, req)
	return container.CreateResponse{ID: fakeID}, nil
}

func (f *fake) ContainerStart(_ context.Context, ref string) error { return f.find(ref) }

func (f *fake) ContainerStop(_ context.Context, ref string, _ engine.StopOptions) error {
	if err := f.find(ref); err != nil {
		return err
	}
	return errdefs.ErrNotModified
}

func (f *fake) ContainerKill(_ context.Context, ref, _ string) error {
	if err := f.find(ref); err != nil {
		return err
	}
	return errdefs.ErrConflict.WithMessage("container " + fakeID + " is not running")
}

func (f *fake) ContainerWait(_ context.Context, ref string, _ container.WaitCondition) (<-chan container.WaitResponse, error) {
	return f.waits, f.find(ref)
}

func (f *fake) ContainerList(context.Context, engine.ListOptions) ([]*container.Summary, error) {
	return []*container.Summary{{
		ID: fakeID, Names: []string{"/web"}, Image: "nginx", State: container.StateRunning,
		Health:                  &container.HealthSummary{},
		ImageManifestDescriptor: &ocispec.Descriptor{},
	}}, nil
}

func (f *fake) ContainerInspect(_ context.Context, ref string, _ bool) (*container.InspectResponse, error) {
	if err := f.find(ref); err != nil {
		return nil, err
	}
	return &container.InspectResponse{
		ID: fakeID, Name: "/web", Driver: "overlayfs",
		Config: &container.Config{Hostname: "web-host", Image: "nginx"},
		NetworkSettings: &container.NetworkSettings{Networks: map[string]*network.EndpointSettings{
			"bridge": {IPPrefixLen: 16},
			"back":   {Aliases: []string{"a"}},
		}},
	}, nil
}

// fakeTask is a task with a plan.
type fakeTask struct{ engine.Task }

func (fakeTask) Plan() *plan.Plan                         { return &plan.Plan{} }
func (fakeTask) Warnings() []string                       { return []string{"less than asked"} }
func (fakeTask) Timings() []plan.Timing                   { return []plan.Timing{{Name: "mount root", Microseconds: 42}} }
func (f *fake) ContainerRuns(string) ([]state.Run, error) { return []state.Run{{Number: 3}}, nil }

func (f *fake) ContainerOOMKills(string) ([]death.OOMKill, error) {
	return []death.OOMKill{{Task: "dd", PID: 5, Whose: death.OwnLimit, Largest: []death.OOMTask{{Task: "dd", PID: 5, RSS: 4096}}}}, nil
}

func (f *fake) ContainerIsolation(ref string) (engine.Isolation, error) {
	if ref == "stopped" {
		return engine.Isolation{UsernsNote: "privileged"}, nil
	}
	return engine.Isolation{IDs: [2]uint32{100000, 65536}, Task: fakeTask{}}, f.find(ref)
}

func (f *fake) ContainerProspect(context.Context, string) (engine.Prospect, error) {
	return engine.Prospect{
		Document: &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}}, Plan: &plan.Plan{ID: "next"}, Warnings: []string{"less"}, Err: errors.New("in the way"),
	}, nil
}

func (f *fake) ContainerTTY(ref string) (bool, error) { return f.tty, f.find(ref) }

func (f *fake) ContainerLogs(ctx context.Context, _ string, o engine.LogsOptions, fn func(engine.LogEntry) error) error {
	return f.logs(ctx, o, fn)
}

func (f *fake) ContainerAttach(ctx context.Context, _ string, o engine.AttachOptions, open func() (engine.Stream, error)) error {
	return f.attach(ctx, o, open)
}

func (f *fake) ContainerRun(ctx context.Context, o engine.RunOptions, made func(container.CreateResponse) (engine.Stream, error)) (engine.RunEnd, error) {
	if o.Request.Image == "missing" {
		return engine.RunEnd{}, errdefs.ErrNotFound.WithMessage("No such image: missing:latest")
	}
	return f.run(ctx, o, made)
}

func (f *fake) ContainerExecCreate(_ context.Context, ref string, _ container.ExecCreateRequest) (string, error) {
	return "e1", f.find(ref)
}

func (f *fake) ContainerExecInspect(context.Context, string) (*container.ExecInspectResponse, error) {
	return &container.ExecInspectResponse{ID: "e1", ExitCode: f.code}, nil
}

func (f *fake) TraceQueries(ref string) (engine.QueriesTarget, func(), error) {
	return engine.QueriesTarget{}, nil, errdefs.ErrNotFound.WithMessage("No such container: " + ref)
}

func (f *fake) Trace(ref string) (engine.TraceTarget, func(), error) {
	if ref != "web" {
		return engine.TraceTarget{}, nil, errdefs.ErrNotFound.WithMessage("No such container: " + ref)
	}
	return engine.TraceTarget{}, nil, errdefs.ErrConflict.WithMessage("container web is not running")
}

func (f *fake) Subject(ref string) (engine.Subject, error) {
	switch ref {
	case "web":
		return engine.Subject{Container: &state.Container{ID: fakeID, Name: "web"}}, nil
	case "stopped":
		return engine.Subject{Container: &state.Container{ID: ref, Name: ref, HostConfig: &container.HostConfig{}}, Status: container.StateExited}, nil
	}
	return engine.Subject{}, errdefs.ErrNotFound.WithMessage("No such container: " + ref)
}

func (f *fake) ContainerGrafts(string) ([]state.Graft, error) { return nil, nil }

func (f *fake) VolumeUsers(string, string) []string { return nil }

func (f *fake) ExecHint(string) (string, error) { return "look elsewhere", nil }

func (f *fake) ContainerExecStart(ctx context.Context, _ string, o engine.ExecStartOptions, open func() (engine.Stream, error)) error {
	return f.exec(ctx, o, open)
}

func (f *fake) ImageList(context.Context, engine.ImageListOptions) ([]image.Summary, error) {
	return []image.Summary{{ID: "sha256:1", Size: 9007199254740993, Containers: 2}}, nil
}

func (f *fake) ImageInspect(_ context.Context, ref string) (image.InspectResponse, error) {
	if ref != "nginx" {
		return image.InspectResponse{}, errdefs.ErrNotFound.WithMessage("No such image: " + ref + ":latest")
	}
	return image.InspectResponse{ID: "sha256:2", Os: "linux", Architecture: "arm64", Size: 7, Config: &dockerspec.DockerOCIImageConfig{}}, nil
}

func (f *fake) ImageHistory(context.Context, string) ([]image.HistoryResponseItem, error) {
	return nil, nil
}

func (f *fake) ImageLoad(_ context.Context, r io.Reader, _ engine.ImageLoadOptions, progress func(any)) ([]string, error) {
	var err error
	if f.loaded, err = io.ReadAll(r); err != nil {
		return nil, err
	}
	if progress != nil {
		progress(map[string]string{"status": "Loading layer"})
	}
	if f.loadErr != nil {
		return nil, f.loadErr
	}
	return []string{"busybox:latest", "sha256:123"}, nil
}

func (f *fake) ImageSave(_ context.Context, w io.Writer, refs []string, _ []ocispec.Platform) error {
	if refs[0] == "broken" {
		_, _ = w.Write([]byte("half a tar"))
		return errdefs.ErrInternal.WithMessage("disk on fire")
	}
	_, err := io.WriteString(w, "tar of "+refs[0])
	return err
}

// logBuffer collects log lines from any goroutine.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// daemon is a server on a unix socket and a client of it.
type daemon struct {
	*Server
	socket string
	http   *http.Client
	logs   *logBuffer
}

// serve starts a server on f and ends it with the test.
func serve(t *testing.T, f *fake, change ...func(*Options)) *daemon {
	t.Helper()
	d := &daemon{socket: filepath.Join(t.TempDir(), "s"), logs: &logBuffer{}}
	o := Options{
		Backend: f, Version: "0.1",
		Logger: slog.New(slog.NewTextHandler(d.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	if d.Server, err = New(o); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", d.socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- d.Serve(l) }()
	d.http = &http.Client{Transport: &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", d.socket) },
		DisableKeepAlives: true,
	}}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		if err := d.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return d
}

// ask sends a request and returns the answer with its body.
func (d *daemon) ask(t *testing.T, method, path, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	var r io.Reader
	if body != "" {
		r = bytes.NewReader([]byte(body))
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://d"+path, r)
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := d.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

func (f *fake) ImagePull(_ context.Context, ref reference.Named, o engine.ImagePullOptions, progress func(any)) error {
	if o.Credentials.Username == "nobody" {
		return errdefs.ErrNotFound.WithMessage("pull access denied for " + reference.FamiliarName(ref))
	}
	progress(jsonstream.Message{Status: fmt.Sprintf("%s for %s, all %v", ref, o.Credentials.Username, o.All)})
	if o.Credentials.Username == "late" {
		return errdefs.ErrUnavailable.WithMessage("toomanyrequests")
	}
	return nil
}

func (f *fake) ImagePush(_ context.Context, ref reference.Named, all bool, _ engine.ImagePushOptions, _ func(any), pushed func(engine.ImagePushed)) error {
	pushed(engine.ImagePushed{Tag: fmt.Sprint(all), Digest: "sha256:1", Size: 7})
	return nil
}

func (f *fake) RegistryLogin(_ context.Context, server string, creds engine.RegistryCredentials) (string, error) {
	if creds.Password != "secret" {
		return "", errdefs.ErrUnauthenticated.WithMessage("Get \"" + server + "\": unauthorized")
	}
	return "identity", nil
}

func (f *fake) RegistrySearch(_ context.Context, _ string, limit int, _ engine.RegistryCredentials) ([]engine.RegistryFound, error) {
	return []engine.RegistryFound{{Name: "a", StarCount: limit, IsOfficial: true}, {Name: "b", StarCount: 1}}, nil
}

func (f *fake) ContainerUnwatched(string) ([]engine.Unwatched, error) { return nil, nil }

func (f *fake) ContainerActivity(context.Context, string) (list []activity.Entry, why, err error) {
	return nil, nil, nil
}

func (f *fake) ContainerSamples(_ context.Context, ref string, o engine.SamplesOptions, fn func(*api.Sample) error) error {
	if err := f.find(ref); err != nil {
		return err
	}
	pids := uint64(o.Last)
	return fn(&api.Sample{Time: time.Unix(5, 0).UTC(), Pids: &pids})
}

func (f *fake) ContainerExecs(_ context.Context, ref string) ([]engine.ExecSession, error) {
	return []engine.ExecSession{{ID: "e1", ContainerID: fakeID, Pid: 7, User: "root", StartedAt: time.Unix(5, 0).UTC()}}, f.find(ref)
}

func (f *fake) ExecSignal(_ context.Context, ref, signal string) (engine.ExecSession, error) {
	if ref != "e1" {
		return engine.ExecSession{}, errdefs.ErrNotFound.WithMessage("No such exec instance: " + ref)
	}
	return engine.ExecSession{ID: ref, User: signal}, nil
}

func (f *fake) ExecDieWithClient(_ context.Context, ref string, dies bool) error {
	if ref != "e1" || !dies {
		return errdefs.ErrConflict.WithMessage("exec command " + ref + " is already running")
	}
	return nil
}

func (f *fake) ContainerOnce(_ context.Context, ref string, o engine.OnceOptions) (string, error) {
	return "t" + strings.Join(o.Cmd, "-"), f.find(ref)
}

func (f *fake) ContainerStartOnce(_ context.Context, ref, token string) error {
	if token != "t" {
		return errdefs.ErrConflict.WithMessage("container " + ref + " is not ready")
	}
	return f.find(ref)
}

func (f *fake) DebugCreate(_ context.Context, req api.DebugRequest) (api.DebugSession, error) {
	return api.DebugSession{ID: "d1", Target: fakeID, Name: req.Target, State: "running", Writes: "live", User: "root", Command: req.Command}, f.find(req.Target)
}

func (f *fake) DebugSession(_ context.Context, id string) (engine.DebugSession, error) {
	if id != "d1" {
		return engine.DebugSession{}, errdefs.ErrNotFound.WithMessage("No such debug session: " + id)
	}
	return engine.DebugSession{DebugSession: api.DebugSession{ID: id, Changes: []string{"A /x"}, Changed: 1}}, nil
}

func (f *fake) DebugSessions(context.Context) ([]engine.DebugSession, error) {
	pid := int32(9)
	return []engine.DebugSession{{DebugSession: api.DebugSession{ID: "d1", PID: 7}, Client: &event.Origin{PID: pid}}}, nil
}

// fakeCore is what the fake keeps.
var fakeCore = core.Record{ID: "c0de000000000001", Name: "web", Process: "perl", Inside: 7, Signal: syscall.SIGSEGV, Bytes: 4}

func (f *fake) Cores(string) ([]*core.Record, error) { return []*core.Record{&fakeCore}, nil }

func (f *fake) Core(ref string) (*core.Record, error) {
	if ref != "web" && ref != fakeCore.ID {
		return nil, errdefs.ErrNotFound.WithMessage("No such core: " + ref)
	}
	return &fakeCore, nil
}

func (f *fake) CoreRead(*core.Record) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("\x7fELF")), nil
}

func (f *fake) CoreRemove(ref string) error {
	_, err := f.Core(ref)
	return err
}

func (f *fake) Deaths(o engine.DeathsOptions) ([]*death.Record, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deathsAsked = o
	if o.Container == "nosuch" {
		return nil, f.find(o.Container)
	}
	return f.deaths, nil
}

func (f *fake) ContainerHealth(ref string) (*container.Health, []health.Result, error) {
	if ref == "unchecked" {
		return nil, nil, nil
	}
	return &container.Health{Status: container.Unhealthy, FailingStreak: 2}, []health.Result{{Run: 3, ExitCode: 1, Output: "DB down"}}, f.find(ref)
}
