package engine

import (
	"cmp"
	"context"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/image"
	"github.com/portholehq/porthole/internal/linux/mount"
	"github.com/portholehq/porthole/internal/record/death"
)

// readOnlyKey is the annotation of a container that is to tell what it would need with a read-only root filesystem, if its
// value is readOnlyLearn. The root is writable meanwhile.
const (
	readOnlyKey   = "porthole.read-only"
	readOnlyLearn = "learn"
)

// learnTime is how long it may take to find out what a run has written.
const learnTime = 30 * time.Second

// learned is what a run that has ended has written to, if that was asked for.
func (e *Engine) learned(v *view) *death.Learned {
	if v.HostConfig.Annotations[readOnlyKey] != readOnlyLearn {
		return nil
	}
	ctx, cancel := context.WithTimeout(e.life, learnTime)
	defer cancel()
	l, err := e.learn(ctx, v)
	if err != nil {
		e.log.Warn("what a container has written is not in its death record", "container", v.ID, "err", err)
		return &death.Learned{Unknown: err.Error()}
	}
	return l
}

func (e *Engine) learn(ctx context.Context, v *view) (*death.Learned, error) {
	changes, err := e.deps.Images.RootFSChanges(ctx, v.ID, mountTargets(v))
	if err != nil {
		return nil, err
	}
	l := learnFrom(changes)
	if len(l.Dirs) == 0 {
		return l, nil
	}
	layers, err := e.deps.Images.RootFS(ctx, v.ID)
	if err != nil {
		return nil, err
	}
	root, err := layers.OpenImage()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	for i := range l.Dirs {
		dir, err := mount.OpenInRoot(root, l.Dirs[i].Path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			continue // the container has made it
		}
		names, _ := dir.Readdirnames(1)
		dir.Close()
		l.Dirs[i].HasFiles = len(names) > 0
	}
	return l, nil
}

// learnFrom finds the directories that have to be writable for changes, which are in the order of a walk.
func learnFrom(changes []image.Change) *death.Learned {
	l := &death.Learned{}
	added := map[string]bool{}
	for _, c := range changes {
		added[c.Path] = c.Kind == image.Added
	}
	dirs := map[string]bool{}
	for i, c := range changes {
		if i+1 < len(changes) && strings.HasPrefix(changes[i+1].Path, c.Path+"/") {
			continue // a directory, for the sake of what is in it
		}
		if l.Count++; len(l.Paths) < death.MaxLearned {
			l.Paths = append(l.Paths, c.Path)
		}
		dir := path.Dir(c.Path)
		for added[dir] && path.Dir(dir) != "/" { // a mount makes its place only in what is there
			dir = path.Dir(dir)
		}
		if dir == "/" {
			l.AtRoot = append(l.AtRoot, c.Path)
			continue
		}
		dirs[dir] = true
	}
	for dir := range dirs {
		if !isBelow(dirs, path.Dir(dir)) {
			l.Dirs = append(l.Dirs, death.LearnedDir{Path: dir})
		}
	}
	slices.SortFunc(l.Dirs, func(a, b death.LearnedDir) int { return cmp.Compare(a.Path, b.Path) })
	l.Dirs, l.AtRoot = l.Dirs[:min(len(l.Dirs), death.MaxLearned)], l.AtRoot[:min(len(l.AtRoot), death.MaxLearned)]
	return l
}

// isBelow tells whether a directory, or one above it, is among dirs.
func isBelow(dirs map[string]bool, dir string) bool {
	for ; dir != "/"; dir = path.Dir(dir) {
		if dirs[dir] {
			return true
		}
	}
	return false
}
