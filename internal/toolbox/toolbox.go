// Package toolbox is the image porthole/toolbox, built into the program: a
// small static userland with a shell, so that a machine without a registry has
// something to run.
//
// The commands are in the packages applet and shell and in the program
// cmd/porthole-toolbox; the image is made by tools/build-toolbox.sh before the
// program that embeds it is built. [Archive] returns it as an OCI archive, to be
// loaded like any other.
package toolbox

import (
	"archive/tar"
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

//go:generate sh ../../tools/build-toolbox.sh

//go:embed rootfs
var files embed.FS

// Name is the name of the image.
const Name = "porthole/toolbox:latest"

// archivePath is where build-toolbox.sh puts the archive.
const archivePath = "rootfs/bin/image.tar"

// ErrNotBuilt is returned by a program that was built without the image.
var ErrNotBuilt = errors.New("toolbox image is not in this program: it was built without `make toolbox`")

// Archive returns the image as an OCI archive, with its name and the digest of
// its manifest, by which a caller can tell whether it has loaded it already.
func Archive() (r io.Reader, name, digest string, err error) {
	data, err := fs.ReadFile(files, archivePath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", "", ErrNotBuilt
	}
	if err != nil {
		return nil, "", "", fmt.Errorf("read toolbox image: %w", err)
	}
	digest, err = manifestDigest(data)
	if err != nil {
		return nil, "", "", fmt.Errorf("read toolbox image: %w", err)
	}
	return bytes.NewReader(data), Name, digest, nil
}

// manifestDigest reads index.json, which is the first file of the archive.
func manifestDigest(data []byte) (string, error) {
	tr := tar.NewReader(bytes.NewReader(data))
	for {
		hdr, err := tr.Next()
		if err != nil {
			return "", fmt.Errorf("find index.json: %w", err)
		}
		if hdr.Name != ocispec.ImageIndexFile {
			continue
		}
		var index ocispec.Index
		if err := json.NewDecoder(tr).Decode(&index); err != nil {
			return "", fmt.Errorf("index.json: %w", err)
		}
		if len(index.Manifests) != 1 {
			return "", fmt.Errorf("index.json has %d images", len(index.Manifests))
		}
		return index.Manifests[0].Digest.String(), nil
	}
}
