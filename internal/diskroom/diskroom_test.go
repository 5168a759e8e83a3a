package diskroom_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/diskroom"
	"github.com/portholehq/porthole/internal/testenv"
)

// blocks is how many bytes of the disk a file has, and its size.
func blocks(t *testing.T, path string) (taken, size int64) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512, st.Size
}

func TestKeep(t *testing.T) {
	const room = 1 << 20
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := diskroom.New(path, room)
	for _, c := range []struct{ used, least, most int64 }{
		{4096, room, room + 64<<10},
		{8192, room, room + 64<<10}, // is not worth a call
		{2 << 20, room + 2<<20, room + 2<<20 + 64<<10},
	} {
		err := f.Keep(c.used)
		if errors.Is(err, unix.EOPNOTSUPP) {
			testenv.Skip(t, "the file system cannot keep room")
		}
		if err != nil {
			t.Fatal(err)
		}
		if taken, size := blocks(t, path); taken < c.least || taken > c.most || size != 4 {
			t.Errorf("with %d bytes in use the file has %d of the disk and size %d", c.used, taken, size)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := f.Keep(4 << 20); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
}
