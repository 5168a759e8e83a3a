package resolver

import (
	"slices"
	"sync"
)

// Kept is how many queries a Log remembers.
const Kept = 256

// Log is a ring of the last queries. The zero value is ready.
type Log struct {
	mu        sync.Mutex
	ring      []Query
	next      int
	all       uint64
	followers []*Follower
}

// Follower gets the queries that come from its beginning on.
type Follower struct {
	// C has them. Nothing waits for who reads it: what finds no room is dropped.
	C chan Query

	log     *Log
	dropped uint64 // behind log.mu
}

func (l *Log) add(q Query) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.followers {
		select {
		case f.C <- q:
		default:
			f.dropped++
		}
	}
	l.all++
	if len(l.ring) < Kept {
		l.ring = append(l.ring, q)
		return
	}
	l.ring[l.next] = q
	l.next = (l.next + 1) % Kept
}

// Queries are the last ones, oldest first, and how many there were in all.
func (l *Log) Queries() (last []Query, all uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(append([]Query{}, l.ring[l.next:]...), l.ring[:l.next]...), l.all
}

// Follow begins to follow. The caller has to call [Follower.Close].
func (l *Log) Follow() *Follower {
	f := &Follower{C: make(chan Query, Kept), log: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.followers = append(l.followers, f)
	return f
}

// Followed tells whether anybody follows.
func (l *Log) Followed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.followers) > 0
}

// Dropped is how many queries were dropped since it was last called.
func (f *Follower) Dropped() uint64 {
	f.log.mu.Lock()
	defer f.log.mu.Unlock()
	n := f.dropped
	f.dropped = 0
	return n
}

// Close ends it. C stays open.
func (f *Follower) Close() {
	f.log.mu.Lock()
	defer f.log.mu.Unlock()
	f.log.followers = slices.DeleteFunc(f.log.followers, func(x *Follower) bool { return x == f })
}
