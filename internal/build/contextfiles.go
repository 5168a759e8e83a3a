package build

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/cache/contenthash"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/worker"
	"github.com/moby/patternmatcher"
	"github.com/opencontainers/go-digest"

	"github.com/portholehq/porthole/internal/build/history"
)

// mostFiles is how many files of a context are listed in the record of a build.
// Directories that there is no room for are told by one digest of all that is in
// them, those of the lowest level first.
const mostFiles = 20_000

// clientFiles notes the files that a client has sent for builds that are recorded.
type clientFiles struct {
	solver.Op
	recordings *recordings
	vertex     digest.Digest
	name       string
}

// Exec fetches the files. They are listed at once: with the next build of the same
// client they change in their place.
func (o clientFiles) Exec(ctx context.Context, job solver.JobContext, inputs []solver.Result) ([]solver.Result, error) {
	results, err := o.Op.Exec(ctx, job, inputs)
	if err != nil || len(results) != 1 {
		return results, err
	}
	if ref, ok := results[0].Sys().(*worker.WorkerRef); ok && ref.ImmutableRef != nil {
		o.recordings.sent(ctx, o.vertex, o.name, ref.ImmutableRef, job.Session())
	}
	return results, nil
}

// sent notes the files of a context in the builds that they were sent for.
func (rs *recordings) sent(ctx context.Context, vertex digest.Digest, name string, ref cache.ImmutableRef, g session.Group) {
	var files *history.Files
	for _, r := range rs.all() {
		if !r.takesFrom(vertex) {
			continue
		}
		if files == nil {
			var err error
			if files, err = listFiles(ctx, ref, g, mostFiles); err != nil {
				r.log.Warn("files of a build are not recorded", "build", r.build.ID, "err", err)
				return
			}
		}
		r.mu.Lock()
		if r.files == nil {
			r.files = map[string]*history.Files{}
		}
		r.files[name] = files
		r.mu.Unlock()
	}
}

// takesFrom tells whether a build knows a vertex, and wants files of it: those that
// the Dockerfile is read from are no part of the image.
func (r *recording) takesFrom(vertex digest.Digest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range r.inputs {
		if slices.Contains(v.sources, vertex) {
			return true
		}
	}
	return false
}

// listFiles lists what a client has sent, at most so many files. BuildKit has the
// digests already: it makes them while it receives the files.
func listFiles(ctx context.Context, ref cache.ImmutableRef, g session.Group, most int) (*history.Files, error) {
	sum := func(name string) (digest.Digest, error) {
		return contenthash.Checksum(ctx, ref, "/"+name, contenthash.ChecksumOpts{}, g)
	}
	root, err := sum("")
	if err != nil {
		return nil, err
	}
	mountable, err := ref.Mount(ctx, true, g)
	if err != nil {
		return nil, err
	}
	mounts, release, err := mountable.Mount()
	if err != nil {
		return nil, err
	}
	if release != nil {
		defer func() { _ = release() }() // nothing is mounted
	}
	if len(mounts) != 1 || mounts[0].Type != "bind" {
		return nil, fmt.Errorf("files of a client are mounted in %d places", len(mounts))
	}
	l := lister{dir: mounts[0].Source, sum: sum, most: most, files: &history.Files{Root: root.String(), List: map[string]history.File{}}}
	return l.files, l.list(ctx)
}

// lister lists a context level by level.
type lister struct {
	dir   string
	sum   func(name string) (digest.Digest, error)
	most  int
	files *history.Files
}

func (l *lister) list(ctx context.Context) error {
	for dirs := []string{""}; len(dirs) > 0; dirs = dirs[1:] {
		if err := ctx.Err(); err != nil {
			return err
		}
		entries, err := os.ReadDir(filepath.Join(l.dir, dirs[0]))
		if err != nil {
			return err
		}
		if len(l.files.List)+len(entries) > l.most {
			if err := l.whole(dirs[0]); err != nil {
				return err
			}
			continue
		}
		for _, e := range entries {
			name := path.Join(dirs[0], e.Name())
			if err := l.add(name, e); err != nil {
				return err
			}
			if e.IsDir() {
				dirs = append(dirs, name)
			}
		}
	}
	return nil
}

// whole notes a directory by the digest of all that is in it.
func (l *lister) whole(name string) error {
	l.files.Cut = true
	f, ok := l.files.List[name]
	if !ok {
		return nil // all of the context has a digest
	}
	sum, err := l.sum(name)
	if err != nil {
		return err
	}
	f.Whole, f.Digest = true, sum.Encoded()[:32]
	l.files.List[name] = f
	return nil
}

// add lists one file.
func (l *lister) add(name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	f := history.File{Mode: uint32(info.Mode())}
	if info.Mode().IsRegular() {
		f.Size = info.Size()
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		if f.Link, err = os.Readlink(filepath.Join(l.dir, name)); err != nil {
			return err
		}
	}
	if !d.IsDir() {
		sum, err := l.sum(name)
		if err != nil {
			return err
		}
		f.Digest = sum.Encoded()[:32]
	}
	l.files.List[name] = f
	return nil
}

// taker finds the files that a step takes of a context.
type taker struct {
	take             history.Take
	path             string
	include, exclude *patternmatcher.PatternMatcher
}

// newTaker makes one for the files of one build: a path that goes through links
// leads to where they point there.
func newTaker(take history.Take, files *history.Files) (*taker, error) {
	t := &taker{take: take, path: followLinks(take.Path, files)}
	var err error
	if len(take.Include) > 0 {
		if t.include, err = patternmatcher.New(take.Include); err != nil {
			return nil, err
		}
	}
	if len(take.Exclude) > 0 {
		if t.exclude, err = patternmatcher.New(take.Exclude); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// takes tells whether a file is taken.
func (t *taker) takes(name string) bool {
	below, ok := t.below("/" + name)
	if !ok {
		return false
	}
	below = strings.TrimPrefix(below, "/")
	if below == "" {
		below = path.Base(name)
	}
	if t.include != nil {
		if in, err := t.include.MatchesOrParentMatches(below); err == nil && !in {
			return false
		}
	}
	if t.exclude != nil {
		if out, err := t.exclude.MatchesOrParentMatches(below); err == nil && out {
			return false
		}
	}
	return true
}

// below is the part of a path behind what is taken.
func (t *taker) below(name string) (string, bool) {
	if t.path == "/" {
		return name, true
	}
	if !t.take.Wildcard {
		rest, ok := strings.CutPrefix(name, t.path)
		return rest, ok && (rest == "" || rest[0] == '/')
	}
	for at := name; at != "/" && at != "."; at = path.Dir(at) {
		if ok, err := path.Match(t.path, at); err == nil && ok {
			return name[len(at):], true
		}
	}
	return "", false
}

// mostLinks is how many links a path may go through, as in the kernel.
const mostLinks = 40

// followLinks resolves a path within the files of a context.
func followLinks(name string, files *history.Files) string {
	if files == nil {
		return path.Clean("/" + name)
	}
	rest := strings.Split(strings.Trim(path.Clean("/"+name), "/"), "/")
	at := "/"
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		next := path.Join(at, part)
		f := files.List[strings.TrimPrefix(next, "/")]
		if f.Link == "" || links >= mostLinks {
			at = next
			continue
		}
		links++
		target := f.Link
		if !strings.HasPrefix(target, "/") {
			target = path.Join(at, target)
		}
		rest = append(strings.Split(strings.Trim(path.Clean("/"+target), "/"), "/"), rest...)
		at = "/"
	}
	return at
}
