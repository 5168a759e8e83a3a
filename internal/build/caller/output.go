package caller

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/moby/term"
)

// outputs are where the result goes. Without any it is an image of the daemon.
func (b *build) outputs() error {
	names := strings.Join(b.r.Tags, ",")
	list := b.r.Outputs
	if b.r.Load {
		list = append(list, "type=docker")
	}
	if b.r.Push {
		if names == "" {
			return errors.New("tag is needed when pushing to registry")
		}
		list = append(list, "type=registry")
	}
	if len(list) == 0 {
		list = []string{"type=docker"}
	}
	for _, text := range list {
		e, err := b.output(text, names)
		if err != nil {
			return err
		}
		if e != nil {
			b.solve.Exports = append(b.solve.Exports, *e)
		}
	}
	return nil
}

// output reads one --output; nil: the result goes nowhere.
func (b *build) output(text, names string) (*client.ExportEntry, error) {
	f := map[string]string{}
	if strings.ContainsAny(text, "=,") {
		var err error
		if f, err = fields("--output", text); err != nil {
			return nil, err
		}
	} else if f["dest"], f["type"] = text, client.ExporterLocal; text == "-" {
		f["type"] = client.ExporterTar
	}
	kind, dest := take(f, "type"), take(f, "dest")
	if _, named := f["name"]; !named && names != "" {
		f["name"] = names
	}
	e := &client.ExportEntry{Type: kind, Attrs: f}
	switch kind {
	case "cacheonly":
		return nil, nil
	case client.ExporterLocal:
		delete(f, "name")
		if dest == "" {
			return nil, errors.New("dest is required for local output")
		}
		e.OutputDir = dest
		return e, nil
	case client.ExporterTar:
		delete(f, "name")
	case client.ExporterOCI:
	case client.ExporterDocker:
		if dest == "" {
			e.Type = "moby"
			return e, nil
		}
	case "registry":
		e.Type, f["push"] = client.ExporterImage, "true"
		return e, b.noDest(kind, dest)
	case client.ExporterImage:
		return e, b.noDest(kind, dest)
	case "":
		return nil, fmt.Errorf("invalid value for --output: %q has no type", text)
	default:
		return nil, fmt.Errorf("invalid value for --output: type %q is not supported: want local, tar, oci, docker, image, registry or cacheonly", kind)
	}
	if dest == "" {
		return nil, fmt.Errorf("dest is required for %s output", kind)
	}
	return e, b.toFile(e, kind, dest)
}

func (b *build) noDest(kind, dest string) error {
	if dest != "" {
		return fmt.Errorf("dest is not possible for %s output", kind)
	}
	return nil
}

// toFile has an archive written to a file, or to standard output.
func (b *build) toFile(e *client.ExportEntry, kind, dest string) error {
	if dest == "-" {
		if f, ok := b.o.Out.(interface{ Fd() uintptr }); ok && term.IsTerminal(f.Fd()) {
			return fmt.Errorf("dest file is required for %s exporter. refusing to write to console", kind)
		}
		e.Output = func(map[string]string) (io.WriteCloser, error) { return nopCloser{b.o.Out}, nil }
		return nil
	}
	if info, err := os.Stat(dest); err == nil && info.IsDir() {
		return fmt.Errorf("destination directory %s not supported for %s exporter", dest, kind)
	}
	e.Output = func(map[string]string) (io.WriteCloser, error) { return os.Create(dest) }
	return nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
