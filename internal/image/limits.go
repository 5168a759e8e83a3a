package image

import (
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"golang.org/x/sys/unix"
)

// Limits bound what one archive may use. An archive that passes a limit is
// refused as a whole.
type Limits struct {
	// JSON is the largest index, manifest or configuration in bytes; 8 MiB by
	// default.
	JSON int64
	// Entries is the largest number of entries in an archive or layer; 5
	// million by default.
	Entries int
	// Unpacked is the largest size in bytes of an unpacked layer, holes of
	// sparse files included; 128 GiB by default.
	Unpacked int64
	// Ratio is how many times larger than its packed form a layer or archive
	// may become; 500 by default. It is asked only once RatioFrom bytes (1 GiB
	// by default) have come out, as small files pack well.
	Ratio     int64
	RatioFrom int64
	// KeepFree is the space in bytes that unpacking leaves on the disk; 256
	// MiB by default.
	KeepFree int64
}

func (l Limits) withDefaults() Limits {
	set := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	set(&l.JSON, 8<<20)
	set(&l.Unpacked, 128<<30)
	set(&l.Ratio, 500)
	set(&l.RatioFrom, 1<<30)
	set(&l.KeepFree, 256<<20)
	if l.Entries == 0 {
		l.Entries = 5_000_000
	}
	return l
}

// diskCheckEvery is how many bytes may be written between two looks at the
// free space.
const diskCheckEvery = 32 << 20

// budget counts what comes out of one packed stream and says when it is too
// much. The zero packed function means that the stream is not packed.
type budget struct {
	limits Limits
	dir    string       // on the file system that is written to
	packed func() int64 // bytes read of the packed form so far

	out     int64 // bytes that came out
	entries int
	checked int64 // out at the last look at the disk
	claimed int64 // sizes that headers announced
}

// add counts n bytes that came out of the stream.
func (b *budget) add(n int64) error {
	b.out += n
	if b.out > b.limits.Unpacked {
		return failf(errdefs.ErrInvalidArgument, "unpacks to more than %s", units.BytesSize(float64(b.limits.Unpacked)))
	}
	if b.packed != nil && b.out > b.limits.RatioFrom {
		if in := max(b.packed(), 1); b.out/in > b.limits.Ratio {
			return failf(errdefs.ErrInvalidArgument, "%s unpack to %s, more than %d times as much",
				units.BytesSize(float64(in)), units.BytesSize(float64(b.out)), b.limits.Ratio)
		}
	}
	if b.out-b.checked >= diskCheckEvery {
		b.checked = b.out
		return b.room(diskCheckEvery)
	}
	return nil
}

// entry counts a file of the given size before it is written. The size is
// what the file will occupy, which for sparse files is more than comes out of
// the stream.
func (b *budget) entry(size int64) error {
	b.entries++
	if b.entries > b.limits.Entries {
		return failf(errdefs.ErrInvalidArgument, "has more than %d entries", b.limits.Entries)
	}
	b.claimed += size
	if b.claimed > b.limits.Unpacked {
		return failf(errdefs.ErrInvalidArgument, "unpacks to more than %s", units.BytesSize(float64(b.limits.Unpacked)))
	}
	if size >= diskCheckEvery {
		return b.room(size)
	}
	return nil
}

// room tells whether size more bytes fit on the disk.
func (b *budget) room(size int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(b.dir, &fs); err != nil {
		return fmt.Errorf("ask for free space of %q: %w", b.dir, err)
	}
	free := int64(fs.Bavail) * fs.Bsize
	if free-b.limits.KeepFree < size {
		return failf(errdefs.ErrResourceExhausted, "%s free on %q, %s of it kept: %w", units.BytesSize(float64(free)), b.dir,
			units.BytesSize(float64(b.limits.KeepFree)), unix.ENOSPC)
	}
	return nil
}

// reader counts what is read from r.
func (b *budget) reader(r io.Reader) io.Reader { return budgetReader{r, b} }

type budgetReader struct {
	r io.Reader
	b *budget
}

func (r budgetReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if e := r.b.add(int64(n)); e != nil {
		return n, e
	}
	return n, err
}

// countingReader remembers how much was read.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *countingReader) count() int64 { return c.n }
