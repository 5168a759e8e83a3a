package ps

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTree(t *testing.T) {
	list := []Info{{PID: 5, Parent: 1}, {PID: 6, Parent: 5}, {PID: 7, Parent: 6}, {PID: 8, Parent: 5}, {PID: 9, Parent: 9}, {PID: 10, Parent: 8}}
	ordered, stems := Tree(list)
	var got []string
	for i, p := range ordered {
		got = append(got, stems[i]+string(rune('0'+p.PID)))
	}
	want := []string{"5", "├─ 6", "│  └─ 7", "└─ 8", "   └─ :", "9"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRead(t *testing.T) {
	child := exec.CommandContext(t.Context(), "sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill(); _ = child.Wait() })
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(10 * time.Second)
	for {
		list, err := Read(Source{}, []int{child.Process.Pid, os.Getpid(), 1 << 30})
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != 2 {
			t.Fatalf("read %d processes, want the two that there are: %+v", len(list), list)
		}
		self, other := list[0], list[1]
		if self.PID != os.Getpid() {
			self, other = other, self
		}
		if self.RSS == 0 || self.Threads < 2 || time.Since(self.Started) > time.Hour || self.HostUID != uint32(os.Geteuid()) {
			t.Fatalf("this process: %+v", self)
		}
		if other.Parent == os.Getpid() && other.Name == "sleep" && strings.HasSuffix(other.Command, "sleep 1000") {
			return
		}
		select { // it may not have been executed yet
		case <-tick.C:
		case <-late:
			t.Fatalf("child: %+v", other)
		}
	}
}
