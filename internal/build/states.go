package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/problem"
	"github.com/portholehq/porthole/internal/steady"
)

// A state is the file system that an instruction of a build has led to, or that
// a failed one has left. The files are a record of the build's cache: they live
// as long as that does, by its leases and within its bounds. What is kept here
// is which record it is, and what a process that starts there needs.
type state struct {
	// ID is that of the step that made it, if a step did: 64 hexadecimal digits.
	ID     string        `json:"id"`
	Vertex digest.Digest `json:"vertex"`
	// Name is what clients show: "[2/3] RUN make".
	Name string `json:"name"`
	// File is the index of the Dockerfile in its build's, Line and End are the
	// instruction's first and last line in it, from 1.
	File int `json:"file"`
	Line int `json:"line"`
	End  int `json:"end"`
	// Ref is the record of the cache, Before that of the state before. Empty:
	// not known; noFiles: there is nothing, as in front of a FROM scratch.
	Ref    string `json:"ref,omitempty"`
	Before string `json:"before,omitempty"`
	// Exit is the status of the step if it failed; Ref is what it has left then.
	Exit int `json:"exit,omitempty"`
	// Of a step's process.
	Env  []string `json:"env,omitempty"`
	User string   `json:"user,omitempty"`
	Cwd  string   `json:"cwd,omitempty"`
}

// noFiles is the reference of the state without files.
const noFiles = "scratch"

// buildStates are the states of one build, with what tells the configuration at
// each of its lines.
type buildStates struct {
	At     time.Time         `json:"at"`
	Files  []stateFile       `json:"files"`
	Attrs  map[string]string `json:"attrs"`
	Images []resolvedImage   `json:"images"`
	States []state           `json:"states"`

	path string
}

type stateFile struct {
	Name string `json:"name"`
	Text []byte `json:"text"`
}

// resolvedImage is the answer that a build got for a base image.
type resolvedImage struct {
	Asked    string        `json:"asked"`
	Platform string        `json:"platform,omitempty"`
	Found    string        `json:"found"`
	Digest   digest.Digest `json:"digest"`
	Config   []byte        `json:"config"`
}

const (
	// keepStates is how long is remembered which states a build went through,
	// and mostStates of how many builds.
	keepStates = 30 * 24 * time.Hour
	mostStates = 500
	// unfinishedStates ends the name of a file that is being written.
	unfinishedStates = ".new"
)

// states remembers the states of builds, in a file for each build.
type states struct {
	dir string

	mu     sync.Mutex
	loaded bool
	builds []*buildStates // the newest last
	byRef  map[string]string
}

// load reads the files, once. The caller holds mu.
func (s *states) load() error {
	if s.loaded {
		return nil
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	s.byRef = map[string]string{}
	for _, e := range entries {
		path := filepath.Join(s.dir, e.Name())
		if strings.HasSuffix(path, unfinishedStates) {
			_ = os.Remove(path) // half of one, by the death of a daemon
			continue
		}
		b := &buildStates{path: path}
		data, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(data, b)
		}
		if err != nil { // half of one, by a crash of the machine
			_ = os.Remove(path)
			continue
		}
		s.builds = append(s.builds, b)
	}
	slices.SortFunc(s.builds, func(a, b *buildStates) int { return a.At.Compare(b.At) })
	for _, b := range s.builds {
		s.index(b)
	}
	s.loaded = true
	return nil
}

func (s *states) index(b *buildStates) {
	for _, st := range b.States {
		if st.Ref != "" && st.Ref != noFiles {
			s.byRef[st.Ref] = st.ID
		}
	}
}

// put remembers the states of a build, or what has come to them: those in b, of
// which the caller changes nothing meanwhile. States that an earlier build has
// gone through as well have the ID that they had there.
func (s *states) put(b *buildStates) error {
	if err := s.name(b); err != nil {
		return err
	}
	if err := b.write(); err != nil {
		return err
	}
	return s.hold(b)
}

