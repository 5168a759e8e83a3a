// Package buildcontext reads the files that a build is given: those of a
// directory, but for what its .dockerignore leaves out.
package buildcontext

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/patternmatcher"
)

// Context is a directory as a build sees it.
type Context struct {
	dir    string
	ignore *Ignore
	// always are files that are sent whatever is ignored: the Dockerfile and the
	// ignore file, which the builder reads.
	always map[string]bool
}

// Open reads what dir ignores. dockerfile is the path of the Dockerfile in dir,
// which may have an ignore file of its own: dockerfile.dockerignore.
func Open(dir, dockerfile string) (*Context, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("unable to prepare context: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("unable to prepare context: context must be a directory: %s", dir)
	}
	c := &Context{dir: dir, always: map[string]bool{dockerfile: true}}
	for _, name := range []string{dockerfile + ".dockerignore", ".dockerignore"} {
		c.ignore, err = readIgnore(filepath.Join(dir, name), name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c.always[name] = true
		return c, nil
	}
	c.ignore = &Ignore{}
	return c, nil
}

// Entry is one file or directory below the directory.
type Entry struct {
	Path string // with slashes, from the directory
	Info fs.FileInfo
	// Rule is what left it out; nil for what is sent.
	Rule *Rule
}

// Walk calls fn for each entry, sorted by path. A directory that is left out is
// not entered unless something below it may be sent.
func (c *Context) Walk(ctx context.Context, fn func(Entry) error) error {
	parents := map[string]patternmatcher.MatchInfo{}
	return filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		rel, err := filepath.Rel(c.dir, path)
		if err != nil || rel == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e := Entry{Path: filepath.ToSlash(rel), Info: info}
		ignored, match, err := c.ignore.match(rel, parents[filepath.Dir(rel)])
		if err != nil {
			return err
		}
		if d.IsDir() {
			parents[rel] = match
		}
		if ignored && !c.always[e.Path] {
			e.Rule = c.ignore.ruleFor(rel)
		}
		if err := fn(e); err != nil {
			return err
		}
		if e.Rule != nil && d.IsDir() && !c.ignore.exceptions && !c.holdsAlways(e.Path) {
			return filepath.SkipDir
		}
		return nil
	})
}

// holdsAlways tells whether a file that is always sent is below a directory.
func (c *Context) holdsAlways(dir string) bool {
	for name := range c.always {
		if strings.HasPrefix(name, dir+"/") {
			return true
		}
	}
	return false
}

// Send writes the context as a tar stream, in which everything belongs to root:
// owners of this machine mean nothing in an image.
func (c *Context) Send(ctx context.Context, w io.Writer) error {
	t := tar.NewWriter(w)
	err := c.Walk(ctx, func(e Entry) error {
		if e.Rule != nil {
			return nil
		}
		if err := c.send(t, e); err != nil {
			return fmt.Errorf("send %s: %w", e.Path, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return t.Close()
}

func (c *Context) send(t *tar.Writer, e Entry) error {
	if e.Info.Mode()&(fs.ModeSocket|fs.ModeDevice|fs.ModeNamedPipe) != 0 {
		return nil // of no use in an image, and not to be read from
	}
	path := filepath.Join(c.dir, filepath.FromSlash(e.Path))
	link := ""
	if e.Info.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		link = target
	}
	h, err := tar.FileInfoHeader(e.Info, link)
	if err != nil {
		return err
	}
	h.Name, h.Uid, h.Gid, h.Uname, h.Gname = e.Path, 0, 0, "", ""
	if e.Info.IsDir() {
		h.Name += "/"
	}
	if !e.Info.Mode().IsRegular() {
		return t.WriteHeader(h)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	// A file that grows meanwhile is sent as long as it was.
	n, err := io.Copy(t, io.LimitReader(f, h.Size))
	if err == nil && n < h.Size {
		err = fmt.Errorf("file became shorter while it was read: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// Single is a context of one file.
func Single(name string, text []byte) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg})
		if err == nil {
			_, err = t.Write(text)
		}
		if err == nil {
			err = t.Close()
		}
		w.CloseWithError(err)
	}()
	return r
}
