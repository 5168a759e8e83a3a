package caller

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/moby/buildkit/session/upload/uploadprovider"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tonistiigi/fsutil"

	"github.com/portholehq/porthole/internal/buildspec"
)

const (
	// mostText is the most that is taken for a Dockerfile of standard input.
	mostText = 1 << 20
	// headSize is what an archive is told from text by.
	headSize = 512
)

// context says where the files and the Dockerfile are: in a directory, in an
// archive or text on standard input, or behind a URL.
func (b *build) context() error {
	switch where := b.r.Context; {
	case where == "-":
		return b.stdin()
	case buildspec.IsURL(where):
		b.solve.FrontendAttrs["context"] = where
		return b.remoteFile()
	default:
		if err := b.mount("context", where); err != nil {
			return fmt.Errorf("unable to prepare context: %w", err)
		}
		return b.dockerfile(where)
	}
}

// mount lets the builder read a directory of this machine.
func (b *build) mount(name, dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("context must be a directory: %s", dir)
	}
	tree, err := fsutil.NewFS(dir)
	if err != nil {
		return err
	}
	b.solve.LocalMounts[name] = tree
	return nil
}

// dockerfile is the one of a directory, another file of this machine, or standard
// input.
func (b *build) dockerfile(dir string) error {
	file := b.r.File
	switch file {
	case "-":
		return b.text(b.o.In)
	case "":
		file = filepath.Join(dir, "Dockerfile")
	}
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("unable to prepare context: unable to evaluate symlinks in Dockerfile path: %w", err)
	}
	b.solve.FrontendAttrs["filename"] = filepath.Base(file)
	return b.mount("dockerfile", filepath.Dir(file))
}

// remoteFile is the Dockerfile of a context behind a URL: in it, or of this
// machine if the path is absolute or standard input.
func (b *build) remoteFile() error {
	switch file := b.r.File; {
	case file == "":
		delete(b.solve.FrontendAttrs, "filename")
		return nil
	case file == "-":
		b.solve.FrontendAttrs["dockerfilekey"] = "dockerfile"
		return b.text(b.o.In)
	case filepath.IsAbs(file):
		b.solve.FrontendAttrs["dockerfilekey"], b.solve.FrontendAttrs["filename"] = "dockerfile", filepath.Base(file)
		return b.mount("dockerfile", filepath.Dir(file))
	default:
		b.solve.FrontendAttrs["filename"] = file
		return nil
	}
}

// text takes a stream for the Dockerfile.
func (b *build) text(in io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(in, mostText+1))
	if err != nil {
		return err
	}
	if len(text) > mostText {
		return errors.New("the Dockerfile on standard input is larger than 1 MiB")
	}
	dir, err := b.tempDir()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), text, 0o600); err != nil {
		return err
	}
	b.solve.FrontendAttrs["filename"] = "Dockerfile"
	return b.mount("dockerfile", dir)
}

func (b *build) tempDir() (string, error) {
	dir, err := os.MkdirTemp("", "porthole-build-")
	if err == nil {
		b.steps.Add(func() error { return os.RemoveAll(dir) })
	}
	return dir, err
}

// stdin is an archive, packed or not, or the text of a Dockerfile.
func (b *build) stdin() error {
	if b.r.File == "-" {
		return errors.New("invalid argument: can't use stdin for both build context and dockerfile")
	}
	in := bufio.NewReader(b.o.In)
	head, err := in.Peek(headSize)
	if len(head) == 0 {
		return fmt.Errorf("failed to peek context header from STDIN: %w", err)
	}
	if buildspec.IsArchive(head) {
		up := uploadprovider.New()
		b.solve.FrontendAttrs["context"] = up.Add(io.NopCloser(in))
		b.solve.Session = append(b.solve.Session, up)
		return b.remoteFile()
	}
	if b.r.File != "" {
		return errors.New("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
	}
	empty, err := b.tempDir()
	if err != nil {
		return err
	}
	if err := b.mount("context", empty); err != nil {
		return err
	}
	return b.text(in)
}

// namedContexts are further ones, which a Dockerfile names: "NAME=PATH|URL|docker-image://REF|oci-layout://PATH".
func (b *build) namedContexts() error {
	for _, text := range b.r.BuildContexts {
		name, where, ok := strings.Cut(text, "=")
		if !ok || name == "" || where == "" {
			return fmt.Errorf("invalid value for --build-context: %q: want NAME=VALUE", text)
		}
		attr := "context:" + name
		layout, isLayout := strings.CutPrefix(where, "oci-layout://")
		switch {
		case isLayout:
			dir, digest, err := findLayout(layout)
			if err != nil {
				return fmt.Errorf("build context %s: %w", name, err)
			}
			store, err := local.NewStore(dir)
			if err != nil {
				return fmt.Errorf("build context %s: %w", name, err)
			}
			if b.solve.OCIStores == nil {
				b.solve.OCIStores = map[string]content.Store{}
			}
			key := "layout-" + name
			b.solve.OCIStores[key] = store
			b.solve.FrontendAttrs[attr] = "oci-layout://" + key + "@" + digest.String()
		case strings.HasPrefix(where, "target:"):
			return fmt.Errorf("build context %s: %q is another target of a bake file: build it by \"docker buildx bake\"; "+
				"of one Dockerfile a stage is named as it is", name, where)
		case strings.HasPrefix(where, "docker-image://"), buildspec.IsURL(where):
			b.solve.FrontendAttrs[attr] = where
		default:
			if err := b.mount(name, where); err != nil {
				return fmt.Errorf("build context %s: %w", name, err)
			}
			b.solve.FrontendAttrs[attr] = "local:" + name
		}
	}
	return nil
}

// findLayout finds the image of an OCI layout that "DIR", "DIR:TAG" or "DIR@DIGEST" names. Without a tag it is the one
// that is called latest, or else the only one. It only reads: the store that is opened on the directory makes it otherwise.
func findLayout(text string) (dir string, found digest.Digest, err error) {
	dir, tag := text, ""
	if at := strings.LastIndex(text, "@"); at > 0 {
		dir, found = text[:at], digest.Digest(text[at+1:])
		if err := found.Validate(); err != nil {
			return "", "", fmt.Errorf("%q: %w", text[at+1:], err)
		}
	} else if colon := strings.LastIndex(text, ":"); colon > strings.LastIndex(text, "/") {
		dir, tag = text[:colon], text[colon+1:]
	}
	if _, err := os.Stat(filepath.Join(dir, ocispec.ImageLayoutFile)); err != nil {
		return "", "", fmt.Errorf("%s is no OCI layout: %w", dir, err)
	}
	if found != "" {
		return dir, found, nil
	}
	data, err := os.ReadFile(filepath.Join(dir, ocispec.ImageIndexFile))
	if err != nil {
		return "", "", err
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return "", "", fmt.Errorf("read the index of %s: %w", dir, err)
	}
	var names []string
	for _, m := range index.Manifests {
		name := m.Annotations[ocispec.AnnotationRefName]
		if name == tag && tag != "" || name == "latest" && tag == "" {
			return dir, m.Digest, nil
		}
		names = append(names, fmt.Sprintf("%s@%s", name, m.Digest))
	}
	if tag == "" && len(index.Manifests) == 1 {
		return dir, index.Manifests[0].Digest, nil
	}
	return "", "", fmt.Errorf("%s has no image %q, but: %s", dir, cmp.Or(tag, "latest"), strings.Join(names, ", "))
}
