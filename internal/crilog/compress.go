package crilog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/failpoint"
)

// Pack compresses in to out, so that ReadOptions.Unpack can read it.
type Pack func(out io.Writer, in io.Reader) error

// CompressRotated compresses the rotated segments in dir that were not written
// to for quiet: a container that writes at full speed will soon have dropped
// them anyway. It tells how many are left for a later call. Only one process at
// a time compresses a log; while another one is at it, nothing is done.
func CompressRotated(ctx context.Context, dir string, quiet time.Duration, pack Pack) (left int, err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("compress log in %q: %w", dir, err)
	}
	own := os.NewFile(uintptr(fd), dir)
	defer own.Close()
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if err == unix.EWOULDBLOCK {
			return 1, nil
		}
		return 0, fmt.Errorf("lock log dir %q: %w", dir, err)
	}
	list, err := listSegments(own)
	if err != nil {
		return 0, err
	}
	list = readable(list)
	for i, s := range list {
		if i == len(list)-1 || !s.plain {
			continue // active, or done
		}
		err := compressSegment(ctx, own, s.n, quiet, pack)
		switch {
		case errors.Is(err, errNotQuiet):
			left++
		case errors.Is(err, os.ErrNotExist): // dropped meanwhile, as too old
		case err != nil:
			return left, fmt.Errorf("compress log segment %d in %q: %w", s.n, dir, err)
		}
	}
	return left, nil
}

var errNotQuiet = errors.New("written to a moment ago")

// compressSegment replaces a plain segment by a compressed one. At any moment
// a reader finds one of the two whole.
func compressSegment(ctx context.Context, dir *os.File, n int, quiet time.Duration, pack Pack) (err error) {
	in, err := openAt(dir, logName(n), os.O_RDONLY)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	if age := time.Since(st.ModTime()); age >= 0 && age < quiet { // below: the clock was set back
		return errNotQuiet
	}
	d := int(dir.Fd())
	// What a crash has left goes. A new file cannot be one that somebody put there.
	if err := unix.Unlinkat(d, scratchName(n), 0); err != nil && err != unix.ENOENT {
		return err
	}
	out, err := openAt(dir, scratchName(n), os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, out.Close())
		if err != nil {
			_ = unix.Unlinkat(d, scratchName(n), 0) // or else next time
		}
	}()
	if err := ownedAs(out, in); err != nil {
		return err
	}
	if err := pack(out, untilDone{ctx, in}); err != nil {
		return err
	}
	// Whole on disk before the plain one goes.
	if err := failpoint.Hit("crilog.pack"); err != nil {
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	if err := unix.Faccessat(d, logName(n), unix.F_OK, 0); err != nil {
		return err // dropped meanwhile
	}
	if err := unix.Renameat(d, scratchName(n), d, compressedName(n)); err != nil {
		return err
	}
	failpoint.Pass("crilog.packed")
	return unix.Unlinkat(d, logName(n), 0)
}

// ownedAs gives f the owner of like: the log is the container's root's, whoever
// compresses it.
func ownedAs(f, like *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(like.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if os.Geteuid() != 0 {
		return nil // it is ours already
	}
	return os.NewSyscallError("fchown", unix.Fchown(int(f.Fd()), int(st.Uid), int(st.Gid)))
}

// untilDone is a reader that fails once ctx has ended.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.r.Read(p)
}
