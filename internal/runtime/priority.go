package runtime

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/sys"
)

// schedulers are the policies of sched(7), and flags what sched_setattr(2) takes.
var (
	schedulers = map[specs.LinuxSchedulerPolicy]uint32{
		specs.SchedOther: unix.SCHED_NORMAL, specs.SchedFIFO: unix.SCHED_FIFO, specs.SchedRR: unix.SCHED_RR,
		specs.SchedBatch: unix.SCHED_BATCH, specs.SchedISO: 4, specs.SchedIdle: unix.SCHED_IDLE, specs.SchedDeadline: unix.SCHED_DEADLINE,
	}
	schedulerFlags = map[specs.LinuxSchedulerFlag]uint64{
		specs.SchedFlagResetOnFork: unix.SCHED_FLAG_RESET_ON_FORK, specs.SchedFlagReclaim: unix.SCHED_FLAG_RECLAIM,
		specs.SchedFlagDLOverrun: unix.SCHED_FLAG_DL_OVERRUN, specs.SchedFlagKeepPolicy: unix.SCHED_FLAG_KEEP_POLICY,
		specs.SchedFlagKeepParams: unix.SCHED_FLAG_KEEP_PARAMS, specs.SchedFlagUtilClampMin: unix.SCHED_FLAG_UTIL_CLAMP_MIN,
		specs.SchedFlagUtilClampMax: unix.SCHED_FLAG_UTIL_CLAMP_MAX,
	}
	ioClasses = map[specs.IOPriorityClass]int{specs.IOPRIO_CLASS_RT: 1, specs.IOPRIO_CLASS_BE: 2, specs.IOPRIO_CLASS_IDLE: 3}
)

// setPriorities sets the scheduler and the I/O priority of a waiting process: of its
// main thread, which is the one that executes the program. Raising one is for the
// host's root.
func setPriorities(pid int, p *specs.Process) error {
	if s := p.Scheduler; s != nil {
		attr, err := schedAttr(s)
		if err != nil {
			return err
		}
		if err := unix.SchedSetAttr(pid, attr, 0); err != nil {
			return &StartError{Step: "scheduler", Errno: errnoOf(err), err: err, Message: fmt.Sprintf("set scheduler %s: %v", s.Policy, err)}
		}
	}
	if p.IOPriority == nil {
		return nil
	}
	class, ok := ioClasses[p.IOPriority.Class]
	if !ok {
		return invalid("I/O priority class %q is unknown", p.IOPriority.Class)
	}
	if n := p.IOPriority.Priority; n < 0 || n > 7 {
		return invalid("I/O priority %d is not between 0 and 7", n)
	}
	if err := sys.SetIOPriority(pid, class, p.IOPriority.Priority); err != nil {
		return &StartError{Step: "I/O priority", Errno: errnoOf(err), err: err, Message: fmt.Sprintf("set I/O priority %s: %v", p.IOPriority.Class, err)}
	}
	return nil
}

func schedAttr(s *specs.Scheduler) (*unix.SchedAttr, error) {
	policy, ok := schedulers[s.Policy]
	if !ok {
		return nil, invalid("scheduler policy %q is unknown", s.Policy)
	}
	attr := &unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: policy, Nice: s.Nice, Priority: uint32(s.Priority),
		Runtime: s.Runtime, Deadline: s.Deadline, Period: s.Period,
	}
	for _, f := range s.Flags {
		bit, ok := schedulerFlags[f]
		if !ok {
			return nil, invalid("scheduler flag %q is unknown", f)
		}
		attr.Flags |= bit
	}
	return attr, nil
}
