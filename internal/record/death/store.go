package death

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/portholehq/porthole/internal/atomicfile"
	"github.com/portholehq/porthole/internal/steady"
)

// ErrNotFound says that there is no such record.
var ErrNotFound = errors.New("no such death record")

// Options bound a store. The zero value means 1,000 records of containers, 1,000 of
// execs, 64 MiB, 64 MiB of black boxes, and 30 days. A record has some 25 KiB with all
// samples, and 100 KiB at the most that output can make of it; of an exec, 1 KiB. A black
// box has some 100 KiB.
type Options struct {
	MaxCount int // of either kind, so that many execs push out no container's end
	MaxBytes int64
	// MaxCallBytes bounds the black boxes, of which the oldest go before their records.
	MaxCallBytes int64
	MaxAge       time.Duration
}

// What one record may hold at most. Write cuts off what is older.
const (
	MaxLines     = 50
	MaxLineBytes = 32 << 10 // of all lines together
	MaxSamples   = 30
	MaxOOMKills  = 50
)

// Store is a directory of records. Its methods may be called from any goroutine.
type Store struct {
	dir     string
	options Options

	mu     sync.Mutex
	writes int // since the last Prune
}

// Open opens or makes the store in dir and removes what is too old.
func Open(dir string, o Options) (*Store, error) {
	if o.MaxCount <= 0 {
		o.MaxCount = 1000
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 64 << 20
	}
	if o.MaxCallBytes <= 0 {
		o.MaxCallBytes = 64 << 20
	}
	if o.MaxAge <= 0 {
		o.MaxAge = 30 * 24 * time.Hour
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open death records: %w", err)
	}
	s := &Store{dir: dir, options: o}
	if err := s.removeTemporary(); err != nil {
		return nil, fmt.Errorf("open death records: %w", err)
	}
	if _, err := s.Prune(steady.Now()); err != nil {
		return nil, err
	}
	return s, nil
}

// removeTemporary removes what writers left that were killed.
func (s *Store) removeTemporary() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			if err := os.Remove(filepath.Join(s.dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// key is what a file's name tells: TIME-CONTAINER-RUN.json, or with the exec's id
// before the dot. The time is when the process ended, in nanoseconds with leading
// zeros, so that names sort by it.
type key struct {
	time      int64
	container string
	run       int
	exec      string
}

// recordEnd is how it ends.
const recordEnd = ".json"

func (k key) name() string {
	name := fmt.Sprintf("%019d-%s-%d", k.time, k.container, k.run)
	if k.exec != "" {
		name += "-" + k.exec
	}
	return name + recordEnd
}

func parseName(name string) (k key, ok bool) {
	base, isRecord := strings.CutSuffix(name, recordEnd)
	parts := strings.Split(base, "-")
	if !isRecord || len(parts) < 3 || len(parts) > 4 {
		return key{}, false
	}
	var err1, err2 error
	k.time, err1 = strconv.ParseInt(parts[0], 10, 64)
	k.container = parts[1]
	k.run, err2 = strconv.Atoi(parts[2])
	if len(parts) == 4 {
		k.exec = parts[3]
	}
	return k, err1 == nil && err2 == nil && k.name() == name
}

// isID reports whether s can be part of a file's name.
func isID(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_'
	})
}

// pruneEvery is after how many writes the bounds are looked at.
const pruneEvery = 50

