package witness

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/portholehq/porthole/internal/linux/bpf"
)

// Kind says what a deed is.
type Kind uint32

// The kinds of deeds.
const (
	Exec    Kind = iota + 1 // a program was executed
	Exit                    // a process has ended
	Sent                    // a signal was sent to a process
	Connect                 // a TCP connection to elsewhere was opened
	Refused                 // one could not be
	Accept                  // one from elsewhere was accepted
	Listen                  // a socket listens
)

// Deed is something that a process of a container has done, or that happened to it.
type Deed struct {
	Kind  Kind
	Time  time.Time
	Group uint64 // cgroup id of the group below the parent
	Part  uint64 // and of the group in that

	PID       int // as this program counts; 0: not known
	PIDInside int // in its own pid namespace
	Parent    int // inside; 0: not to be seen from there
	Comm      string

	// Of a program: its file, and the command line as far as it fits.
	File string
	Args []string
	Cut  bool // the command line is longer

	Status syscall.WaitStatus // of a process that has ended
	Lived  time.Duration

	// Of a signal, and its sender.
	Signal  syscall.Signal
	Ignored bool
	Kernel  bool // it came from the kernel by itself
	From    Process

	// Of a connection.
	Local, Remote netip.AddrPort
	Error         syscall.Errno // why it could not be opened; 0: that is not known
	More          int           // like this one, since the last that was told of

	Dropped int // deeds of this container before this one that were not told of
}

// deedHead is struct deed of deeds.h up to its data.
type deedHead struct {
	Time, Container, Part, Life, FromContainer uint64
	Kind, PID, Inside, Parent                  uint32
	Number, Code                               int32
	Result, From, FromInside, FromUID          uint32
	More, Dropped, ArgsTotal                   uint32
	Family, OwnPort, OtherPort, File, Args, _  uint16
	Comm, FromComm                             [16]byte
}

// fileRoom is where the command line begins in the data of a program: FILE of deeds.h.
const fileRoom = 128

// deed takes a record of the ring apart.
func (w *Witness) deed(b []byte) (*Deed, error) {
	var h deedHead
	n, err := binary.Decode(b, binary.NativeEndian, &h)
	if err != nil {
		return nil, fmt.Errorf("what a process did, in %d bytes: %w", len(b), err)
	}
	data := b[n:]
	d := &Deed{
		Kind: Kind(h.Kind), Time: w.now.Add(time.Duration(int64(h.Time - w.boot))), Group: h.Container, Part: h.Part,
		PID: int(h.PID), PIDInside: int(h.Inside), Parent: int(h.Parent), Comm: text(h.Comm[:]), More: int(h.More), Dropped: int(h.Dropped),
	}
	switch d.Kind {
	case Exec:
		d.program(&h, data)
	case Exit:
		d.Status, d.Lived = syscall.WaitStatus(uint32(h.Number)), time.Duration(h.Life)
	case Sent:
		d.Signal, d.Ignored, d.Kernel = syscall.Signal(h.Number), h.Result == resultIgnored, h.Code >= 1 || bpf.FromInterrupt(h.Code)
		d.From = Process{PID: int(h.From), PIDInside: int(h.FromInside), UID: h.FromUID, Group: h.FromContainer, Name: text(h.FromComm[:])}
	case Connect, Refused, Accept, Listen:
		d.Local, d.Remote, d.Error = address(h.Family, data, h.OwnPort), address(h.Family, data[min(16, len(data)):], h.OtherPort), syscall.Errno(h.Number)
	default:
		return nil, fmt.Errorf("a deed of unknown kind %d", h.Kind)
	}
	return d, nil
}

func (d *Deed) program(h *deedHead, data []byte) {
	d.File = text(data[:min(int(h.File), fileRoom, len(data))])
	args := data[min(fileRoom, len(data)):]
	args = bytes.TrimSuffix(args[:min(int(h.Args), len(args))], []byte{0})
	d.Cut = int(h.ArgsTotal) > int(h.Args)
	if len(args) > 0 {
		d.Args = strings.Split(string(args), "\x00")
	}
}

// address reads one of struct deed's data.
func address(family uint16, b []byte, port uint16) netip.AddrPort {
	size := 16
	if family == syscall.AF_INET {
		size = 4
	}
	a, _ := netip.AddrFromSlice(b[:min(size, len(b))])
	return netip.AddrPortFrom(a.Unmap(), port)
}

func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

// drains lets somebody wait until all that has happened was told of.
type drains struct {
	kick chan struct{} // has something in it when the reader is not to sleep
	mu   sync.Mutex
	next chan struct{} // closed when the ring was found empty, after the last flush
}

// gather is how long the reader sleeps when it has told of something, so that it
// takes many deeds at once.
const gather = 20 * time.Millisecond

// Follow calls fn for each deed, in the order in which they happened as far as they
// were of one processor, until the context ends or the Witness is closed; and then,
// from time to time, idle, when all that there was has been told of. It is for one
// goroutine.
func (w *Witness) Follow(ctx context.Context, fn func(*Deed), idle func()) error {
	defer context.AfterFunc(ctx, func() { _ = w.reader.Flush() })()
	var rec ringbuf.Record
	behind := false
	for {
		if !behind {
			// A wake-up may be missed when one is added while the last is taken.
			w.reader.SetDeadline(time.Now().Add(time.Second))
		} else {
			w.reader.SetDeadline(time.Now())
		}
		err := w.reader.ReadInto(&rec)
		switch {
		case errors.Is(err, ringbuf.ErrClosed):
			w.drains.done()
			return nil
		case errors.Is(err, ringbuf.ErrFlushed), errors.Is(err, os.ErrDeadlineExceeded):
			idle()
			flushed := errors.Is(err, ringbuf.ErrFlushed)
			if flushed {
				w.drains.done()
			}
			if ctx.Err() != nil {
				return nil
			}
			if behind && !flushed {
				select {
				case <-time.After(gather):
				case <-w.drains.kick:
				case <-ctx.Done():
				}
			}
			behind = false
			continue
		case err != nil:
			w.drains.done()
			return fmt.Errorf("read what processes do: %w", err)
		}
		d, err := w.deed(rec.RawSample)
		if err != nil {
			return err
		}
		fn(d)
		behind = true
	}
}

// done wakes those who wait.
func (d *drains) done() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.next != nil {
		close(d.next)
		d.next = nil
	}
}

// Drain waits until who follows has been told of all that has happened, or the
// context ends.
func (w *Witness) Drain(ctx context.Context) {
	if w == nil {
		return
	}
	w.drains.mu.Lock()
	if w.drains.next == nil {
		w.drains.next = make(chan struct{})
	}
	done := w.drains.next
	w.drains.mu.Unlock()
	if w.reader.Flush() != nil {
		return
	}
	select {
	case w.drains.kick <- struct{}{}:
	default:
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// Refresh looks whether the parent is another group now.
func (w *Witness) Refresh() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.set == nil {
		return nil
	}
	return w.refresh()
}
