package engine

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
)

// As dockerd has it: the daemon's options are for its driver, and a container's own go before.
func TestLogDefaults(t *testing.T) {
	type config = container.LogConfig
	small := map[string]string{"max-size": "1m", "max-file": "2"}
	for name, tt := range map[string]struct{ daemon, own, want config }{
		"nothing said":     {config{}, config{}, config{Type: "json-file"}},
		"driver":           {config{Type: "local"}, config{}, config{Type: "local"}},
		"options":          {config{Config: small}, config{}, config{Type: "json-file", Config: small}},
		"same driver":      {config{Type: "local", Config: small}, config{Type: "local"}, config{Type: "local", Config: small}},
		"other driver":     {config{Type: "local", Config: small}, config{Type: "json-file"}, config{Type: "json-file"}},
		"an option of its": {config{Config: small}, config{Config: map[string]string{"max-file": "9"}}, config{Type: "json-file", Config: map[string]string{"max-size": "1m", "max-file": "9"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, withLogDefaults(tt.own, tt.daemon)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	if len(small) != 2 || small["max-file"] != "2" {
		t.Errorf("the daemon's options were changed: %v", small)
	}
}

func TestCheckLogConfig(t *testing.T) {
	for _, tt := range []struct {
		c    container.LogConfig
		want string
	}{
		{c: container.LogConfig{}},
		{c: container.LogConfig{Type: "journald", Config: map[string]string{"tag": "{{.Name}}", "cache-max-size": "1m"}}},
		{c: container.LogConfig{Type: "syslog", Config: map[string]string{"syslog-address": "udp://127.0.0.1:514"}}},
		{container.LogConfig{Type: "gelf"}, "failed to set log opts: logger: no log driver named 'gelf' is registered"},
		{container.LogConfig{Config: map[string]string{"max-siz": "1"}}, "failed to set log opts: unknown log opt 'max-siz' for json-file log driver"},
		{container.LogConfig{Type: "syslog", Config: map[string]string{"syslog-address": "zebra://x"}}, "failed to set log opts: unsupported scheme: 'zebra'"},
	} {
		got := ""
		if err := CheckLogConfig(tt.c); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%v: %q, want %q", tt.c, got, tt.want)
		}
	}
}

func TestCreateTakesTheDaemonsLogConfig(t *testing.T) {
	w := newWorld(t)
	w.config.LogConfig = container.LogConfig{Type: "local", Config: map[string]string{"max-size": "1m"}}
	id := w.create("small", logOpts("max-file", "2"), "true")
	info, err := w.ContainerInspect(t.Context(), id, false)
	if err != nil {
		t.Fatal(err)
	}
	want := container.LogConfig{Type: "local", Config: map[string]string{"max-size": "1m", "max-file": "2"}}
	if diff := cmp.Diff(want, info.HostConfig.LogConfig); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
