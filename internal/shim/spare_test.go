package shim

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSpareThreads sees that threads which are to spare are there, and are what is taken by calls that wait.
func TestSpareThreads(t *testing.T) {
	threads := func() int {
		list, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	const n = 20 // more than any other test can have left
	spareThreads(n)
	before := threads()
	if before < n {
		t.Fatalf("%d threads, want %d at least", before, n)
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	began, ended := make(chan struct{}), make(chan struct{})
	for range n / 2 {
		go func() {
			began <- struct{}{}
			_, _ = unix.Read(p[0], make([]byte, 1)) // waits in the kernel for the end of the pipe
			ended <- struct{}{}
		}()
	}
	for range n / 2 {
		<-began
	}
	if now := threads(); now > before+n/4 { // Go makes some for itself
		t.Errorf("%d threads, want the %d that there were", now, before)
	}
	unix.Close(p[1])
	for range n / 2 {
		<-ended
	}
	unix.Close(p[0])
}
