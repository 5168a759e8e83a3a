package engine

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/crilog"
	"github.com/portholehq/porthole/internal/crilog/seekzst"
)

const (
	// logSweepEvery is how often the log directories are looked at for segments to compress.
	logSweepEvery = 5 * time.Second
	// logQuiet is how long a rotated segment must have been left alone.
	logQuiet = time.Second
)

// A logKeeper compresses the rotated segments of all logs. The daemon does it and not the shims, because an encoder is
// larger than a shim, and a shim ends with its container. What a daemon did not get to, the next one finds.
//
// A container whose directory has not changed costs one stat per sweep.
type logKeeper struct {
	e *Engine
	// seen holds the time of the directory when nothing was left to do.
	seen map[string]time.Time
}

// keepLogs compresses until the engine ends.
func (e *Engine) keepLogs() {
	k := &logKeeper{e: e, seen: map[string]time.Time{}}
	ticker := time.NewTicker(logSweepEvery)
	defer ticker.Stop()
	for {
		k.sweep(e.life)
		select {
		case <-ticker.C:
		case <-e.life.Done():
			return
		}
	}
}

// sweep looks at all logs once.
func (k *logKeeper) sweep(ctx context.Context) {
	seen := make(map[string]time.Time, len(k.seen))
	for _, c := range k.e.registry.all() {
		if ctx.Err() != nil {
			return
		}
		v := c.view()
		o, err := logOptions(v.HostConfig.LogConfig)
		if o = o.WithDefaults(); err != nil || v.removing || !o.Compress || o.Disabled {
			continue
		}
		dir := k.e.logDir(c.id)
		info, err := os.Stat(dir)
		if err != nil {
			continue // it never ran, or is being removed
		}
		if info.ModTime().Equal(k.seen[c.id]) {
			seen[c.id] = info.ModTime()
			continue
		}
		left, err := compressNicely(ctx, dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil {
			k.e.log.Warn("log was not compressed", "container", c.id, "err", err)
		}
		if age := time.Since(info.ModTime()); left == 0 && (age > logQuiet || age < 0) { // below: the clock was set back
			seen[c.id] = info.ModTime() // also after an error: it is tried again once the log has rotated
		}
	}
	k.seen = seen
}

// compressNicely compresses on a thread that yields to everybody, and returns when it is done.
func compressNicely(ctx context.Context, dir string) (left int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock: the thread ends with its priority
		// A thread that stays as important as others does no harm.
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 19)
		left, err = crilog.CompressRotated(ctx, dir, logQuiet, seekzst.Pack)
	}()
	<-done
	return left, err
}

// unpackLog lets crilog read what compressNicely made.
func unpackLog(f io.ReaderAt, size int64) (crilog.Unpacked, error) { return seekzst.Open(f, size) }
