package build

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"
)

const (
	// keepLogs is how long the logs of steps are kept, and mostLogs how many.
	keepLogs = 7 * 24 * time.Hour
	mostLogs = 2000
	// trimInterval is how often they are looked at, if there are new ones.
	trimInterval = time.Hour
)

// UseTempDir makes dir this process's directory for temporary files, and
// removes what an earlier process has left there. BuildKit and containerd mount
// layers there, and secrets: in /tmp, a killed daemon's would stay, and nobody
// could tell whose they are.
func UseTempDir(dir string) error {
	if err := mount.UnmountRecursive(dir, unix.MNT_DETACH); err != nil {
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
