// Package steady judges the age of what is kept for a time only. Somebody may set the machine's clock forward by a year
// and back again: what is a day old must not be removed for that.
package steady

import "time"

// began has the reading of a clock that nobody can set.
var began = time.Now()

// Now is the earlier of what the clock says, and of what it would say had nobody set it since this program began. Until the
// next start, nothing is older by it than it is.
func Now() time.Time { return earlier(time.Now(), began.Add(time.Since(began))) }

// earlier compares what the times say, not the readings of the other clock, and returns one without such a reading: it is
// to be compared with times that come from files.
func earlier(a, b time.Time) time.Time {
	a, b = a.Round(0), b.Round(0)
	if b.Before(a) {
		return b
	}
	return a
}
