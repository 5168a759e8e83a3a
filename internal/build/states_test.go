package build

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/solver/pb"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
)

func stepID(c string) string { return strings.Repeat(c, 64) }

func TestStates(t *testing.T) {
	dir := t.TempDir()
	now := time.Now().UTC()
	s := &states{dir: dir}
	first := &buildStates{At: now, States: []state{
		{ID: stepID("a"), Vertex: "v1", Name: "RUN one", Ref: "r1", Before: noFiles},
		{Vertex: "v2", Name: "COPY x /", Ref: "r2", Before: "r1"},
	}}
	second := &buildStates{At: now.Add(time.Second), States: []state{{Vertex: "v3", Name: "RUN one", Ref: "r1", Before: noFiles}}}
	for _, b := range []*buildStates{first, second} {
		if err := s.put(b); err != nil {
			t.Fatal(err)
		}
	}
	if got := second.States[0].ID; got != stepID("a") {
		t.Errorf("a cached step is called %s, not as when it ran", got)
	}
	copied := first.States[1].ID
	// Half of a file, as a crash of the machine leaves it.
	if err := os.WriteFile(filepath.Join(dir, "torn"), []byte(`{"at":`), 0o600); err != nil {
		t.Fatal(err)
	}
	s = &states{dir: dir} // as the next process reads it
	for ref, want := range map[string]string{
		"step:aaaa": stepID("a"), "step:" + stepID("a") + "-before": stepID("a"), "step:aaaaaa:before": stepID("a"), "step:" + copied[:12]: copied,
	} {
		b, st, before, ok, err := s.find(ref)
		if err != nil || !ok || st.ID != want || before != strings.HasSuffix(ref, "before") || b == nil {
			t.Errorf("%s: %+v, before %v, ok %v, %v", ref, st, before, ok, err)
		}
	}
	if b, _, _, _, _ := s.find("step:aaaa"); !b.At.Equal(second.At) {
		t.Error("not the newest build's")
	}
	for _, ref := range []string{"step:bbbbbb", "step:aaab"} {
		if _, _, _, ok, err := s.find(ref); !ok || !errdefs.IsNotFound(err) {
			t.Errorf("%s: ok %v, %v", ref, ok, err)
		}
	}
	for _, ref := range []string{"busybox", "step:latest", "step:aaaa-after", "x/step:aaaa", "step:abc"} {
		if _, _, _, ok, err := s.find(ref); ok || err != nil {
			t.Errorf("%s was taken for a state's name: %v", ref, err)
		}
	}
	if got := s.ofVertex("v2"); got != copied {
		t.Errorf("state of a vertex: %s", got)
	}
	third := &buildStates{At: now, States: []state{{ID: stepID("a")[:60] + "0000", Ref: "r9"}}}
	if err := s.put(third); err != nil {
		t.Fatal(err)
	}
	if _, _, _, _, err := s.find("step:aaaa"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("the beginning of two IDs: %v", err)
	}
	// What the cache has dropped is forgotten.
	if err := s.forget(t.Context(), func(_ context.Context, ref string) bool { return ref == "r2" }); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || len(s.builds) != 1 || s.builds[0].States[1].Ref != "r2" {
		t.Errorf("left: %v in %v, %v", s.builds, left, err)
	}
}

