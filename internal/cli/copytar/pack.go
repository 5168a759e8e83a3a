package copytar

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"
)

// Pack writes an archive of the file or directory at source to w, in which it
// has the given name.
func Pack(w io.Writer, source, name string) error {
	p := packer{tw: tar.NewWriter(w), links: map[fileID]string{}}
	err := filepath.WalkDir(source, func(file string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, file)
		if err != nil {
			return err
		}
		return p.add(file, path.Join(name, filepath.ToSlash(rel)))
	})
	if err != nil {
		return err
	}
	return p.tw.Close()
}

type packer struct {
	tw *tar.Writer
	// links has the name under which a file with several names was added.
	links map[fileID]string
}

func (p *packer) add(file, name string) error {
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket != 0 {
		return nil // a socket is of no use without its listener
	}
	head, err := header(file, name, info)
	if err != nil {
		return err
	}
	if id, many := sharedFile(info); many {
		if first, seen := p.links[id]; seen {
			head.Typeflag, head.Linkname, head.Size = tar.TypeLink, first, 0
		} else {
			p.links[id] = name
		}
	}
	if err := p.tw.WriteHeader(head); err != nil {
		return fmt.Errorf("pack %q: %w", file, err)
	}
	if head.Typeflag != tar.TypeReg {
		return nil
	}
	return p.content(file, head.Size)
}

func header(file, name string, info fs.FileInfo) (*tar.Header, error) {
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = os.Readlink(file); err != nil {
			return nil, err
		}
	}
	head, err := tar.FileInfoHeader(info, filepath.ToSlash(target))
	if err != nil {
		return nil, fmt.Errorf("pack %q: %w", file, err)
	}
	head.Name = name
	if info.IsDir() {
		head.Name += "/"
	}
	// Names of local users mean nothing elsewhere; numbers are kept.
	head.Uname, head.Gname = "", ""
	// Whole seconds need no extended header, which would double the size of
	// an archive of small files.
	head.Format = tar.FormatPAX
	head.ModTime, head.AccessTime, head.ChangeTime = head.ModTime.Truncate(time.Second), time.Time{}, time.Time{}
	addXattrs(head, file)
	return head, nil
}

// content adds exactly size bytes: a file that changes while it is read still
// makes a valid archive, or an error.
func (p *packer) content(file string, size int64) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := io.CopyN(p.tw, f, size); err != nil {
		return fmt.Errorf("pack %q: %w", file, err)
	}
	return nil
}
