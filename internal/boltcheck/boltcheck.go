// Package boltcheck tells whether a bbolt database is whole, before bbolt opens it. bbolt
// takes for granted that what a page says is right; where it is not, it panics in a goroutine
// of its own or reads memory that is not there, and both end the process. So the file is
// read here by its format: see internal/common/{meta,page,bucket}.go of go.etcd.io/bbolt.
//
//	page    offset 0: its number (8 bytes), 8: kind (2), 10: elements (2), 12: further pages that it takes (4)
//	meta    offset 16 of pages 0 and 1: magic, version, page size, flags (4 each), root bucket (16), page of the free
//	        list, pages in use, transaction (8 each), FNV-1a of all that (8)
//	branch  elements of 16 bytes: where its key is, seen from the element, the key's size (4 each), page (8)
//	leaf    elements of 16 bytes: flags, where its key is, sizes of key and value (4 each)
//	bucket  a value: root page, sequence (8 each); without a root a page of leaves follows at once
//
// Numbers are in the machine's byte order.
package boltcheck

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// ErrDamaged is what a file is of which bbolt cannot read all.
var ErrDamaged = errors.New("damaged database")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// Check fails with [ErrDamaged] if the file at path is no whole database. One that does not exist, is
// empty, or is in use by another process, is not looked at. Nothing is changed.
func Check(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	// As bbolt does, so that nobody is in the middle of a change.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil
		}
		return os.NewSyscallError("flock", err)
	}
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	if info.Size() < 2*minPageSize {
		return damaged("%d bytes", info.Size())
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	defer func() { _ = unix.Munmap(data) }()
	return readable(data)
}

// readable is check, where a sector that the disk cannot read is damage, too. It would be a SIGBUS.
func readable(data []byte) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		fault := recover()
		if fault == nil {
			return
		}
		if _, ok := fault.(interface{ Addr() uintptr }); !ok {
			panic(fault)
		}
		err = damaged("%v", fault)
	}()
	return check(data)
}

const (
	minPageSize, maxPageSize = 1 << 10, 1 << 16

	magic, version = 0xED0CDAED, 2
	headerSize     = 16 // of a page, of a bucket and of each element
	metaEnd        = 80

	kindBranch, kindLeaf, kindFree = 0x01, 0x02, 0x10

	bucketFlag = 0x01
	noFreeList = 1<<64 - 1
	manyFree   = 1<<16 - 1 // as a count: the first element is the count

	// deepest is how deep pages, and buckets, may be below each other. Databases here come to less than ten.
	deepest = 64
)

func u16(b []byte, at int) int    { return int(binary.NativeEndian.Uint16(b[at:])) }
func u32(b []byte, at int) int    { return int(binary.NativeEndian.Uint32(b[at:])) }
func u64(b []byte, at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }

// walk goes through the pages of a database.
type walk struct {
	data     []byte
	pageSize int
	used     uint64              // pages in use: the rest of the file is room
	seen     map[uint64]struct{} // pages that have been met
}

func check(data []byte) error {
	meta, pageSize := newestMeta(data)
	if meta == nil {
		return damaged("no root that is right")
	}
	w := &walk{data: data, pageSize: pageSize, used: u64(meta, 56), seen: map[uint64]struct{}{}}
	if err := w.tree(u64(meta, 32), nil, nil, 0, 0); err != nil {
		return err
	}
	return w.freeList(u64(meta, 48))
}

// newestMeta is the root that bbolt goes by: of those that are right the one of the newer transaction.
func newestMeta(data []byte) (newest []byte, pageSize int) {
	sizes := []int{os.Getpagesize()}
	if len(data) >= metaEnd {
		sizes = append(sizes, u32(data, 24))
	}
	for _, size := range sizes {
		if size < minPageSize || size > maxPageSize || size&(size-1) != 0 || len(data) < 2*size {
			continue
		}
		for _, meta := range [][]byte{data[:metaEnd], data[size : size+metaEnd]} {
			if rightMeta(meta) && u32(meta, 24) == size && (newest == nil || u64(meta, 64) > u64(newest, 64)) {
				newest, pageSize = meta, size
			}
		}
	}
	return newest, pageSize
}

func rightMeta(meta []byte) bool {
	sum := fnv.New64a()
	_, _ = sum.Write(meta[16:72]) // never fails, says package hash
	return u32(meta, 16) == magic && u32(meta, 20) == version && u64(meta, 72) == sum.Sum64()
}

// page is a page with those that follow it and belong to it. It may be met once.
func (w *walk) page(id uint64) ([]byte, error) {
	if id < 2 || id >= w.used || id >= uint64(len(w.data)/w.pageSize) {
		return nil, damaged("page %d is not there", id)
	}
	at := int(id) * w.pageSize
	head := w.data[at:]
	if got := u64(head, 0); got != id {
		return nil, damaged("page %d says that it is %d", id, got)
	}
	pages := uint64(u32(head, 12)) + 1
	if id+pages > w.used || id+pages > uint64(len(w.data)/w.pageSize) {
		return nil, damaged("page %d goes beyond the end", id)
	}
	for n := range pages {
		if _, ok := w.seen[id+n]; ok {
			return nil, damaged("page %d is met twice", id+n)
		}
		w.seen[id+n] = struct{}{}
	}
	return head[:int(pages)*w.pageSize], nil
}

