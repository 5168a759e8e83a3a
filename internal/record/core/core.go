// Package core keeps cores of processes that have crashed in containers, also after
// their containers are gone.
//
//	s, err := core.Open("/var/lib/porthole/cores", core.Options{})
//	err = s.Keep(&core.Record{Container: id, Name: "web"}, elf, limit)
//	for _, r := range s.List() { … }
//	f, err := s.Read(id) // the ELF file
//
// # Format
//
// A core is two files, for root alone: what is in it are the secrets of a process.
//
//	ID.zst   the ELF file, as one Zstandard frame with a checksum: its pages of zeros cost next to nothing
//	ID.json  a Record; written last, so that a core without one is what a killed writer has left
//
// The store is bounded in each way: see [Options]. The oldest go first, and a
// container that crashes over and over pushes out its own before those of others: it
// has half of the room, and one core a quarter. Nothing is kept where the disk would
// have less than [Spare] left.
package core

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/atomicfile"
	"github.com/portholehq/porthole/internal/steady"
)

// ErrNotFound says that there is no such core.
var ErrNotFound = errors.New("no such core")

// Options bound a store. The zero value means 2 GiB of a core (as it is, not
// packed), 2 GiB on the disk of all, 5 of a container, 50 together, and 30 days.
type Options struct {
	MaxCore         int64
	MaxBytes        int64
	MaxPerContainer int
	MaxCount        int
	MaxAge          time.Duration
}

// Record tells of what a core is.
type Record struct {
	ID        string    `json:"id"` // 16 hexadecimal digits
	Container string    `json:"container"`
	Name      string    `json:"name"` // of the container
	Image     string    `json:"image"`
	Run       int       `json:"run"`
	Time      time.Time `json:"time"` // of the crash

	PID     int            `json:"pid"`              // on the host
	Inside  int            `json:"pid_inside"`       // in the container
	First   bool           `json:"first,omitempty"`  // the container's first process
	Process string         `json:"process"`          // name of the program, of at most 15 bytes, which it chooses itself
	UID     uint32         `json:"uid"`              // on the host
	Signal  syscall.Signal `json:"signal,omitempty"` // 0: the core does not tell

	Bytes     int64 `json:"bytes"`               // of the ELF file
	Disk      int64 `json:"disk"`                // of the packed file
	Truncated bool  `json:"truncated,omitempty"` // it was longer than it may be, or broken off
}

// Store is a directory of cores. Its methods may be called from any goroutine.
type Store struct {
	dir     string
	options Options

	mu   sync.Mutex // of list
	list []*Record  // the newest first; what is in it does not change
}

// Open opens or makes the store in dir, and removes what writers left that were
// killed, and what is too old.
func Open(dir string, o Options) (*Store, error) {
	def := func(n *int64, most int64) {
		if *n <= 0 {
			*n = most
		}
	}
	def(&o.MaxCore, 2<<30)
	def(&o.MaxBytes, 2<<30)
	def((*int64)(&o.MaxAge), int64(30*24*time.Hour))
	if o.MaxPerContainer <= 0 {
		o.MaxPerContainer = 5
	}
	if o.MaxCount <= 0 {
		o.MaxCount = 50
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open cores: %w", err)
	}
	s := &Store{dir: dir, options: o}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("open cores: %w", err)
	}
	return s, s.prune(steady.Now())
}

