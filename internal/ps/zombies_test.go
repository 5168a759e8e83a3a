package ps

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

func TestWithZombies(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	alive := exec.Command("sleep", "100")
	if err := alive.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { alive.Process.Kill(); alive.Wait() }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(30 * time.Second); ; {
		got := WithZombies("/proc", []int{os.Getpid()})
		if slices.Contains(got, alive.Process.Pid) {
			t.Fatalf("%v has a child that lives", got)
		}
		if slices.Equal(got, []int{os.Getpid(), cmd.Process.Pid}) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no zombie in %v after 30 s", got)
		}
	}
}
