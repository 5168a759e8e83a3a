// Package detachkeys finds the key sequence that detaches a terminal in what a person types.
package detachkeys

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Default is the sequence that detaches when no other was asked for.
const Default = "ctrl-p,ctrl-q"

// ErrDetached is returned by a Reader once the whole sequence was typed.
var ErrDetached = errors.New("read escape sequence")

// Parse reads a comma list of single characters, ctrl-X with X one of a-z @ [ \ ] ^ _, and DEL. Empty text is Default.
func Parse(text string) ([]byte, error) {
	if text == "" {
		text = Default
	}
	var keys []byte
	for name := range strings.SplitSeq(text, ",") {
		k, ok := key(name)
		if !ok {
			return nil, fmt.Errorf("invalid detach keys (%s): unknown character: '%s'", text, name)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func key(name string) (byte, bool) {
	if len(name) == 1 {
		return name[0], true
	}
	if name == "DEL" {
		return 127, true
	}
	rest, ok := strings.CutPrefix(strings.ToLower(name), "ctrl-")
	if !ok || len(rest) != 1 {
		return 0, false
	}
	switch c := rest[0]; {
	case c >= 'a' && c <= 'z':
		return c - 'a' + 1, true
	case c == '@':
		return 0, true
	case c >= '[' && c <= '_':
		return c - '[' + 27, true
	}
	return 0, false
}

// patience is how long the beginning of a sequence is held back from the program. Client and daemon may both look for a
// sequence, one after the other, and a person should see what a key does within half a second.
const patience = 200 * time.Millisecond

// Reader passes on what it reads until the sequence comes, however its bytes are split into reads. The beginning of a
// sequence is held back for a moment: most people type the rest at once, and the program should see nothing of it then.
// After that moment it is passed on, for it may have been meant for the program, as ctrl-p is in every shell; but if the
// rest does follow, however late, it detaches as well.
type Reader struct {
	r       io.Reader
	keys    []byte
	held    int         // so many keys of the sequence have been read
	passed  int         // so many of those were passed on
	pending chan result // a read that is under way; nil: none is
	out     []byte      // to be passed on
	err     error       // to be returned when out is empty
	buf     [4096]byte  // belongs to the read that is under way
}

// result is what a read into buf gave.
type result struct {
	n   int
	err error
}

// NewReader returns a Reader for a sequence made by Parse. A read of r may be under way after the last Read of the Reader
// has returned; it ends when something comes, or r ends.
func NewReader(r io.Reader, keys []byte) *Reader { return &Reader{r: r, keys: keys} }

// Read implements io.Reader. It returns ErrDetached after the sequence; what came before it was passed on.
func (d *Reader) Read(p []byte) (int, error) {
	for len(d.out) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		got, late := d.next()
		if late {
			d.release()
			continue
		}
		d.scan(d.buf[:got.n])
		if d.err == nil && got.err != nil {
			d.release()
			d.err = got.err
		}
	}
	n := copy(p, d.out)
	d.out = d.out[n:]
	return n, nil
}

// release passes on what is held back.
func (d *Reader) release() {
	d.out = append(d.out, d.keys[d.passed:d.held]...)
	d.passed = d.held
}

// next reads. It is late when nothing comes while something is held back.
func (d *Reader) next() (got result, late bool) {
	holding := d.passed < d.held
	if d.pending == nil && !holding {
		n, err := d.r.Read(d.buf[:])
		return result{n, err}, false
	}
	if d.pending == nil {
		pending := make(chan result, 1)
		d.pending = pending
		go func() {
			n, err := d.r.Read(d.buf[:])
			pending <- result{n, err}
		}()
	}
	var end <-chan time.Time
	if holding {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		end = timer.C
	}
	select {
	case got = <-d.pending:
		d.pending = nil
		return got, false
	case <-end:
		return result{}, true
	}
}

func (d *Reader) scan(typed []byte) {
	d.out = d.out[:0]
	for _, b := range typed {
		if b == d.keys[d.held] {
			if d.held++; d.held == len(d.keys) {
				d.err = ErrDetached
				return
			}
			continue
		}
		d.mismatch(b)
	}
}

// mismatch passes on what turned out not to be the sequence, but keeps the longest end of it that may still begin one.
func (d *Reader) mismatch(b byte) {
	text := append(bytes.Clone(d.keys[:d.held]), b)
	for n := min(len(text), len(d.keys)-1); n >= 0; n-- {
		if over := len(text) - n; bytes.Equal(text[over:], d.keys[:n]) {
			if d.passed < over {
				d.out = append(d.out, text[d.passed:over]...)
			}
			d.held, d.passed = n, max(0, d.passed-over)
			return
		}
	}
}
