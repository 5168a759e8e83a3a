package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// ErrDamaged is returned by Open for a file that cannot be read. It is left as it is.
var ErrDamaged = errors.New("it is damaged")

// damaged says what to do. Another file is no way out: what no record knows of is removed as a leftover.
func damaged(cause any) error {
	return fmt.Errorf("%w (%v): put back a copy of it; or move it and the directory of the containers away, but then the "+
		"daemon starts without a container, and ends and removes all that there were, with what they have written: save "+
		"their files first", ErrDamaged, cause)
}

// ErrMissing is returned by Expect.
var ErrMissing = errors.New("it is missing or empty")

var wholeID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Expect fails with [ErrMissing] if there is nothing in the file though dir has a directory of a container: a daemon that
// went on would take all of them for leftovers.
func Expect(path, dir string) error {
	info, err := os.Stat(path)
	if err == nil && info.Size() > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	list = slices.DeleteFunc(list, func(e fs.DirEntry) bool { return !e.IsDir() || !wholeID.MatchString(e.Name()) })
	if len(list) == 0 {
		return nil
	}
	return fmt.Errorf("state file %q: %w, but %q has the files of containers (%d): put back a copy of it; or move that "+
		"directory away, but then the daemon ends and removes what there is of them, with what they have written: save "+
		"their files first", path, ErrMissing, dir, len(list))
}

// check reads all of a file, before it is opened for writing: bbolt then takes for granted that the pages are right, and
// panics in a goroutine of its own if they are not. A file that does not exist, or is empty, is right.
func check(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	// First each page by itself, then what opening for writing looks at besides, as the order of the keys: that has a
	// goroutine of its own read the pages.
	if err := look(path, &bolt.Options{}); err != nil {
		return err
	}
	return look(path, &bolt.Options{PreLoadFreelist: true})
}

// look opens a file for reading, and reads all of it.
func look(path string, o *bolt.Options) (err error) {
	o.Timeout, o.ReadOnly = time.Second, true
	// A page that is wrong is a panic of bbolt, and one beyond the end of the file a SIGBUS.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var b *bolt.DB
	defer func() {
		if cause := recover(); cause != nil {
			err = damaged(cause)
		}
		if b != nil {
			err = errors.Join(err, b.Close())
		}
	}()
	b, err = bolt.Open(path, 0o600, o)
	for _, bad := range []error{bolterrors.ErrInvalid, bolterrors.ErrVersionMismatch, bolterrors.ErrChecksum} {
		if errors.Is(err, bad) {
			return damaged(err)
		}
	}
	if err != nil {
		return err
	}
	return b.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(_ []byte, bucket *bolt.Bucket) error {
			var sum byte // has each byte read
			return bucket.ForEach(func(key, value []byte) error {
				if value == nil { // a bucket, which none of ours has in it
					return damaged(fmt.Errorf("%q is no record", key))
				}
				for _, c := range value {
					sum ^= c
				}
				for _, c := range key {
					sum ^= c
				}
				return nil
			})
		})
	})
}
