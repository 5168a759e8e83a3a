package load

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/portholehq/porthole/test/bed"
)

// TestContainers has many containers run at once, and measures what a further
// one costs with few and with all of them there.
func TestContainers(t *testing.T) {
	begin(t)
	n := size(t, "PORTHOLE_TEST_LOAD_CONTAINERS", 500)
	empty := measure(t)
	figure(t, "daemon without containers: %v", empty)

	running := 0
	start := func(upTo int) {
		first := running
		began := time.Now()
		bed.InParallel(t, upTo-first, func(i int) error {
			_, err := daemon.Porthole(t.Context(), "run", "-d", "--name", fmt.Sprint("load", first+i), "busybox", "sleep", "100000")
			return err
		})
		running = upTo
		figure(t, "containers %d to %d: %.1f ms each, eight at a time", first+1, upTo,
			time.Since(began).Seconds()*1000/float64(max(1, upTo-first)))
	}
	for _, step := range []int{1, 10, 100, n} {
		if step > n || step <= running {
			continue
		}
		start(step)
		figure(t, "at %d containers: run --rm %v, exec %v, ps -q %v, inspect %v", step,
			quickest(t, "run", "--rm", "busybox", "true"), quickest(t, "exec", "load0", "true"),
			quickest(t, "ps", "-q"), quickest(t, "inspect", "load0"))
	}
	if got := len(strings.Fields(porthole(t, "ps", "-q"))); got != n {
		t.Errorf("%d containers run, want %d", got, n)
	}
	figure(t, "daemon with %d containers: %v", n, measure(t))
	figure(t, "a shim's own memory: %.2f MiB in the middle of %d", middleShim(t, n), n)

	began := time.Now()
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("load", i)
	}
	porthole(t, append([]string{"rm", "-f"}, names...)...)
	figure(t, "removed %d containers in %v", n, time.Since(began).Round(time.Millisecond))
	if left := porthole(t, "ps", "-aq"); left != "" {
		t.Errorf("containers are left: %s", left)
	}
}

// middleShim is the private memory, in MiB, of the shim of a container amidst n.
func middleShim(t *testing.T, n int) float64 {
	t.Helper()
	shim := daemon.Shim(t, fmt.Sprint("load", n/2))
	sums, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", shim))
	if err != nil {
		t.Fatal(err)
	}
	private := field(t, string(sums), "Private_Clean:") + field(t, string(sums), "Private_Dirty:")
	return float64(private) / 1024
}

// TestCycles starts containers one after the other, removes them, and looks
// whether the daemon holds more for it.
func TestCycles(t *testing.T) {
	begin(t)
	n := size(t, "PORTHOLE_TEST_LOAD_CYCLES", 300)
	cycles := func(count int) {
		bed.InParallel(t, count, func(int) error {
			_, err := daemon.Porthole(t.Context(), "run", "--rm", "busybox", "echo", "gone")
			return err
		})
	}
	// What is kept of the past has its bounds in number; a part of them is reached here.
	cycles(n / 3)
	before := measure(t)
	began := time.Now()
	cycles(n - n/3)
	took := time.Since(began)
	after := measure(t)
	figure(t, "after %d cycles: %v", n/3, before)
	figure(t, "after %d cycles: %v", n, after)
	figure(t, "a cycle: %.1f ms, eight at a time", took.Seconds()*1000/float64(n-n/3))
	wantFlat(t, before, after, 2<<20)
}
