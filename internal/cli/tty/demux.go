package tty

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Docker's framing of the two output streams on one connection:
//
//	byte 0      1 stdout, 2 stderr, 3 an error of the daemon (0 is stdin, echoed to stdout)
//	bytes 1-3   zero
//	bytes 4-7   length of the payload, big endian
//	then        the payload
const frameHeader = 8

// Demux copies the frames read from r to out and errOut until r ends. Frames
// that arrive together are written together, so that a log of many short
// lines costs few system calls; the order between the two streams is kept,
// and nothing is held back while r blocks.
func Demux(out, errOut io.Writer, r io.Reader) error {
	const size = 64 << 10
	d := demuxer{r: bufio.NewReaderSize(r, size), out: out, err: errOut, pending: make([]byte, 0, size)}
	if err := d.run(); err != nil {
		return errors.Join(err, d.flush())
	}
	return d.flush()
}

type demuxer struct {
	r        *bufio.Reader
	out, err io.Writer
	// pending is payload not written yet, all of it for the writer to.
	pending []byte
	to      io.Writer
}

func (d *demuxer) run() error {
	for {
		if d.r.Buffered() < frameHeader {
			if err := d.flush(); err != nil {
				return err
			}
		}
		head, err := d.r.Peek(frameHeader)
		if errors.Is(err, io.EOF) {
			return nil // as Docker does with a torn header
		}
		if err != nil {
			return err
		}
		stream, length := head[0], int64(binary.BigEndian.Uint32(head[4:]))
		if _, err := d.r.Discard(frameHeader); err != nil {
			return err
		}
		if err := d.frame(stream, length); err != nil {
			return err
		}
	}
}

func (d *demuxer) frame(stream byte, length int64) error {
	switch stream {
	case 0, 1:
		return d.payload(d.out, length)
	case 2:
		return d.payload(d.err, length)
	case 3:
		text, err := io.ReadAll(io.LimitReader(d.r, length))
		if err != nil {
			return err
		}
		return fmt.Errorf("error from daemon in stream: %s", text)
	default:
		return fmt.Errorf("unrecognized stream: %d", stream)
	}
}

func (d *demuxer) payload(w io.Writer, length int64) error {
	if w != d.to {
		if err := d.flush(); err != nil {
			return err
		}
		d.to = w
	}
	for length > 0 {
		if d.r.Buffered() == 0 {
			if err := d.flush(); err != nil {
				return err
			}
			if _, err := d.r.Peek(1); err != nil {
				return endOfFrame(err)
			}
		}
		chunk, err := d.r.Peek(int(min(length, int64(d.r.Buffered()))))
		if err != nil {
			return endOfFrame(err)
		}
		if len(d.pending)+len(chunk) > cap(d.pending) {
			if err := d.flush(); err != nil {
				return err
			}
		}
		d.pending = append(d.pending, chunk...)
		length -= int64(len(chunk))
		if _, err := d.r.Discard(len(chunk)); err != nil {
			return err
		}
	}
	return nil
}

// endOfFrame takes the end of the stream inside a frame as its end: what the
// daemon could still send has been passed on.
func endOfFrame(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (d *demuxer) flush() error {
	if len(d.pending) == 0 {
		return nil
	}
	_, err := d.to.Write(d.pending)
	d.pending = d.pending[:0]
	return err
}
