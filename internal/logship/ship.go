// Package logship sends the lines of a container's log to another log system:
// syslog or the journal of systemd.
//
// The container's own log is the buffer: a [Shipment] reads it, keeps in a file
// how far it has come, and begins there again when the other side, or the
// daemon, was away. The container never waits for it. What was rotated away
// before it could be sent is told to the other side as a line of its own. A line
// may be sent twice when the daemon is killed, and is never lost in silence.
package logship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"
)

// Message is one line, or some of one.
type Message struct {
	Time   time.Time
	Stderr bool
	// Line has no newline. It is the sender's only until Send returns.
	Line []byte
	// Partial says that more of the line follows.
	Partial bool
}

// Sink is an open connection to a log system. An error of Send means that the
// connection is of no more use.
type Sink interface {
	Send(m Message) error
	Close() error
}

// Entry is what a log hands out: a Message, and where it stands.
type Entry struct {
	Message // Line is nil: the entry only tells the place
	Number  uint64
	Dropped uint64 // lines that are missing before it
	Parts   bool   // more is missing there of a line that was counted as dropped before
}

// Shipment sends one log. All fields but Logger are required.
type Shipment struct {
	// Open connects. It is called again after the connection was lost.
	Open func(ctx context.Context) (Sink, error)
	// Read calls fn for each line after the one with the given number, until the
	// log has ended for good.
	Read func(ctx context.Context, after uint64, fn func(Entry) error) error
	// Cursor is the file that holds the number of the last line sent.
	Cursor string
	Logger *slog.Logger

	mu     sync.Mutex
	status Status
}

// Status tells how a Shipment does.
type Status struct {
	Sent    uint64    `json:"sent"`            // lines since the daemon started
	Dropped uint64    `json:"dropped"`         // lines that were rotated away before
	Number  uint64    `json:"number"`          // of the last line sent
	Err     string    `json:"error,omitempty"` // why it does not get on at the moment
	Since   time.Time `json:"since,omitzero"`  // of Err
}

// Status may be called at any time.
func (s *Shipment) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

const (
	retryFirst = 200 * time.Millisecond
	retryMost  = 30 * time.Second
	// saveEvery bounds how many lines are sent twice after a crash, in time.
	saveEvery = time.Second
)

// Run sends until the log has ended and all of it is sent, or ctx ends.
func (s *Shipment) Run(ctx context.Context) {
	number, err := loadCursor(s.Cursor)
	if err != nil {
		s.Logger.Warn("place in the log is not known; it is sent from its beginning", "err", err)
	}
	s.mu.Lock()
	s.status.Number = number
	s.mu.Unlock()
	wait := retryFirst
	for {
		before := s.Status().Sent
		err := s.session(ctx)
		s.save()
		if err == nil || ctx.Err() != nil {
			return
		}
		if s.Status().Sent > before {
			wait = retryFirst
		}
		s.failed(err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		wait = min(2*wait, retryMost)
	}
}

// failed notes an outage, and says so once.
func (s *Shipment) failed(err error) {
	s.mu.Lock()
	first := s.status.Err == ""
	s.status.Err = err.Error()
	if first {
		s.status.Since = time.Now()
	}
	s.mu.Unlock()
	if first {
		s.Logger.Warn("log is not sent at the moment; it is kept and tried again", "err", err)
	}
}

// session sends over one connection.
func (s *Shipment) session(ctx context.Context) error {
	sink, err := s.Open(ctx)
	if err != nil {
		return err
	}
	defer sink.Close()
	stop := context.AfterFunc(ctx, func() { sink.Close() }) // a peer that does not read must not hold up the end
	defer stop()
	saved := time.Now()
	return s.Read(ctx, s.Status().Number, func(e Entry) error {
		if err := s.send(sink, e); err != nil {
			return err
		}
		if time.Since(saved) > saveEvery {
			saved = time.Now()
			s.save()
		}
		return nil
	})
}

func (s *Shipment) send(sink Sink, e Entry) error {
	if e.Dropped > 0 || e.Parts {
		lost := "more of a line dropped here: rotated away before it could be sent"
		if e.Dropped > 0 {
			lost = fmt.Sprintf("%d lines dropped here: rotated away before they could be sent", e.Dropped)
		}
		note := Message{Time: time.Now(), Stderr: true, Line: fmt.Appendf(nil, "porthole: %s", lost)}
		if err := sink.Send(note); err != nil {
			return err
		}
	}
	if len(e.Line) > 0 {
		if err := sink.Send(e.Message); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Line != nil && !e.Partial {
		s.status.Sent++
	}
	s.status.Dropped += e.Dropped
	s.status.Number = max(s.status.Number, e.Number)
	s.status.Err, s.status.Since = "", time.Time{}
	return nil
}

func (s *Shipment) save() {
	if err := saveCursor(s.Cursor, s.Status().Number); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.Logger.Warn("place in the log was not saved", "err", err)
	}
}

// saveCursor overwrites the number in place, always as many digits. It is not
// forced to disk: after a crash of the machine some lines are sent twice.
func saveCursor(name string, number uint64) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(fmt.Appendf(nil, "%020d\n", number), 0)
	return errors.Join(err, f.Close())
}

func loadCursor(name string) (uint64, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	number, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64)
	if err != nil {
		return 0, err // of one that is too large there would be the largest
	}
	return number, nil
}
