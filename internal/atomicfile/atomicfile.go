// Package atomicfile replaces files so that a reader, or a machine that comes
// back after a crash, finds either the old content or the new, and never a part
// of it.
//
//	err := atomicfile.Write("/run/porthole/portholed.pid", []byte("1234\n"), 0o644)
//
// The new content is written beside the file, forced to disk, and renamed over
// it; then the rename itself is forced to disk. Whoever has the old file open
// keeps it.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/portholehq/porthole/internal/failpoint"
)

// temporary stands between the name of a file and some digits.
const temporary = ".tmp"

// IsTemporary tells whether a file of this name, without a directory, is what
// [Write] leaves when its process is killed.
func IsTemporary(name string) bool {
	i := strings.LastIndex(name, temporary)
	return i > 0 && name[0] == '.' && strings.Trim(name[i+len(temporary):], "0123456789") == ""
}

// Write replaces the file name by data, with the given permissions whatever the
// umask. The directory must exist. When Write fails nothing is left beside the
// file, which is the old one; or the new one, if all that failed was to force the
// rename to disk.
func Write(name string, data []byte, perm fs.FileMode) (err error) {
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, "."+filepath.Base(name)+temporary)
	if err != nil {
		return fmt.Errorf("replace %q: %w", name, err)
	}
	renamed := false
	defer func() {
		if err != nil && !renamed {
			err = errors.Join(err, os.Remove(f.Name()))
		}
		if err != nil {
			err = fmt.Errorf("replace %q: %w", name, err)
		}
	}()
	if err := fill(f, data, perm); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := failpoint.Hit("atomicfile.rename"); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	renamed = true
	if err := failpoint.Hit("atomicfile.sync"); err != nil {
		return err
	}
	return syncDir(dir)
}

func fill(f *os.File, data []byte, perm fs.FileMode) error {
	if err := failpoint.Hit("atomicfile.write"); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(perm); err != nil {
		return err
	}
	return f.Sync()
}

// syncDir forces a rename in dir to disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
