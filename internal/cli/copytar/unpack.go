package copytar

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// Owner says whose the unpacked files are.
type Owner bool

// Files belong to the caller, or to the ids that the archive has.
const (
	Caller  Owner = false
	Archive Owner = true
)

// Unpack makes the files of the archive r below dir. The archive holds one
// thing, whose name in it is oldName ("." if it has no name of its own); it
// becomes newName in dir. What is there already is replaced, but a directory
// never by something else.
func Unpack(r io.Reader, dir, oldName, newName string, owner Owner) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	u := unpacker{root: root, owner: owner}
	tr := tar.NewReader(r)
	for {
		head, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return u.finish()
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		name := rename(head.Name, oldName, newName)
		if head.Typeflag == tar.TypeLink {
			head.Linkname = rename(head.Linkname, oldName, newName)
		}
		if err := u.add(head, name, tr); err != nil {
			return fmt.Errorf("unpack %q: %w", head.Name, err)
		}
	}
}

// rename puts newName in the place of the first element of an entry's name.
func rename(name, oldName, newName string) string {
	// Rooted before it is cleaned, so that no ".." is left.
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if oldName == "." || oldName == "/" {
		return path.Join(newName, name)
	}
	first, rest, _ := strings.Cut(name, "/")
	if first != oldName {
		return path.Join(newName, name)
	}
	return path.Join(newName, rest)
}

type unpacker struct {
	root  *os.Root
	owner Owner
	// dirs get their modes and times last, when nothing is made in them any
	// more.
	dirs []dirEntry
}

type dirEntry struct {
	name string
	head *tar.Header
}

func (u *unpacker) add(head *tar.Header, name string, content io.Reader) error {
	if head.Typeflag == tar.TypeXGlobalHeader {
		return nil // no file, whatever it is called
	}
	if parent := path.Dir(name); parent != "." {
		if err := u.root.MkdirAll(parent, 0o777); err != nil {
			return err
		}
	}
	if err := u.makeRoom(name, head.Typeflag == tar.TypeDir); err != nil {
		return err
	}
	switch head.Typeflag {
	case tar.TypeDir:
		return u.directory(head, name)
	case tar.TypeReg:
		return u.file(head, name, content)
	case tar.TypeSymlink:
		if err := u.root.Symlink(head.Linkname, name); err != nil {
			return err
		}
		return u.chown(head, name)
	case tar.TypeLink:
		return u.root.Link(head.Linkname, name)
	case tar.TypeBlock, tar.TypeChar, tar.TypeFifo:
		return u.device(head, name)
	}
	return fmt.Errorf("entry of unknown type %q", head.Typeflag)
}

// makeRoom removes what stands where an entry is to go.
func (u *unpacker) makeRoom(name string, isDir bool) error {
	info, err := u.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir() && isDir:
		return nil
	case info.IsDir():
		return fmt.Errorf("cannot overwrite directory %q with non-directory", name)
	case isDir:
		return fmt.Errorf("cannot overwrite non-directory %q with directory", name)
	}
	return u.root.Remove(name)
}

func (u *unpacker) directory(head *tar.Header, name string) error {
	if err := u.root.Mkdir(name, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if name != "." {
		u.dirs = append(u.dirs, dirEntry{name, head})
	}
	return nil
}

func (u *unpacker) file(head *tar.Header, name string, content io.Reader) error {
	f, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, content); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return u.attributes(head, name)
}

// attributes sets the owner before the mode, since a change of the owner
// takes set-id bits away.
func (u *unpacker) attributes(head *tar.Header, name string) error {
	if err := u.chown(head, name); err != nil {
		return err
	}
	if err := u.root.Chmod(name, head.FileInfo().Mode()&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)); err != nil {
		return err
	}
	accessed := head.AccessTime
	if accessed.IsZero() {
		accessed = time.Now()
	}
	return u.root.Chtimes(name, accessed, head.ModTime)
}

func (u *unpacker) chown(head *tar.Header, name string) error {
	if u.owner == Caller {
		return nil
	}
	return u.root.Lchown(name, head.Uid, head.Gid)
}

// finish goes from the last entry to the first, as what is in a directory cannot
// be reached any more when that has its mode. Of several entries for one directory
// the last counts, as of those for a file.
func (u *unpacker) finish() error {
	done := map[string]bool{}
	for n := len(u.dirs) - 1; n >= 0; n-- {
		if done[u.dirs[n].name] {
			continue
		}
		done[u.dirs[n].name] = true
		if err := u.attributes(u.dirs[n].head, u.dirs[n].name); err != nil {
			return err
		}
	}
	return nil
}
