package toolbox

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// dirPrefix begins the names of what Unpack makes.
const dirPrefix = "tools-"

// ImageDir is the empty directory beside the programs that [Unpack] makes, for
// the root of another image.
const ImageDir = "image"

// Unpack makes sure that the programs of the image are in a directory below
// parent, as bin/NAME, and returns it. What programs of another build have left
// there goes. It is called by one process at a time.
func Unpack(parent string) (string, error) {
	archive, _, digest, err := Archive()
	if err != nil {
		return "", err
	}
	name := dirPrefix + strings.TrimPrefix(digest, "sha256:")[:16]
	dir := filepath.Join(parent, name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	old, err := filepath.Glob(filepath.Join(parent, dirPrefix+"*"))
	if err != nil {
		return "", err
	}
	for _, o := range old {
		if err := os.RemoveAll(o); err != nil {
			return "", fmt.Errorf("remove old tools: %w", err)
		}
	}
	unfinished := dir + ".new"
	if err := unpack(archive, unfinished); err != nil {
		return "", errors.Join(fmt.Errorf("unpack tools: %w", err), os.RemoveAll(unfinished))
	}
	if err := os.Rename(unfinished, dir); err != nil {
		return "", errors.Join(err, os.RemoveAll(unfinished))
	}
	return dir, nil
}

func unpack(archive io.Reader, dir string) error {
	blobs := map[string][]byte{}
	var index ocispec.Index
	for tr := tar.NewReader(archive); ; {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			return err
		}
		if hdr.Name == ocispec.ImageIndexFile {
			if err := json.Unmarshal(data, &index); err != nil {
				return fmt.Errorf("index.json: %w", err)
			}
		}
		blobs["sha256:"+path.Base(hdr.Name)] = data
	}
	var manifest ocispec.Manifest
	if len(index.Manifests) != 1 {
		return fmt.Errorf("index.json has %d images", len(index.Manifests))
	}
	if err := json.Unmarshal(blobs[index.Manifests[0].Digest.String()], &manifest); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	if len(manifest.Layers) != 1 {
		return fmt.Errorf("the image has %d layers", len(manifest.Layers))
	}
	layer, err := zstd.NewReader(bytes.NewReader(blobs[manifest.Layers[0].Digest.String()]), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer layer.Close()
	if err := programs(tar.NewReader(layer), filepath.Join(dir, "bin")); err != nil {
		return err
	}
	return os.Mkdir(filepath.Join(dir, ImageDir), 0o755)
}

// programs writes what is in /bin of a layer: files, and links to them.
func programs(tr *tar.Reader, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		parent, base := path.Split(hdr.Name)
		if parent != "bin/" || base == "" {
			continue
		}
		name := filepath.Join(dir, base)
		if hdr.Typeflag == tar.TypeSymlink {
			err = os.Symlink(hdr.Linkname, name)
		} else {
			err = writeProgram(name, tr, fs.FileMode(hdr.Mode).Perm())
		}
		if err != nil {
			return err
		}
	}
}

func writeProgram(name string, r io.Reader, mode fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