// tree goes through a page and those below it. Its first key is first, if that is not nil: bbolt finds a page that has
// changed by it in the one above. All are before below, if that is not nil.
func (w *walk) tree(id uint64, first, below []byte, depth, buckets int) error {
	if depth > deepest {
		return damaged("page %d is too deep", id)
	}
	p, err := w.page(id)
	if err != nil {
		return err
	}
	switch kind := u16(p, 8); kind {
	case kindLeaf:
		if u16(p, 10) == 0 && depth > 0 { // only a bucket can be empty
			return damaged("page %d is empty", id)
		}
		return w.leaf(p, first, below, buckets)
	case kindBranch:
		return w.branch(p, first, below, depth, buckets)
	default:
		return damaged("page %d is of kind %#x", id, kind)
	}
}

// part is so many bytes of a page, from at on.
func part(p []byte, at, size int) ([]byte, error) {
	if at < headerSize || size < 0 || at > len(p) || size > len(p)-at {
		return nil, damaged("an element leads out of its page")
	}
	return p[at : at+size], nil
}

// element is where element n of a page is.
func element(p []byte, n int) (at int, err error) {
	at = headerSize + n*headerSize
	_, err = part(p, at, headerSize)
	return at, err
}

// inOrder looks at key n of a page: the first of a page below another one is that by which it is found there, others come
// behind the one before.
func inOrder(n int, key, before, below []byte) error {
	switch {
	case len(key) == 0: // which bbolt cannot write again
		return damaged("an empty key")
	case n == 0 && before != nil && !bytes.Equal(key, before):
		return damaged("a page does not begin with its key")
	case n > 0 && bytes.Compare(key, before) <= 0:
		return damaged("keys are out of order")
	}
	if below != nil && bytes.Compare(key, below) >= 0 {
		return damaged("a key is behind those of its page")
	}
	return nil
}

func (w *walk) branch(p, before, below []byte, depth, buckets int) error {
	count := u16(p, 10)
	if count == 0 {
		return damaged("a branch without a page")
	}
	keys, pages := make([][]byte, count), make([]uint64, count)
	for n := range count {
		at, err := element(p, n)
		if err != nil {
			return err
		}
		if keys[n], err = part(p, at+u32(p, at), u32(p, at+4)); err != nil {
			return err
		}
		pages[n] = u64(p, at+8)
		if err := inOrder(n, keys[n], before, below); err != nil {
			return err
		}
		before = keys[n]
	}
	for n, id := range pages {
		end := below
		if n+1 < count {
			end = keys[n+1]
		}
		if err := w.tree(id, keys[n], end, depth+1, buckets); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) leaf(p, before, below []byte, buckets int) error {
	for n := range u16(p, 10) {
		at, err := element(p, n)
		if err != nil {
			return err
		}
		flags, keySize, valueSize := u32(p, at), u32(p, at+8), u32(p, at+12)
		if keySize < 0 || valueSize < 0 || keySize > len(p) || valueSize > len(p) || flags&^bucketFlag != 0 {
			return damaged("an element is none")
		}
		both, err := part(p, at+u32(p, at+4), keySize+valueSize)
		if err != nil {
			return err
		}
		key, value := both[:keySize], both[keySize:]
		if err := inOrder(n, key, before, below); err != nil {
			return err
		}
		before = key
		if flags&bucketFlag != 0 {
			if err := w.bucket(value, buckets+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walk) bucket(value []byte, buckets int) error {
	if len(value) < headerSize || buckets > deepest {
		return damaged("a bucket is none")
	}
	if root := u64(value, 0); root != 0 {
		return w.tree(root, nil, nil, 0, buckets)
	}
	p := value[headerSize:]
	if len(p) < headerSize || u16(p, 8) != kindLeaf {
		return damaged("a small bucket has no page")
	}
	return w.leaf(p, nil, nil, buckets)
}

// freeList is the list of pages that may be written to, if it was written: none of them may be in use.
func (w *walk) freeList(id uint64) error {
	if id == noFreeList {
		return nil
	}
	p, err := w.page(id)
	if err != nil {
		return err
	}
	if kind := u16(p, 8); kind != kindFree {
		return damaged("the free list is of kind %#x", kind)
	}
	count, at := uint64(u16(p, 10)), headerSize
	if count == manyFree {
		count, at = u64(p, at), at+8
	}
	if count > uint64(len(p)-at)/8 {
		return damaged("the free list is longer than its page")
	}
	last := uint64(1)
	for ; count > 0; count, at = count-1, at+8 {
		free := u64(p, at)
		if _, ok := w.seen[free]; ok || free <= last || free >= w.used {
			return damaged("page %d cannot be free", free)
		}
		last = free
	}
	return nil
}
