package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/image"
)

// Use is a container that uses an image.
type Use struct {
	ID      string
	Running bool
}

// RemoveOptions are the options of [Store.Remove].
type RemoveOptions struct {
	// Force removes an image with several names by its ID, and one that
	// stopped containers use; these keep the layers that they need.
	Force bool
	// NoPrune is accepted for Docker's sake: there are no untagged parents.
	NoPrune bool
	// Used tells which containers use an image; nil means none.
	Used func(imageID string) []Use
}

// Remove takes a name away from an image, and removes the image with its last
// name or when ref is an ID. It answers in Docker's order: names, then the
// image, then the layers that nothing else uses. Conflicts are
// errdefs.ErrConflict with Docker's words.
func (s *Store) Remove(ctx context.Context, ref string, opts RemoveOptions) ([]image.DeleteResponse, error) {
	ctx = s.in(ctx)
	e, _, err := s.entryOf(ctx, ref)
	if err != nil {
		return nil, err
	}
	r := removal{store: s, entry: e, opts: opts}
	if opts.Used != nil {
		r.uses = opts.Used(e.contents.id())
	}
	if isIDPrefix(e.contents.id(), ref) || len(r.matching(ref)) == 0 {
		return r.byID(ctx)
	}
	return r.byName(ctx, ref)
}

// isIDPrefix tells whether an image with this ID, found by ref, was found by
// its ID.
func isIDPrefix(id, ref string) bool {
	return hexID.MatchString(ref) && strings.HasPrefix(strings.TrimPrefix(id, "sha256:"), strings.TrimPrefix(ref, "sha256:"))
}

type removal struct {
	store *Store
	entry *entry
	opts  RemoveOptions
	uses  []Use
	// layers are the keys of its snapshots, topmost first, once deleteAll has looked.
	layers []string
}

func (r *removal) byName(ctx context.Context, ref string) ([]image.DeleteResponse, error) {
	named := r.named()
	if len(named) <= 1 && !r.opts.Force && len(r.uses) > 0 {
		return nil, failf(errdefs.ErrConflict,
			"conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s",
			ref, shortID(r.uses[0].ID), shortID(r.entry.contents.id()))
	}
	going := r.matching(ref)
	stay := len(named) > len(going)
	running := slices.ContainsFunc(r.uses, func(u Use) bool { return u.Running })
	if stay || running {
		// The image stays: with its other names, or without one as long as
		// the container runs.
		return r.untag(ctx, going, !stay)
	}
	return r.removeAll(ctx)
}

func (r *removal) byID(ctx context.Context) ([]image.DeleteResponse, error) {
	if u, ok := r.use(true); ok {
		return nil, r.conflict("cannot be forced", "image is being used by running container %s", shortID(u.ID))
	}
	if !r.opts.Force {
		if r.repositories() > 1 || len(r.named()) > 1 {
			return nil, r.conflict("must be forced", "image is referenced in multiple repositories")
		}
		if u, ok := r.use(false); ok {
			return nil, r.conflict("must be forced", "image is being used by stopped container %s", shortID(u.ID))
		}
	}
	return r.removeAll(ctx)
}

func (r *removal) use(running bool) (Use, bool) {
	i := slices.IndexFunc(r.uses, func(u Use) bool { return u.Running == running })
	if i < 0 {
		return Use{}, false
	}
	return r.uses[i], true
}

func (r *removal) conflict(how, format string, args ...any) error {
	return failf(errdefs.ErrConflict, "conflict: unable to delete %s (%s) - %s",
		shortID(r.entry.contents.id()), how, fmt.Sprintf(format, args...))
}

// named are the records with a name.
func (r *removal) named() []images.Image {
	return slices.DeleteFunc(slices.Clone(r.entry.records), func(i images.Image) bool { return isDangling(i.Name) })
}

func (r *removal) repositories() int {
	repos := map[string]bool{}
	for _, rec := range r.named() {
		if n, err := reference.ParseNormalizedNamed(rec.Name); err == nil {
			repos[n.Name()] = true
		}
	}
	return len(repos)
}

// matching are the records that ref names: one, or for a digest those of the
// repository; none when ref is an ID.
func (r *removal) matching(ref string) []images.Image {
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return nil
	}
	named, ok := parsed.(reference.Named)
	if !ok {
		return nil
	}
	_, byDigest := named.(reference.Canonical)
	var found []images.Image
	for _, rec := range r.named() {
		n, err := reference.ParseNormalizedNamed(rec.Name)
		if err != nil {
			continue
		}
		if byDigest && n.Name() == named.Name() || rec.Name == reference.TagNameOnly(named).String() {
			found = append(found, rec)
		}
	}
	return found
}

// untag takes names away; with keep the image lives on without a name.
func (r *removal) untag(ctx context.Context, going []images.Image, keep bool) ([]image.DeleteResponse, error) {
	s := r.store
	if keep {
		c := r.entry.contents
		if _, err := s.setName(ctx, danglingName(c.target.Digest), c.target); err != nil {
			return nil, err
		}
	}
	if err := s.deleteRecords(ctx, going); err != nil {
		return nil, err
	}
	return untagged(going), nil
}

func untagged(records []images.Image) []image.DeleteResponse {
	var list []image.DeleteResponse
	for _, rec := range records {
		if !isDangling(rec.Name) {
			list = append(list, image.DeleteResponse{Untagged: familiar(rec.Name)})
		}
	}
	return list
}

