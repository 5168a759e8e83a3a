package look

import (
	"testing"

	"github.com/containerd/errdefs"

	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/engine/state"
)

// ended knows one container, whose process has ended although its shim has not told
// so yet.
type ended struct{ Source }

func (ended) Subject(string) (engine.Subject, error) {
	const nobody = 1<<22 + 1 // above any pid, PID_MAX_LIMIT of the kernel's threads.h
	return engine.Subject{Container: &state.Container{Name: "web"}, Pid: nobody}, nil
}

func TestSocketsOfTheDead(t *testing.T) {
	if list, err := Sockets(t.Context(), ended{}, "web", false); list != nil || !errdefs.IsConflict(err) {
		t.Errorf("%v, %v", list, err)
	}
}
