package bed

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/portholehq/porthole/internal/linux/witness"
)

// programFiles is how many descriptors of programs in the kernel a daemon has that watches its containers; 0 where the
// kernel does not take them.
var programFiles = sync.OnceValues(func() (int, error) {
	w, err := witness.Open(func() (uint64, error) { return 1, nil })
	if err != nil {
		return 0, nil // neither does the daemon
	}
	n, err := countPrograms("self")
	return n, errors.Join(err, w.Close())
})

// countPrograms counts the descriptors of a process that belong to programs in the kernel.
func countPrograms(pid string) (n int, err error) {
	links, err := filepath.Glob(filepath.Join("/proc", pid, "fd", "*"))
	for _, l := range links {
		if text, _ := os.Readlink(l); strings.HasPrefix(text, "anon_inode:bpf") {
			n++
		}
	}
	return n, err
}

// awaitWatch waits until the daemon, if it runs, has loaded the programs by which it watches its containers. It does
// so beside its start, and what they hold is no leftover of a test.
func (d *Daemon) awaitWatch() error {
	want, err := programFiles()
	if err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); d.Pid() != 0; {
		if n, err := countPrograms(fmt.Sprint(d.Pid())); err != nil || n >= want {
			return err
		}
		select {
		case <-deadline:
			return fmt.Errorf("the daemon does not watch its containers:\n%s", d.LogTail(4096))
		case <-tick.C:
		}
	}
	return nil
}
