// Package detachkeys finds the key sequence that detaches a terminal in what a person types.
package detachkeys

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
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

// Reader passes on what it reads until the sequence comes. The beginning of a sequence is held back until it is known
// whether the rest follows, however the bytes are split into reads.
type Reader struct {
	r    io.Reader
	keys []byte
	held int    // so many keys of the sequence have been read and not passed on
	out  []byte // to be passed on
	err  error  // to be returned when out is empty
	buf  [4096]byte
}

// NewReader returns a Reader for a sequence made by Parse.
func NewReader(r io.Reader, keys []byte) *Reader { return &Reader{r: r, keys: keys} }

// Read implements io.Reader. It returns ErrDetached after the sequence; what came before it was passed on.
func (d *Reader) Read(p []byte) (int, error) {
	for len(d.out) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		n, err := d.r.Read(d.buf[:])
		d.scan(d.buf[:n])
		if d.err == nil && err != nil {
			d.out, d.held = append(d.out, d.keys[:d.held]...), 0
			d.err = err
		}
	}
	n := copy(p, d.out)
	d.out = d.out[n:]
	return n, nil
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
		if bytes.Equal(text[len(text)-n:], d.keys[:n]) {
			d.out = append(d.out, text[:len(text)-n]...)
			d.held = n
			return
		}
	}
}
