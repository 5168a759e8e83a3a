package sample

import (
	"errors"
	"fmt"
	"os"

	"github.com/portholehq/porthole/internal/failpoint"
)

// DefaultCapacity keeps two hours at one sample per second, which are 2.2 MiB. A
// thing that needs longer to go wrong is seen as well in the death record's and
// the user's own monitoring; and at 200 containers the rings stay below half a
// GiB of the data root.
const DefaultCapacity = 2 * 60 * 60

// Options of a Writer.
type Options struct {
	// Capacity is how many samples a new file keeps; 0 means DefaultCapacity. A
	// file that exists keeps its own.
	Capacity int
}

// Writer appends to a ring. There must be one per file. It is for one goroutine
// at a time.
type Writer struct {
	file     *os.File
	capacity int
	seq      uint64 // of the last record
	last     Sample
	buf      [recordSize]byte
}

// OpenWriter opens or makes the file at path, whose directory must exist, and
// goes on after its last valid record. A file that is no ring of this version, or
// whose header was torn, is begun anew.
func OpenWriter(path string, o Options) (*Writer, error) {
	if o.Capacity <= 0 {
		o.Capacity = DefaultCapacity
	}
	if o.Capacity > maxCapacity {
		return nil, fmt.Errorf("open samples %q: capacity %d is above %d", path, o.Capacity, maxCapacity)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open samples: %w", err)
	}
	w := &Writer{file: f}
	if err := w.load(o.Capacity); err != nil {
		f.Close()
		return nil, fmt.Errorf("open samples %q: %w", path, err)
	}
	return w, nil
}

func (w *Writer) load(capacity int) error {
	r, err := newReader(w.file)
	if errors.Is(err, ErrFormat) {
		return w.begin(capacity)
	}
	if err != nil {
		return err
	}
	w.capacity = r.capacity
	w.seq, w.last, err = r.newest()
	return err
}

func (w *Writer) begin(capacity int) error {
	w.capacity = capacity
	if err := w.file.Truncate(0); err != nil {
		return err
	}
	encodeHeader(&w.buf, capacity)
	if err := failpoint.Hit("sample.begin"); err != nil {
		return err
	}
	_, err := w.file.WriteAt(w.buf[:], 0)
	return err
}

// Append adds a sample, in place of the oldest if the ring is full.
func (w *Writer) Append(s *Sample) error {
	encode(&w.buf, w.seq+1, s)
	if err := failpoint.Hit("sample.write"); err != nil {
		return fmt.Errorf("append sample: %w", err)
	}
	if _, err := w.file.WriteAt(w.buf[:], slot(w.seq+1, w.capacity)); err != nil {
		return fmt.Errorf("append sample: %w", err)
	}
	w.seq++
	w.last = *s
	return nil
}

// Last returns the sample that was appended last, by this Writer or before it.
func (w *Writer) Last() (Sample, bool) { return w.last, w.seq > 0 }

// Close closes the file.
func (w *Writer) Close() error { return w.file.Close() }
