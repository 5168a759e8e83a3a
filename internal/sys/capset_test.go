package sys

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/testenv"
)

// dropInChild makes the test binary drop a capability and tell what its threads and a child have.
const dropInChild = "TEST_DROP_CAPABILITY"

func TestDropCapabilities(t *testing.T) {
	if os.Getenv(dropInChild) != "" {
		tellCapabilities(t)
		return
	}
	testenv.NeedsRoot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=TestDropCapabilities$")
	cmd.Env = append(os.Environ(), dropInChild+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	threads := 0
	for line := range strings.Lines(string(out)) {
		var who, key string
		var set uint64
		if n, _ := fmt.Sscanf(line, "%s %s %x", &who, &key, &set); n != 3 {
			continue
		}
		has := set&(1<<unix.CAP_SYS_TIME) != 0
		// What is executed has it again, and so can a privileged container.
		if want := who == "child" || key == "CapBnd:"; has != want {
			t.Errorf("CAP_SYS_TIME in %s of %s: %v, want %v", key, who, has, want)
		}
		if set&(1<<unix.CAP_SYS_ADMIN) == 0 {
			t.Errorf("CAP_SYS_ADMIN is gone from %s of %s", key, who)
		}
		if who != "child" && key == "CapEff:" {
			threads++
		}
	}
	if threads < 3 {
		t.Errorf("threads: %d\n%s", threads, out)
	}
}

func tellCapabilities(t *testing.T) {
	// Threads that are there, one of them blocked in the kernel.
	for range 3 {
		r, _, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		started := make(chan struct{})
		go func() {
			fd := int(r.Fd()) // blocking from here on
			close(started)
			_, _ = unix.Read(fd, make([]byte, 1))
		}()
		<-started
	}
	if err := DropCapabilities(1 << unix.CAP_SYS_TIME); err != nil {
		t.Fatal(err)
	}
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range tasks {
		printCapabilities(t, filepath.Base(filepath.Dir(path)), path)
	}
	out, err := exec.Command("cat", "/proc/self/status").Output()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "status")
	if err := os.WriteFile(file, out, 0o600); err != nil {
		t.Fatal(err)
	}
	printCapabilities(t, "child", file)
}

func printCapabilities(t *testing.T, who, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), "\t"); ok && (key == "CapEff:" || key == "CapPrm:" || key == "CapBnd:") {
			fmt.Println(who, key, value)
		}
	}
}