func TestStatesAreBounded(t *testing.T) {
	s := &states{dir: t.TempDir()}
	now := time.Now().UTC()
	if err := s.put(&buildStates{At: now.Add(-keepStates - time.Hour), States: []state{{ID: stepID("b"), Ref: "old"}}}); err != nil {
		t.Fatal(err)
	}
	for i := range mostStates + 3 {
		b := &buildStates{At: now.Add(time.Duration(i) * time.Millisecond), States: []state{{Ref: fmt.Sprint("r", i)}}}
		if err := s.put(b); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(s.dir)
	if err != nil || len(files) != mostStates || len(s.builds) != mostStates || s.builds[0].States[0].Ref != "r3" {
		t.Errorf("%d files, %d builds from %+v, %v", len(files), len(s.builds), s.builds[0].States, err)
	}
}

// op makes a vertex for TestNotes.
func op(t *testing.T, o *pb.Op, inputs ...digest.Digest) (digest.Digest, []byte) {
	t.Helper()
	for _, in := range inputs {
		o.Inputs = append(o.Inputs, &pb.Input{Digest: string(in)})
	}
	raw, err := o.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return digest.FromBytes(raw), raw
}

// Each instruction's state is a layer of the result.
func TestNotes(t *testing.T) {
	dir := t.TempDir()
	b := &Builder{states: states{dir: dir}}
	n := &stateNotes{doc: buildStates{Attrs: withoutSecrets(map[string]string{"build-arg:TOKEN": "hush", "build-arg:A": "b"})}, b: b, defined: map[string]struct{}{}, vertices: map[digest.Digest]*vertexNote{}, refs: map[digest.Digest]string{}, users: 1}
	base, baseRaw := op(t, &pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: "docker-image://docker.io/library/x"}}})
	local, localRaw := op(t, &pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{Identifier: "local://context"}}})
	cp, cpRaw := op(t, &pb.Op{Op: &pb.Op_File{File: &pb.FileOp{Actions: []*pb.FileAction{{Input: 0, SecondaryInput: 1}}}}}, base, local)
	run, runRaw := op(t, &pb.Op{Op: &pb.Op_Exec{Exec: &pb.ExecOp{
		Meta: &pb.Meta{Args: []string{"x"}, Env: []string{"A=b", "TOKEN=hush"}, Cwd: "/w"}, Mounts: []*pb.Mount{{Dest: "/c", Input: -1}, {Dest: "/", Input: 0}},
	}}}, cp)
	_, last := op(t, &pb.Op{}, run)
	line := func(n int32) *pb.Locations {
		return &pb.Locations{Locations: []*pb.Location{{Ranges: []*pb.Range{{Start: &pb.Position{Line: n}, End: &pb.Position{Line: n + 1}}}}}}
	}
	def := &pb.Definition{
		Def: [][]byte{baseRaw, localRaw, cpRaw, runRaw, last},
		Source: &pb.Source{
			Infos:     []*pb.SourceInfo{{Filename: "Dockerfile", Data: []byte("FROM x")}},
			Locations: map[string]*pb.Locations{string(base): line(1), string(cp): line(3), string(run): line(5)},
		},
	}
	n.define(def)
	n.define(def) // once more is no more
	if got := headOf(def); got != run {
		t.Fatalf("head %s, want %s", got, run)
	}
	for _, w := range b.watchers.of(run) {
		w.running(stepID("f"))
	}
	if place := b.watchers.failed(run, 3); place != "Dockerfile:5" {
		t.Errorf("place %q", place)
	}
	b.watchers.reached(run, []string{"low", "base", "copied", "left"})
	n.note(run, nil)
	n.mu.Lock()
	n.save() // not later
	n.mu.Unlock()
	var got buildStates
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil || json.Unmarshal(data, &got) != nil {
		t.Fatalf("%s, %v", data, err)
	}
	if strings.Contains(string(data), "hush") {
		t.Errorf("a secret is kept: %s", data)
	}
	want := []state{
		{ID: got.States[0].ID, Vertex: base, Line: 1, End: 2, Ref: "base", Before: noFiles},
		{ID: got.States[1].ID, Vertex: cp, Line: 3, End: 4, Ref: "copied", Before: "base"},
		{ID: stepID("f"), Vertex: run, Line: 5, End: 6, Ref: "left", Before: "copied", Exit: 3, Env: []string{"A=b", "TOKEN=***"}, Cwd: "/w"},
	}
	if diff := cmp.Diff(want, got.States); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	n.leave()
	// An instruction that fails without a step tells at least what it started from.
	n = &stateNotes{b: b, defined: map[string]struct{}{}, vertices: map[digest.Digest]*vertexNote{}, refs: map[digest.Digest]string{}, users: 1}
	n.define(def)
	n.vertices[cp].began([][]string{{"low", "base"}, {"local"}})
	n.note(run, nil)
	if got := n.doc.States; len(got) != 1 || got[0].Vertex != base || got[0].Ref != "base" {
		t.Errorf("after a COPY that fails: %+v", got)
	}
	n.leave()
	if left := b.watchers.of(run); len(left) > 0 {
		t.Errorf("%d watchers stay", len(left))
	}
}

func TestConfigAt(t *testing.T) {
	base, err := json.Marshal(dockerspec.DockerOCIImage{})
	if err != nil {
		t.Fatal(err)
	}
	b := &buildStates{
		Attrs: map[string]string{"build-arg:WHO": "me"},
		Files: []stateFile{{Name: "Dockerfile", Text: []byte("FROM x AS one\nARG WHO\nENV A=$WHO\nRUN true\nUSER 7\nRUN a && \\\n  b\nWORKDIR /w\nFROM one\nENV A=c\n")}},
		Images: []resolvedImage{{
			Asked: "docker-image://docker.io/library/x:latest", Found: "docker-image://docker.io/library/x:latest",
			Digest: digest.FromString("x"), Config: base,
		}},
	}
	for _, c := range []struct {
		line, end       int
		before          bool
		env, user, work string
	}{
		{4, 4, false, "A=me", "", ""},
		{6, 7, false, "A=me", "7", ""},
		{4, 4, true, "A=me", "", ""},
		{8, 8, false, "A=me", "7", "/w"},
		{8, 8, true, "A=me", "7", ""},
		{10, 10, false, "A=c", "7", "/w"},
	} {
		got, err := b.configAt(t.Context(), state{Line: c.line, End: c.end}, c.before)
		if err != nil {
			t.Fatal(err)
		}
		env := strings.Join(got.Config.Env, " ")
		if !strings.Contains(env, c.env) || got.Config.User != c.user || got.Config.WorkingDir != c.work {
			t.Errorf("line %d, before %v: %q, user %q, in %q", c.line, c.before, env, got.Config.User, got.Config.WorkingDir)
		}
	}
	b.Images = nil
	if _, err := b.configAt(t.Context(), state{Line: 4, End: 4}, false); err == nil {
		t.Error("a base that nobody knows had a configuration")
	}
}
