package image

import (
	"bytes"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// Whatever the bytes are: images come in whole, or nothing does.
func FuzzLoad(f *testing.F) {
	good := small(f, "seed")
	packed := good
	packed.packed = gzipOf
	f.Add(ociArchive(f, "seed", good))
	f.Add(zstdOf(f, ociArchive(f, "seed", packed)))
	f.Add(dockerArchive(f, []string{"seed:1"}, good))
	f.Add(ociArchive(f, "seed", good)[:1500])
	f.Add([]byte("BZh9"))
	root := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		s := openAt(t, root, Limits{JSON: 1 << 20, Entries: 1000, Unpacked: 16 << 20, RatioFrom: 1 << 20})
		defer s.Close()
		before := inventory(t, s)
		loaded, err := s.Load(t.Context(), bytes.NewReader(data), LoadOptions{}, nil)
		if err != nil {
			if diff := cmp.Diff(before, inventory(t, s)); diff != "" {
				t.Errorf("%v leaves something behind (-before +after)\n%s", err, diff)
			}
			return
		}
		for _, l := range loaded {
			if _, err := s.Inspect(t.Context(), l.ID); err != nil && !errdefs.IsNotFound(err) {
				t.Error(err)
			}
			// Two names may be of one image, which goes with the first.
			if _, err := s.Remove(t.Context(), l.ID, RemoveOptions{Force: true}); err != nil && !errdefs.IsNotFound(err) {
				t.Error(err)
			}
		}
	})
}

func FuzzApplyChanges(f *testing.F) {
	for _, s := range []string{`CMD ["a"]`, `ENV A=1 B="x y"`, `LABEL a='`, `EXPOSE 1-3/udp`, `HEALTHCHECK --interval=1s CMD x`, "\\", "ENV \\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		var config dockerspec.DockerOCIImageConfig
		if err := ApplyChanges(&config, []string{"USER before", line}); err != nil && config.User != "" {
			t.Errorf("%q: %v, and yet something was changed", line, err)
		}
	})
}
