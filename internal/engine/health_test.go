package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
)

func TestHealthCheckDefaults(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    container.Config
		want *check
	}{
		{"none", container.Config{}, nil},
		{"switched off", container.Config{Healthcheck: &container.HealthConfig{Test: []string{"NONE"}}}, nil},
		{
			"command",
			container.Config{Healthcheck: &container.HealthConfig{Test: []string{"CMD", "a", "b"}, Interval: time.Second}},
			&check{[]string{"a", "b"}, time.Second, 30 * time.Second, 0, 5 * time.Second, 3},
		},
		{
			"shell",
			container.Config{Shell: []string{"/bin/bash", "-c"}, Healthcheck: &container.HealthConfig{Test: []string{"CMD-SHELL", "a b"}, Retries: 1}},
			&check{[]string{"/bin/bash", "-c", "a b"}, 30 * time.Second, 30 * time.Second, 0, 5 * time.Second, 1},
		},
	} {
		got, ok := healthCheck(&tt.c)
		if !ok {
			if tt.want != nil {
				t.Errorf("%s: no check", tt.name)
			}
			continue
		}
		if diff := cmp.Diff(tt.want, &got, cmp.AllowUnexported(check{})); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

// withHealth makes a container with a quick health check.
func withHealth(retries int, argv ...string) func(*container.CreateRequest) {
	return func(r *container.CreateRequest) {
		r.Healthcheck = &container.HealthConfig{
			Test: append([]string{"CMD"}, argv...), Interval: 2 * time.Millisecond, Timeout: 20 * time.Millisecond, Retries: retries,
		}
	}
}

func TestHealth(t *testing.T) {
	for _, tt := range []struct {
		name    string
		argv    []string
		want    container.HealthStatus
		code    int
		output  string
		retries int
	}{
		{"good", []string{"echo", "fine"}, container.Healthy, 0, "fine\n", 3},
		{"bad", []string{"exit", "3"}, container.Unhealthy, 3, "", 2},
		{"stuck", []string{"wait"}, container.Unhealthy, -1, "Health check exceeded timeout (20ms)", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			id := w.create("", withHealth(tt.retries, tt.argv...), "sleep")
			w.start(id)
			if h := w.inspect(id).State.Health; h == nil || h.Status != container.Starting {
				t.Errorf("at the start: %+v", h)
			}
			eventually(t, string(tt.want), func() bool { return w.inspect(id).State.Health.Status == tt.want })
			h := w.inspect(id).State.Health
			if last := h.Log[len(h.Log)-1]; last.ExitCode != tt.code || last.Output != tt.output {
				t.Errorf("last probe: %+v", last)
			}
			if tt.code != 0 && h.FailingStreak < tt.retries {
				t.Errorf("streak %d", h.FailingStreak)
			}
			eventually(t, "the event", func() bool {
				return slices.Contains(w.actions(), "health_status: "+string(tt.want))
			})
			if err := w.ContainerKill(t.Context(), id, ""); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// What was found stays over a restart of the daemon, of a container that runs and of one that does not.
func TestHealthIsKept(t *testing.T) {
	w := newWorld(t)
	id := w.create("web", withHealth(1, "exit", "3"), "sleep")
	w.start(id)
	eventually(t, "some probes", func() bool {
		_, list, err := w.ContainerHealth(id)
		return err == nil && len(list) > probesKept+1
	})
	w.close()
	_, before, _ := w.ContainerHealth(id)
	w.open()
	h, list, err := w.ContainerHealth(id)
	if err != nil || h.Status != container.Unhealthy || len(h.Log) != probesKept || h.FailingStreak < len(before) || len(list) < len(before) {
		t.Errorf("after a restart: %+v and %d results, %v; before %d", h, len(list), err, len(before))
	}
	for i, r := range before {
		if list[i] != r || r.Run != 1 || r.ExitCode != 3 {
			t.Fatalf("result %d was %+v, is %+v", i, r, list[i])
		}
	}
	if err := w.ContainerKill(t.Context(), id, ""); err != nil {
		t.Fatal(err)
	}
	w.close()
	w.open()
	if h := w.inspect(id).State.Health; h == nil || h.Status != container.Unhealthy || len(h.Log) != probesKept {
		t.Errorf("of the container that has ended: %+v", h)
	}
	// The next run begins anew.
	w.start(id)
	if h := w.inspect(id).State.Health; h.FailingStreak > 1 {
		t.Errorf("at the next start: %+v", h)
	}
}
