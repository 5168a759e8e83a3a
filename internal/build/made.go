package build

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/moby/buildkit/cache"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"

	"github.com/portholehq/porthole/internal/image"
)

// mostMade is how many images of states are remembered.
const mostMade = 4096

// madeImages remembers which images were made of which states. To make one
// again takes eight transactions, each of which waits for the disk, and gives
// the same image.
type madeImages struct {
	mu   sync.Mutex
	list map[string]madeImage
}

type madeImage struct {
	id     string
	target digest.Digest
}

// madeOf names what an image is made of.
func madeOf(files cache.ImmutableRef, config []byte) string {
	name := digest.FromBytes(config).String()
	if files != nil {
		name += " " + files.ID()
	}
	return name
}

func (m *madeImages) put(of string, made madeImage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.list == nil || len(m.list) >= mostMade {
		m.list = map[string]madeImage{}
	}
	m.list[of] = made
}

// madeBefore is the ID of the image that was made of this before, if it is still
// there.
func (b *Builder) madeBefore(ctx context.Context, of string) (id string, ok bool) {
	b.made.mu.Lock()
	made, ok := b.made.list[of]
	b.made.mu.Unlock()
	if !ok {
		return "", false
	}
	ctx = namespaces.WithNamespace(ctx, b.worker.store.Namespace)
	_, err := b.worker.store.Images.Get(ctx, image.StepName(made.target))
	return made.id, err == nil
}

// untouched is the ID of the image that a configuration is that of, if it is one
// of the bases and in the store: a FROM alone gives the image that it names.
func (b *Builder) untouched(ctx context.Context, bases *onceResolver, config []byte) (id string, ok bool) {
	ctx = namespaces.WithNamespace(ctx, b.worker.store.Namespace)
	bases.mu.Lock()
	known := slices.Collect(maps.Values(bases.known))
	bases.mu.Unlock()
	for _, base := range known {
		if !sameImage(base.config, config) {
			continue
		}
		list, err := b.worker.store.Images.List(ctx, "target.digest=="+base.digest.String())
		if err == nil && len(list) > 0 {
			return digest.FromBytes(base.config).String(), true
		}
	}
	return "", false
}

// sameImage reports whether two configurations say the same, but for the time,
// which BuildKit leaves out at first.
func sameImage(a, b []byte) bool {
	var texts [2][]byte
	for i, text := range [2][]byte{a, b} {
		var img dockerspec.DockerOCIImage
		if err := json.Unmarshal(text, &img); err != nil {
			return false
		}
		img.Created = nil
		var err error
		if texts[i], err = json.Marshal(img); err != nil {
			return false
		}
	}
	return bytes.Equal(texts[0], texts[1])
}
