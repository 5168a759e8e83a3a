package resolver

import "sync"

// Kept is how many queries a Log remembers.
const Kept = 256

// Log is a ring of the last queries. The zero value is ready.
type Log struct {
	mu   sync.Mutex
	ring []Query
	next int
	all  uint64
}

func (l *Log) add(q Query) {
	l.mu.Lock()
	defer l.mu.Unlock()
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
