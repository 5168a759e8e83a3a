package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/util/progress"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portholehq/porthole/internal/image/name"
)

// storeExporter makes an image of a build's result. Its layers stay where the
// steps have made them.
type storeExporter struct {
	inner  exporter.Exporter
	worker *buildWorker
}

// Resolve reads a client's settings. The name is kept back: it must not be seen
// before the image is whole.
func (x *storeExporter) Resolve(ctx context.Context, id int, attrs map[string]string) (exporter.ExporterInstance, error) {
	inner := maps.Clone(attrs)
	if inner == nil {
		inner = map[string]string{}
	}
	push := isTrue(inner, string(exptypes.OptKeyPush))
	keep := true
	if v, given := inner[string(exptypes.OptKeyStore)]; given {
		keep = v == "" || v == "true"
	}
	names, err := imageNames(inner[string(exptypes.OptKeyName)])
	if err != nil {
		return nil, err
	}
	inner[string(exptypes.OptKeyName)] = strings.Join(names, ",")
	inner[string(exptypes.OptKeyStore)] = "false"
	inner[string(exptypes.OptKeyUnpack)] = "false"
	delete(inner, string(exptypes.OptKeyDanglingPrefix))
	if !push {
		delete(inner, string(exptypes.OptKeyName))
		if _, given := inner[string(exptypes.OptKeyLayerCompression)]; !given {
			inner[string(exptypes.OptKeyLayerCompression)] = "uncompressed"
		}
	}
	instance, err := x.inner.Resolve(ctx, id, inner)
	if err != nil {
		return nil, err
	}
	return &storeExport{ExporterInstance: instance, worker: x.worker, names: names, keep: keep}, nil
}

func isTrue(attrs map[string]string, key string) bool {
	v, given := attrs[key]
	return given && (v == "" || v == "true" || v == "1")
}

// imageNames makes whole names of what clients send.
func imageNames(list string) ([]string, error) {
	var names []string
	for text := range strings.SplitSeq(list, ",") {
		if text == "" {
			continue
		}
		ref, err := name.ParseTag(text)
		if err != nil {
			return nil, fmt.Errorf("invalid tag %q: %w", text, err)
		}
		names = append(names, ref.String())
	}
	return names, nil
}

// storeExport is one export.
type storeExport struct {
	exporter.ExporterInstance
	worker *buildWorker
	names  []string
	keep   bool
}

// Export writes manifest and configuration, ties the layers to them, and gives
// the image its names.
func (x *storeExport) Export(ctx context.Context, src *exporter.Source, info exporter.ExportBuildInfo) (map[string]string, exporter.FinalizeFunc, exporter.DescriptorReference, error) {
	response, finalize, ref, err := x.ExporterInstance.Export(ctx, src, info)
	if err != nil || !x.keep {
		return response, finalize, ref, err
	}
	id, err := x.store(ctx, src, ref.Descriptor())
	if err != nil {
		return nil, nil, nil, errors.Join(err, ref.Release())
	}
	if id != "" {
		// With attestations the exporter tells of the index alone.
		response[exptypes.ExporterImageConfigDigestKey] = id
	}
	if len(x.names) > 0 {
		response["image.name"] = strings.Join(x.names, ",")
	}
	return response, finalize, ref, nil
}

// store returns the image's ID; empty for one that is for other machines only.
func (x *storeExport) store(ctx context.Context, src *exporter.Source, target ocispec.Descriptor) (id string, err error) {
	ctx = namespaces.WithNamespace(ctx, x.worker.store.Namespace)
	config, err := images.Config(ctx, x.worker.store.Content, target, platforms.Default())
	if errdefs.IsNotFound(err) && images.IsIndexType(target.MediaType) {
		// For other machines only: nothing of it will run here.
		return "", x.name(ctx, target)
	}
	if err != nil {
		return "", err
	}
	if err := x.tie(ctx, src, config.Digest); err != nil {
		return "", err
	}
	if err := x.name(ctx, target); err != nil {
		return "", err
	}
	id = config.Digest.String()
	x.worker.tellImage(ctx, id, x.names)
	return id, nil
}

// tie makes the configuration keep the snapshot of the topmost layer. One that
// has a snapshot already, because the same image was loaded or built before, keeps
// that: it holds the same files, and may be in use.
func (x *storeExport) tie(ctx context.Context, src *exporter.Source, config digest.Digest) error {
	ref := resultFor(src)
	if ref == nil {
		return nil // an image without layers
	}
	label := "containerd.io/gc.ref.snapshot." + x.worker.store.SnapshotterName
	info, err := x.worker.store.Content.Info(ctx, config)
	if err != nil {
		return err
	}
	if key := info.Labels[label]; key != "" {
		if _, err := x.worker.store.Snapshotter.Stat(ctx, key); !errdefs.IsNotFound(err) {
			return err
		}
	}
	if err := ref.Extract(ctx, nil); err != nil {
		return err
	}
	if err := ref.Finalize(ctx); err != nil {
		return err
	}
	_, err = x.worker.store.Content.Update(ctx, content.Info{Digest: config, Labels: map[string]string{label: snapshotOf(ref)}}, "labels."+label)
	return err
}

// snapshotOf is the key of a reference's snapshot.
func snapshotOf(ref cache.ImmutableRef) string {
	if key := ref.GetString("cache.snapshot"); key != "" {
		return key
	}
	return ref.ID()
}

// resultFor picks the result for this machine.
func resultFor(src *exporter.Source) cache.ImmutableRef {
	if src.Ref != nil || len(src.Refs) == 0 {
		return src.Ref
	}
	var list exptypes.Platforms
	if json.Unmarshal(src.Metadata[exptypes.ExporterPlatformsKey], &list) != nil {
		return nil
	}
	matcher := platforms.Default()
	for _, p := range list.Platforms {
		if matcher.Match(p.Platform) {
			return src.Refs[p.ID]
		}
	}
	return nil
}

// name gives the image its names, or keeps it as one without.
func (x *storeExport) name(ctx context.Context, target ocispec.Descriptor) error {
	names := x.names
	if len(names) == 0 {
		names = []string{"<none>@" + target.Digest.String()}
	}
	for _, name := range names {
		done := progress.OneOff(ctx, "naming to "+name)
		if err := done(x.setName(ctx, images.Image{Name: name, Target: target})); err != nil {
			return err
		}
	}
	return nil
}

func (x *storeExport) setName(ctx context.Context, image images.Image) error {
	for {
		_, err := x.worker.store.Images.Update(ctx, image)
		if !errdefs.IsNotFound(err) {
			return err
		}
		if _, err = x.worker.store.Images.Create(ctx, image); !errdefs.IsAlreadyExists(err) {
			return err
		}
	}
}
