package runtime

import (
	"testing"

	"github.com/containerd/errdefs"
)

// A process may have ended although its shim has not told so yet: that is no failure of ours.
func TestNamespaceOfTheDead(t *testing.T) {
	const nobody = 1<<22 + 1 // above any pid, PID_MAX_LIMIT of the kernel's threads.h
	c := &Container{id: "web", pid: nobody, done: make(chan struct{})}
	if f, err := c.NetNS(); f != nil || !errdefs.IsFailedPrecondition(err) {
		t.Errorf("NetNS: %v, %v", f, err)
	}
}