// Write keeps a record, on the disk when Write returns. It fills in the version,
// the cause if empty, and cuts what is too long. A record of the same end is
// replaced.
func (s *Store) Write(r *Record) error {
	if !isID(r.Container) || r.Exec != "" && !isID(r.Exec) || r.Run < 0 {
		return fmt.Errorf("write death record of container %q, run %d, exec %q: not an id", r.Container, r.Run, r.Exec)
	}
	kept := *r
	kept.Complete()
	text, err := json.Marshal(&kept)
	if err == nil {
		err = atomicfile.Write(filepath.Join(s.dir, keyOf(&kept).name()), append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write death record of container %.12s: %w", r.Container, err)
	}
	s.mu.Lock()
	s.writes++
	due := s.writes >= pruneEvery
	if due {
		s.writes = 0
	}
	s.mu.Unlock()
	if due {
		_, err = s.Prune(steady.Now())
	}
	return err
}

// Complete fills in the version, and the cause if empty, and cuts what is too
// long, as Write does.
func (r *Record) Complete() {
	r.Version = Version
	if r.Cause == "" {
		r.Cause = Judge(r)
	}
	r.bound()
}

// bound keeps the newest of each list.
func (r *Record) bound() {
	r.LastSamples = r.LastSamples[max(0, len(r.LastSamples)-MaxSamples):]
	r.OOMKills = r.OOMKills[max(0, len(r.OOMKills)-MaxOOMKills):]
	lines, room := slices.Clone(r.LastLines[max(0, len(r.LastLines)-MaxLines):]), MaxLineBytes
	for i := len(lines) - 1; i >= 0; i-- {
		if text := lines[i].Text; len(text) > room {
			for room > 0 && !utf8.RuneStart(text[room]) {
				room--
			}
			lines[i].Text = text[:room] // its beginning tells most
			lines = lines[i:]
			break
		}
		room -= len(lines[i].Text)
	}
	r.LastLines = lines
}

// keys are those of all records, newest first.
func (s *Store) keys() ([]key, error) {
	entries, err := os.ReadDir(s.dir) // sorted by name
	if err != nil {
		return nil, fmt.Errorf("list death records: %w", err)
	}
	list := make([]key, 0, len(entries))
	for _, e := range slices.Backward(entries) {
		if k, ok := parseName(e.Name()); ok {
			list = append(list, k)
		}
	}
	return list, nil
}

// Query says which records are meant. The zero value means all.
type Query struct {
	Container string // full id or the beginning of one
	Name      string // of the container when it ended
	Run       int    // 0: any
	Exec      string // id of an exec or the beginning of one; empty: first processes only, unless AnyExec
	AnyExec   bool
	Since     time.Time // by the time of the end, inclusive
}

// matchKey tells whether the name of a file leaves a record possible.
func (q Query) matchKey(k key) bool {
	switch {
	case !strings.HasPrefix(k.container, q.Container):
	case q.Run != 0 && k.run != q.Run:
	case q.Exec == "" && k.exec != "" && !q.AnyExec:
	case q.Exec != "" && (k.exec == "" || !strings.HasPrefix(k.exec, q.Exec)):
	case !q.Since.IsZero() && k.time < q.Since.UnixNano():
	default:
		return true
	}
	return false
}

// Match tells whether a record is meant.
func (q Query) Match(r *Record) bool {
	return q.matchKey(keyOf(r)) && (q.Name == "" || r.Name == q.Name)
}

func keyOf(r *Record) key {
	return key{time: max(r.Finished.UnixNano(), 0), container: r.Container, run: r.Run, exec: r.Exec}
}

// largest is more than a record can have, see [Options].
const largest = 128 << 10

// Known returns the runs of containers that have a record, and the time before
// which records may have been removed: for their age or, when there are as many as
// there may be or there may have been no room for one more, to make room.
func (s *Store) Known() (runs map[Run]bool, since time.Time, err error) {
	keys, err := s.keys() // newest first
	runs, since = map[Run]bool{}, steady.Now().Add(-s.options.MaxAge)
	var bytes int64
	var oldest time.Time // of all, if there may have been no room for another
	for _, k := range keys {
		if info, err := os.Stat(filepath.Join(s.dir, k.name())); err == nil {
			bytes += info.Size()
		}
		// The oldest that is kept is the first before which one may be missing.
		if ended := time.Unix(0, k.time); bytes > s.options.MaxBytes-largest && ended.After(since) {
			oldest = ended
		}
		if k.exec != "" {
			continue
		}
		runs[Run{k.container, k.run}] = true
		if ended := time.Unix(0, k.time); len(runs) == s.options.MaxCount && ended.After(since) {
			since = ended
		}
	}
	if oldest.After(since) {
		since = oldest
	}
	return runs, since, err
}

// Run names one run of a container.
type Run struct {
	Container string
	Number    int
}

// List goes through the records, newest first. A document that cannot be read is
// an error in its place, and the next one follows. Records that are removed
// meanwhile are left out.
func (s *Store) List(q Query) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		keys, err := s.keys()
		if err != nil {
			yield(nil, err)
			return
		}
		for _, k := range keys {
			if !q.matchKey(k) {
				continue
			}
			r, err := s.read(k)
			if errors.Is(err, fs.ErrNotExist) || err == nil && q.Name != "" && r.Name != q.Name {
				continue
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// Find returns the newest record that a query means, or ErrNotFound.
func (s *Store) Find(q Query) (*Record, error) {
	for r, err := range s.List(q) {
		return r, err
	}
	return nil, ErrNotFound
}

func (s *Store) read(k key) (*Record, error) {
	text, err := os.ReadFile(filepath.Join(s.dir, k.name()))
	if err != nil {
		return nil, fmt.Errorf("read death record: %w", err)
	}
	r := new(Record)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("read death record %q: %w", k.name(), err)
	}
	return r, nil
}

// Prune removes the records that are too old at a time, or too many, with their black
// boxes, and says how many records there were. Write and Open call it.
func (s *Store) Prune(now time.Time) (removed int, err error) {
	keys, err := s.keys()
	if err != nil {
		return 0, err
	}
	oldest := now.Add(-s.options.MaxAge).UnixNano()
	var containers, execs int
	var bytes int64
	for _, k := range keys {
		count := &containers
		if k.exec != "" {
			count = &execs
		}
		*count++
		info, err := os.Stat(filepath.Join(s.dir, k.name()))
		if err == nil {
			bytes += info.Size()
		}
		if *count <= s.options.MaxCount && bytes <= s.options.MaxBytes && k.time >= oldest {
			continue
		}
		// The box first: a record without it is whole.
		if err := errors.Join(s.remove(k.calls()), s.remove(k.name())); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, s.pruneCalls(oldest)
}

func (s *Store) remove(name string) error {
	if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove death record: %w", err)
	}
	return nil
}
