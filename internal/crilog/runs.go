package crilog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/failpoint"
)

// The file runs tells where in the log each run of the container began, one
// line of text per run:
//
//	3 12345 2026-11-24T03:00:00.000000000Z
//
// is run 3, which began after 12345 lines. A line that is damaged is passed
// over. Where a number comes twice in a row, the earlier line counts: a start
// that failed is begun again.
const (
	runsName    = "runs"
	runsScratch = "runs.tmp"
	// runsMost is the size at which the file is cut down to its last runsKept
	// lines: a container that restarts for years has no end of runs.
	runsMost = 128 << 10
	runsKept = 1000
)

// ErrNoRun is the error for a run that the log does not know.
var ErrNoRun = errors.New("the log has no such run")

// runStart is where one run begins.
type runStart struct {
	run   int
	after uint64 // complete lines before
}

// parseRuns reads the file.
func parseRuns(b []byte) []runStart {
	var list []runStart
	for line := range bytes.Lines(b) {
		line, whole := bytes.CutSuffix(line, []byte{'\n'})
		words := bytes.Fields(line)
		if !whole || len(words) != 3 {
			continue
		}
		run, err := strconv.Atoi(string(words[0]))
		after, err2 := strconv.ParseUint(string(words[1]), 10, 64)
		if err != nil || err2 != nil || run < 1 {
			continue
		}
		if n := len(list); n > 0 && (list[n-1].run == run || list[n-1].after > after) {
			continue
		}
		list = append(list, runStart{run, after})
	}
	return list
}

// loadRuns reads the file in dir; there need not be one.
func loadRuns(dir *os.File) ([]runStart, error) {
	f, err := openAt(dir, runsName, os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 2*runsMost))
	if err != nil {
		return nil, err
	}
	return parseRuns(b), nil
}

// linesOf gives the lines of a run: those after the first number, up to and with
// the second.
func linesOf(runs []runStart, run int) (after, last uint64, err error) {
	i := slices.IndexFunc(runs, func(r runStart) bool { return r.run == run })
	if i < 0 {
		return 0, 0, fmt.Errorf("run %d: %w", run, ErrNoRun)
	}
	if i+1 < len(runs) {
		return runs[i].after, runs[i+1].after, nil
	}
	return runs[i].after, math.MaxUint64, nil
}

// runAt is the number of the run that a line belongs to; 0: not known.
func runAt(runs []runStart, line uint64) int {
	i, _ := slices.BinarySearchFunc(runs, line, func(r runStart, line uint64) int {
		if r.after < line {
			return -1
		}
		return 1
	})
	if i == 0 {
		return 0
	}
	return runs[i-1].run
}

// beginRun notes that a run begins at the present end of the log. A container
// is not kept from running because that fails: it shows in the Stats.
func (w *Writer) beginRun(now time.Time) {
	if w.opts.Run < 1 {
		return
	}
	if err := noteRun(w.dir, w.opts.Run, w.line, now); err != nil {
		w.stats.Err = fmt.Errorf("note run %d: %w", w.opts.Run, err)
	}
}

func noteRun(dir *os.File, run int, after uint64, now time.Time) error {
	if err := trimRuns(dir); err != nil {
		return err
	}
	f, err := openAt(dir, runsName, os.O_RDWR|os.O_CREATE|unix.O_APPEND)
	if err != nil {
		return err
	}
	b := strconv.AppendInt(nil, int64(run), 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, after, 10)
	b = append(b, ' ')
	b = append(appendStamp(b, now), '\n')
	if err = failpoint.Hit("crilog.run"); err == nil {
		_, err = f.Write(b)
	}
	return errors.Join(err, f.Close())
}

// trimRuns cuts a file down that has become too long, and ends a torn last line.
func trimRuns(dir *os.File) error {
	f, err := openAt(dir, runsName, os.O_RDWR)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 2*runsMost))
	if err != nil {
		return err
	}
	if len(b) > 0 && b[len(b)-1] != '\n' {
		if _, err := f.WriteAt([]byte{'\n'}, int64(len(b))); err != nil {
			return err
		}
		b = append(b, '\n')
	}
	if len(b) < runsMost {
		return nil
	}
	d := int(dir.Fd())
	if err := unix.Unlinkat(d, runsScratch, 0); err != nil && err != unix.ENOENT {
		return err
	}
	out, err := openAt(dir, runsScratch, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	lines := bytes.SplitAfter(b, []byte{'\n'})
	_, err = out.Write(bytes.Join(lines[max(0, len(lines)-runsKept):], nil))
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	return unix.Renameat(d, runsScratch, d, runsName)
}
