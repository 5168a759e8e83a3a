package engine

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/portholehq/porthole/internal/engine/state"
)

func TestListFilters(t *testing.T) {
	w := newWorld(t)
	one := w.create("one", func(r *container.CreateRequest) {
		r.Labels = map[string]string{"a": "1", "b": "2"}
		r.ExposedPorts = network.PortSet{network.MustParsePort("80/tcp"): {}}
	}, "sleep")
	w.create("two", func(r *container.CreateRequest) {
		r.Labels = map[string]string{"a": "1"}
		r.HostConfig.NetworkMode = "none"
		r.HostConfig.Binds = []string{"vol:/v"}
	}, "sleep")
	w.runtime.programs["fail"] = func(t *fakeTask) { t.end(Exit{Code: 3}) }
	w.create("three", nil, "fail")
	w.start("one")
	w.start("two")
	w.start("three")
	w.wait("three", container.WaitConditionNotRunning)
	for _, tt := range []struct {
		name string
		o    ListOptions
		want string
	}{
		{"running", ListOptions{}, "two one"},
		{"all", ListOptions{All: true}, "three two one"},
		{"limit means all", ListOptions{Limit: 1}, "three"},
		{"id", ListOptions{Filters: Filters{"id": {one[:10]}}}, "one"},
		{"name is a pattern", ListOptions{All: true, Filters: Filters{"name": {"^t.*e$"}}}, "three"},
		{"names are ORed", ListOptions{Filters: Filters{"name": {"one", "two"}}}, "two one"},
		{"name with slash", ListOptions{Filters: Filters{"name": {"^/one$"}}}, "one"},
		{"labels are ANDed", ListOptions{Filters: Filters{"label": {"a", "b=2"}}}, "one"},
		{"status implies all", ListOptions{Filters: Filters{"status": {"exited"}}}, "three"},
		{"exited", ListOptions{Filters: Filters{"exited": {"3", "4"}}}, "three"},
		{"ancestor", ListOptions{Filters: Filters{"ancestor": {"busybox"}}}, "two one"},
		{"unknown ancestor", ListOptions{Filters: Filters{"ancestor": {"nope"}}}, ""},
		{"before", ListOptions{Filters: Filters{"before": {"two"}}}, "one"},
		{"since", ListOptions{Filters: Filters{"since": {"one"}}}, "three two"},
		{"volume", ListOptions{Filters: Filters{"volume": {"vol"}}}, "two"},
		{"volume by destination", ListOptions{Filters: Filters{"volume": {"/v"}}}, "two"},
		{"network", ListOptions{Filters: Filters{"network": {"none"}}}, "two"},
		{"network by id", ListOptions{Filters: Filters{"network": {"n1"}}}, "one"},
		{"expose", ListOptions{Filters: Filters{"expose": {"79-81/tcp"}}}, "one"},
		{"expose, other protocol", ListOptions{Filters: Filters{"expose": {"80/udp"}}}, ""},
		{"health", ListOptions{Filters: Filters{"health": {"none"}}}, "two one"},
		{"is-task", ListOptions{Filters: Filters{"is-task": {"true"}}}, ""},
	} {
		list, err := w.ContainerList(t.Context(), tt.o)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		var got []string
		for _, s := range list {
			got = append(got, strings.TrimPrefix(s.Names[0], "/"))
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, got, tt.want)
		}
	}
	for _, f := range []Filters{{"nope": {"1"}}, {"status": {"odd"}}, {"exited": {"x"}}, {"health": {"odd"}}, {"publish": {"x"}}} {
		if _, err := w.ContainerList(t.Context(), ListOptions{Filters: f}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v: %v", f, err)
		}
	}
}

func TestStatusText(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(s state.Status, change func(*view)) string {
		v := &view{Container: &state.Container{Life: state.Life{Status: s, StartedAt: now.Add(-5 * time.Minute), FinishedAt: now.Add(-2 * time.Hour), ExitCode: 137}}}
		if change != nil {
			change(v)
		}
		return statusText(v, now)
	}
	for want, got := range map[string]string{
		"Created":                         at(container.StateCreated, nil),
		"Up 5 minutes":                    at(container.StateRunning, nil),
		"Up 5 minutes (Paused)":           at(container.StatePaused, nil),
		"Up 5 minutes (healthy)":          at(container.StateRunning, func(v *view) { v.health = &container.Health{Status: container.Healthy} }),
		"Up 5 minutes (health: starting)": at(container.StateRunning, func(v *view) { v.health = &container.Health{Status: container.Starting} }),
		"Restarting (137) 2 hours ago":    at(container.StateRestarting, nil),
		"Exited (137) 2 hours ago":        at(container.StateExited, nil),
		"Removal In Progress":             at(container.StateExited, func(v *view) { v.removing = true }),
		"Dead":                            at(container.StateDead, nil),
	} {
		if got != want {
			t.Errorf("status %q, want %q", got, want)
		}
	}
}

func TestEventFilters(t *testing.T) {
	msg := func(typ events.Type, action, id string, kv ...string) events.Message {
		m := events.Message{Type: typ, Action: events.Action(action), Scope: "local", Actor: events.Actor{ID: id, Attributes: map[string]string{}}}
		for i := 0; i < len(kv); i += 2 {
			m.Actor.Attributes[kv[i]] = kv[i+1]
		}
		return m
	}
	all := []events.Message{
		msg("container", "start", "c1", "name", "web", "image", "nginx:1.25", "k", "v", "k2", "v2"),
		msg("container", "exec_start: ls -l", "c1", "name", "web", "image", "nginx:1.25", "k", "v"),
		msg("container", "start", "c2", "name", "web2", "image", "redis"),
		msg("network", "connect", "n1", "name", "bridge"),
		msg("image", "tag", "sha256:aa", "name", "nginx:1.25"),
	}
	for _, tt := range []struct {
		f    Filters
		want []int
	}{
		{nil, []int{0, 1, 2, 3, 4}},
		{Filters{"type": {"network", "image"}}, []int{3, 4}},
		{Filters{"event": {"start"}}, []int{0, 2}},
		{Filters{"event": {"exec_start"}}, []int{1}},
		{Filters{"event": {"exec_start", "sta"}}, []int{0, 1, 2}},
		{Filters{"container": {"web"}}, []int{0, 1, 2}},
		{Filters{"container": {"c2"}}, []int{2}},
		{Filters{"image": {"nginx"}}, []int{0, 1, 4}},
		{Filters{"image": {"nginx:1.25"}, "type": {"container"}}, []int{0, 1}},
		{Filters{"image": {"sha256:aa"}}, []int{4}},
		{Filters{"label": {"k=v", "k2"}}, []int{0}},
		{Filters{"network": {"bri"}}, []int{3}},
		{Filters{"scope": {"swarm"}}, nil},
	} {
		var got []int
		for i, m := range all {
			if tt.f.matchEvent(m) {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%v: %v, want %v", tt.f, got, tt.want)
		}
	}
}

func TestParseFilters(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "",
		"null":                       "",
		`{"a":["1","2"]}`:            "1 2",
		`{"a":{"2":true,"1":true}}`:  "1 2",
		`{"a":{"2":false,"1":true}}`: "1",
	} {
		f, err := ParseFilters(text)
		if err != nil || f == nil || strings.Join(f["a"], " ") != want {
			t.Errorf("%s: %v %v", text, f, err)
		}
	}
	if _, err := ParseFilters(`{"a":1}`); !errdefs.IsInvalidArgument(err) {
		t.Errorf("bad filters: %v", err)
	}
}
