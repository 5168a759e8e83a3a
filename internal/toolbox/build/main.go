// Build makes the toolbox image of the program cmd/porthole-toolbox:
//
//	go run ./internal/toolbox/build -program FILE -output FILE [-arch ARCH]
//
// The same program gives the same archive. The time in it is SOURCE_DATE_EPOCH,
// or 1970.
package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/toolbox"
	"github.com/portholehq/porthole/internal/toolbox/applet"
	"github.com/portholehq/porthole/internal/toolbox/shell"
)

func main() {
	program := flag.String("program", "", "the program `file`")
	output := flag.String("output", "", "the archive `file` to write")
	arch := flag.String("arch", runtime.GOARCH, "what the program runs on")
	flag.Parse()
	if err := build(*program, *output, *arch); err != nil {
		fmt.Fprintln(os.Stderr, "build toolbox image:", err)
		os.Exit(1)
	}
}

func build(program, output, arch string) error {
	binary, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	at := time.Unix(0, 0).UTC()
	if text := os.Getenv("SOURCE_DATE_EPOCH"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
		at = time.Unix(n, 0).UTC()
	}
	layer, err := layer(binary, at)
	if err != nil {
		return err
	}
	data, err := archive(layer, arch, at)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(output), 0o755); err != nil {
		return err
	}
	return os.WriteFile(output, data, 0o644)
}

const passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"

const group = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"

// layer is the root filesystem as a tar.
func layer(binary []byte, at time.Time) ([]byte, error) {
	var buf bytes.Buffer
	w := layerWriter{tw: tar.NewWriter(&buf), at: at}
	for _, d := range []struct {
		name string
		mode int64
	}{{"bin/", 0o755}, {"dev/", 0o755}, {"etc/", 0o755}, {"proc/", 0o755}, {"root/", 0o700}, {"sys/", 0o755}, {"tmp/", 0o1777}, {"usr/", 0o755}, {"usr/bin/", 0o755}, {"var/", 0o755}} {
		w.add(&tar.Header{Typeflag: tar.TypeDir, Name: d.name, Mode: d.mode}, nil)
	}
	w.add(&tar.Header{Typeflag: tar.TypeReg, Name: "bin/porthole-toolbox", Mode: 0o755}, binary)
	names := append(applet.Names(), shell.Builtins()...)
	names = append(names, "ash", "sh")
	slices.Sort(names)
	for _, n := range names {
		w.add(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + n, Linkname: "porthole-toolbox", Mode: 0o777}, nil)
	}
	// Scripts begin with #!/usr/bin/env.
	w.add(&tar.Header{Typeflag: tar.TypeSymlink, Name: "usr/bin/env", Linkname: "/bin/env", Mode: 0o777}, nil)
	w.add(&tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644}, []byte(passwd))
	w.add(&tar.Header{Typeflag: tar.TypeReg, Name: "etc/group", Mode: 0o644}, []byte(group))
	if w.err == nil {
		w.err = w.tw.Close()
	}
	return buf.Bytes(), w.err
}

type layerWriter struct {
	tw  *tar.Writer
	at  time.Time
	err error
}

func (w *layerWriter) add(hdr *tar.Header, data []byte) {
	if w.err != nil {
		return
	}
	hdr.Size, hdr.ModTime = int64(len(data)), w.at
	if w.err = w.tw.WriteHeader(hdr); w.err == nil {
		_, w.err = w.tw.Write(data)
	}
}

// archive is the OCI archive with index.json at its beginning.
func archive(layer []byte, arch string, at time.Time) ([]byte, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	packed := blob{mediaType: ocispec.MediaTypeImageLayerZstd, data: enc.EncodeAll(layer, nil)}
	config, err := document(ocispec.MediaTypeImageConfig, ocispec.Image{
		Created:  &at,
		Platform: ocispec.Platform{OS: "linux", Architecture: arch},
		Config: ocispec.ImageConfig{
			Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Cmd:        []string{"sh"},
			WorkingDir: "/",
			Labels:     map[string]string{ocispec.AnnotationTitle: "porthole/toolbox", ocispec.AnnotationDescription: "A shell and small commands."},
		},
		RootFS:  ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}},
		History: []ocispec.History{{Created: &at, CreatedBy: "porthole-toolbox"}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := document(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    config.descriptor(),
		Layers:    []ocispec.Descriptor{packed.descriptor()},
	})
	if err != nil {
		return nil, err
	}
	target := manifest.descriptor()
	target.Annotations = map[string]string{
		"io.containerd.image.name": "docker.io/" + toolbox.Name,
		ocispec.AnnotationRefName:  "latest",
	}
	index, err := document("", ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{target},
	})
	if err != nil {
		return nil, err
	}
	layout, err := document("", ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	w := layerWriter{tw: tar.NewWriter(&buf), at: at}
	file := func(name string, b blob) {
		w.add(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, b.data)
	}
	file(ocispec.ImageIndexFile, index)
	file(ocispec.ImageLayoutFile, layout)
	for _, b := range []blob{manifest, config, packed} {
		file("blobs/sha256/"+b.descriptor().Digest.Encoded(), b)
	}
	if w.err == nil {
		w.err = w.tw.Close()
	}
	return buf.Bytes(), w.err
}

type blob struct {
	mediaType string
	data      []byte
}

func (b blob) descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: b.mediaType, Digest: digest.FromBytes(b.data), Size: int64(len(b.data))}
}

func document(mediaType string, v any) (blob, error) {
	data, err := json.Marshal(v)
	return blob{mediaType, data}, err
}
