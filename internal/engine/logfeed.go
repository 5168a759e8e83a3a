package engine

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/portholehq/porthole/internal/crilog"
	"github.com/portholehq/porthole/internal/crilog/live"
)

// logFeeds are the feeds of logs that are followed and too small to be followed by their files alone. A feed is there
// from the first follower to the last, over all runs of the container meanwhile.
type logFeeds struct {
	mu   sync.Mutex
	byID map[string]*logFeed
}

type logFeed struct {
	*live.Feed
	// life ends with the last follower, and with the engine.
	life   context.Context
	cancel context.CancelFunc

	// These are guarded by logFeeds.mu.
	users int
	task  Task // which feeds it, or is being asked to
}

// followLive gives a follower what a container writes, until it calls leave. It is nil for a log that needs no such thing.
func (e *Engine) followLive(c *ctr) (l crilog.Live, leave func()) {
	o, err := logOptions(c.view().HostConfig.LogConfig)
	if err != nil || !live.Worthwhile(o) {
		return nil, func() {}
	}
	s := &e.feeds
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.byID[c.id]
	if f == nil {
		f = &logFeed{Feed: live.New()}
		f.life, f.cancel = context.WithCancel(e.life)
		s.byID[c.id] = f
		// Not waited for: a shim that is stuck must not hold up who reads the files.
		e.goWork(func() { e.feedFollowers(f.life, c.id, c.view().task) })
	}
	f.users++
	return f, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if f.users--; f.users == 0 {
			delete(s.byID, c.id)
			f.cancel()
		}
	}
}

// feedFollowers has a task feed those who follow the container's log, if anybody does. Without it they read the files.
func (e *Engine) feedFollowers(ctx context.Context, id string, task Task) {
	s := &e.feeds
	s.mu.Lock()
	f := s.byID[id]
	if f == nil || task == nil || f.task == task {
		s.mu.Unlock()
		return
	}
	f.task = task
	s.mu.Unlock()
	file, err := task.FeedLog(ctx)
	if err != nil {
		s.mu.Lock()
		if f.task == task {
			f.task = nil
		}
		s.mu.Unlock()
		if ctx.Err() == nil {
			e.log.Debug("followers of a log read its files only", "container", id, "err", err)
		}
		return
	}
	// Before the program runs: a follower would take what it writes from the files, which may be gone by then.
	pump := f.Connect(file)
	e.goWork(func() {
		stop := context.AfterFunc(f.life, func() { file.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
		if err := pump(); err != nil {
			e.log.Warn("followers of a log read its files only", "container", id, "err", err)
		}
	})
}

// LogFeed shows a log that is followed as it is written, and what is kept of it for that.
type LogFeed struct {
	Container string `json:"container"`
	Followers int    `json:"followers"`
	live.Info
}

func (e *Engine) logFeeds() []LogFeed {
	s := &e.feeds
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]LogFeed, 0, len(s.byID))
	for id, f := range s.byID {
		list = append(list, LogFeed{Container: id, Followers: f.users, Info: f.Inspect()})
	}
	slices.SortFunc(list, func(a, b LogFeed) int { return strings.Compare(a.Container, b.Container) })
	return list
}
