package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/tartree"
)

// changed makes an image, and a container that has changed it in every way.
func changed(t *testing.T, s *Store) (Layers, string) {
	t.Helper()
	load(t, s, ociArchive(t, "img", testImage{layers: [][]byte{
		tarOf(t,
			file{name: "./"}, file{name: "bin/"}, file{name: "bin/sh", data: "shell", mode: 0o755},
			file{name: "etc/"}, file{name: "etc/passwd", data: "root"}, file{name: "etc/group", data: "root"}, file{name: "etc/same", data: "same"},
			file{name: "old/"}, file{name: "old/a", data: "a"}, file{name: "old/b", data: "b"},
			file{name: "turn/"}, file{name: "turn/x", data: "x"}, file{name: "flat", data: "x"},
		),
		tarOf(t, file{name: "var/"}, file{name: "var/log/"}, file{name: "var/log/a", data: "a"}),
	}}))
	l := createRootFS(t, s, "c1", "img")
	root := mountOverlay(t, l)
	at := func(name string) string { return filepath.Join(root, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(at("new"), []byte("new"), 0o640))
	must(unix.Chown(at("new"), 7, 8))
	must(unix.Setxattr(at("new"), "security.capability", []byte(capability), 0))
	must(os.Link(at("new"), at("new2")))
	must(os.MkdirAll(at("tree/deep"), 0o750))
	must(os.Symlink("deep", at("tree/link")))
	must(unix.Mkfifo(at("tree/pipe"), 0o600))
	must(os.Chmod(at("bin/sh"), 0o700))
	must(os.WriteFile(at("etc/passwd"), []byte("ROOT"), 0o644))
	must(os.Remove(at("etc/group")))
	// Opened for writing and left as it is: copied, but no change.
	f, err := os.OpenFile(at("etc/same"), os.O_RDWR, 0)
	must(err)
	must(f.Close())
	must(os.RemoveAll(at("old")))
	must(os.Mkdir(at("old"), 0o755))
	must(os.WriteFile(at("old/b"), []byte("b2"), 0o644))
	must(os.RemoveAll(at("turn")))
	must(os.WriteFile(at("turn"), []byte("file"), 0o644))
	must(os.Remove(at("flat")))
	must(os.MkdirAll(at("flat/dir"), 0o755))
	must(os.Remove(at("var/log/a")))
	// What only came and went again.
	must(os.WriteFile(at("var/passing"), nil, 0o644))
	must(os.Remove(at("var/passing")))
	// Places for mounts.
	must(os.MkdirAll(at("data/inner"), 0o755))
	must(os.WriteFile(at("etc/hosts"), nil, 0o644))
	must(os.Mkdir(at("proc"), 0o555))
	must(os.Mkdir(at("used"), 0o755))
	must(os.WriteFile(at("used/below"), nil, 0o644))
	return l, root
}

var targets = []string{"/data/inner", "/etc/hosts", "/proc", "/used", "/bin"}

func TestRootFSChanges(t *testing.T) {
	s := open(t)
	changed(t, s)
	got, err := s.RootFSChanges(t.Context(), "c1", targets)
	if err != nil {
		t.Fatal(err)
	}
	want := []Change{
		{"/bin", Modified},
		{"/bin/sh", Modified},
		{"/etc", Modified},
		{"/etc/group", Deleted},
		{"/etc/passwd", Modified},
		{"/flat", Modified},
		{"/flat/dir", Added},
		{"/new", Added},
		{"/new2", Added},
		{"/old", Modified},
		{"/old/a", Deleted},
		{"/old/b", Modified},
		{"/tree", Added},
		{"/tree/deep", Added},
		{"/tree/link", Added},
		{"/tree/pipe", Added},
		{"/turn", Modified},
		// Somebody has really put something below the place of a mount.
		{"/used", Added},
		{"/used/below", Added},
		{"/var", Modified},
		{"/var/log", Modified},
		{"/var/log/a", Deleted},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	createRootFS(t, s, "fresh", "img")
	if got, err := s.RootFSChanges(t.Context(), "fresh", nil); err != nil || len(got) != 0 {
		t.Errorf("changes of a fresh container = %v, %v", got, err)
	}
	if _, err := s.RootFSChanges(t.Context(), "nosuch", nil); !errdefs.IsNotFound(err) {
		t.Errorf("changes of a missing container: %v", err)
	}
}

// A container of the committed image sees what the first one saw.
func TestCommit(t *testing.T) {
	s := open(t)
	_, root := changed(t, s)
	base := mustResolve(t, s, "img")
	config := base.Config.Config
	config.Env = []string{"A=1"}
	img, err := s.Commit(t.Context(), CommitOptions{
		ContainerID: "c1", ImageID: base.ID, Config: config, Changes: []string{`CMD ["x"]`, "ENV B=2"},
		Author: "me", Comment: "why", CreatedBy: "sh", Repo: "made", Tag: "v1", Targets: targets,
	})
	if err != nil {
		t.Fatal(err)
	}
	if img.Name != "made:v1" || img.Config.Author != "me" {
		t.Errorf("image %q by %q", img.Name, img.Config.Author)
	}
	want := dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{Cmd: []string{"x"}, Env: []string{"A=1", "B=2"}}}
	if diff := cmp.Diff(want, img.Config.Config); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	last := img.Config.History[len(img.Config.History)-1]
	if len(img.Config.History) != len(base.Config.History)+1 || last.Comment != "why" || last.CreatedBy != "sh" || last.EmptyLayer {
		t.Errorf("history %+v", img.Config.History)
	}
	second := mountOverlay(t, createRootFS(t, s, "c2", "made:v1"))
	before, after := listing(t, root), listing(t, second)
	for _, place := range []string{"/data", "/data/inner", "/etc/hosts", "/proc"} {
		delete(before, place)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("files (-container +image):\n%s", diff)
	}
	if got, err := s.RootFSChanges(t.Context(), "c2", nil); err != nil || len(got) != 0 {
		t.Errorf("changes of a container on the new image = %v, %v", got, err)
	}
}

func TestCommitOfNothing(t *testing.T) {
	s := open(t)
	load(t, s, ociArchive(t, "img", testImage{layers: [][]byte{tarOf(t, file{name: "a", data: "a"})}}))
	base := mustResolve(t, s, "img")
	createRootFS(t, s, "c1", "img")
	img, err := s.Commit(t.Context(), CommitOptions{ContainerID: "c1", ImageID: base.ID, Config: base.Config.Config})
	if err != nil {
		t.Fatal(err)
	}
	last := img.Config.History[len(img.Config.History)-1]
	if len(img.Config.RootFS.DiffIDs) != 1 || !last.EmptyLayer || img.Name != "" {
		t.Errorf("image %q has layers %v, history %+v", img.Name, img.Config.RootFS.DiffIDs, last)
	}
	createRootFS(t, s, "c2", img.ID)
}

func TestCommitRefuses(t *testing.T) {
	s := open(t)
	load(t, s, ociArchive(t, "img", testImage{layers: [][]byte{tarOf(t, file{name: "a", data: "a"})}}))
	base := mustResolve(t, s, "img")
	createRootFS(t, s, "c1", "img")
	good := CommitOptions{ContainerID: "c1", ImageID: base.ID}
	for name, c := range map[string]struct {
		change func(*CommitOptions)
		is     func(error) bool
	}{
		"bad name":          {func(o *CommitOptions) { o.Repo = "UP" }, errdefs.IsInvalidArgument},
		"bad instruction":   {func(o *CommitOptions) { o.Changes = []string{"FOO bar"} }, errdefs.IsInvalidArgument},
		"missing container": {func(o *CommitOptions) { o.ContainerID = "nosuch" }, errdefs.IsNotFound},
		"missing image":     {func(o *CommitOptions) { o.ImageID = "sha256:" + "ab12" }, errdefs.IsNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			c.change(&o)
			if _, err := s.Commit(t.Context(), o); !c.is(err) {
				t.Errorf("error = %v", err)
			}
			if list, err := s.catalog(s.in(t.Context())); err != nil || len(list) != 1 {
				t.Errorf("%d images, %v", len(list), err)
			}
		})
	}
}

// listing tells about every file below root what a layer can hold.
func listing(t *testing.T, root string) map[string]string {
	t.Helper()
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	r := readAll(t, dir)
	out := map[string]string{}
	for _, h := range r {
		if h.Name == "./" {
			continue
		}
		out[filepath.Join("/", h.Name)] = string(h.Typeflag) + h.Linkname + " " + h.FileInfo().Mode().String() + " " + itoa(h.Uid) + ":" + itoa(h.Gid) + " " + itoa(int(h.Size)) + h.PAXRecords["SCHILY.xattr.security.capability"]
		if h.Typeflag != tar.TypeDir && h.Typeflag != tar.TypeLink {
			out[filepath.Join("/", h.Name)] += h.ModTime.String()
		}
	}
	return out
}

func itoa(n int) string { return strconv.Itoa(n) }

// readAll packs a directory and returns the entries of the archive.
func readAll(t *testing.T, dir *os.File) []*tar.Header {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(tartree.PackContents(t.Context(), w, dir, tartree.IDs{}), w.Close()); err != nil {
		t.Fatal(err)
	}
	var list []*tar.Header
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, h)
	}
}