// removeAll removes the image with all its names.
func (r *removal) removeAll(ctx context.Context) ([]image.DeleteResponse, error) {
	if err := r.deleteAll(ctx, r.store.transact); err != nil {
		return nil, err
	}
	r.store.collect(ctx)
	return r.deleted(ctx, map[string]bool{}), nil
}

// deleteAll deletes the records of the image; what they alone have kept goes with the next collection.
func (r *removal) deleteAll(ctx context.Context, transact transactor) (err error) {
	r.layers, err = r.store.snapshotKeys(ctx, r.entry.contents.snapshot)
	if err != nil && !errdefs.IsNotFound(err) { // what has lost its layers can be removed, too
		return err
	}
	return r.store.deleteRecordsBy(ctx, transact, r.entry.records)
}

// deleted tells what has gone with that, and the collection after it. Layers that are told are not told again.
func (r *removal) deleted(ctx context.Context, told map[string]bool) []image.DeleteResponse {
	c := r.entry.contents
	list := append(untagged(r.entry.records), image.DeleteResponse{Deleted: c.id()})
	if len(r.layers) != len(c.chain) { // not unpacked, or not layer by layer
		return list
	}
	for i, key := range r.layers {
		if told[key] {
			break
		}
		if _, err := r.store.snapshot.Stat(ctx, key); !errdefs.IsNotFound(err) {
			break // this layer and all below are used by others
		}
		told[key] = true
		list = append(list, image.DeleteResponse{Deleted: c.chain[len(c.chain)-1-i].String()})
	}
	return list
}

// snapshotKeys are the keys of a snapshot and its parents, topmost first.
func (s *Store) snapshotKeys(ctx context.Context, key string) ([]string, error) {
	var keys []string
	for key != "" {
		info, err := s.snapshot.Stat(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("look up layer %q: %w", key, err)
		}
		keys = append(keys, key)
		key = info.Parent
	}
	return keys, nil
}

// PruneOptions are the options of [Store.Prune].
type PruneOptions struct {
	// Filters may be dangling (true unless given), label, label! and until.
	Filters Filters
	// Used is as in [RemoveOptions].
	Used func(imageID string) []Use
	// Removed is told of each image that went, also when a later one fails; nil
	// means nobody wants to know.
	Removed func(Image, []image.DeleteResponse)
}

// Prune removes images that no container uses: those without a name, or all
// when the filter dangling is false. It tells what it removed and how many
// bytes of layers and blobs that gave.
func (s *Store) Prune(ctx context.Context, opts PruneOptions) (image.PruneReport, error) {
	ctx = s.in(ctx)
	filters := Filters{}
	for k, v := range opts.Filters {
		if !slices.Contains([]string{"dangling", "label", "label!", "until"}, k) {
			return image.PruneReport{}, failf(errdefs.ErrInvalidArgument, "invalid filter '%s'", k)
		}
		filters[k] = v
	}
	if len(filters["dangling"]) == 0 {
		filters["dangling"] = []string{"true"}
	}
	entries, err := s.catalog(ctx)
	if err != nil {
		return image.PruneReport{}, err
	}
	f, err := s.filter(ctx, filters)
	if err != nil {
		return image.PruneReport{}, err
	}
	if f.dangling != nil && !*f.dangling {
		f.dangling = nil // "not only dangling", where a list means "none of them"
	}
	before, err := s.DiskUsage(ctx)
	if err != nil {
		return image.PruneReport{}, err
	}
	s.pruneBroken(ctx)
	report := image.PruneReport{ImagesDeleted: []image.DeleteResponse{}}
	flushed := s.flushes.Begin() // nobody waits for the disk until the end
	removed, err := s.deleteUnused(ctx, sorted(entries), f, opts.Used)
	s.collect(ctx)                // it looks at all there is: once, not for each
	if e := flushed(); e != nil { // a crash would bring them back: nobody is told that they are gone
		return report, errors.Join(err, fmt.Errorf("flush databases: %w", e))
	}
	told := map[string]bool{}
	for _, r := range removed {
		list := r.deleted(ctx, told)
		report.ImagesDeleted = append(report.ImagesDeleted, list...)
		if opts.Removed != nil {
			opts.Removed(r.entry.contents.asImage(""), list)
		}
	}
	if err != nil {
		return report, err
	}
	after, err := s.DiskUsage(ctx)
	if err != nil {
		return report, err
	}
	if freed := before.Layers + before.Content - after.Layers - after.Content; freed > 0 {
		report.SpaceReclaimed = uint64(freed)
	}
	return report, nil
}

// deleteUnused deletes the records of images that match and nobody uses. The result is complete also with an error.
func (s *Store) deleteUnused(ctx context.Context, entries []*entry, f *imageFilter, used func(imageID string) []Use) (removed []*removal, err error) {
	for _, e := range entries {
		if _, _, ok := f.match(e); !ok || s.isGone(ctx, e) || used != nil && len(used(e.contents.id())) > 0 {
			continue
		}
		r := &removal{store: s, entry: e}
		if err := r.deleteAll(ctx, s.transactLater); err != nil {
			return removed, err
		}
		removed = append(removed, r)
	}
	return removed, nil
}

func sorted(entries map[string]*entry) []*entry {
	var list []*entry
	for _, e := range entries {
		list = append(list, e)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].contents.id() < list[j].contents.id() })
	return list
}
