package build

import (
	"context"
	"sync"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/opencontainers/go-digest"
)

// onceResolver asks for the configuration of each base once. A build that goes
// one instruction at a time would ask for each of them again, and each answer
// writes into the store where the image is from.
type onceResolver struct {
	llb.ImageMetaResolver
	mu    sync.Mutex
	known map[string]resolvedConfig
}

type resolvedConfig struct {
	ref    string
	digest digest.Digest // of the manifest, or index
	config []byte
}

// ResolveImageConfig finds a base's configuration; see [llb.ImageMetaResolver].
func (r *onceResolver) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	key := ref
	if opt.ImageOpt != nil && opt.ImageOpt.Platform != nil {
		key += " " + platforms.FormatAll(*opt.ImageOpt.Platform)
	}
	r.mu.Lock()
	c, ok := r.known[key]
	r.mu.Unlock()
	if ok {
		return c.ref, c.digest, c.config, nil
	}
	ref, dgst, config, err := r.ImageMetaResolver.ResolveImageConfig(ctx, ref, opt)
	if err != nil {
		return "", "", nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.known = map[string]resolvedConfig{}
	}
	r.known[key] = resolvedConfig{ref, dgst, config}
	return ref, dgst, config, nil
}
