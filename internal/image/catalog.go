package image

import (
	"context"
	"fmt"
	"slices"
	"sort"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
)

// entry is one image of the store: all records with the same image ID.
type entry struct {
	contents *contents
	records  []images.Image // sorted by name
}

// isStep tells that the image is nothing but the state after an instruction.
func (e entry) isStep() bool {
	return !slices.ContainsFunc(e.records, func(r images.Image) bool { return !isStep(r.Name) })
}

// names are the familiar names of the image, sorted.
func (e entry) names() []string {
	names := []string{}
	for _, r := range e.records {
		if !isDangling(r.Name) && !isByDigest(r.Name) {
			names = append(names, familiar(r.Name))
		}
	}
	return names
}

// digests are the names of the image by digest: repository@target.
func (e entry) digests() []string {
	digests := []string{}
	seen := map[string]bool{}
	for _, r := range e.records {
		if isDangling(r.Name) {
			continue
		}
		named, err := reference.ParseNormalizedNamed(r.Name)
		if err != nil {
			continue
		}
		d := reference.FamiliarName(named) + "@" + r.Target.Digest.String()
		if !seen[d] {
			seen[d] = true
			digests = append(digests, d)
		}
	}
	return digests
}

// catalog reads all images. Records whose content is broken are left out and
// logged: one of them must not hide the others.
func (s *Store) catalog(ctx context.Context) (map[string]*entry, error) {
	records, err := s.images.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	sort.Slice(records, func(i, j int) bool { return records[i].Name < records[j].Name })
	entries := map[string]*entry{}
	list, errs := s.contentsOf(ctx, records)
	for i, r := range records {
		c := list[i]
		if c == nil {
			s.logger.WarnContext(ctx, "unreadable image", "image", r.Name, "err", errs[i])
			continue
		}
		e := entries[c.id()]
		if e == nil {
			e = &entry{contents: c}
			entries[c.id()] = e
		}
		e.records = append(e.records, r)
	}
	return entries, nil
}
