package layers

import (
	"cmp"
	"container/heap"
	"context"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// Usage is what one layer has.
type Usage struct {
	Files int   // all but directories
	Bytes int64 // of the contents of regular files, each inode once

	// Hidden are those of the files that nobody sees because a layer above removes
	// or replaces them. They are still stored and sent.
	HiddenFiles int
	HiddenBytes int64
}

// Hidden is a file of a layer that a layer above removes or replaces.
type Hidden struct {
	Path  string // absolute
	Layer int    // whose it is
	By    int    // which layer hides it
	Bytes int64
	// Removed says that there is nothing at the path in the layer that hides it.
	Removed bool
}

// Measure reads the names of all files. worst are the largest hidden ones, at
// most limit of them, largest first.
func (s Stack) Measure(ctx context.Context, limit int) (each []Usage, worst []Hidden, err error) {
	m := &measurer{stack: s, each: make([]Usage, len(s)), limit: limit, links: map[inode]bool{}}
	all := make([]branch, len(s))
	for n := range all {
		all[n] = branch{layer: n, hidden: -1}
	}
	if err := m.dir(ctx, "/", all); err != nil {
		return nil, nil, err
	}
	slices.SortFunc(m.worst, func(a, b Hidden) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Layer, b.Layer))
	})
	return m.each, m.worst, nil
}

type inode struct {
	layer int
	ino   uint64
}

type measurer struct {
	stack Stack
	each  []Usage
	links map[inode]bool // files with several names that were counted
	worst byBytes
	limit int
}

// branch is a directory of one layer.
type branch struct {
	layer   int
	hidden  int  // the layer that hides all of it; -1: none does
	removed bool // and has nothing in its place
}

// found is a name of one layer.
type found struct {
	branch
	stat   unix.Stat_t
	opaque bool
}

// dir measures a directory, in the layers that have it, lowest first.
func (m *measurer) dir(ctx context.Context, at string, branches []branch) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	names := map[string][]found{}
	for _, b := range branches {
		if err := m.read(at, b, names); err != nil {
			return err
		}
	}
	sorted := make([]string, 0, len(names))
	for n := range names {
		sorted = append(sorted, n)
	}
	slices.Sort(sorted)
	for _, n := range sorted {
		name := path.Join(at, n)
		deeper := m.name(name, names[n])
		delete(names, n)
		if len(deeper) == 0 {
			continue
		}
		if err := m.dir(ctx, name, deeper); err != nil {
			return err
		}
	}
	return nil
}

// read adds the names of one layer.
func (m *measurer) read(at string, b branch, names map[string][]found) error {
	dir, err := openDir(m.stack[b.layer], at)
	if err != nil || dir == nil {
		return err
	}
	defer dir.Close()
	list, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range list {
		f := found{branch: b}
		if err := unix.Fstatat(int(dir.Fd()), n, &f.stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &os.PathError{Op: "stat", Path: path.Join(at, n), Err: err}
		}
		if isDir(&f.stat) {
			if f.opaque, err = isOpaqueAt(m.stack[b.layer], path.Join(at, n)); err != nil {
				return err
			}
		}
		names[n] = append(names[n], f)
	}
	return nil
}

// name counts what the layers have at one path, given lowest first, and returns
// the directories among it.
func (m *measurer) name(at string, all []found) []branch {
	var deeper []branch
	hider, removed := -1, false // of everything further down
	dirAbove := -1              // which hides what is no directory
	for _, f := range slices.Backward(all) {
		b := f.branch
		if b.hidden < 0 {
			b.hidden, b.removed = hider, removed
		}
		switch {
		case IsWhiteout(&f.stat):
			if hider < 0 {
				hider, removed = f.layer, true
			}
			continue
		case isDir(&f.stat):
			deeper = append(deeper, b)
			if f.opaque && hider < 0 {
				hider, removed = f.layer, true
			}
			if dirAbove < 0 {
				dirAbove = f.layer
			}
			continue
		case b.hidden < 0 && dirAbove >= 0:
			b.hidden, b.removed = dirAbove, false
		}
		m.count(at, b, &f.stat)
		if hider < 0 {
			hider, removed = f.layer, false
		}
	}
	slices.Reverse(deeper)
	return deeper
}

func (m *measurer) count(at string, b branch, st *unix.Stat_t) {
	u := &m.each[b.layer]
	u.Files++
	var size int64
	if kind(st) == unix.S_IFREG {
		size = st.Size
	}
	if st.Nlink > 1 {
		key := inode{b.layer, st.Ino}
		if m.links[key] {
			size = 0
		}
		m.links[key] = true
	}
	u.Bytes += size
	if b.hidden < 0 {
		return
	}
	u.HiddenFiles++
	u.HiddenBytes += size
	if m.limit <= 0 {
		return
	}
	heap.Push(&m.worst, Hidden{Path: at, Layer: b.layer, By: b.hidden, Bytes: size, Removed: b.removed})
	if len(m.worst) > m.limit {
		heap.Pop(&m.worst)
	}
}

// byBytes is a heap with the smallest file on top.
type byBytes []Hidden

func (h byBytes) Len() int           { return len(h) }
func (h byBytes) Less(i, j int) bool { return h[i].Bytes < h[j].Bytes }
func (h byBytes) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *byBytes) Push(x any)        { *h = append(*h, x.(Hidden)) }
func (h *byBytes) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
