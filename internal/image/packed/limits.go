package packed

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/problem"
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

// WithDefaults returns l with its zero fields filled in.
func (l Limits) WithDefaults() Limits {
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

// CheckEvery is how many bytes may be written between two looks at the
// free space.
const CheckEvery = 32 << 20

// Budget counts what comes out of one packed stream and says when it is too
// much.
type Budget struct {
	limits Limits
	dir    string       // on the file system that is written to
	packed func() int64 // bytes read of the packed form so far; nil: it is not packed

	out     int64 // bytes that came out
	entries int
	checked int64 // out at the last look at the disk
	claimed int64 // sizes that headers announced
}

// add counts n bytes that came out of the stream.
func (b *Budget) add(n int64) error {
	b.out += n
	if b.out > b.limits.Unpacked {
		return problem.Errorf(errdefs.ErrInvalidArgument, "unpacks to more than %s", units.BytesSize(float64(b.limits.Unpacked)))
	}
	if b.packed != nil && b.out > b.limits.RatioFrom {
		if in := max(b.packed(), 1); b.out/in > b.limits.Ratio {
			return problem.Errorf(errdefs.ErrInvalidArgument, "%s unpack to %s, more than %d times as much",
				units.BytesSize(float64(in)), units.BytesSize(float64(b.out)), b.limits.Ratio)
		}
	}
	if b.out-b.checked >= CheckEvery {
		b.checked = b.out
		return b.limits.Room(b.dir, CheckEvery)
	}
	return nil
}

// Entry counts a file of the given size before it is written. The size is
// what the file will occupy, which for sparse files is more than comes out of
// the stream.
func (b *Budget) Entry(size int64) error {
	b.entries++
	if b.entries > b.limits.Entries {
		return problem.Errorf(errdefs.ErrInvalidArgument, "has more than %d entries", b.limits.Entries)
	}
	b.claimed += size
	if b.claimed > b.limits.Unpacked {
		return problem.Errorf(errdefs.ErrInvalidArgument, "unpacks to more than %s", units.BytesSize(float64(b.limits.Unpacked)))
	}
	if size >= CheckEvery {
		return b.limits.Room(b.dir, size)
	}
	return nil
}

// Room tells whether size more bytes fit on the disk that dir is on.
func (l Limits) Room(dir string, size int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("ask for free space of %q: %w", dir, err)
	}
	free := int64(fs.Bavail) * fs.Bsize
	if free-l.KeepFree < size {
		return problem.Errorf(errdefs.ErrResourceExhausted, "%s free on %q, %s of it kept: %w", units.BytesSize(float64(free)), dir,
			units.BytesSize(float64(l.KeepFree)), unix.ENOSPC)
	}
	return nil
}

// Claimed is the sum of the sizes that were given to Entry.
func (b *Budget) Claimed() int64 { return b.claimed }
