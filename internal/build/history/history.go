// Package history keeps the records of builds on disk: what each was asked for,
// what became of its steps, and how it ended. A [Store] holds one file for each
// build, which is an [api.Build] as JSON.
//
// Records are bounded by number and age. A record that says "running" when the
// store is opened is of a build that its daemon's death has ended, and is made to
// say so.
package history

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/atomicfile"
	"github.com/portholehq/porthole/internal/failpoint"
)

const (
	// Keep is how long records are kept, and Most how many.
	Keep = 30 * 24 * time.Hour
	Most = 500
	// largest is the most that is read of a file.
	largest = 8 << 20

	suffix = ".json"
	// nextSuffix is behind the name of a record that is being replaced.
	nextSuffix = ".next"
)

// Store is a directory of records. It is safe for concurrent use.
type Store struct {
	dir string

	mu sync.Mutex
	// heads are the records without what makes them large; nil until they are
	// asked for: a daemon that starts need not read them.
	heads map[string]*api.Build
	key   []byte // of [Store.Hasher]; nil until it is asked for
}

// Open opens the records in dir, which is made if there is none.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &Store{dir: dir}, nil
}

func (s *Store) path(id string) string { return filepath.Join(s.dir, id+suffix) }

// Put writes a record. One that has ended replaces what was there for good; one
// that runs may be lost with the machine.
func (s *Store) Put(b *api.Build) error {
	if !ValidID(b.ID) {
		return fmt.Errorf("record of build %q: not an ID", b.ID)
	}
	text, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("record of build %s: %w", b.ID, err)
	}
	if b.State == api.BuildRunning {
		err = replace(s.path(b.ID), text)
	} else {
		err = atomicfile.Write(s.path(b.ID), text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("record of build %s: %w", b.ID, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.heads != nil {
		s.heads[b.ID] = head(b)
	}
	return nil
}

// replace is an atomic write that does not wait for the disk.
func replace(name string, text []byte) error {
	next := name + nextSuffix
	if err := failpoint.Hit("history.write"); err != nil {
		return err
	}
	if err := os.WriteFile(next, text, 0o600); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	if err := failpoint.Hit("history.rename"); err != nil {
		return err
	}
	return os.Rename(next, name)
}

// ValidID tells what may be the name of a file: IDs come from clients.
func ValidID(id string) bool {
	if id == "" || len(id) > 100 {
		return false
	}
	for _, c := range id {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// head is a copy without what makes a record large.
func head(b *api.Build) *api.Build {
	h := *b
	h.Text, h.Steps = "", nil
	return &h
}

// Get reads a record; errdefs.ErrNotFound: there is none.
func (s *Store) Get(id string) (*api.Build, error) {
	if !ValidID(id) {
		return nil, notFound(id)
	}
	f, err := os.Open(s.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound(id)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > largest {
		return nil, fmt.Errorf("record of build %s: %d bytes are too many", id, info.Size())
	}
	b := &api.Build{}
	if err := json.NewDecoder(f).Decode(b); err != nil {
		return nil, fmt.Errorf("record of build %s: %w", id, err)
	}
	b.ID = id
	return b, nil
}

func notFound(id string) error { return errdefs.ErrNotFound.WithMessage("no such build: " + id) }

// List returns the heads of all records, newest first. Files that are no records
// are passed over.
func (s *Store) List() ([]*api.Build, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return nil, err
	}
	var list []*api.Build
	for _, h := range s.heads {
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b *api.Build) int {
		if c := b.CreatedAt.Compare(a.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list, nil
}

// load reads the heads, once.
func (s *Store) load() error {
	if s.heads != nil {
		return nil
	}
	ids, err := s.ids()
	if err != nil {
		return err
	}
	heads := map[string]*api.Build{}
	for _, id := range ids {
		if b, err := s.Get(id); err == nil {
			heads[id] = head(b)
		}
	}
	s.heads = heads
	return nil
}

func (s *Store) ids() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), suffix); ok && ValidID(id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Delete removes a record; errdefs.ErrNotFound: there is none.
func (s *Store) Delete(id string) error {
	if !ValidID(id) {
		return notFound(id)
	}
	if err := os.Remove(s.path(id)); errors.Is(err, fs.ErrNotExist) {
		return notFound(id)
	} else if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.heads, id)
	return s.removeInputs(id)
}

// Has tells whether there is a record of an ID.
func (s *Store) Has(id string) bool {
	if !ValidID(id) {
		return false
	}
	_, err := os.Lstat(s.path(id))
	return err == nil
}

// Recover makes the records of builds that no daemon works on any more say so, and
// removes what was being written when a daemon was killed. It is for a daemon that
// has begun no build yet.
func (s *Store) Recover() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var failures []error
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, nextSuffix) || atomicfile.IsTemporary(name) {
			failures = append(failures, os.Remove(filepath.Join(s.dir, name)))
			continue
		}
		id, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || !s.mayRun(id) {
			continue
		}
		b, err := s.Get(id)
		if err != nil {
			continue // damaged: there is nothing to be told of it
		}
		if b.State != api.BuildRunning {
			continue
		}
		interrupt(b, s.lastChange(id))
		failures = append(failures, s.Put(b))
	}
	return errors.Join(failures...)
}

// mayRun is false for a record in which nothing runs. To decode all of them would
// hold up each start of the daemon.
func (s *Store) mayRun(id string) bool {
	if info, err := os.Stat(s.path(id)); err != nil || info.Size() > largest {
		return false
	}
	text, err := os.ReadFile(s.path(id))
	return err == nil && bytes.Contains(text, []byte(`"`+api.BuildRunning+`"`))
}

// lastChange is when a record was written: the last that is known of its build.
func (s *Store) lastChange(id string) time.Time {
	if info, err := os.Stat(s.path(id)); err == nil {
		return info.ModTime()
	}
	return time.Now()
}

// interrupt ends a record in which nobody has told the end.
func interrupt(b *api.Build, at time.Time) {
	b.State, b.EndedAt = api.BuildInterrupted, at.UTC()
	b.Error = "the daemon ended while the build was under way"
	for i := range b.Steps {
		switch step := &b.Steps[i]; step.State {
		case api.BuildRunning:
			step.State, step.EndedAt, step.Error = api.BuildInterrupted, at.UTC(), "the daemon ended"
		case api.StepWaiting:
			step.State = api.StepNotRun
		}
	}
}

// Trim removes records that are too old or too many.
func (s *Store) Trim(now time.Time) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	type file struct {
		id string
		at time.Time
	}
	var files []file
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), suffix)
		if info, err := e.Info(); ok && err == nil {
			files = append(files, file{id, info.ModTime()})
		}
	}
	slices.SortFunc(files, func(a, b file) int { return b.at.Compare(a.at) })
	var failures []error
	var size int64 // of the inputs of this one and newer ones
	for i, f := range files {
		if i < Most && now.Sub(f.at) <= Keep {
			if size += s.inputsSize(f.id); i >= MostInputs || size > mostInputBytes {
				failures = append(failures, s.removeInputs(f.id))
			}
			continue
		}
		if err := s.Delete(f.id); err != nil && !errdefs.IsNotFound(err) {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}
