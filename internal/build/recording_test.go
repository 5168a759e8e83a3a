package build

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/build/history"
	"github.com/portholehq/porthole/internal/build/step"
	"github.com/portholehq/porthole/internal/event"
)

// definition is one of a base and a RUN on it, from lines 1 and 3 to 4 of a
// Dockerfile.
func definition(t *testing.T) (def *pb.Definition, base, run digest.Digest) {
	t.Helper()
	add := func(op *pb.Op, name string, ranges ...int32) digest.Digest {
		raw, err := op.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		d := digest.FromBytes(raw)
		def.Def = append(def.Def, raw)
		def.Metadata[d.String()] = &pb.OpMetadata{Description: map[string]string{"llb.customname": name}}
		var list []*pb.Range
		for _, line := range ranges {
			list = append(list, &pb.Range{Start: &pb.Position{Line: line}, End: &pb.Position{Line: line}})
		}
		def.Source.Locations[d.String()] = &pb.Locations{Locations: []*pb.Location{{Ranges: list}}}
		return d
	}
	def = &pb.Definition{
		Metadata: map[string]*pb.OpMetadata{},
		Source: &pb.Source{
			Locations: map[string]*pb.Locations{},
			Infos:     []*pb.SourceInfo{{Filename: "Dockerfile", Data: []byte("FROM x\nENV A=b\nRUN one \\\n  two\nCMD x\n")}},
		},
	}
	base = add(&pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: "docker-image://x"}}}, "[1/2] FROM x", 1)
	run = add(&pb.Op{
		Op: &pb.Op_Exec{Exec: &pb.ExecOp{Meta: &pb.Meta{Args: []string{"one"}}}}, Inputs: []*pb.Input{{Digest: base.String()}},
	}, "[2/2] RUN one   two", 3, 4)
	last, err := (&pb.Op{Inputs: []*pb.Input{{Digest: run.String()}}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	def.Def = append(def.Def, last)
	return def, base, run
}

// refusingBridge solves nothing.
type refusingBridge struct{ frontend.FrontendLLBBridge }

func (refusingBridge) Solve(context.Context, frontend.SolveRequest, string) (*frontend.Result, error) {
	return nil, errors.New("nothing is solved here")
}

func beginRecording(t *testing.T, rs *recordings, req *controlapi.SolveRequest) (*recording, *history.Store) {
	t.Helper()
	store, err := history.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx := event.WithOrigin(t.Context(), &event.Origin{PID: 7, Command: []string{"docker", "build", "--build-arg", "TOKEN=hush"}})
	r, err := rs.begin(ctx, store, slog.New(slog.DiscardHandler), doorBuildKit, req)
	if err != nil {
		t.Fatal(err)
	}
	return r, store
}

// A client may give the ID of another build, which must not lose its record.
func TestIDGivenTwice(t *testing.T) {
	var rs recordings
	req := &controlapi.SolveRequest{Ref: "b1"}
	r, store := beginRecording(t, &rs, req)
	again := func() error {
		_, err := rs.begin(t.Context(), store, slog.New(slog.DiscardHandler), doorBuildKit, req)
		return err
	}
	if err := again(); !errdefs.IsAlreadyExists(err) {
		t.Errorf("while it runs: %v", err)
	}
	r.end(t.Context(), nil, errors.New("first"))
	rs.remove(r)
	if err := again(); !errdefs.IsAlreadyExists(err) {
		t.Errorf("when it has ended: %v", err)
	}
	if b, err := store.Get("b1"); err != nil || b.Error != "first" {
		t.Errorf("its record is %+v, %v", b, err)
	}
	if len(rs.all()) > 0 {
		t.Error("a build that was refused is under way")
	}
}

func TestRecording(t *testing.T) {
	var rs recordings
	r, store := beginRecording(t, &rs, &controlapi.SolveRequest{
		Ref: "b1", Session: "s",
		FrontendAttrs: map[string]string{
			"filename": "Dockerfile", "build-arg:V": "1", "build-arg:NPM_TOKEN": "hush", "build-arg:FROM": "https://me:hush@example.com/x",
			"platform": "linux/amd64,linux/arm64", "context": "https://me:hush@example.com/repo.git",
		},
		Exporters: []*controlapi.Exporter{{Type: "moby", Attrs: map[string]string{"name": "a,b"}}},
	})
	def, base, run := definition(t)
	bridge := planningBridge{FrontendLLBBridge: refusingBridge{}, recordings: &rs}
	for _, session := range []string{"other", "s", "s"} {
		_, _ = bridge.Solve(t.Context(), frontend.SolveRequest{Definition: def}, session)
	}
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	later := at.Add(time.Second)
	const internal = digest.Digest("sha256:aa")
	r.status(&client.SolveStatus{Vertexes: []*client.Vertex{
		{Digest: internal, Name: "[internal] load metadata", Started: &at, Completed: &at},
		{Digest: base, Name: "[1/2] FROM x", Started: &at, Completed: &at, Cached: true},
		{Digest: withoutCache(run), Name: "[2/2] RUN one   two", Started: &at},
	}})
	rs.started(withoutCache(run), &step.Step{ID: "p1", Process: step.Process{Args: []string{"one"}}})
	if got := r.snapshot(); got.State != api.BuildRunning || got.Steps[1].State != api.BuildRunning || got.Steps[1].Process != "p1" {
		t.Errorf("while it runs: %+v", got)
	}
	rs.ended(run, step.Exit{Code: 137, OOMKilled: true})
	r.status(&client.SolveStatus{Vertexes: []*client.Vertex{
		{Digest: run, Name: "[2/2] RUN one   two", Started: &at, Completed: &later, Error: "exit code: 137"},
	}})
	r.end(t.Context(), nil, errors.New("exit code: 137"))
	rs.remove(r)
	if len(rs.all()) != 0 {
		t.Error("the build is still under way")
	}
	got, err := store.Get("b1")
	if err != nil {
		t.Fatal(err)
	}
	want := &api.Build{
		ID: "b1", Door: doorBuildKit, State: api.BuildFailed, Error: "exit code: 137", Total: 2, Cached: 1,
		By: &api.Actor{PID: 7, Command: []string{"docker"}}, Context: "https://xxxxx:xxxxx@example.com/repo.git", Dockerfile: "Dockerfile",
		Text: "FROM x\nENV A=b\nRUN one \\\n  two\nCMD x\n", Tags: []string{"a", "b"}, Platforms: []string{"linux/amd64", "linux/arm64"},
		Args: map[string]string{"V": "1", "NPM_TOKEN": "***", "FROM": "https://xxxxx:xxxxx@example.com/x"},
		Steps: []api.BuildStep{
			{
				Number: 1, Vertex: base.String(), Name: "[1/2] FROM x", File: "Dockerfile", First: 1, Last: 1, Instruction: "FROM x", State: api.StepCached, StartedAt: at, EndedAt: at,
				Causes: []api.BuildCause{{Kind: api.CauseHit, Text: "in the cache"}},
			},
			{
				Number: 2, Vertex: run.String(), Name: "[2/2] RUN one   two", File: "Dockerfile", First: 3, Last: 4, Instruction: "RUN one   two", Runs: true,
				State: api.BuildFailed, StartedAt: at, EndedAt: later, Error: "exit code: 137", ID: "p1", Process: "p1", Command: []string{"one"},
				Ended: true, ExitCode: 137, OOMKilled: true,
				Causes: []api.BuildCause{{Kind: api.CauseFirst, Text: "never built before, as far as is recorded"}},
			},
			{Vertex: internal.String(), Name: "[internal] load metadata", State: api.BuildDone, StartedAt: at, EndedAt: at},
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(api.Build{}, "CreatedAt", "EndedAt")); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

// What a build has ended without is told as such, also if a client goes away.
func TestRecordingCanceled(t *testing.T) {
	var rs recordings
	r, store := beginRecording(t, &rs, &controlapi.SolveRequest{Ref: "b2"})
	def, base, _ := definition(t)
	r.expect("Dockerfile", []instruction{
		{head: "FROM x", start: 1, end: 1, from: true},
		{head: "RUN one   two", command: "one", start: 3, end: 4, works: true},
		{head: "CMD x", start: 5, end: 5},
		{head: "RUN y", command: "y", start: 6, end: 7, works: true},
	})
	r.define(def)
	at := time.Now()
	r.status(&client.SolveStatus{Vertexes: []*client.Vertex{{Digest: base, Name: "[1/2] FROM x", Started: &at}}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.end(ctx, nil, errors.New("broken off"))
	got, err := store.Get("b2")
	if err != nil || got.State != api.BuildCanceled {
		t.Fatalf("%+v, %v", got, err)
	}
	var states []string
	for _, s := range got.Steps {
		states = append(states, s.Instruction+": "+s.State)
	}
	if diff := cmp.Diff([]string{"FROM x: canceled", "RUN one   two: not run", "RUN y: not run"}, states); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

// A vertex is asked for as often as it is needed: what was done is not found in
// the cache later, and what has failed has not succeeded.
func TestAdvance(t *testing.T) {
	at := time.Now()
	started, done := &client.Vertex{Started: &at}, &client.Vertex{Started: &at, Completed: &at}
	cached := &client.Vertex{Started: &at, Completed: &at, Cached: true}
	failed := &client.Vertex{Started: &at, Completed: &at, Error: "no"}
	canceled := &client.Vertex{Started: &at, Completed: &at, Error: "run: context canceled"}
	for want, list := range map[string][][]*client.Vertex{
		api.StepWaiting:   {{{}}},
		api.BuildRunning:  {{started}, {{}, started}},
		api.BuildDone:     {{started, done}, {started, done, cached}, {started, done, started}},
		api.StepCached:    {{cached}, {cached, cached}},
		api.BuildFailed:   {{started, failed}, {failed, done}},
		api.BuildCanceled: {{started, canceled}},
	} {
		for i, vertexes := range list {
			s := api.BuildStep{State: api.StepWaiting}
			for _, v := range vertexes {
				advance(&s, v)
			}
			if s.State != want {
				t.Errorf("%s %d: %s", want, i, s.State)
			}
		}
	}
}

func TestPlanOfNothing(t *testing.T) {
	p := planOf(&pb.Definition{Def: [][]byte{nil, []byte("\xff\xff")}})
	if len(p.steps) != 0 || p.text != "" {
		t.Errorf("%+v", p)
	}
}
