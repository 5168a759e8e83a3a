package engine

import (
	"context"
	"errors"
	"testing"

	"github.com/moby/moby/api/types/container"
)

// The default profile is looked after at each start that needs it, and at no other.
func TestAppArmorProfileIsEnsured(t *testing.T) {
	w := newWorld(t)
	w.deps.Host.AppArmor, w.deps.Host.AppArmorProfile = true, "ours"
	asked := 0
	var refusal error
	w.deps.AppArmor = func(context.Context) error { asked++; return refusal }
	for _, tt := range []struct {
		name    string
		options []string
		profile string
		asks    int
	}{
		{"default", nil, "ours", 1},
		{"other", []string{"apparmor=mine"}, "mine", 0},
		{"unconfined", []string{"apparmor=unconfined"}, "unconfined", 0},
	} {
		asked = 0
		id := w.create(tt.name, func(r *container.CreateRequest) { r.HostConfig.SecurityOpt = tt.options }, "sleep")
		w.start(id)
		if asked != tt.asks {
			t.Errorf("%s: asked %d times for the profile, want %d", tt.name, asked, tt.asks)
		}
		if got := w.inspect(id).AppArmorProfile; got != tt.profile {
			t.Errorf("%s: inspect shows profile %q, want %q", tt.name, got, tt.profile)
		}
		if got := w.runtime.task(id).b.Spec.Process.ApparmorProfile; got != tt.profile {
			t.Errorf("%s: the runtime is told profile %q, want %q", tt.name, got, tt.profile)
		}
	}
	refusal = errors.New(`load AppArmor profile "ours": syntax error`)
	id := w.create("refused", nil, "sleep")
	if err := w.ContainerStart(t.Context(), id); err == nil || err.Error() != refusal.Error() {
		t.Errorf("start without the profile: %v", err)
	}
}
