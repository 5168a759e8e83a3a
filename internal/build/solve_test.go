package build

import (
	"context"
	"errors"
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/frontend"
	"google.golang.org/grpc/metadata"
)

// Builds that share a session, which BuildKit's client has as SharedSession, are
// told apart: by the request that one is, or what says whose it is.
func TestRecordingsOfOneSession(t *testing.T) {
	var rs recordings
	one, _ := beginRecording(t, &rs, &controlapi.SolveRequest{Ref: "one", Session: "s"})
	two, _ := beginRecording(t, &rs, &controlapi.SolveRequest{Ref: "two", Session: "s"})
	bridge := planningBridge{FrontendLLBBridge: refusingBridge{}, recordings: &rs}
	def, _, _ := definition(t)
	of := map[string]context.Context{
		"one":  context.WithValue(t.Context(), recordingKey{}, one),
		"two":  metadata.NewIncomingContext(t.Context(), metadata.Pairs("buildkit-controlapi-buildid", "two")),
		"gone": metadata.NewIncomingContext(t.Context(), metadata.Pairs("buildkit-controlapi-buildid", "gone")),
	}
	steps := func() [2]int { return [2]int{len(one.snapshot().Steps), len(two.snapshot().Steps)} }
	for _, c := range []struct {
		name string
		want [2]int
	}{{"gone", [2]int{0, 0}}, {"one", [2]int{2, 0}}, {"two", [2]int{2, 2}}} {
		_, _ = bridge.Solve(of[c.name], frontend.SolveRequest{Definition: def}, "s")
		if got := steps(); got != c.want {
			t.Errorf("after what %s asked for they have %d steps, want %d", c.name, got, c.want)
		}
	}
	for _, r := range []*recording{one, two} {
		r.end(t.Context(), nil, errors.New("enough"))
	}
}