// hold is put without writing anything, for a build that comes to more states yet.
func (s *states) hold(b *buildStates) error {
	if err := s.name(b); err != nil {
		return err
	}
	kept := *b
	kept.States = slices.Clone(b.States)
	var failures []error
	for _, old := range s.keep(&kept, steady.Now()) {
		if err := os.Remove(old.path); !errors.Is(err, os.ErrNotExist) { // it may not be written yet
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

// write writes the states of a build, which have names.
func (b *buildStates) write() error {
	data, err := json.Marshal(b)
	if err != nil {
		return err
	}
	if err := failpoint.Hit("build.write"); err != nil {
		return err
	}
	if err := os.WriteFile(b.path+unfinishedStates, data, 0o600); err != nil {
		return err
	}
	if err := failpoint.Hit("build.rename"); err != nil {
		return err
	}
	return os.Rename(b.path+unfinishedStates, b.path)
}

// name gives IDs to states that have none, and a file to the build.
func (s *states) name(b *buildStates) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return err
	}
	if b.path == "" {
		b.path = filepath.Join(s.dir, newStepID()[:32])
	}
	for i := range b.States {
		st := &b.States[i]
		if st.ID != "" {
			continue
		}
		if st.ID = s.byRef[st.Ref]; st.ID == "" {
			st.ID = digest.FromString("state " + st.Ref).Encoded()
		}
	}
	return nil
}

// keep adds a build, in the place of what was known of it before, and returns
// those that are too old or too many now.
func (s *states) keep(b *buildStates, now time.Time) (old []*buildStates) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.builds, func(known *buildStates) bool { return known.path == b.path }); i >= 0 {
		s.builds[i] = b
	} else {
		s.builds = append(s.builds, b)
	}
	s.index(b)
	for len(s.builds) > mostStates || len(s.builds) > 0 && now.Sub(s.builds[0].At) > keepStates {
		old = append(old, s.builds[0])
		s.builds = s.builds[1:]
	}
	return old
}

// stateRef is what names a state: "step:ID", with "-before" or ":before" behind
// it for the state that the step has started from.
var stateRef = regexp.MustCompile(`^step:([0-9a-f]{4,64})(?:[:-](before))?$`)

// find finds the state that ref names, in the newest build that went through
// it. ok is false when ref does not look like one.
func (s *states) find(ref string) (b *buildStates, st state, before, ok bool, err error) {
	m := stateRef.FindStringSubmatch(ref)
	if m == nil {
		return nil, st, false, false, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return nil, st, false, true, err
	}
	for _, build := range slices.Backward(s.builds) {
		for _, candidate := range build.States {
			if !strings.HasPrefix(candidate.ID, m[1]) {
				continue
			}
			if b == nil {
				b, st = build, candidate
			} else if candidate.ID != st.ID {
				return nil, st, false, true, problem.Errorf(errdefs.ErrInvalidArgument, "ambiguous: several steps begin with %q", m[1])
			}
		}
	}
	if b == nil {
		return nil, st, false, true, problem.WithHint(
			problem.Errorf(errdefs.ErrNotFound, "No such image: %s: no build step is known by that ID", ref),
			"see the steps of the last build with: porthole build steps")
	}
	return b, st, m[2] != "", true, nil
}

// ofVertex is the ID of the state that a vertex has led to most recently.
func (s *states) ofVertex(vertex digest.Digest) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.load() != nil {
		return ""
	}
	for _, b := range slices.Backward(s.builds) {
		for _, st := range b.States {
			if st.Vertex == vertex {
				return st.ID
			}
		}
	}
	return ""
}

// forget drops builds of which no state has its files any more.
func (s *states) forget(ctx context.Context, exists func(ctx context.Context, ref string) bool) error {
	s.mu.Lock()
	err := s.load()
	builds := slices.Clone(s.builds)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	known := map[string]bool{"": false, noFiles: false}
	there := func(st state) bool {
		if _, ok := known[st.Ref]; !ok {
			known[st.Ref] = exists(ctx, st.Ref)
		}
		return known[st.Ref]
	}
	gone := map[*buildStates]bool{}
	var failures []error
	for _, b := range builds {
		if !slices.ContainsFunc(b.States, there) {
			gone[b] = true
			if err := os.Remove(b.path); !errors.Is(err, os.ErrNotExist) { // it may not be written yet
				failures = append(failures, err)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.builds = slices.DeleteFunc(s.builds, func(b *buildStates) bool { return gone[b] })
	clear(s.byRef)
	for _, b := range s.builds {
		s.index(b)
	}
	return errors.Join(failures...)
}

// gone says that a state's files are no longer there.
func (st state) gone(ref string) error {
	return problem.WithHint(
		problem.Errorf(errdefs.ErrNotFound, "No such image: %s: the files of %s are no longer in the build cache", ref, st),
		"build again to get there")
}

// String names a state for people.
func (st state) String() string {
	if st.Name != "" {
		return fmt.Sprintf("step %s (%s)", st.ID[:12], st.Name)
	}
	return "step " + st.ID[:12]
}
