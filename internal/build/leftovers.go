package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/holders"
)

const (
	// keepLogs is how long the logs of steps are kept, and mostLogs how many.
	keepLogs = 7 * 24 * time.Hour
	mostLogs = 2000
	// trimInterval is how often they are looked at, if there are new ones.
	trimInterval = time.Hour
	// trimBuilds is after how many builds they are looked at before that time.
	trimBuilds = 50
)

// UseTempDir makes dir this process's directory for temporary files, and
// removes what an earlier process has left there. BuildKit and containerd mount
// layers there, and secrets: in /tmp, a killed daemon's would stay, and nobody
// could tell whose they are.
//
// A mount that others still use is detached, and lives until they let it go; log,
// which may be nil, is told of them.
func UseTempDir(dir string, log *slog.Logger) error {
	if err := unmountBelow(dir, log); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := mount.SetTempMountLocation(dir); err != nil {
		return err
	}
	return os.Setenv("TMPDIR", dir)
}

// unmountBelow unmounts what is mounted on a directory and below it, the last
// one first.
func unmountBelow(dir string, log *slog.Logger) error {
	left, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(left) {
		held, busy, err := holders.Unmount(context.Background(), m.Mountpoint)
		if err != nil && !errors.Is(err, unix.EINVAL) { // it went with the one below it
			return fmt.Errorf("unmount %q, left by an earlier daemon: %w", m.Mountpoint, err)
		}
		if busy && log != nil {
			log.Warn("mount of an earlier daemon's build is in use: it was detached, and is unmounted when they let it go", "path", m.Mountpoint, "held_by", holders.Text(held))
		}
	}
	return nil
}

// trimLogs removes the logs of steps that are too old or too many.
func trimLogs(dir string, now time.Time) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	type log struct {
		name string
		at   time.Time
	}
	var logs []log
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		logs = append(logs, log{e.Name(), info.ModTime()})
	}
	slices.SortFunc(logs, func(a, b log) int { return b.at.Compare(a.at) })
	var failures []error
	for i, l := range logs {
		if i >= mostLogs || now.Sub(l.at) > keepLogs {
			failures = append(failures, os.RemoveAll(filepath.Join(dir, l.name)))
		}
	}
	return errors.Join(failures...)
}
