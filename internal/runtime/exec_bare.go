package runtime

import (
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/portholehq/porthole/internal/linux/cgroup"
	"github.com/portholehq/porthole/internal/linux/ns"
	"github.com/portholehq/porthole/internal/runtime/plan"
)

// BareExec is one more process in a container without a shim.
type BareExec struct {
	ID string
	// PID is the host's pid of the container's first process, Start when that began
	// (see [StartTime]), and Spec its document, of which the process has the seccomp
	// filter.
	PID     int
	Start   string
	Spec    *specs.Spec
	Process *specs.Process
	Cgroup  *cgroup.Group
	// Stdio, Keep and Console are as those of [Bare].
	Stdio   [3]*os.File
	Keep    []*os.File
	Console func(master *os.File) error
}

// ExecBare runs one more process, as a child of this one, and returns when its program
// was executed.
func (r *Runtime) ExecBare(b *BareExec) (*os.Process, error) {
	proc, err := r.execBare(b)
	if err != nil {
		return nil, fmt.Errorf("exec in container %s: %w", b.ID, err)
	}
	return proc, nil
}

func (r *Runtime) execBare(b *BareExec) (*os.Process, error) {
	foreign, err := foreignNamespaces(b.PID)
	if err != nil {
		return nil, err
	}
	comp, err := r.compileBareExec(b)
	if err != nil {
		return nil, err
	}
	mnt, err := ns.Open(b.PID, ns.Mount)
	if err != nil {
		return nil, err
	}
	defer mnt.Close()
	comp.sources[0] = source{kind: sourceGiven, given: mnt}
	p := &preparer{r: r, bundle: &Bundle{ID: b.ID}}
	files, err := p.prepare(comp)
	if err != nil {
		return nil, err
	}
	defer func() {
		for i, f := range files {
			if comp.sources[i].kind != sourceGiven {
				f.Close()
			}
		}
	}()
	f := &bareFork{r: r, group: b.Cgroup, joined: foreign}
	proc, conn, err := f.fork()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	talk := &stageTalk{conn: conn, plan: comp.plan, console: b.Console}
	err = talk.untilReady(b.Stdio, files)
	if err == nil {
		err = setPriorities(proc.Pid, b.Process)
	}
	if err == nil {
		err = setProcessLimits(proc.Pid, comp.rlimits, b.Process.OOMScoreAdj)
	}
	if err == nil {
		err = b.same()
	}
	if err == nil {
		err = talk.release(nil)
	}
	if err != nil {
		return nil, errors.Join(err, endChild(proc))
	}
	return proc, nil
}

// same makes sure that PID is the container's still. As long as a process lives nobody
// else has its pid, so that all that was opened by it before was the container's.
func (b *BareExec) same() error {
	if start, err := startOf(b.PID); err != nil || start != b.Start {
		return errors.New("the container has ended meanwhile")
	}
	return nil
}

// foreignNamespaces are those of a process that are not this one's, but for the mount
// namespace, which the stage enters.
func foreignNamespaces(pid int) ([]joinedNS, error) {
	var list []joinedNS
	for _, kind := range []ns.Kind{ns.User, ns.Time, ns.Net, ns.UTS, ns.IPC, ns.Cgroup, ns.PID} {
		own, err := ns.Open(os.Getpid(), kind)
		if err != nil {
			return nil, err
		}
		its, err := ns.Open(pid, kind)
		if err != nil {
			own.Close()
			return nil, err
		}
		same, err := ns.Same(own, its)
		own.Close()
		its.Close()
		switch {
		case err != nil:
			return nil, err
		case same:
		default:
			list = append(list, joinedNS{kind, fmt.Sprintf("/proc/%d/ns/%s", pid, kind)})
		}
	}
	return list, nil
}

func (r *Runtime) compileBareExec(b *BareExec) (*compiled, error) {
	process := *b.Process
	process.User.Username = ""
	c := &compiler{
		b: &Bundle{ID: b.ID, bare: &Bare{Keep: b.Keep}}, group: b.Cgroup, tree: r.tree,
		out: compiled{plan: &plan.Plan{ID: b.ID, Mode: plan.ModeExec}},
	}
	c.step(plan.Step{Name: "mount namespace", Op: plan.OpSetns, Flags: unix.CLONE_NEWNS, File: c.file("mount namespace", source{kind: sourceMountNS})})
	if process.Terminal {
		step := plan.Step{Name: "terminal", Op: plan.OpTerminal}
		if size := process.ConsoleSize; size != nil {
			step.Rows, step.Columns = uint16(size.Height), uint16(size.Width)
		}
		c.step(step)
	} else {
		c.step(plan.Step{Name: "session", Op: plan.OpSession})
	}
	c.step(plan.Step{Name: "keyring", Op: plan.OpKeyring, Value: "_ses." + b.ID})
	limits, raised, err := rlimitSteps(process.Rlimits, hardLimit)
	if err != nil {
		return nil, err
	}
	if err := c.keep(); err != nil {
		return nil, err
	}
	c.step(plan.Step{Name: "wait for go", Op: plan.OpBarrier})
	if err := c.enterCgroups(cgroup.App); err != nil {
		return nil, err
	}
	in := processInput{process: &process, limits: limits, numbers: true, filters: &r.filters}
	if b.Spec.Linux != nil {
		in.seccomp, in.personality = b.Spec.Linux.Seccomp, b.Spec.Linux.Personality
	}
	last, err := processSteps(in)
	if err != nil {
		return nil, err
	}
	c.out.plan.Steps, c.out.rlimits = append(c.before, last...), raised
	return &c.out, nil
}
