package api

import (
	"slices"
	"strings"
	"time"
)

// Health is what a container's health checks say.
type Health struct {
	// Status is none, starting, healthy or unhealthy.
	Status        string `json:"Status"`
	FailingStreak int    `json:"FailingStreak"`
	// Results are the last ones, at least 100 if there were so many, the oldest
	// first, of all runs of the container.
	Results []HealthResult `json:"Results"`
}

// HealthResult is what one check has said.
type HealthResult struct {
	Run      int       `json:"Run"`
	Start    time.Time `json:"Start"`
	End      time.Time `json:"End"`
	ExitCode int       `json:"ExitCode"`           // -1: the check itself failed, or took too long
	TimedOut bool      `json:"TimedOut,omitempty"` // it took too long and was killed
	Output   string    `json:"Output"`             // its first 4 KiB
	Status   string    `json:"Status"`             // of the container afterwards
	// FailingStreak is the container's afterwards.
	FailingStreak int `json:"FailingStreak,omitempty"`
}

// LastFailure is the output of the last check that failed, on one line; empty if
// none has.
func (h *Health) LastFailure() string {
	for _, r := range slices.Backward(h.Results) {
		if r.ExitCode != 0 {
			return strings.Join(strings.Fields(r.Output), " ")
		}
	}
	return ""
}
