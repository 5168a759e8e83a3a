package diagnose

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOpenDoesNotWait holds that no file of a container makes who looks wait: not
// one with a lease, which its holder has 45 seconds to give up, and no pipe.
func TestOpenDoesNotWait(t *testing.T) {
	root := tree(t, map[string]string{"leased": "text", "link": "-> link", "dir/": ""})
	top := root.(*dir).top.Name()
	if err := unix.Mkfifo(top+"/pipe", 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(top+"/leased", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/leased", "/pipe", "/link", "/dir"} {
		began := time.Now()
		if _, err := root.Open(name); err == nil {
			t.Errorf("%s could be opened", name)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s took %s", name, took)
		}
	}
	if info, err := root.Stat("/leased"); err != nil || info.Size != 4 {
		t.Errorf("Stat = %+v, %v", info, err)
	}
}
