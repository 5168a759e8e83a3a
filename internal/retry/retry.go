// Package retry does again what a disk has refused.
package retry

import "time"

// first and most are how long it waits: what somebody has made immutable is refused for ever.
const (
	first = time.Second
	most  = time.Minute
)

// Until calls try, after a second and then after ever longer times, until it returns nil or done is closed.
func Until(done <-chan struct{}, try func() error) {
	for wait := first; ; wait = min(2*wait, most) {
		select {
		case <-time.After(wait):
		case <-done:
			return
		}
		if try() == nil {
			return
		}
	}
}
