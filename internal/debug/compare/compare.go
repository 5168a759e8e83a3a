// Package compare tells in what two containers, or images, differ: the one that
// works and the one that does not.
//
//	c, err := compare.Compare(ctx, engine, "good", "bad")
//
// Each is taken apart into facts (a group, a key and a value). What both have with
// the same value is left out; the rest is ordered by how probably it matters. Of
// containers that run, what the kernel and their memory tell is compared, too.
package compare

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	mobyimage "github.com/moby/moby/api/types/image"

	"github.com/portholehq/porthole/api"
	"github.com/portholehq/porthole/internal/debug/look"
	"github.com/portholehq/porthole/internal/engine"
)

// Source is where containers and images are known: the engine.
type Source interface {
	look.IsolationSource
	ImageInspect(ctx context.Context, ref string) (mobyimage.InspectResponse, error)
}

var _ Source = (*engine.Engine)(nil)

// group is a kind of facts.
type group string

// The groups.
const (
	process   group = "process"
	setUp     group = "set-up"
	inEffect  group = "in effect" // what the kernel tells
	rights    group = "rights"
	limits    group = "limits"
	mounts    group = "mounts"
	env       group = "env"
	networks  group = "network"
	layers    group = "layers"
	sysctls   group = "sysctls"
	ulimits   group = "ulimits"
	listening group = "listening"
	libraries group = "libraries"
	standing  group = "state"
	other     group = "other"
	labels    group = "labels"
)

// weights are how probably a difference in a group matters, from what is found to
// be the cause in reports of "works here and not there".
var weights = map[group]int{
	process: 95, setUp: 93, rights: 90, inEffect: 88, limits: 85, mounts: 80, env: 75, networks: 70, listening: 65, sysctls: 60, ulimits: 58, layers: 55,
	libraries: 50, standing: 30, other: 20, labels: 5,
}

// quiet are variables that seldom matter.
var quiet = []string{"HOSTNAME", "HOME", "TERM", "SHLVL", "PWD"}

func weight(g group, key string) int {
	if g == env && slices.Contains(quiet, key) {
		return weights[other]
	}
	return weights[g]
}

type key struct {
	group group
	name  string
}

// facts are what is known of one of the two.
type facts struct {
	api.Compared
	values map[key]string
	groups map[group]bool // of which all is known
	layers []string
}

func newFacts(kind string) *facts {
	return &facts{Compared: api.Compared{Kind: kind}, values: map[key]string{}, groups: map[group]bool{}}
}

// know says that all of a group is known, also that there is nothing in it.
func (f *facts) know(groups ...group) {
	for _, g := range groups {
		f.groups[g] = true
	}
}

// put notes a fact; an empty value is none.
func (f *facts) put(g group, name, value string) {
	if value != "" {
		f.values[key{g, name}] = value
	}
}

// Compare tells in what two containers, or images, differ. One that does not exist
// gives errdefs.ErrNotFound.
func Compare(ctx context.Context, src Source, a, b string) (*api.Comparison, error) {
	out := &api.Comparison{Differences: []api.Difference{}}
	left, err := collect(ctx, src, a, out)
	if err != nil {
		return nil, err
	}
	right, err := collect(ctx, src, b, out)
	if err != nil {
		return nil, err
	}
	out.A, out.B = left.Compared, right.Compared
	compareLayers(left, right)
	keys := map[key]bool{}
	for _, f := range []*facts{left, right} {
		for k := range f.values {
			keys[k] = true
		}
	}
	skipped := map[group]bool{}
	for k := range keys {
		if !left.groups[k.group] || !right.groups[k.group] {
			skipped[k.group] = true
			continue
		}
		va, oka := left.values[k]
		vb, okb := right.values[k]
		if oka && okb && va == vb {
			out.Same++
			continue
		}
		d := api.Difference{Group: string(k.group), Key: k.name, Weight: weight(k.group, k.name)}
		if oka {
			d.A = &va
		}
		if okb {
			d.B = &vb
		}
		out.Differences = append(out.Differences, d)
	}
	if len(skipped) > 0 {
		var names []string
		for g := range skipped {
			names = append(names, string(g))
		}
		slices.Sort(names)
		out.Unknown = append(out.Unknown, "what is known of one of the two alone: "+strings.Join(names, ", "))
	}
	slices.SortFunc(out.Differences, func(x, y api.Difference) int {
		return cmp.Or(y.Weight-x.Weight, cmp.Compare(x.Group, y.Group), cmp.Compare(x.Key, y.Key))
	})
	return out, ctx.Err()
}

// collect takes a container apart, or else an image.
func collect(ctx context.Context, src Source, ref string, out *api.Comparison) (*facts, error) {
	s, err := src.Subject(ref)
	if err == nil {
		return ofContainer(ctx, src, s, out)
	}
	if !errdefs.IsNotFound(err) {
		return nil, err
	}
	img, imageErr := src.ImageInspect(ctx, ref)
	switch {
	case imageErr == nil:
		return ofImage(ref, &img), nil
	case errdefs.IsNotFound(imageErr), errdefs.IsInvalidArgument(imageErr):
		return nil, errdefs.ErrNotFound.WithMessage("No such container or image: " + ref)
	}
	return nil, imageErr
}

// compareLayers makes one fact for each side of the layers that the other has not.
func compareLayers(a, b *facts) {
	if !a.groups[layers] || !b.groups[layers] {
		return
	}
	common := 0
	for common < min(len(a.layers), len(b.layers)) && a.layers[common] == b.layers[common] {
		common++
	}
	if common == len(a.layers) && common == len(b.layers) {
		a.put(layers, "layers", fmt.Sprintf("%d in common", common))
		b.put(layers, "layers", fmt.Sprintf("%d in common", common))
		return
	}
	for _, f := range []*facts{a, b} {
		var own []string
		for _, l := range f.layers[common:] {
			_, digest, _ := strings.Cut(l, ":")
			own = append(own, digest[:min(12, len(digest))])
		}
		f.put(layers, fmt.Sprintf("behind the first %d", common), strings.Join(own, " "))
	}
}
