package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/portholehq/porthole/internal/boltcheck"
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

// check reads all of a file, before it is opened for writing: see [boltcheck]. A file that does not exist, or is empty, is right.
func check(path string) error {
	err := boltcheck.Check(path)
	if errors.Is(err, boltcheck.ErrDamaged) {
		return damaged(err)
	}
	if info, statErr := os.Stat(path); err != nil || statErr != nil || info.Size() == 0 {
		if errors.Is(statErr, fs.ErrNotExist) {
			statErr = nil
		}
		return errors.Join(err, statErr)
	}
	b, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, ReadOnly: true})
	if err != nil {
		return err
	}
	return errors.Join(b.View(onlyRecords), b.Close())
}

// onlyRecords looks for buckets in our buckets, which none has.
func onlyRecords(tx *bolt.Tx) error {
	return tx.ForEach(func(_ []byte, bucket *bolt.Bucket) error {
		return bucket.ForEach(func(key, value []byte) error {
			if value == nil {
				return damaged(fmt.Errorf("%q is no record", key))
			}
			return nil
		})
	})
}
