package event

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/events"
)

// disk is one that may be full.
func (j *Journal) disk(room *int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.write = func(f *os.File, line []byte) (int, error) {
		n := min(len(line), *room)
		*room -= n
		written, err := f.Write(line[:n])
		if err == nil && n < len(line) {
			err = syscall.ENOSPC
		}
		return written, err
	}
}

// TestFullDisk: events wait in order until there is room, with numbers and times of when they happened; what is more
// than that is counted, in the journal.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, Options{MaxWaiting: 3, MaxSize: 300})
	publish(t, j, "before")
	room := 20 // for a part of a line
	j.disk(&room)
	var last Record
	for i := range 3 {
		last = publish(t, j, fmt.Sprint("kept", i))
	}
	for i := range 5 {
		if _, err := j.Publish(events.Message{Actor: events.Actor{ID: fmt.Sprint("lost", i)}}); err == nil || !strings.Contains(err.Error(), "no space left on device") {
			t.Errorf("an event that was dropped: %v", err)
		}
	}
	if st := j.Stats(); st.Waiting != 3 || st.Dropped != 5 || st.Last != last.Seq {
		t.Errorf("stats %+v", st)
	}
	if diff := cmp.Diff([]string{"before"}, replay(t, j, ReadOptions{Since: always})); diff != "" {
		t.Errorf("while it is full (-want +got):\n%s", diff)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got []Record
	opened := func() { // there is room again, and nobody publishes anything
		j.mu.Lock()
		defer j.mu.Unlock()
		room = 1 << 20
	}
	err := j.Read(ctx, ReadOptions{Since: always}, opened, func(r Record) error {
		if got = append(got, r); r.Action == ActionDropped {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	var text []string
	for i, r := range got {
		if r.Seq != uint64(i+1) {
			t.Errorf("number %d at place %d", r.Seq, i)
		}
		text = append(text, r.Actor.ID+r.Actor.Attributes["count"])
	}
	if diff := cmp.Diff([]string{"before", "kept0", "kept1", "kept2", "5"}, text); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	a := got[4].Actor.Attributes
	since, _ := time.Parse(time.RFC3339Nano, a["since"])
	until, _ := time.Parse(time.RFC3339Nano, a["until"])
	if got[4].Type != events.DaemonEventType || a["cause"] != "no space left on device" || since.UnixNano() < got[3].TimeNano || !until.After(since) {
		t.Errorf("what was dropped is told as %+v", got[4].Message)
	}
	publish(t, j, "after")
	if err := j.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	again := open(t, dir, Options{})
	if diff := cmp.Diff([]string{"before", "kept0", "kept1", "kept2", "", "after"}, replay(t, again, ReadOptions{Since: always})); diff != "" {
		t.Errorf("on the disk (-want +got):\n%s", diff)
	}
}

var errEnough = errors.New("enough")

// TestFullDiskAtTheEnd: what the end of the journal takes is an error.
func TestFullDiskAtTheEnd(t *testing.T) {
	j := open(t, t.TempDir(), Options{})
	room := 0
	j.disk(&room)
	publish(t, j, "kept")
	if err := j.Close(); err == nil || err.Error() != "1 events could not be written: no space left on device" {
		t.Errorf("close: %v", err)
	}
}
