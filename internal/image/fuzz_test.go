package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/testenv"
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

// FuzzLayer holds of a layer, over one that has links to what is outside, that it
// touches nothing but its own snapshot, that a layer which is refused leaves
// nothing, and that an image of what is not refused goes without a trace.
func FuzzLayer(f *testing.F) {
	f.Add(tarOf(f, file{name: "etc/"}, file{name: "etc/text", data: "x", mode: 0o644}, file{name: "up/secret", data: "x"}, file{name: "abs/secret", data: "x"}))
	f.Add(tarOf(f, file{name: "etc/.wh.text"}, file{name: "etc/.wh..wh..opq"}, file{name: ".wh.up"}, file{name: ".wh.."}, file{name: "up/.wh.secret"}))
	f.Add(tarOf(f, file{name: "l", kind: tar.TypeSymlink, link: "../../../../../../outside"}, file{name: "l/x", data: "x"}, file{name: "h", kind: tar.TypeLink, link: "up/secret"}))
	f.Add(tarOf(f, file{name: "./", mode: 0o1777}, file{name: "h", kind: tar.TypeLink, link: "etc/text"}, file{name: "etc", kind: tar.TypeSymlink, link: "up"}, file{name: "etc/text", data: "y"}))
	f.Add(tarOf(f, file{name: "dev", kind: tar.TypeChar}, file{name: "pipe", kind: tar.TypeFifo, mode: 0o7777}, file{name: ".wh..wh.plnk/5"}, file{name: "../x"}))
	base := f.TempDir()
	root, outside := filepath.Join(base, "root"), filepath.Join(base, "outside")
	if err := errors.Join(os.Mkdir(outside, 0o755), os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o640)); err != nil {
		f.Fatal(err)
	}
	s := openAt(f, root, Limits{JSON: 1 << 20, Entries: 1000, Unpacked: 1 << 20, RatioFrom: 1 << 20})
	f.Cleanup(func() {
		if err := s.Close(); err != nil {
			f.Error(err)
		}
	})
	up := strings.Repeat("../", 12) + strings.TrimPrefix(outside, "/")
	below := tarOf(f, file{name: "etc/"}, file{name: "etc/text", data: "below", mode: 0o644},
		file{name: "up", kind: tar.TypeSymlink, link: up}, file{name: "abs", kind: tar.TypeSymlink, link: outside})
	look := func(t *testing.T) (list []string) {
		t.Helper()
		err := filepath.WalkDir(outside, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := os.Lstat(path)
			if err == nil {
				st := info.Sys().(*syscall.Stat_t)
				list = append(list, fmt.Sprintf("%s %d %o %d %d:%d %v", path, st.Ino, st.Mode, st.Nlink, st.Uid, st.Gid, st.Ctim))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		before, was := inventory(t, s), look(t)
		hostile := testImage{layers: [][]byte{below, testenv.TarSums(data)}}
		loaded, err := s.Load(t.Context(), bytes.NewReader(ociArchive(t, "hostile", hostile)), LoadOptions{}, nil)
		for _, l := range loaded {
			if _, err := s.Remove(t.Context(), l.ID, RemoveOptions{Force: true}); err != nil {
				t.Error(err)
			}
		}
		if diff := cmp.Diff(was, look(t)); diff != "" {
			t.Errorf("outside, after %v (-before +after)\n%s", err, diff)
		}
		if diff := cmp.Diff(before, inventory(t, s)); diff != "" {
			t.Errorf("%v leaves something behind (-before +after)\n%s", err, diff)
		}
	})
}