// load reads the records and removes what belongs to none.
func (s *Store) load() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, e := range entries {
		id, isRecord := strings.CutSuffix(e.Name(), ".json")
		if !isRecord || !isID(id) {
			continue
		}
		r := new(Record)
		text, err := os.ReadFile(s.path(id, "json"))
		if err == nil {
			err = json.Unmarshal(text, r)
		}
		if _, missing := os.Stat(s.path(id, "zst")); err == nil && r.ID == id && missing == nil {
			known[id], s.list = true, append(s.list, r)
		}
	}
	for _, e := range entries {
		if id, _, _ := strings.Cut(e.Name(), "."); !known[id] {
			if err := os.Remove(filepath.Join(s.dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	slices.SortFunc(s.list, func(a, b *Record) int { return b.Time.Compare(a.Time) })
	return nil
}

func (s *Store) path(id, ext string) string { return filepath.Join(s.dir, id+"."+ext) }

// idBytes are random.
const idBytes = 8

func isID(text string) bool {
	b, err := hex.DecodeString(text)
	return err == nil && len(b) == idBytes
}

// Keep reads a core from r, at most limit bytes of it and no more than the store
// takes, and keeps it. It fills in the record's ID, Signal, Bytes, Disk and
// Truncated; the record must not be changed afterwards. After an error nothing is
// left. What is beyond is not read.
func (s *Store) Keep(rec *Record, r io.Reader, limit int64) (err error) {
	var id [idBytes]byte
	_, _ = rand.Read(id[:]) // never fails
	rec.ID = hex.EncodeToString(id[:])
	if err := s.pack(rec, r, min(limit, s.options.MaxCore)); err != nil {
		return errors.Join(fmt.Errorf("keep core of %q: %w", rec.Name, err), s.unlink(rec.ID))
	}
	text, err := json.Marshal(rec)
	if err == nil {
		err = atomicfile.Write(s.path(rec.ID, "json"), append(text, '\n'), 0o600)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keep core of %q: %w", rec.Name, err), s.unlink(rec.ID))
	}
	s.mu.Lock()
	at := slices.IndexFunc(s.list, func(o *Record) bool { return !o.Time.After(rec.Time) })
	if at < 0 {
		at = len(s.list)
	}
	s.list = slices.Insert(slices.Clone(s.list), at, rec)
	s.mu.Unlock()
	return s.prune(steady.Now())
}

// pack writes the packed file.
func (s *Store) pack(rec *Record, r io.Reader, limit int64) error {
	file, err := os.OpenFile(s.path(rec.ID, "zst"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	disk := &bounded{w: file, room: s.options.MaxBytes / 4, spare: Spare}
	enc, err := zstd.NewWriter(disk, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		return err
	}
	defer enc.Close()
	head := &beginning{}
	rec.Bytes, err = io.Copy(io.MultiWriter(enc, head), io.LimitReader(r, limit))
	broken := errors.Is(err, os.ErrDeadlineExceeded) && rec.Bytes > 0 // it took too long: what there is may do
	if err != nil && !broken {
		return err
	}
	var whole int64
	if rec.Signal, whole, err = examine(head.bytes); err != nil {
		return err
	}
	rec.Truncated = rec.Bytes < whole || broken
	if err := enc.Close(); err != nil {
		return err
	}
	rec.Disk = disk.written
	return file.Sync()
}

// bounded lets so many bytes through.
type bounded struct {
	w             *os.File
	room, written int64
	spare         int64
}

// Spare is how much of the disk, in bytes, is left to others.
const Spare = 256 << 20

var (
	errTooLarge = errors.New("packed, it is larger than a quarter of what all cores may be together")
	errFull     = errors.New("the disk has too little space left")
)

func (b *bounded) Write(p []byte) (int, error) {
	if b.written+int64(len(p)) > b.room {
		return 0, errTooLarge
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(b.w.Fd()), &st); err != nil {
		return 0, err
	}
	if int64(st.Bavail)*st.Bsize < b.spare {
		return 0, errFull
	}
	n, err := b.w.Write(p)
	b.written += int64(n)
	return n, err
}

// beginning keeps the first bytes of what is written.
type beginning struct{ bytes []byte }

// headBytes hold the headers of as many mappings as a process may have by default
// (vm.max_map_count), and the first note behind.
const headBytes = 4 << 20

func (h *beginning) Write(p []byte) (int, error) {
	h.bytes = append(h.bytes, p[:min(len(p), headBytes-len(h.bytes))]...)
	return len(p), nil
}

// List returns the records, the newest first. Nothing in it may be changed.
func (s *Store) List() []*Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list
}

// MaxCore is how much of a core is kept, in bytes.
func (s *Store) MaxCore() int64 { return s.options.MaxCore }

// Read opens the ELF file of a core, which stays readable while it is removed. The
// error is ErrNotFound if there is none. The caller closes it.
func (s *Store) Read(id string) (io.ReadCloser, error) {
	if !isID(id) {
		return nil, ErrNotFound
	}
	file, err := os.Open(s.path(id, "zst"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read core: %w", err)
	}
	dec, err := zstd.NewReader(file, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(1<<20))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read core: %w", err), file.Close())
	}
	return &reader{dec, file}, nil
}

type reader struct {
	*zstd.Decoder
	file *os.File
}

func (r *reader) Close() error {
	r.Decoder.Close()
	return r.file.Close()
}

// Remove removes a core. The error is ErrNotFound if there is none.
func (s *Store) Remove(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.ContainsFunc(s.list, func(r *Record) bool { return r.ID == id }) {
		return ErrNotFound
	}
	return s.remove(id)
}

// remove takes it from list and disk. mu is held.
func (s *Store) remove(id string) error {
	if err := s.unlink(id); err != nil {
		return fmt.Errorf("remove core: %w", err)
	}
	s.list = slices.DeleteFunc(slices.Clone(s.list), func(r *Record) bool { return r.ID == id })
	return nil
}

// unlink removes the files of a core, the record first.
func (s *Store) unlink(id string) error {
	for _, ext := range []string{"json", "zst"} {
		if err := os.Remove(s.path(id, ext)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// prune removes what is beyond the bounds, the oldest first.
func (s *Store) prune(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest, count, disk, of, diskOf := now.Add(-s.options.MaxAge), 0, int64(0), map[string]int{}, map[string]int64{}
	for _, r := range s.list {
		own := of[r.Container] < s.options.MaxPerContainer && diskOf[r.Container]+r.Disk <= s.options.MaxBytes/2
		if own && count < s.options.MaxCount && disk+r.Disk <= s.options.MaxBytes && !r.Time.Before(oldest) {
			of[r.Container]++
			diskOf[r.Container] += r.Disk
			count++
			disk += r.Disk
			continue
		}
		if err := s.remove(r.ID); err != nil {
			return err
		}
	}
	return nil
}
