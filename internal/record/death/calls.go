package death

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/portholehq/porthole/internal/atomicfile"
	"github.com/portholehq/porthole/internal/record/blackbox"
)

// callsEnd is how the name of a black box ends, in place of that of its record.
const callsEnd = ".calls.zst"

// calls is the name of the file with the black box of a record.
func (k key) calls() string { return strings.TrimSuffix(k.name(), recordEnd) + callsEnd }

// WriteCalls keeps the black box of the run that a record is about. It is written before
// the record, so that whoever finds the record finds it.
func (s *Store) WriteCalls(r *Record, kept *blackbox.Kept) error {
	if !isID(r.Container) || r.Exec != "" || r.Run < 0 {
		return fmt.Errorf("write black box of container %q, run %d, exec %q: not a run of a container", r.Container, r.Run, r.Exec)
	}
	data, err := kept.Encode()
	if err == nil {
		err = atomicfile.Write(filepath.Join(s.dir, keyOf(r).calls()), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write black box of container %.12s: %w", r.Container, err)
	}
	return nil
}

// Calls returns the black box of the run that a record is about, or ErrNotFound: it had
// none, or that was removed to make room.
func (s *Store) Calls(r *Record) (*blackbox.Kept, error) {
	data, err := os.ReadFile(filepath.Join(s.dir, keyOf(r).calls()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read black box: %w", err)
	}
	return blackbox.Decode(data)
}

// pruneCalls removes the black boxes that are too old, also those whose record was never
// written, or too much.
func (s *Store) pruneCalls(oldest int64) error {
	entries, err := os.ReadDir(s.dir) // sorted by name
	if err != nil {
		return fmt.Errorf("list black boxes: %w", err)
	}
	var bytes int64
	for _, e := range slices.Backward(entries) {
		base, ok := strings.CutSuffix(e.Name(), callsEnd)
		k, whole := parseName(base + recordEnd)
		if !ok || !whole {
			continue
		}
		if info, err := e.Info(); err == nil {
			bytes += info.Size()
		}
		if bytes <= s.options.MaxCallBytes && k.time >= oldest {
			continue
		}
		if err := s.remove(e.Name()); err != nil {
			return err
		}
	}
	return nil
}
