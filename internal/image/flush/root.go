package flush

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// A root is the head of one of the two pages that a bolt database begins with: the
// page's own header and the meta data. Numbers are in the machine's byte order;
// see internal/common/{page,meta}.go of go.etcd.io/bbolt.
//
//	offset  bytes
//	     0  8      number of the page, 0 or 1
//	     8  8      flags, count, overflow
//	    16  4      magic
//	    20  4      version
//	    24  4      page size
//	    28  36     flags, root bucket (page, sequence), page of the free list, pages in use
//	    64  8      transaction
//	    72  8      FNV-1a of offset 16 to 71
const (
	rootSize    = 80
	offFlags    = 8
	offMeta     = 16
	offPageSize = 24
	offTx       = 64
	offSum      = 72
	boltMagic   = 0xED0CDAED
	metaPage    = 4
)

// errOtherRoot: the page has the root of another transaction.
var errOtherRoot = errors.New("root was replaced")

// readRoot reads the root that transaction tx of a database has written.
func readRoot(r io.ReaderAt, tx, pageSize int) ([]byte, error) {
	root := make([]byte, rootSize)
	if _, err := r.ReadAt(root, int64(tx%2*pageSize)); err != nil {
		return nil, err
	}
	if !validRoot(root) || binary.NativeEndian.Uint64(root[offTx:]) != uint64(tx) {
		return nil, errOtherRoot
	}
	return root, nil
}

func validRoot(root []byte) bool {
	if len(root) != rootSize || binary.NativeEndian.Uint32(root[offMeta:]) != boltMagic {
		return false
	}
	// The checksum does not cover the page's header: a page of meta data, with no more.
	if binary.NativeEndian.Uint16(root[offFlags:]) != metaPage || !bytes.Equal(root[offFlags+2:offMeta], make([]byte, 6)) {
		return false
	}
	sum := fnv.New64a()
	_, _ = sum.Write(root[offMeta:offSum]) // never fails, says package hash
	return sum.Sum64() == binary.NativeEndian.Uint64(root[offSum:])
}

// restoreRoot makes a root the only one of a database.
func restoreRoot(f *os.File, root []byte) error {
	if !validRoot(root) {
		return errors.New("root is damaged")
	}
	size := int64(binary.NativeEndian.Uint32(root[offPageSize:]))
	for page := range int64(2) {
		head := bytes.Clone(root)
		binary.NativeEndian.PutUint64(head, uint64(page))
		if _, err := f.WriteAt(head, page*size); err != nil {
			return fmt.Errorf("write root: %w", err)
		}
	}
	return f.Sync()
}
