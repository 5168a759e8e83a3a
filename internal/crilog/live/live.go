// Package live keeps the last output of a container in memory while somebody
// follows its log, for logs whose files are rotated faster than they are read.
//
// The shim sends what it writes into the log as batches, through a socket that
// never makes it wait. A [Feed] takes them and is the [crilog.Live] of all that
// follow the log. What the socket or the feed could not hold is missing in it;
// readers find that out, and look for it in the files.
package live

import (
	"errors"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/portholehq/porthole/internal/crilog"
)

const (
	// Most is how many bytes of records a feed keeps.
	Most = 4 << 20
	// batchMost bounds the number of batches, whatever is in them.
	batchMost = 16 << 10
)

// Worthwhile tells whether a feed may hold what the files of a log do not: a
// larger log keeps in its files more than a feed would.
func Worthwhile(o crilog.Options) bool {
	o = o.WithDefaults()
	return !o.Disabled && o.MaxSize > 0 && o.MaxSize <= 2*Most/int64(o.MaxFiles)
}

// Feed holds the last batches of one log.
type Feed struct {
	// pumping is held while a run's batches come, so that those of the next run
	// come after them.
	pumping sync.Mutex

	// mu guards everything below.
	mu      sync.Mutex
	kept    []kept // oldest first
	bytes   int    // of records in kept
	last    uint64 // number of the newest batch
	sources int    // what is connected
	changed chan struct{}
}

type kept struct {
	number uint64
	batch  crilog.Batch
}

// New returns a feed that nothing comes to yet.
func New() *Feed { return &Feed{changed: make(chan struct{})} }

func (f *Feed) connect(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sources += n
	f.wake()
}

// wake tells all that wait; mu is held.
func (f *Feed) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// Connect has batches come from a shim's socket: whoever follows the log waits
// for them from now on. Pump has to be called, takes them until the socket's end,
// and closes it. The error is that of a broken socket or message.
func (f *Feed) Connect(file *os.File) (pump func() error) {
	f.connect(1)
	return func() error {
		defer f.connect(-1)
		return f.pump(file)
	}
}

func (f *Feed) pump(file *os.File) error {
	defer file.Close()
	f.pumping.Lock()
	defer f.pumping.Unlock()
	var next uint64
	buf := make([]byte, crilog.BatchMost)
	for {
		n, err := file.Read(buf)
		if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		b, count, err := crilog.ParseBatch(buf[:n])
		if err != nil {
			return err
		}
		b.Records = slices.Clone(b.Records)
		f.add(b, next == 0 || count != next)
		next = count + 1
	}
}

// add keeps b; missed says that something is missing right before it.
func (f *Feed) add(b crilog.Batch, missed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last++
	if missed {
		f.last++
	}
	f.kept = append(f.kept, kept{f.last, b})
	f.bytes += len(b.Records)
	drop := 0
	for f.bytes > Most || len(f.kept)-drop > batchMost {
		f.bytes -= len(f.kept[drop].batch.Records)
		f.kept[drop] = kept{}
		drop++
	}
	f.kept = f.kept[drop:]
	f.wake()
}

// State implements [crilog.Live].
func (f *Feed) State() (on bool, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sources > 0, f.changed
}

// Next implements [crilog.Live].
func (f *Feed) Next(after uint64) (b crilog.Batch, number uint64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, _ := slices.BinarySearchFunc(f.kept, after+1, func(k kept, n uint64) int {
		switch {
		case k.number < n:
			return -1
		case k.number > n:
			return 1
		}
		return 0
	})
	if i == len(f.kept) {
		return crilog.Batch{}, 0, false
	}
	return f.kept[i].batch, f.kept[i].number, true
}

// Info tells what a feed holds.
type Info struct {
	On      bool `json:"on"` // somebody feeds it
	Batches int  `json:"batches"`
	Bytes   int  `json:"bytes"`
}

// Inspect is for those who look into the daemon.
func (f *Feed) Inspect() Info {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Info{On: f.sources > 0, Batches: len(f.kept), Bytes: f.bytes}
}
