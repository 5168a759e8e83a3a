package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/portholehq/porthole/internal/atomicfile"
	"github.com/portholehq/porthole/internal/runtime"
	"github.com/portholehq/porthole/internal/shim/wire"
	"github.com/portholehq/porthole/internal/undo"
)

// CreateOptions are what create is told beside the document.
type CreateOptions struct {
	// Bundle is the directory of the bundle.
	Bundle string
	// PIDFile gets the host's pid of the first process; empty: nothing does.
	PIDFile string
	// ConsoleSocket is a unix socket that gets the master of the terminal.
	ConsoleSocket string
	// PreserveFDs is how many descriptors, from 3 on, the process gets of ours.
	PreserveFDs int
	// NoPivot and NoNewKeyring are refused.
	NoPivot, NoNewKeyring bool
}

// Create makes a container whose process waits to be started. This process's standard
// streams become the container's, unless it has a terminal. On error nothing is left.
func (r *Runtime) Create(id string, o CreateOptions) (err error) {
	if err := checkID(id); err != nil {
		return err
	}
	switch {
	case o.NoPivot:
		return errors.New("--no-pivot is not supported: whoever has not pivoted can get out")
	case o.NoNewKeyring:
		return errors.New("--no-new-keyring is not supported: a container has a session keyring of its own")
	}
	bundle, err := filepath.Abs(o.Bundle)
	if err != nil {
		return err
	}
	s, err := loadBundle(bundle, id)
	if err != nil {
		return err
	}
	if err := checkConsole(s.Process, o.ConsoleSocket); err != nil {
		return err
	}
	c, steps, err := r.claim(id, bundle, s)
	if err != nil {
		return err
	}
	defer func() {
		if back := steps.Run(); back != nil {
			err = errors.Join(err, back)
		}
	}()
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.bring(s, o); err != nil {
		return err
	}
	if o.PIDFile != "" {
		if err := atomicfile.Write(o.PIDFile, []byte(strconv.Itoa(c.PID)), 0o644); err != nil {
			return errors.Join(fmt.Errorf("pid file: %w", err), c.destroy(nil))
		}
	}
	steps.Keep()
	return nil
}

// claim makes the container's directory, whose name nobody else has, with the document
// and a record of what is under way.
func (r *Runtime) claim(id, bundle string, s *specs.Spec) (*container, *undo.Stack, error) {
	if err := os.MkdirAll(r.Root, 0o700); err != nil {
		return nil, nil, err
	}
	err := os.Mkdir(r.dir(id), 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil, nil, fmt.Errorf("%w: %q", ErrExists, id)
	}
	if err != nil {
		return nil, nil, err
	}
	steps := &undo.Stack{}
	steps.Add(func() error { return os.RemoveAll(r.dir(id)) })
	c := &container{rt: r, record: record{
		OCIVersion: specs.Version, ID: id, Bundle: bundle, Rootfs: s.Root.Path, Annotations: s.Annotations, Created: time.Now().UTC(),
	}}
	if s.Linux != nil {
		c.Cgroup = s.Linux.CgroupsPath
	}
	raw, err := json.Marshal(s)
	if err == nil {
		err = os.WriteFile(c.file(configFile), raw, 0o600)
	}
	if err == nil {
		err = c.save()
	}
	if err != nil {
		return nil, nil, errors.Join(err, steps.Run())
	}
	return c, steps, nil
}

// bring makes the container and notes its process.
func (c *container) bring(s *specs.Spec, o CreateOptions) error {
	rt, err := c.rt.isolation()
	if err != nil {
		return err
	}
	defer rt.Close()
	g, err := c.group()
	if err != nil {
		return err
	}
	l, err := wire.Listen(c.file(socketFile))
	if err != nil {
		return err
	}
	defer l.Close()
	meeting, err := l.File()
	if err != nil {
		return err
	}
	defer meeting.Close()
	held := false
	bare := &runtime.Bare{
		ID: c.ID, Spec: s, Cgroup: g, Rendezvous: meeting, Stdio: [3]*os.File{os.Stdin, os.Stdout, os.Stderr},
		Console: func(master *os.File) error { return sendConsole(o.ConsoleSocket, master) },
		Held: func(pid int) ([]byte, error) {
			held = true
			return c.createHooks(s.Hooks, pid)
		},
	}
	for i := range o.PreserveFDs {
		bare.Keep = append(bare.Keep, os.NewFile(uintptr(3+i), "descriptor "+strconv.Itoa(3+i)))
	}
	c.rt.warnOfRights(s.Process)
	pid, warnings, err := rt.CreateBare(bare)
	for _, w := range warnings {
		c.rt.warn("%s", w)
	}
	if err != nil {
		if held {
			c.PID = 0
			c.poststopHooks(s.Hooks)
		}
		return err
	}
	c.PID = pid
	if c.Start, err = runtime.StartTime(pid); err != nil {
		return errors.Join(fmt.Errorf("the container's process has ended: %w", err), c.destroy(s.Hooks))
	}
	if err := c.save(); err != nil {
		return errors.Join(err, c.destroy(nil))
	}
	return nil
}

// createHooks runs what is for this side and returns what is for the stage's. They are
// steps 3 to 5 of the life cycle, and a container is created after step 2.
func (c *container) createHooks(h *specs.Hooks, pid int) ([]byte, error) {
	c.PID = pid
	for _, kind := range []string{prestart, createRuntime} {
		if err := c.runHooks(h, kind, specs.StateCreated); err != nil {
			return nil, err
		}
	}
	return c.encodeHooks(h, createContainer, specs.StateCreated)
}

// isolation is what plans are compiled and prepared by. The caller closes it.
func (r *Runtime) isolation() (*runtime.Runtime, error) {
	return runtime.New(runtime.Options{ExecRoot: r.Root, CgroupParent: Parent, ShimPath: r.Shim})
}
