package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/engine/state"
	"github.com/portholehq/porthole/internal/steady"
)

// keptFiles are the files of containers that have failed and were removed, with --rm as well: for a day, so that they can
// be looked into, see debugRemoved. Of each there is a file with its record, and its writable layer stays where it was.
// Containers that ended well, or because somebody wanted it, leave nothing.
type keptFiles struct {
	dir string
	log *slog.Logger

	mu   sync.Mutex
	list []*remain // the newest last
}

// remain is what is kept of one container.
type remain struct {
	Record  *state.Container `json:"record"`
	Removed time.Time        `json:"removed"`
	gone    chan struct{}    // closed when it goes
}

// Bounds of what is kept: how many, how long, how much together, and how much of the disk has to be free.
const (
	remainsMost      = 10
	remainsAge       = 24 * time.Hour
	remainsBytes     = 1 << 30
	remainsFreeShare = 10 // per cent, or:
	remainsFree      = 10 * remainsBytes
)

// loadRemains reads what an earlier daemon has kept. Files that are damaged are removed: what they were about is a leftover.
func loadRemains(dir string, log *slog.Logger) (*keptFiles, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	r := &keptFiles{dir: dir, log: log}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		kept := &remain{gone: make(chan struct{})}
		data, err := os.ReadFile(name)
		if err == nil {
			err = json.Unmarshal(data, kept)
		}
		if err == nil && (kept.Record == nil || kept.Record.Config == nil || kept.Record.HostConfig == nil || r.file(kept.Record.ID) != name) {
			err = errors.New("it is not whole")
		}
		if err != nil {
			log.Warn("record of a removed container cannot be read", "file", name, "err", err)
			if err := os.Remove(name); err != nil {
				return nil, err
			}
			continue
		}
		r.list = append(r.list, kept)
	}
	slices.SortFunc(r.list, func(a, b *remain) int { return a.Removed.Compare(b.Removed) })
	return r, nil
}

func (r *keptFiles) file(id string) string { return filepath.Join(r.dir, id+".json") }

// worthKeeping tells whether somebody may want to know what a container that is removed has left.
func worthKeeping(v *view) bool {
	return v.Life.Run > 0 && v.Life.ExitCode != 0 && v.Life.Asked == nil
}

// keep tells whether the writable layer of a container that is removed has to stay. It is not forced to the disk: what a
// power cut damages is removed.
func (r *keptFiles) keep(v *view) bool {
	if !worthKeeping(v) || !r.roomy() {
		return false
	}
	kept := &remain{Record: v.Container, Removed: time.Now().UTC(), gone: make(chan struct{})}
	data, err := json.Marshal(kept)
	if err == nil {
		name := r.file(v.ID)
		if err = os.WriteFile(name+".new", data, 0o600); err == nil {
			err = os.Rename(name+".new", name)
		}
	}
	if err != nil {
		r.log.Warn("files of a removed container are not kept", "container", v.ID, "err", err)
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// The removal may have been tried before.
	r.list = append(slices.DeleteFunc(r.list, func(k *remain) bool { return k.Record.ID == v.ID }), kept)
	return true
}

// disown forgets what is said to be kept of containers that exist: the daemon ended in the middle of their removal, and their
// files are theirs.
func (r *keptFiles) disown(exists func(id string) bool) error {
	var failed []error
	for _, kept := range r.all() {
		if exists(kept.Record.ID) {
			failed = append(failed, r.drop(kept))
		}
	}
	return errors.Join(failed...)
}

// roomy tells whether the disk has room for what nobody has asked for.
func (r *keptFiles) roomy() bool {
	var st unix.Statfs_t
	return unix.Statfs(r.dir, &st) == nil && (st.Bavail >= st.Blocks/100*remainsFreeShare || st.Bavail >= remainsFree/uint64(st.Bsize))
}

// find finds the newest that ref names, by whole id, name or the beginning of an id.
func (r *keptFiles) find(ref string) *remain {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, kept := range slices.Backward(r.list) {
		if kept.Record.ID == ref || kept.Record.Name == strings.TrimPrefix(ref, "/") {
			return kept
		}
	}
	for _, kept := range slices.Backward(r.list) {
		if len(ref) >= 6 && strings.HasPrefix(kept.Record.ID, ref) {
			return kept
		}
	}
	return nil
}

// has tells whether the writable layer of that id is one that is kept.
func (r *keptFiles) has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.list, func(k *remain) bool { return k.Record.ID == id })
}

// names are what those that are kept were called, by id.
func (r *keptFiles) names() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := map[string]string{}
	for _, kept := range r.list {
		names[kept.Record.ID] = kept.Record.Name + " (removed)"
	}
	return names
}

func (r *keptFiles) all() []*remain {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

// drop lets one go; its layer is the caller's to remove. Sessions in it end.
func (r *keptFiles) drop(kept *remain) error {
	r.mu.Lock()
	at := slices.Index(r.list, kept)
	if at < 0 {
		r.mu.Unlock()
		return nil
	}
	r.list = slices.Delete(r.list, at, at+1)
	r.mu.Unlock()
	close(kept.gone)
	if err := os.Remove(r.file(kept.Record.ID)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// dropRemain lets one go, with its files.
func (e *Engine) dropRemain(ctx context.Context, kept *remain) error {
	return errors.Join(e.remains.drop(kept), e.deps.Images.RemoveRootFS(ctx, kept.Record.ID))
}

// trimRemains lets go of what is beyond the bounds: the oldest first.
func (e *Engine) trimRemains(ctx context.Context) {
	var bytes int64
	list := e.remains.all()
	slices.Reverse(list)
	full := !e.remains.roomy()
	for i, kept := range list {
		size, err := e.apparent(ctx, ctx, e.deps.Images.RootFSDir(kept.Record.ID))
		if err != nil {
			e.log.Warn("size of a removed container's files is not known", "container", kept.Record.ID, "err", err)
		}
		bytes += size
		if !full && i < remainsMost && bytes <= remainsBytes && steady.Now().Sub(kept.Removed) < remainsAge {
			continue
		}
		if err := e.dropRemain(ctx, kept); err != nil {
			e.log.Warn("files of a removed container stay", "container", kept.Record.ID, "err", err)
		}
	}
}

// trimRemainsRegularly is for those whose time has come.
func (e *Engine) trimRemainsRegularly() {
	tick := time.NewTicker(remainsAge / 24)
	defer tick.Stop()
	for {
		e.trimRemains(e.life)
		select {
		case <-tick.C:
		case <-e.life.Done():
			return
		}
	}
}

// pruneRemains lets go of all that were removed before a moment; zero: of all. It returns their size.
func (e *Engine) pruneRemains(ctx context.Context, until time.Time) (bytes int64, err error) {
	var failed []error
	for _, kept := range e.remains.all() {
		if !until.IsZero() && kept.Removed.After(until) {
			continue
		}
		size, err := e.apparent(ctx, ctx, e.deps.Images.RootFSDir(kept.Record.ID))
		failed = append(failed, err, e.dropRemain(ctx, kept))
		bytes += size
	}
	if err := errors.Join(failed...); err != nil {
		return bytes, fmt.Errorf("remove what is kept of removed containers: %w", err)
	}
	return bytes, nil
}
