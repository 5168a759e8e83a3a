package compare

import (
	"context"
	"os"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	mobyimage "github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/engine"
	"github.com/portholehq/porthole/internal/engine/state"
)

// shelf knows containers that do not run, and images.
type shelf struct {
	Source

	containers map[string]*state.Container
	images     map[string]mobyimage.InspectResponse
}

func (s *shelf) Subject(ref string) (engine.Subject, error) {
	c, ok := s.containers[ref]
	if !ok {
		return engine.Subject{}, errdefs.ErrNotFound
	}
	return engine.Subject{Container: c, Status: container.StateExited}, nil
}

func (s *shelf) ImageInspect(_ context.Context, ref string) (mobyimage.InspectResponse, error) {
	img, ok := s.images[ref]
	if !ok {
		return img, errdefs.ErrNotFound
	}
	return img, nil
}

func image(env []string, layers ...string) mobyimage.InspectResponse {
	img := mobyimage.InspectResponse{ID: "sha256:0123456789abcdef", RootFS: mobyimage.RootFS{Layers: layers}, Os: "linux", Architecture: "amd64"}
	img.Config = &dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{Cmd: []string{"serve", "-v x"}, Env: env}}
	return img
}

func stopped(name string, change func(*state.Container)) *state.Container {
	c := &state.Container{ID: name, Name: name, Path: "serve", Config: &container.Config{Image: "app"}, HostConfig: &container.HostConfig{}, ImageID: "img"}
	if change != nil {
		change(c)
	}
	return c
}

func world() *shelf {
	return &shelf{
		containers: map[string]*state.Container{
			"good": stopped("good", nil),
			"bad": stopped("bad", func(c *state.Container) {
				c.Config.Env = []string{"MODE=", "HOSTNAME=x"}
				c.Config.Labels = map[string]string{"team": "a"}
				c.HostConfig.Memory, c.HostConfig.CapDrop = 32<<20, []string{"CAP_CHOWN"}
				c.Mounts = []state.Mount{{Type: "bind", Source: "/src", Destination: "/data"}}
				c.Life.ExitCode = 3
			}),
		},
		images: map[string]mobyimage.InspectResponse{
			"img": image(nil, "sha256:a"),
			"one": image([]string{"A=1", "B=2"}, "sha256:aaaa", "sha256:bbbb"),
			"two": image([]string{"A=1", "B=3"}, "sha256:aaaa", "sha256:cccc"),
		},
	}
}

func rows(c *api.Comparison) (out []string) {
	text := func(v *string) string {
		if v == nil {
			return "-"
		}
		return "<" + *v + ">"
	}
	for _, d := range c.Differences {
		out = append(out, d.Group+" "+d.Key+" "+text(d.A)+" "+text(d.B))
	}
	return out
}

func TestCompare(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want []string
	}{
		{"good", "bad", []string{
			"rights capabilities dropped - <CAP_CHOWN>", "limits memory - <32MiB>", "mounts /data - <bind /src ro>", "env MODE - <>",
			"state exit code <0> <3>", "env HOSTNAME - <x>", "labels team - <a>",
		}},
		{"one", "two", []string{"env B <2> <3>", "layers behind the first 1 <bbbb> <cccc>"}},
		{"good", "good", nil},
		{"one", "one", nil},
	} {
		got, err := Compare(t.Context(), world(), tt.a, tt.b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, rows(got)); diff != "" {
			t.Errorf("%s and %s: %s", tt.a, tt.b, diff)
		}
		if got.Same == 0 || len(got.Unknown) > 0 {
			t.Errorf("%s and %s: %d the same, not known %q", tt.a, tt.b, got.Same, got.Unknown)
		}
	}
	got, err := Compare(t.Context(), world(), "good", "one")
	if err != nil || got.A.Kind != "container" || got.B.Kind != "image" || len(got.Unknown) != 1 {
		t.Errorf("a container and an image: %+v, %v", got, err)
	}
	if _, err := Compare(t.Context(), world(), "good", "nosuch"); !errdefs.IsNotFound(err) {
		t.Errorf("of nothing: %v", err)
	}
}

// ending is a container that runs until how it is kept apart has been asked for.
type ending struct {
	*shelf

	ended bool
}

func (s *ending) Subject(ref string) (engine.Subject, error) {
	sub, err := s.shelf.Subject(ref)
	if err == nil && !s.ended {
		sub.Status, sub.Pid = container.StateRunning, os.Getpid()
	}
	return sub, err
}

func (s *ending) Subjects() []engine.Subject { return nil }

func (s *ending) VolumeUsers(string, string) []string { return nil }

func (s *ending) Facts() engine.Facts {
	s.ended = true
	return engine.Facts{}
}

// TestCompareEnding: one that ends while it is looked at is compared by what is known.
func TestCompareEnding(t *testing.T) {
	got, err := Compare(t.Context(), &ending{shelf: world()}, "bad", "good")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Differences) == 0 || len(got.Unknown) != 1 {
		t.Errorf("%q, not known %q", rows(got), got.Unknown)
	}
}
