package build

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/continuity/fs"

	"github.com/portholehq/porthole/internal/build/step"
)

// stubNames are the files that every container has mounted.
var stubNames = []string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}

// stubs notes which mount points of a step are not in its root file system. The
// runtime will make them; clean removes them again, so that they are no part of
// the layer that the step makes.
func stubs(s *step.Step) (clean func() error, err error) {
	if s.RootFS.Upper == "" {
		return func() error { return nil }, nil
	}
	merged, err := s.RootFS.OpenMerged()
	if err != nil {
		return nil, fmt.Errorf("look for mount points: %w", err)
	}
	defer merged.Close()
	root := fmt.Sprintf("/proc/self/fd/%d", merged.Fd())
	var missing []string
	add := func(name string) {
		at, err := fs.RootPath(root, name)
		if err != nil {
			return
		}
		// Parents are made as well.
		for at != root && strings.HasPrefix(at, root+"/") {
			if _, err := os.Lstat(at); err == nil {
				return
			}
			missing = append(missing, strings.TrimPrefix(at, root+"/"))
			at = filepath.Dir(at)
		}
	}
	for _, name := range stubNames {
		add(name)
	}
	for _, m := range s.Mounts {
		add(m.Destination)
	}
	slices.Sort(missing)
	missing = slices.Compact(missing)
	return func() error { return removeStubs(s.RootFS.Upper, missing) }, nil
}

// removeStubs removes files and directories that are still empty, the deepest
// first. One that the step has put something into is its own now.
func removeStubs(upper string, missing []string) error {
	root, err := os.OpenRoot(upper)
	if err != nil {
		return err
	}
	defer root.Close()
	var failures []error
	for _, name := range slices.Backward(missing) {
		info, err := root.Lstat(name)
		if errors.Is(err, iofs.ErrNotExist) {
			continue
		}
		switch {
		case err != nil:
		case info.IsDir():
			if entries, e := iofs.ReadDir(root.FS(), name); e != nil || len(entries) > 0 {
				continue
			}
			err = root.Remove(name)
		case info.Mode().IsRegular() && info.Size() == 0:
			err = root.Remove(name)
		}
		if err != nil {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}
