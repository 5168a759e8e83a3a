package shim

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/shim/wire"
)

// stages are the children of this process that wait for a plan.
func stages(t testing.TB) (pids []int) {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		b, err := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		if err != nil {
			continue // a thread that has just ended
		}
		for s := range strings.FieldsSeq(string(b)) {
			args, err := os.ReadFile("/proc/" + s + "/cmdline")
			if err != nil || !strings.HasPrefix(string(args), fakeStageName) {
				continue
			}
			pid, err := strconv.Atoi(s)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestEarlyStageIsTaken(t *testing.T) {
	r := newRigWith(t, &Early{})
	r.eventually("stage is there", func() bool { return len(stages(t)) == 1 })
	early := stages(t)[0]
	var created wire.Created
	r.call(wire.MethodCreate, wire.StartSpec{Plan: fakePlan{Args: []string{"sh", "-c", "echo said; exit 3"}}.raw(t)}, &created)
	if created.PID != early {
		t.Errorf("pid %d, want that of the early stage, %d", created.PID, early)
	}
	if left := stages(t); len(left) != 1 {
		t.Errorf("stages %v beside the early one", left)
	}
	r.call(wire.MethodGo, wire.ProcessRef{}, nil)
	if e := r.exited(wire.Init); e.Code != 3 {
		t.Errorf("exit %+v", e)
	}
}

// A stage that was born otherwise than is asked for is of no use, and ends with
// the shim.
func TestEarlyStageOfAnotherBirth(t *testing.T) {
	r := newRigWith(t, &Early{CloneFlags: unix.CLONE_FILES})
	r.eventually("stage is there", func() bool { return len(stages(t)) == 1 })
	early := stages(t)[0]
	var created wire.Created
	r.call(wire.MethodCreate, wire.StartSpec{Plan: fakePlan{Args: []string{"true"}}.raw(t)}, &created)
	if created.PID == early {
		t.Error("the early stage was taken")
	}
	r.call(wire.MethodGo, wire.ProcessRef{}, nil)
	r.exited(wire.Init)
	r.eventually("early stage is gone", func() bool { return len(stages(t)) == 0 })
}

// An early stage does not keep a shim alive that nobody wants, nor outlive it.
func TestEarlyStageIsDropped(t *testing.T) {
	r := newRigWith(t, &Early{})
	r.eventually("stage is there", func() bool { return len(stages(t)) == 1 })
	r.call(wire.MethodShutdown, nil, nil)
	r.eventually("early stage is gone", func() bool { return len(stages(t)) == 0 })
}

func TestEarlyStageThatCannotBeForked(t *testing.T) {
	null, err := os.Open(os.DevNull) // is no cgroup
	if err != nil {
		t.Fatal(err)
	}
	r := newRigWith(t, &Early{Cgroup: null})
	r.start(wire.StartSpec{}, "true")
	if e := r.exited(wire.Init); e.Code != 0 {
		t.Errorf("exit %+v", e)
	}
}
