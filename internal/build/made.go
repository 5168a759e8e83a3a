package build

import (
	"context"
	"sync"

	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/moby/buildkit/cache"
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
