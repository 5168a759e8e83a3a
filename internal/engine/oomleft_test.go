package engine

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portholehq/porthole/internal/record/death"
)

func TestStatusTask(t *testing.T) {
	for text, want := range map[string]death.OOMTask{
		"Name:\tWeb Content\nUid:\t1000\t0\t0\t0\nVmRSS:\t     348 kB\nVmSwap:\t       4 kB\n": {Task: "Web Content", UID: 1000, RSS: 348 << 10, Swap: 4 << 10},
		"Name:\tkworker\nUid:\t0\t0\t0\t0\n":                                                   {Task: "kworker"},
		"Name:\nVmRSS:\n\nVmRSS\nVmRSS:\t-1 kB":                                                {},
	} {
		if diff := cmp.Diff(want, statusTask([]byte(text))); diff != "" {
			t.Errorf("%q: -want +got:\n%s", text, diff)
		}
	}
}

// familyTask has more processes than a fake one.
type familyTask struct{ Task }

func (familyTask) Pids() ([]int, error) { return []int{os.Getpid(), os.Getppid(), 1 << 30}, nil }

// The processes that are left are told of without the victim.
func TestLargestLeft(t *testing.T) {
	w := newWorld(t)
	id := w.create("some", nil, "x")
	w.start(id)
	task := familyTask{w.runtime.task(id)}
	all := largestLeft(task, death.OOMKill{})
	if len(all) != 2 || all[0].RSS < all[1].RSS || all[1].RSS == 0 {
		t.Fatalf("got %+v", all)
	}
	victim := all[0]
	if got := largestLeft(task, death.OOMKill{PID: victim.PID, Task: victim.Task}); len(got) != 1 || got[0].PID == victim.PID {
		t.Errorf("got %+v", got)
	}
}
