package shim

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/shim/wire"
)

// stages are the children of this process that wait for a plan. The kernel may
// leave one out while another child ends (proc_pid_task_children(5)).
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

// stage waits for the one stage and returns its pid.
func (r *rig) stage() (pid int) {
	r.t.Helper()
	r.eventually("one stage is there", func() bool {
		pids := stages(r.t)
		if len(pids) == 1 {
			pid = pids[0]
		}
		return len(pids) == 1
	})
	return pid
}

func TestEarlyStageIsTaken(t *testing.T) {
	r := newRigWith(t, &Early{})
	early := r.stage()
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
	r := newRigWith(t, &Early{CloneFlags: unix.CLONE_NEWUTS})
	early := r.stage()
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
	r.stage()
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

const beside = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET

// execExpected has a process executed that was, or was not, expected. The result is its pid.
func (r *rig) execExpected(id string, expected bool) int {
	r.t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	defer null.Close()
	var c wire.Created
	r.call(wire.MethodExec, wire.ExecSpec{
		ID: id, Expected: expected,
		Plan: fakePlan{EnterMnt: true, Files: 1, Args: []string{"sh", "-c", "exit 4"}}.raw(r.t),
	}, &c, null, null, null)
	r.call(wire.MethodGo, wire.ProcessRef{Process: id}, nil)
	if e := r.exited(id); e.Code != 4 {
		r.t.Errorf("exec %s: exit %+v", id, e)
	}
	return c.PID
}

func TestExpectedExecTakesTheStage(t *testing.T) {
	r := newRig(t)
	r.start(wire.StartSpec{CloneFlags: beside}, "sleep", "1000")
	r.call(wire.MethodExpect, wire.ExpectSpec{}, nil)
	r.call(wire.MethodExpect, wire.ExpectSpec{}, nil) // one is enough
	early := r.stage()
	if pid := r.execExpected("other", false); pid == early {
		t.Error("an exec that was not expected took the stage")
	}
	if pid := r.execExpected("one", true); pid != early {
		t.Errorf("pid %d, want that of the stage, %d", pid, early)
	}
	if pid := r.execExpected("two", true); pid == early {
		t.Error("the stage was taken twice")
	}
}

func TestExpectedExecThatDoesNotCome(t *testing.T) {
	r := newRig(t)
	r.start(wire.StartSpec{CloneFlags: beside}, "sleep", "1000")
	r.call(wire.MethodExpect, wire.ExpectSpec{}, nil)
	r.eventually("stage is ended", func() bool { return len(stages(t)) == 0 })
	r.execExpected("one", true)
}

// Somebody in the container may end a stage that waits there.
func TestExpectedStageThatWasKilled(t *testing.T) {
	r := newRig(t)
	r.start(wire.StartSpec{CloneFlags: beside}, "sleep", "1000")
	r.call(wire.MethodExpect, wire.ExpectSpec{}, nil)
	early := r.stage()
	if err := unix.Kill(early, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.eventually("stage has ended", func() bool { return len(stages(t)) == 0 })
	if pid := r.execExpected("one", true); pid == early {
		t.Error("a dead stage was taken")
	}
}

// A stage that waits does not keep a pid namespace from ending, nor the shim.
func TestExpectedStageEndsWithTheContainer(t *testing.T) {
	r := newRig(t)
	r.start(wire.StartSpec{CloneFlags: beside}, "sleep", "1000")
	r.call(wire.MethodExpect, wire.ExpectSpec{}, nil)
	r.call(wire.MethodSignal, wire.SignalSpec{Signal: unix.SIGKILL}, nil)
	if e := r.exited(wire.Init); e.Signal != unix.SIGKILL {
		t.Errorf("exit %+v", e)
	}
	r.eventually("stage is ended", func() bool { return len(stages(t)) == 0 })
	_, err := r.try(wire.MethodExpect, wire.ExpectSpec{}, nil)
	if err == nil {
		t.Error("an exec was expected in a container that has ended")
	}
}
