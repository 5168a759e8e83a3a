package event

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/events"
)

// ActionDropped is the action of the event, of type "daemon", that tells how many events could neither be written nor
// kept until that worked.
const ActionDropped events.Action = "events-dropped"

// retryDelay is when events that could not be written are tried again, even if no further one comes.
const retryDelay = time.Second

// backlog holds what could not be written, in order. Journal.mu guards it.
type backlog struct {
	lines   []waiting
	cause   error // of the first failure
	dropped uint64
	first   int64 // timeNano of the first that was dropped, and of the last one
	last    int64
	retry   *time.Timer // nil: nothing is to be tried again
}

// waiting is one event that could not be written.
type waiting struct {
	seq  uint64
	at   int64
	line []byte
}

func (b *backlog) empty() bool { return len(b.lines) == 0 && b.dropped == 0 }

// wait keeps an event until it can be written; false: it is dropped and counted. cause is why it could not be written,
// nil if others wait before it. Once one is dropped all are, so that what is missing is one stretch.
func (j *Journal) wait(seq uint64, line []byte, at int64, cause error) bool {
	b := &j.backlog
	if b.empty() {
		b.cause = cause
	}
	if b.retry == nil {
		b.retry = time.AfterFunc(retryDelay, j.tryAgain)
	}
	if len(b.lines) >= j.options.MaxWaiting || b.dropped > 0 {
		if b.dropped == 0 {
			b.first = at
		}
		b.dropped++
		b.last = at
		return false
	}
	b.lines = append(b.lines, waiting{seq: seq, at: at, line: slices.Clone(line)})
	return true
}

// tryAgain is the timer's.
func (j *Journal) tryAgain() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return
	}
	j.backlog.retry = nil
	j.drainBacklog()
	if !j.backlog.empty() {
		j.backlog.retry = time.AfterFunc(retryDelay, j.tryAgain)
	}
}

// drainBacklog writes what waits, as far as that works, and tells what was dropped. mu is held.
func (j *Journal) drainBacklog() {
	b := &j.backlog
	if b.empty() {
		return
	}
	written := 0
	for _, w := range b.lines {
		if j.append(w.seq, w.line, w.at) != nil {
			break
		}
		written++
	}
	b.lines = slices.Delete(b.lines, 0, written)
	if len(b.lines) == 0 && b.dropped > 0 && j.tellDropped() == nil {
		b.dropped = 0
		written++
	}
	if written > 0 {
		j.wake()
	}
}

// tellDropped writes the event about those that are missing.
func (j *Journal) tellDropped() error {
	b := &j.backlog
	now := max(time.Now().UnixNano(), j.last+1)
	m := events.Message{Type: events.DaemonEventType, Action: ActionDropped, Scope: "local", Time: now / 1e9, TimeNano: now}
	m.Actor.Attributes = map[string]string{
		"count": strconv.FormatUint(b.dropped, 10), "since": moment(b.first), "until": moment(b.last), "cause": fmt.Sprint(b.cause),
	}
	rec := Record{Seq: j.seq + 1, Message: m}
	line, err := encodeLine(nil, &rec)
	if err != nil {
		return err
	}
	if err := j.append(rec.Seq, line, now); err != nil {
		return err
	}
	j.seq, j.last = rec.Seq, now
	return nil
}

func moment(nano int64) string { return time.Unix(0, nano).UTC().Format(time.RFC3339Nano) }

func (j *Journal) stopRetry() {
	if j.backlog.retry != nil {
		j.backlog.retry.Stop()
		j.backlog.retry = nil
	}
}

// backlogLost is an error for what the end of the journal takes.
func (j *Journal) backlogLost() error {
	n := uint64(len(j.backlog.lines)) + j.backlog.dropped
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d events could not be written: %w", n, j.backlog.cause)
}
