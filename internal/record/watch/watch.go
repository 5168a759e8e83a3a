// Package watch keeps when nobody watched what processes do: between one daemon,
// which may have been killed, and the next.
//
//	b, err := watch.Open(dir)
//	err = b.Begun(time.Now())  // the watch begins; what lies before it is a gap
//	err = b.Alive(time.Now())  // again and again: all up to now is recorded
//	gaps := b.Between(started, ended)
//
// Who is killed cannot note when, so a file's time of change says until when there
// was a watch for sure. A gap therefore begins up to as long too early as lies
// between two calls of [Book.Alive], and never too late.
package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/portholehq/porthole/internal/failpoint"
	"github.com/portholehq/porthole/internal/sumline"
)

// Keep is how many gaps are kept at least.
const Keep = 200

// Gap is a time in which nobody watched.
type Gap struct {
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
}

// Text says so in words, in the zone of this machine.
func (g Gap) Text() string {
	const precise = "2006-01-02T15:04:05.000Z07:00"
	return fmt.Sprintf("not watched from %s to %s (%v)", g.From.Local().Format(precise), g.Until.Local().Format(precise), g.Until.Sub(g.From).Round(time.Millisecond))
}

// Book is what is known of the gaps. Its methods may be called from any goroutine,
// also on nil, which knows of none.
type Book struct {
	alive string // path of the file whose time tells of the last watch

	mu    sync.Mutex // guards the rest
	log   *sumline.Log[Gap]
	gaps  []Gap     // the oldest first
	last  time.Time // until when there was a watch for sure; zero: there was none yet
	begun bool      // there is a watch now
}

// Open opens the book in a directory, which is made if there is none.
func Open(dir string) (*Book, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open book of the watch: %w", err)
	}
	b := &Book{alive: filepath.Join(dir, "alive")}
	info, err := os.Stat(b.alive)
	switch {
	case err == nil:
		b.last = info.ModTime().UTC()
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("open book of the watch: %w", err)
	}
	if b.log, b.gaps, err = sumline.OpenLog[Gap](filepath.Join(dir, "gaps"), Keep); err != nil {
		return nil, fmt.Errorf("open book of the watch: %w", err)
	}
	return b, nil
}

// Begun notes that there is a watch from now on, and the gap before it.
func (b *Book) Begun(now time.Time) error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begun = true
	var err error
	if g := (Gap{b.last, now.UTC()}); !g.From.IsZero() && g.From.Before(g.Until) {
		b.gaps = append(b.gaps, g)
		b.gaps = b.gaps[max(0, len(b.gaps)-Keep):]
		err = b.log.Append(g)
	}
	return errors.Join(err, b.mark(now))
}

// Alive notes that all that happened up to a time is recorded.
func (b *Book) Alive(at time.Time) error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.begun {
		return nil
	}
	return b.mark(at)
}

// Marked is the last time that Alive was told.
func (b *Book) Marked() time.Time {
	if b == nil {
		return time.Time{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

func (b *Book) mark(at time.Time) error {
	b.last = at.UTC()
	err := failpoint.Hit("watch.mark")
	if err == nil {
		err = os.Chtimes(b.alive, at, at)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.WriteFile(b.alive, nil, 0o600); err == nil {
			err = os.Chtimes(b.alive, at, at)
		}
	}
	if err != nil {
		return fmt.Errorf("mark the watch: %w", err)
	}
	return nil
}

// Between are the gaps within two times, cut to them, the oldest first. As long as
// the watch of this daemon has not begun, the last one goes on. A zero until is now.
func (b *Book) Between(from, until time.Time) (list []Gap) {
	if b == nil {
		return nil
	}
	if until.IsZero() {
		until = time.Now().UTC()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.gaps
	if !b.begun && !b.last.IsZero() {
		all = append(all[:len(all):len(all)], Gap{b.last, until})
	}
	for _, g := range all {
		if g.From.Before(from) {
			g.From = from
		}
		if g.Until.After(until) {
			g.Until = until
		}
		if g.From.Before(g.Until) {
			list = append(list, g)
		}
	}
	return list
}

// Close closes the book.
func (b *Book) Close() error {
	if b == nil {
		return nil
	}
	return b.log.Close()
}
