package bed

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/testenv"
)

// Ext4 mounts a new file system of so many bytes on a directory until the end of the
// test. It is in the file beside the directory, with ".ext4" at the end of its name.
func Ext4(t *testing.T, dir string, size int64) {
	t.Helper()
	testenv.NeedsProgram(t, "mkfs.ext4")
	image := dir + ".ext4"
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, size)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"mkfs.ext4", "-q", "-F", "-m", "0", image}, // no blocks that only root may have
		{"mount", "-o", "loop", image, dir},
	} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() {
		// EINVAL: whoever has cleared away what is below has unmounted it.
		if err := unix.Unmount(dir, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
}
